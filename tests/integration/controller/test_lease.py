"""Two controllers: one acts, the other takes over, and who has lost the Lease changes nothing any more."""

from __future__ import annotations

import signal
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from tests.support.controller_process import SHORT_LEASE, condition
from tests.support.request_proxy import Call, Proxy
from tests.support.request_purposes import purpose
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.controller_process import Controller, Json, Place

pytestmark = pytest.mark.asyncio(loop_scope="session")

SLACK_SECONDS = 3.0
"""What a busy machine may add."""


@dataclass
class Pair:
    """Two controllers with ways of their own to the API server; the first one leads."""

    place: Place
    benchling: Proxy
    old: Controller
    old_way: Proxy
    new: Controller
    new_way: Proxy

    def writes_of_old(self) -> list[str]:
        """Return what the first one has changed, the Lease included."""
        return [f"{call.method} {call.resource}" for call in self.old_way.calls if call.mutating]


@pytest_asyncio.fixture(loop_scope="session")
async def pair(place: Place, benchling_proxy: Proxy) -> AsyncIterator[Pair]:
    async with AsyncExitStack() as stack:
        ways = [await stack.enter_async_context(Proxy.to_api_server(place.address)) for _ in range(2)]
        old = await place.start(ways[0], benchling_proxy, pod_name="old")
        await old.until_logged("leading")
        new = await place.start(ways[1], benchling_proxy, pod_name="new")
        await new.until_logged("started")
        yield Pair(place, benchling_proxy, old, ways[0], new, ways[1])
        for controller in (old, new):
            if controller.child.running:
                await controller.kill()


async def _entry(place: Place, export_seconds: float) -> Json:
    return await place.benchling.create_entry(
        "Growth", attachments=[{"name": "plate.csv", "content": "A1,7\n"}], export_seconds=export_seconds, silent=True
    )


async def test_another_leads_after_sigkill(pair: Pair) -> None:
    """Not before the Lease has expired, and not much later; the export that was running is not asked for again."""
    entry = await _entry(pair.place, export_seconds=2)
    name = await pair.place.ask(entry)
    await pair.place.until_package(name, _has_task, "the export to have begun")
    await pair.old.kill()
    seconds = await pair.place.until_leads("new")
    assert seconds <= SHORT_LEASE["durationSeconds"] + SHORT_LEASE["retrySeconds"] + SLACK_SECONDS
    package = await pair.place.until_ready(name)
    assert package["status"]["attempts"] == 1
    assert await pair.place.exports(entry) == 1
    await pair.place.until_clean()


async def test_another_leads_soon_after_sigterm(pair: Pair) -> None:
    """A controller that is told to stop gives the Lease back and ends well."""
    started = time.monotonic()
    pair.old.send(signal.SIGTERM)
    await pair.place.until_leads("new")
    assert time.monotonic() - started <= 3.0 + SLACK_SECONDS / 2
    assert await pair.old.ended() == 0
    entry = await _entry(pair.place, export_seconds=0)
    await pair.place.until_ready(await pair.place.ask(entry))


async def test_a_stopped_leader_changes_nothing_when_it_wakes(pair: Pair) -> None:
    """SIGSTOP for longer than the Lease, with work to do on both sides of it; then SIGCONT."""
    entry = await _entry(pair.place, export_seconds=1)
    name = await pair.place.ask(entry)
    await pair.place.until_package(name, _has_task, "the export to have begun")
    pair.old.send(signal.SIGSTOP)
    await pair.place.until_leads("new")
    before = pair.writes_of_old()
    more = await _entry(pair.place, export_seconds=1)
    other = await pair.place.ask(more)
    pair.old.send(signal.SIGCONT)
    await pair.old.until_logged("no longer leading")
    await pair.place.until_ready(name)
    await pair.place.until_ready(other)
    assert pair.writes_of_old() == before
    assert await pair.place.exports(entry) == 1
    assert await pair.place.exports(more) == 1
    await pair.place.until_clean()


async def test_a_write_that_arrives_late_has_no_effect(pair: Pair) -> None:
    """The old leader's intent is held up on its way until another one leads and has written its own."""
    held = HeldUp("state the intent")
    pair.old_way.before = held
    entry = await _entry(pair.place, export_seconds=0)
    name = await pair.place.ask(entry)
    await until(held.has_arrived, "the old leader's intent to be on its way")
    pair.old.send(signal.SIGSTOP)
    await pair.place.until_leads("new")
    await pair.place.until_package(name, _has_task, "the new leader to have asked for the export")
    held.let_go()
    await until(held.was_answered, "the late write to be answered")
    assert held.call is not None
    assert held.call.status == 409
    pair.old.send(signal.SIGCONT)
    package = await pair.place.until_ready(name)
    assert package["status"]["attempts"] == 1
    assert await pair.place.exports(entry) == 1
    await pair.place.until_clean()


async def test_a_standby_only_looks(pair: Pair) -> None:
    """It follows the watch and writes nothing."""
    entry = await _entry(pair.place, export_seconds=0)
    package = await pair.place.until_ready(await pair.place.ask(entry))
    assert condition(package)["reason"] == "Packaged"
    assert not [call for call in pair.new_way.calls if call.mutating]
    assert any("watch=true" in call.path for call in pair.new_way.calls)


class HeldUp:
    """Keeps the first request for one purpose from the server until it is let go."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._released = False
        self.call: Call | None = None

    async def __call__(self, call: Call) -> None:
        if self.call is None and purpose(call) == self._what:
            self.call = call
            await until(self._free, "the request to be let go")

    async def _free(self) -> bool | None:
        return self._released or None

    def let_go(self) -> None:
        self._released = True

    async def has_arrived(self) -> bool | None:
        return self.call is not None or None

    async def was_answered(self) -> bool | None:
        return (self.call is not None and self.call.status > 0) or None


def _has_task(package: Json) -> bool:
    attempt = package.get("status", {}).get("attempt") or {}
    return "taskId" in attempt.get("export", {}) or "package" in package.get("status", {})
