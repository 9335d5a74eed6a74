"""SIGKILL of the controller at every write of an attempt: its successor finishes what it finds.

Both ways out of the controller lead through proxies that know each request by what it is for. One undisturbed attempt
proves that the list of them below is complete; then, for each, a controller is killed when the server has taken the
request and the answer is still on its way (or, as slow tests, before the server has seen it).
"""

from __future__ import annotations

import asyncio
import json
import secrets
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import pytest_asyncio

from tests.support.request_proxy import Call, CutError, Proxy
from tests.support.request_purposes import LOOK, WRITES, purpose
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.controller.conftest import Surroundings
    from tests.support.controller_process import Controller, Json, Place

pytestmark = pytest.mark.asyncio(loop_scope="session")

RUNNING = "the packager runs"

ORPHANS = {("after", "state the intent"), ("before", "Event Exporting"), ("after", "Event Exporting")}
ORPHANS |= {("before", "ask for the export"), ("after", "ask for the export"), ("before", "note the task")}
"""Where the successor cannot know whether the export was asked for."""
ASKED_TWICE = {("after", "ask for the export"), ("before", "note the task")}

RARE = {"Event Exporting", "create Secret 1", "Event JobCreated", "Event Packaged", "delete Secret 1"}
POINTS = [("after", name) for name in [*WRITES, LOOK] if name not in RARE]
POINTS += [("before", "store the package"), ("while", RUNNING)]
MORE_POINTS = [(when, name) for name in [*WRITES, LOOK] for when in ("before", "after") if (when, name) not in POINTS]

TEXT_BYTES = 1_000_000
"""Random, so that the order does not fit into one Secret."""
TABLE = "well,growth\n" + "".join(f"A{number},{number * 7 % 100}\n" for number in range(500))


class PodWatch:
    """Follows the pods of a place and knows how many unfinished ones there were at once."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._unfinished: set[str] = set()
        self._names: set[str] = set()
        self.most_at_once = 0
        self.running = asyncio.Event()
        self.running_hook: Any = None

    async def follow(self) -> None:
        """Watch until cancelled."""
        version = "0"
        while True:
            query: dict[str, str | int] = {"watch": "true", "resourceVersion": version, "timeoutSeconds": 3000}
            path = f"/api/v1/namespaces/{self._place.name}/pods"
            async with self._place.api.stream("GET", path, params=query, timeout=None) as answer:
                async for line in answer.aiter_lines():
                    event = json.loads(line)
                    version = event["object"]["metadata"]["resourceVersion"]
                    await self._take(event)

    async def _take(self, event: Json) -> None:
        uid, phase = event["object"]["metadata"]["uid"], event["object"]["status"].get("phase")
        self._names.add(event["object"]["metadata"]["name"])
        if event["type"] == "DELETED" or phase in {"Succeeded", "Failed"}:
            self._unfinished.discard(uid)
        else:
            self._unfinished.add(uid)
        self.most_at_once = max(self.most_at_once, len(self._unfinished))
        if phase == "Running" and self.running_hook is not None:
            await self.running_hook()

    def start_over(self) -> None:
        """Count for the next test."""
        self._names.clear()
        self.most_at_once = len(self._unfinished)

    @property
    def count(self) -> int:
        """How many pods there have been."""
        return len(self._names)


@dataclass
class Stage:
    """A controller that is killed when it makes a certain request, and what it stands between."""

    place: Place
    api: Proxy
    benchling: Proxy
    pods: PodWatch
    controller: Controller
    point: tuple[str, str] | None = None

    def watch(self) -> None:
        """Have the proxies ask here at each request."""
        for proxy in (self.api, self.benchling):
            proxy.before, proxy.after = self._before, self._after
        self.pods.running_hook = self._pod_runs

    async def _before(self, call: Call) -> None:
        if self.point == ("before", purpose(call)):
            await self._strike()
            raise CutError

    async def _after(self, call: Call) -> None:
        if self.point == ("after", purpose(call)):
            await self._strike()
            raise CutError

    async def _pod_runs(self) -> None:
        if self.point == ("while", RUNNING):
            await self._strike()

    async def _strike(self) -> None:
        self.point = None
        await self.controller.kill()

    async def restart(self) -> None:
        """Start the next controller; like a restarted container it has the pod's name and so the Lease."""
        self.controller = await self.place.start(self.api, self.benchling, pod_name="controller-0")

    async def make_entry(self) -> Json:
        """Make an entry whose order takes two Secrets."""
        text = secrets.token_urlsafe(TEXT_BYTES)
        files = [{"name": "plate.csv", "content": TABLE}]
        return await self.place.benchling.create_entry("Growth", text=text, attachments=files, silent=True)

    async def prove(self, entry: Json) -> None:
        """Check that the entry's package is as it should be, and that nothing else is left."""
        files = await self.place.files(entry)
        document = f"{entry['displayId']}.pdf"
        described = {"README.md", "entry.json", "entry_data.json", "input.json", "links.json"}
        assert set(files) == {document, "plate.csv", *described}
        assert files["plate.csv"] == TABLE.encode()
        assert files[document].startswith(b"%PDF")
        assert json.loads(files["entry.json"])["entry_id"] == entry["id"]
        assert json.loads(files["entry_data.json"])["id"] == entry["id"]
        await self.place.until_clean()
        assert self.pods.most_at_once == 1
        assert self.pods.count == 1
        messages = await self.place.messages()
        assert [message["package_name"] for message in messages] == [f"{self.place.name}/{entry['displayId']}"]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def running_stage(surroundings: Surroundings) -> AsyncIterator[Stage]:
    """A stage with a controller that leads."""
    place = await surroundings.place("kills")
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(Proxy.to_api_server(surroundings.address))
        benchling = await stack.enter_async_context(Proxy(surroundings.simulator["tenant"]))
        pods = PodWatch(place)
        following = asyncio.create_task(pods.follow())
        stack.callback(following.cancel)
        stage = Stage(place, api, benchling, pods, await place.start(api, benchling, pod_name="controller-0"))
        stage.watch()
        yield stage
        await stage.controller.kill()
    await surroundings.api.delete(f"/api/v1/namespaces/{place.name}")


@pytest_asyncio.fixture(loop_scope="session")
async def stage(running_stage: Stage) -> Stage:
    """The stage with a controller that leads, and nothing that is left of the test before."""
    if not running_stage.controller.child.running:
        await running_stage.restart()
    await running_stage.controller.until_logged("leading")
    await running_stage.place.until_clean()
    await running_stage.place.messages()
    running_stage.api.calls.clear()
    running_stage.benchling.calls.clear()
    running_stage.pods.start_over()
    running_stage.point = None
    return running_stage


async def test_the_list_of_writes_is_complete(stage: Stage) -> None:
    entry = await stage.make_entry()
    name = await stage.place.ask(entry)
    await stage.place.until_ready(name)
    await stage.prove(entry)
    writes = [purpose(call) for call in stage.api.calls if call.mutating]
    asked = [purpose(call) for call in stage.benchling.calls if call.mutating]
    assert [write for write in writes if write] == [write for write in WRITES if write != "ask for the export"]
    assert [write for write in asked if write] == ["ask for the export"]
    assert await stage.place.exports(entry) == 1


@pytest.mark.parametrize(
    "point",
    [
        *(pytest.param(point, id=" ".join(point)) for point in POINTS),
        *(pytest.param(point, id=" ".join(point), marks=pytest.mark.slow) for point in MORE_POINTS),
    ],
)
async def test_successor_finishes_after_sigkill(stage: Stage, point: tuple[str, str]) -> None:
    entry = await stage.make_entry()
    killed = stage.controller
    stage.point = point
    name = await stage.place.ask(entry)

    async def gone() -> bool | None:
        return not killed.child.running or None

    await until(gone, f"the controller to be killed {' '.join(point)}")
    await stage.restart()
    package = await stage.place.until_ready(name)
    await stage.prove(entry)
    assert package["status"]["attempts"] == 1
    assert package["status"]["taken"] == {"eventId": f"evt_{entry['id']}"}
    orphans, exports = int(point in ORPHANS), 2 if point in ASKED_TWICE else 1
    assert await stage.place.exports(entry) == exports
    assert await counted(stage.controller, "entrypackage_orphaned_exports_total") == orphans
    reasons = [event["reason"] for event in await stage.place.objects("events") if _is_of(event, name)]
    assert reasons.count("ExportOrphaned") == orphans


def _is_of(event: Json, name: str) -> bool:
    return bool(event["involvedObject"]["name"] == name)


async def counted(controller: Controller, metric: str) -> float:
    """Return the value of a counter of a controller."""
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"{await controller.health()}/metrics")
    values = [line.rpartition(" ")[2] for line in answer.text.splitlines() if line.startswith(f"{metric} ")]
    return float(values[0])
