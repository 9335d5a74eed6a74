"""The client against the simulated tenant, in virtual time: every call, every fault, and no secret to be seen."""

from __future__ import annotations

import asyncio
import io
import logging
import traceback
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from controller.benchling.client import BenchlingClient
from controller.benchling.errors import AuthFailed, BenchlingFailure, NotFound, SessionClosed
from controller.benchling.links import entry_links
from controller.benchling.models import CanvasChange, SessionMessage, TaskRunning, TaskSucceeded
from controller.benchling.priority import Priority
from controller.benchling.settings import AppCredentials, BenchlingSettings
from sandbox.simulator.clock import Clock
from sandbox.simulator.faults import FAULTS, Rule
from sandbox.simulator.inprocess import InProcess
from sandbox.simulator.settings import LEAK_MARK, TenantSettings
from sandbox.simulator.simulator import Simulator
from tests.support.virtual_time import run_virtual

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

LINKS = ("user", "folder", "custom_entity", "aa_sequence", "dna_sequence", "box", "container", "location", "plate")


@dataclass
class Tenant:
    """A simulated tenant and the client that talks to it."""

    simulator: Simulator
    client: BenchlingClient
    entry_id: str

    def fault(self, name: str, **members: Any) -> None:
        """Set a fault."""
        self.simulator.world.faults.set(Rule(name, **members))


def with_tenant(scenario: Callable[[Tenant], Awaitable[None]], *, secret: str | None = None, **knobs: Any) -> None:
    """Run a scenario on a tenant with one entry that links to one of everything."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        simulator = Simulator(TenantSettings(**knobs), clock=Clock(start=1_700_000_000.0, monotonic=loop.time))
        entry = simulator.world.create_entry(
            links=LINKS, attachments=(("plate.csv", 5000, True), ("raw.bin", 70_000, False)), canvas=True
        )
        held = AppCredentials(simulator.settings.client_id, SecretStr(secret or simulator.settings.client_secret))
        settings = BenchlingSettings(
            base_url=simulator.world.origins.api, allow_plain_http=True, credentials=lambda: held
        )
        async with BenchlingClient(settings, transport=InProcess(simulator), rng=Random(1)) as client:
            await scenario(Tenant(simulator, client, entry.id))
        await simulator.close()

    run_virtual(run())


async def export(client: BenchlingClient, entry_id: str) -> TaskSucceeded:
    """Export an entry to the end."""
    task = await client.start_export(entry_id)
    while True:
        seen = await client.get_task(task)
        if isinstance(seen, TaskSucceeded):
            return seen
        assert isinstance(seen, TaskRunning)
        await asyncio.sleep(2.0)


def test_every_call_works() -> None:
    async def scenario(tenant: Tenant) -> None:
        client, entry_id = tenant.client, tenant.entry_id
        app_id, feature = tenant.simulator.settings.app_id, tenant.simulator.settings.feature_id
        entry = await client.get_entry(entry_id)
        assert entry.raw == tenant.simulator.world.entry(entry_id).whole(tenant.simulator.world.origins.api)
        assert entry.modified is not None
        for file_id in entry.external_file_ids():
            assert (await client.external_file(entry_id, file_id)).size in {5000, 70_000}
        refs = entry_links(entry)
        named = await client.link_names(refs)
        assert [link.id for link in named] == [ref.id for ref in refs]
        assert {link.type for link in named if link.name} == set(LINKS)
        calls = tenant.client.numbers.rate.used
        assert await client.link_names(refs) == named
        assert tenant.client.numbers.rate.used == calls
        assert (await export(client, entry_id)).url.get_secret_value().startswith("http")
        pages = [page async for page in client.list_entries(datetime(2020, 1, 1, tzinfo=UTC), returning=["name"])]
        assert [row.id for page in pages for row in page.entries] == [entry_id]
        events = await client.list_events(created_after=datetime.fromtimestamp(1_700_000_000 - 60, UTC))
        assert [event.entry and event.entry.id for event in events.events] == [entry_id]
        later = await client.list_events(starting_after=events.events[-1].id)
        assert later.events == []
        assert [found.id for found in await client.bulk_get_entries([entry_id, "etr_nothere"])] == [entry_id]
        made = await client.create_canvas(
            app_id=app_id, feature_id=feature, resource_id=entry_id, change=CanvasChange(enabled=True)
        )
        blocks = [{"type": "MARKDOWN", "id": "m", "value": "# Hello"}]
        assert (await client.patch_canvas(made.id, CanvasChange(blocks=blocks, enabled=True))).blocks == blocks
        assert (await client.get_canvas(made.id)).resource_id == entry_id
        assert made.id in [canvas.id for canvas in await client.list_canvases(resource_id=entry_id)]
        session = await client.create_session(app_id=app_id, name="Packaging", timeout_seconds=60)
        line = SessionMessage(content="OK", style="SUCCESS")
        await client.patch_session(session.id, status="SUCCEEDED", messages=[line])
        with pytest.raises(SessionClosed):
            await client.patch_session(session.id, messages=[line])
        await client.archive_canvases([made.id])
        assert (await client.get_app(app_id)).id == app_id
        folder = await client.get_folder(entry.folder_id)
        assert folder.id in [item.id for item in await client.list_folders(project_id=folder.project_id)]
        with pytest.raises(NotFound):
            await client.get_entry("etr_nothere")

    with_tenant(scenario)


STRIKES = [name for name in FAULTS if name.startswith(("token_", "api_", "rate_", "export_", "task_", "downtime"))]


@pytest.mark.parametrize("fault", STRIKES)
def test_every_fault_ends_in_a_value_or_a_benchling_failure_and_passes(
    fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    """While it holds nothing else comes out; once it is over the client works again by itself; no secret is shown.

    `test_switches` says what each ends in.
    """
    stream = io.StringIO()
    raw = logging.StreamHandler(stream)
    logging.getLogger().addHandler(raw)
    caplog.set_level(logging.DEBUG)
    shown: list[str] = []

    async def scenario(tenant: Tenant) -> None:
        client, entry_id = tenant.client, tenant.entry_id
        task = await client.start_export(entry_id)
        await asyncio.sleep(30.0)
        tenant.fault(fault)
        tenant.simulator.world.revoke_tokens()
        calls: list[Callable[[], Awaitable[Any]]] = [
            lambda: client.get_entry(entry_id, deadline=60.0),
            lambda: client.start_export(entry_id, deadline=60.0),
            lambda: client.get_task(task, deadline=60.0),
            lambda: client.list_canvases(resource_id=entry_id, deadline=60.0),
            lambda: client.link_names([], deadline=60.0),
        ]
        for call in calls * 2:
            try:
                shown.append(repr(await call()))
            except BenchlingFailure as failure:
                shown.append("".join(traceback.format_exception(failure)))
        assert tenant.simulator.world.faults.counts[fault] > 0
        tenant.simulator.world.faults.clear()
        await asyncio.sleep(400.0)
        assert (await client.get_entry(entry_id, priority=Priority.CLICK)).id == entry_id
        await export(client, entry_id)
        shown.append(repr(client.numbers))

    try:
        with_tenant(scenario, export_seconds=20.0)
    finally:
        logging.getLogger().removeHandler(raw)
    for text in (*shown, stream.getvalue(), caplog.text):
        assert LEAK_MARK not in text


def test_a_wrong_secret_names_the_remedy() -> None:
    async def scenario(tenant: Tenant) -> None:
        with pytest.raises(AuthFailed) as caught:
            await tenant.client.get_entry(tenant.entry_id)
        assert "secretName" in caught.value.policy.remedy

    with_tenant(scenario, secret="wrong")


def test_a_listing_misses_nothing_while_entries_are_edited() -> None:
    """Entries move to the end of the order as they are edited; each is still seen with its newest change."""

    async def scenario(tenant: Tenant) -> None:
        world = tenant.simulator.world
        made = []
        for number in range(450):
            made.append(world.create_entry(name=f"entry {number}", silent=True))
            await asyncio.sleep(0.7)
        seen: dict[str, str] = {}
        rng = Random(3)
        async for page in tenant.client.list_entries(datetime(2020, 1, 1, tzinfo=UTC)):
            seen.update((row.id, row.modified_at) for row in page.entries)
            for entry in rng.sample(made, 20):
                world.edit_body(entry, "more")
        assert {entry.id for entry in made} <= set(seen)
        rate = tenant.simulator.journal.counts["api:listEntries:200"]
        print(f"\n451 entries edited while listed: {rate} pages")

    with_tenant(scenario)


@pytest.mark.parametrize(
    "knobs",
    [
        {"token_counts": True, "app_rate": 20},
        {"bulk_maximum": 3},
        {"tenant_rate": 15},
        {"export_limit": 1, "export_seconds": 5.0},
        {"token_real_seconds": 2.0},
        {"url_resigned": False, "same_event_ids": False},
    ],
)
def test_the_worst_values_of_what_is_not_documented(knobs: dict[str, Any]) -> None:
    async def scenario(tenant: Tenant) -> None:
        entry = await tenant.client.get_entry(tenant.entry_id)
        named = await tenant.client.link_names(entry_links(entry))
        assert all(link.name for link in named)
        await asyncio.gather(*(export(tenant.client, tenant.entry_id) for _ in range(5)))

    with_tenant(scenario, **knobs)
