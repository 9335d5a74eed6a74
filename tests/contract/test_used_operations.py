"""The table of used operations is what the client asks for: each of its calls is made and seen at the other end."""

from __future__ import annotations

import asyncio
import inspect
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from controller.benchling.client import BenchlingClient
from controller.benchling.links import LinkRef
from controller.benchling.models import CanvasChange
from controller.benchling.names import READABLE
from controller.benchling.settings import AppCredentials, BenchlingSettings
from sandbox.simulator.clock import Clock
from sandbox.simulator.inprocess import InProcess
from sandbox.simulator.simulator import Simulator
from tests.support.used_operations import USED
from tests.support.virtual_time import run_virtual

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

NOT_CALLS = {"close", "on_recovery", "forget_export", "from_folder"}
"""Public methods of the client that send nothing."""
SINCE = datetime(2020, 1, 1, tzinfo=UTC)


async def _read(pages: AsyncIterator[Any]) -> None:
    async for _page in pages:
        pass


async def _names(client: BenchlingClient, simulator: Simulator) -> None:
    """Names of each readable type: of one object, then of two others at once."""
    world = simulator.world
    for kind in READABLE:
        for number in (1, 2):
            made = [world.link(world.create_entry(), kind, f"{kind} {number} {place}") for place in range(number)]
            refs = [LinkRef(kind, identifier, None) for identifier in made if identifier is not None]
            assert all(link.name for link in await client.link_names(refs)), kind


def _calls(client: BenchlingClient, simulator: Simulator) -> dict[str, Callable[[], Awaitable[Any]]]:
    entry = simulator.world.create_entry(attachments=(("raw.bin", 10, False),), canvas=True)
    file, canvas = next(iter(entry.attachments)), simulator.world.canvas(entry.id).id
    app, folder = simulator.settings.app_id, entry.folder_id

    async def export() -> None:
        await client.get_task(await client.start_export(entry.id))

    async def session() -> None:
        made = await client.create_session(app_id=app, name="Packaging", timeout_seconds=60)
        await client.patch_session(made.id, status="SUCCEEDED")

    return {
        "get_entry": lambda: client.get_entry(entry.id),
        "bulk_get_entries": lambda: client.bulk_get_entries([entry.id]),
        "list_entries": lambda: _read(client.list_entries(SINCE)),
        "external_file": lambda: client.external_file(entry.id, file),
        "list_events": lambda: client.list_events(created_after=SINCE),
        "get_folder": lambda: client.get_folder(folder),
        "list_folders": lambda: client.list_folders(project_id=simulator.world.project),
        "link_names": lambda: _names(client, simulator),
        "start_export": export,
        "get_task": export,
        "create_canvas": lambda: client.create_canvas(
            app_id=app, feature_id="feature", resource_id=entry.id, change=CanvasChange(enabled=True)
        ),
        "get_canvas": lambda: client.get_canvas(canvas),
        "patch_canvas": lambda: client.patch_canvas(canvas, CanvasChange(enabled=True)),
        "list_canvases": lambda: client.list_canvases(resource_id=entry.id),
        "archive_canvases": lambda: client.archive_canvases([canvas]),
        "create_session": session,
        "patch_session": session,
        "get_app": lambda: client.get_app(app),
    }


def test_the_client_asks_for_the_used_operations_and_no_others() -> None:
    async def run() -> set[str]:
        clock = Clock(start=1_700_000_000.0, monotonic=asyncio.get_running_loop().time)
        simulator = Simulator(clock=clock)
        held = AppCredentials(simulator.settings.client_id, SecretStr(simulator.settings.client_secret))
        settings = BenchlingSettings(
            base_url=simulator.world.origins.api, allow_plain_http=True, credentials=lambda: held
        )
        async with BenchlingClient(settings, transport=InProcess(simulator), rng=Random(1)) as client:
            calls = _calls(client, simulator)
            public = {name for name, _ in inspect.getmembers(BenchlingClient, callable) if not name.startswith("_")}
            assert calls.keys() == public - NOT_CALLS
            for call in calls.values():
                await call()
        await simulator.close()
        return {line.operation for line in simulator.journal.entries if line.origin == "api"}

    assert run_virtual(run()) == USED.keys()
