"""Attachments that Benchling still scans for viruses: what is there is packed, said to be incomplete and completed."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from tests.support.controller_process import condition
from tests.support.request_proxy import Proxy

if TYPE_CHECKING:
    from tests.support.controller_process import Json, Place

pytestmark = pytest.mark.asyncio(loop_scope="session")

FILES: list[Json] = [{"name": "clean.csv", "content": "a,b\n"}, {"name": "scanned.bin", "size": 70_000}]


def reasons(package: Json) -> list[str]:
    """Return what the attempts came to, oldest first."""
    return [past["reason"] for past in reversed(package.get("status", {}).get("history", []))]


async def test_an_incomplete_export_is_packed_and_completed_later(place: Place, benchling_proxy: Proxy) -> None:
    """Twice the scan is not over; neither time counts as a failure, of which one would be too many here."""
    entry = await place.benchling.create_entry("Scanned for viruses", attachments=FILES, silent=True)
    await place.benchling.set_fault("archive_missing", subject=entry["id"], name="scanned.bin", times=2)
    # The first pause is a moment; the second would last for the whole test, if no edit ended it.
    retry = {"scale": 0.01, "incompleteSeconds": [100, 360_000], "maxTries": 1}
    async with Proxy.to_api_server(place.address) as api:
        controller = await place.start(api, benchling_proxy, pod_name="only", retry=retry)
        await controller.until_logged("leading")
        name = await place.ask(entry)

        # The first time nobody knows which of the two it is; then the sizes are asked for, and tell.
        first = await place.until_package(name, reasons, "the first package")
        packaged, ready = condition(first, "Packaged"), condition(first)
        assert (packaged["status"], packaged["reason"], ready["status"]) == ("True", "Incomplete", "True")
        assert first["status"]["package"]["missing"] == 1
        assert condition(first, "Notified")["status"] == "True", "what is there is announced"
        assert not first["status"]["attempt"].get("tries")

        second = await place.until_package(name, lambda found: len(reasons(found)) == 2, "the second package")
        [missing] = second["status"]["package"]["missingIds"]
        assert missing in condition(second, "Packaged")["message"]
        files = await place.files(entry)
        assert "clean.csv" in files
        assert "scanned.bin" not in files
        assert missing in files["README.md"].decode()
        inventory = await place.files({"displayId": ".entrypackage"})
        assert json.loads(inventory[f"{entry['displayId']}.json"])["missing"] == [missing]

        newer = {"id": "evt_newer", "type": "v2.entry.updated.fields", "occurredAt": f"{datetime.now(UTC):%FT%TZ}"}
        await place.patch(name, {"spec": {"event": newer}})
        last = await place.until_package(name, lambda found: len(reasons(found)) == 3, "the whole package")

        assert reasons(last) == ["Incomplete", "Incomplete", "Packaged"]
        assert condition(last, "Packaged")["reason"] == "Packaged"
        assert not last["status"]["package"].get("missing")
        assert "attempt" not in last["status"]
        assert len((await place.files(entry))["scanned.bin"]) == 70_000
        assert await place.exports(entry) == 3
        assert len(await place.messages()) == 3
        await place.until_clean()
