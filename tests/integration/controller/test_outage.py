"""An API server or a Lease that goes away: the process stays alive, stops acting, and goes on afterwards."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.support.controller_process import condition
from tests.support.request_proxy import Call, Proxy, RefusedError, let_through
from tests.support.request_purposes import WRITES, purpose
from tests.support.waiting import elapse

if TYPE_CHECKING:
    from tests.support.controller_process import Json, Place

pytestmark = pytest.mark.asyncio(loop_scope="session")

FILES = [{"name": "plate.csv", "content": "well,growth\nA1,7\n"}]
LEASE = {"durationSeconds": 15, "renewDeadlineSeconds": 10, "retrySeconds": 0.5}
NOT_HERE = {"ask for the export", "create Secret 1", "delete Secret 1"}
"""One is Benchling's, and these orders fit into one Secret."""
LONG_AWAY_SECONDS = 45.0
"""Longer than all repeats of the watches' first requests together."""


async def _make_entry(place: Place) -> Json:
    return await place.benchling.create_entry("Growth", attachments=FILES, silent=True)


async def _prove(place: Place, entry: Json) -> None:
    files = await place.files(entry)
    assert files["plate.csv"] == FILES[0]["content"].encode()
    assert json.loads(files["entry.json"])["entry_id"] == entry["id"]
    await place.until_clean()


def cut_after_the_export(api: Proxy, benchling: Proxy) -> None:
    """Cut the way to the API server when Benchling has taken the first request for an export."""

    async def cut(call: Call) -> None:
        if purpose(call) == "ask for the export":
            api.cut()
            benchling.after = let_through

    benchling.after = cut


async def test_short_outage_loses_no_result(place: Place, benchling_proxy: Proxy) -> None:
    """The API server goes away while Benchling answers that the export has begun: the task id is kept and noted."""
    async with Proxy.to_api_server(place.address) as api:
        cut_after_the_export(api, benchling_proxy)
        controller = await place.start(api, benchling_proxy, pod_name="only", lease=LEASE)
        await controller.until_logged("leading")
        entry = await _make_entry(place)
        name = await place.ask(entry)
        await controller.until_logged("the Lease could not be written")
        assert condition(await place.package(name))["reason"] == "Exporting"
        api.mend()
        package = await place.until_ready(name)
        assert package["status"]["attempts"] == 1
        assert await place.exports(entry) == 1
        assert len(controller.logged("leading")) == 1
        await _prove(place, entry)


async def test_long_outage_ends_the_lead_but_not_the_process(place: Place, benchling_proxy: Proxy) -> None:
    """Longer than the Lease: nothing is done any more, and afterwards the same process leads and goes on."""
    async with Proxy.to_api_server(place.address) as api:
        controller = await place.start(api, benchling_proxy, pod_name="only")
        await controller.until_logged("leading")
        entry = await _make_entry(place)
        name = await place.ask(entry)
        await place.until_package(name, _is_exporting, "the export to have begun")
        api.cut()
        await controller.until_logged("no longer leading")
        asked = len(benchling_proxy.calls)
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.get(f"{await controller.health()}/livez")).status_code == 200
        api.mend()
        await place.until_ready(name)
        assert controller.child.running
        assert await place.exports(entry) == 1
        assert len(benchling_proxy.calls) > asked
        await _prove(place, entry)


async def test_result_outlives_the_loss_of_the_lease(place: Place, benchling_proxy: Proxy) -> None:
    """Only a restart makes an outcome unknown: a task id that could not be noted is noted when the Lease is back."""
    async with Proxy.to_api_server(place.address) as api:
        cut_after_the_export(api, benchling_proxy)
        controller = await place.start(api, benchling_proxy, pod_name="only")
        await controller.until_logged("leading")
        entry = await _make_entry(place)
        name = await place.ask(entry)
        await controller.until_logged("no longer leading")
        api.mend()
        package = await place.until_ready(name)
        assert await place.exports(entry) == 1
        assert package["status"]["attempts"] == 1
        await _prove(place, entry)


@pytest.mark.slow
async def test_start_without_an_api_server(place: Place, benchling_proxy: Proxy) -> None:
    """Whatever gives up first, a controller or the one that replaces it works once the API server is there."""
    async with Proxy.to_api_server(place.address) as api:
        api.cut()
        controller = await place.start(api, benchling_proxy, pod_name="only")
        await controller.until_logged("started")
        await elapse(LONG_AWAY_SECONDS)
        api.mend()
        if not controller.child.running:
            assert controller.child.process.returncode != 0
            controller = await place.start(api, benchling_proxy, pod_name="only")
        await controller.until_logged("leading")
        entry = await _make_entry(place)
        await place.until_ready(await place.ask(entry))


async def test_watch_goes_on_after_an_outage(place: Place, benchling_proxy: Proxy) -> None:
    """Objects made during an outage and after it are seen without waiting for the next full list."""
    async with Proxy.to_api_server(place.address) as api:
        controller = await place.start(api, benchling_proxy, pod_name="only", lease=LEASE)
        await controller.until_logged("leading")
        first, second = await _make_entry(place), await _make_entry(place)
        api.cut()
        name = await place.ask(first)
        await controller.until_logged("the Lease could not be written")
        api.mend()
        await place.until_ready(name)
        await place.until_ready(await place.ask(second))
        assert len(controller.logged("leading")) == 1


@pytest.mark.parametrize(("status", "reason"), [(500, "InternalError"), (409, "Conflict")])
async def test_every_write_may_be_refused_once(place: Place, benchling_proxy: Proxy, status: int, reason: str) -> None:
    """An API server in trouble, or another writer, at each write: nothing gets stuck and no export is wasted."""
    refused: set[str] = set()

    async def refuse_first(call: Call) -> None:
        what = purpose(call)
        if call.mutating and what in WRITES and what not in refused:
            refused.add(what)
            raise RefusedError(status, reason)

    async with Proxy.to_api_server(place.address) as api:
        api.before = refuse_first
        controller = await place.start(api, benchling_proxy, pod_name="only")
        await controller.until_logged("leading")
        entry = await _make_entry(place)
        package = await place.until_ready(await place.ask(entry))
        assert package["status"]["attempts"] == 1
        assert await place.exports(entry) == 1
        await _prove(place, entry)
        assert refused == {write for write in WRITES if write not in NOT_HERE}


@pytest.mark.slow
@pytest.mark.parametrize("refused", ["/apis/batch/v1", "/apis/benchling.quilt.bio/v1alpha1/namespaces"])
async def test_a_watch_that_cannot_go_on_ends_the_process(place: Place, benchling_proxy: Proxy, refused: str) -> None:
    """Its successor may have more luck; a leader that sees nothing would be worse than none."""

    async def refuse(call: Call) -> None:
        if call.resource.startswith(refused) and ("watch=true" in call.path or call.resource == refused):
            raise RefusedError(403, "Forbidden")

    async with Proxy.to_api_server(place.address) as api:
        api.before = refuse
        controller = await place.start(api, benchling_proxy, pod_name="only")
        assert await controller.ended() == 1
        assert not await place.leader()


def _is_exporting(package: Json) -> bool:
    return "taskId" in (package.get("status", {}).get("attempt") or {}).get("export", {})
