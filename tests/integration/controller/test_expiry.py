"""Addresses that end before the archive was read: attempts that make progress go on, without any it is given up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from entrypackage.failures import POLICIES, FailureClass
from tests.support.controller_process import condition
from tests.support.request_proxy import Proxy

if TYPE_CHECKING:
    from tests.support.controller_process import Json, Place

pytestmark = pytest.mark.asyncio(loop_scope="session")

ARCHIVE_BYTES = 20_000_000
METADATA_FILES = 5
MAX_TRIES = 2
"""Fewer than the lives that the transfers here take."""


async def _start(place: Place, benchling: Proxy, api: Proxy) -> None:
    controller = await place.start(api, benchling, pod_name="only", retry={"scale": 0.05, "maxTries": MAX_TRIES})
    await controller.until_logged("leading")


@pytest.mark.parametrize(("members", "lives"), [(100, 3), pytest.param(300, 8, marks=pytest.mark.slow)])
async def test_a_transfer_outlasts_its_address(place: Place, benchling_proxy: Proxy, members: int, lives: int) -> None:
    """Equal members, many more than are in flight at once; every attempt goes on where the one before it stood."""
    size = ARCHIVE_BYTES // members
    files: list[Json] = [{"name": f"{number:03}.bin", "size": size} for number in range(members)]
    entry = await place.benchling.create_entry("Long transfer", attachments=files, silent=True)
    life_bytes = ARCHIVE_BYTES // lives
    await place.benchling.set_fault("url_spent", subject=entry["id"], bytes=life_bytes)
    async with Proxy.to_api_server(place.address) as api:
        await _start(place, benchling_proxy, api)
        package = await place.until_ready(await place.ask(entry))

        status = package["status"]
        assert status["package"]["files"] == members + 1 + METADATA_FILES
        *failed, last = [past["reason"] for past in reversed(status["history"])]
        assert (set(failed), last) == ({"ArchiveExpired"}, "Packaged")
        assert status["attempts"] > lives
        assert await place.exports(entry) == 1, "the same export, with a fresh address each time"
        stored = await place.files(entry)
        assert {len(stored[file["name"]]) for file in files} == {size}
        assert len(await place.messages()) == 1
        await place.until_clean()


async def test_one_member_that_alone_outlasts_the_address_is_given_up(place: Place, benchling_proxy: Proxy) -> None:
    files: list[Json] = [{"name": "small.csv", "content": "a,b\n"}, {"name": "huge.bin", "size": 8_000_000}]
    entry = await place.benchling.create_entry("One large file", attachments=files, silent=True)
    await place.benchling.set_fault("url_spent", subject=entry["id"], bytes=2_000_000)
    async with Proxy.to_api_server(place.address) as api:
        await _start(place, benchling_proxy, api)
        name = await place.ask(entry)

        def given_up(package: Json) -> object:
            return package.get("status", {}).get("attempt", {}).get("givenUp")

        package = await place.until_package(name, given_up, "the attempt to be given up")

        ready, stalled = condition(package), condition(package, "Stalled")
        assert (ready["status"], ready["reason"]) == ("False", "ArchiveExpired")
        assert (stalled["status"], stalled["reason"]) == ("True", "ArchiveExpired")
        for found in (ready, stalled):
            assert POLICIES[FailureClass.ARCHIVE_EXPIRED].remedy in found["message"]
            assert "Given up until" in found["message"]
        attempt = package["status"]["attempt"]
        assert attempt["tries"] == MAX_TRIES
        assert not attempt.get("touched")
        assert set(await place.files(entry)) <= {"small.csv", f"{entry['displayId']}.pdf"}
        assert await place.messages() == []
        await place.until_clean()
