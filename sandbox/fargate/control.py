"""The node's control: what tests and demonstrations ask it to do to pods. HTTP on 127.0.0.1.

* `GET /pods`: what runs. `GET /bill`: the bill's lines and their sum.
* `PUT /profiles` with a list of Fargate profiles: replaces them; as on Fargate, the pods that exist
  already stay as they are.
* `PUT /faults` with `{"never_start": [pattern…], "delays": {pattern: seconds}}`: replaces what was set.
* `POST /pods/{namespace}/{pod}/kill?container=&signal=KILL`, `…/freeze`, `…/thaw`, `…/evict[?force=true]`.

Patterns are shell wildcards over `namespace/pod`.
"""

from __future__ import annotations

import asyncio
import fnmatch
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from entrypackage.kubernetes import PODS, KubernetesError
from sandbox.fargate.bill import total
from sandbox.fargate.clock import rfc3339, unix_now
from sandbox.fargate.refusal import Profile

if TYPE_CHECKING:
    from sandbox.fargate.container import ContainerLife
    from sandbox.fargate.node import FargateNode
    from sandbox.fargate.podrun import PodRun
    from sandbox.kubernetes import ClusterApi


@dataclass
class PodFaults:
    """What a test makes go wrong.

    Patterns are shell wildcards over `namespace/pod`; delays are in seconds and add to the start delay.
    """

    never_start: set[str] = field(default_factory=set)
    delays: dict[str, float] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def replace(self, never_start: set[str], delays: dict[str, float]) -> None:
        """Replace all faults, and wake the pods that wait for a change."""
        self.never_start, self.delays = never_start, delays
        woken, self.changed = self.changed, asyncio.Event()
        woken.set()

    def held(self, full_name: str) -> bool:
        """Whether the pod stays Pending for now."""
        return any(fnmatch.fnmatchcase(full_name, pattern) for pattern in self.never_start)

    def delay(self, full_name: str) -> float:
        """How much later the pod starts."""
        matching = (s for pattern, s in self.delays.items() if fnmatch.fnmatchcase(full_name, pattern))
        return max(matching, default=0.0)


class PodFaultsOrder(BaseModel):
    """The body of `PUT /faults`."""

    model_config = ConfigDict(extra="forbid")

    never_start: set[str] = set()
    delays: dict[str, float] = {}


class NodeControl:
    """The control server of one node."""

    def __init__(self, node: FargateNode, api: ClusterApi) -> None:
        """Nothing is served before `start`."""
        self._node, self._api = node, api
        self._runner: web.AppRunner | None = None

    async def start(self, port: int = 0) -> str:
        """Listen; the result is the base URL."""
        app = web.Application()
        app.router.add_get("/pods", self._pods)
        app.router.add_get("/bill", self._bill)
        app.router.add_put("/faults", self._faults)
        app.router.add_put("/profiles", self._profiles)
        app.router.add_post("/pods/{namespace}/{pod}/{act}", self._act)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def close(self) -> None:
        """Stop serving."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _pods(self, _request: web.Request) -> web.Response:
        return web.json_response([_describe(run) for run in self._node.runs.values()])

    async def _bill(self, _request: web.Request) -> web.Response:
        lines = self._node.ledger.lines(unix_now())
        return web.json_response({"lines": [line.model_dump() for line in lines], "total": total(lines).model_dump()})

    async def _faults(self, request: web.Request) -> web.Response:
        try:
            order = PodFaultsOrder.model_validate_json(await request.read())
        except ValidationError as error:
            return web.Response(status=400, text=str(error))
        self._node.faults.replace(order.never_start, order.delays)
        return web.json_response({})

    async def _profiles(self, request: web.Request) -> web.Response:
        try:
            self._node.profiles = TypeAdapter(tuple[Profile, ...]).validate_json(await request.read())
        except ValidationError as error:
            return web.Response(status=400, text=str(error))
        return web.json_response({})

    async def _act(self, request: web.Request) -> web.Response:
        namespace, name = request.match_info["namespace"], request.match_info["pod"]
        run = self._node.find(namespace, name)
        if run is None:
            return web.Response(status=404, text=f"no pod {namespace}/{name} runs here")
        chosen = _chosen(run, request.query.get("container"))
        match request.match_info["act"]:
            case "kill":
                number = getattr(signal, f"SIG{request.query.get('signal', 'KILL')}", None)
                if number is None:
                    return web.Response(status=400, text="there is no such signal")
                done = [one.kill(number) for one in chosen]
            case "freeze":
                done = [one.freeze(frozen=True) for one in chosen]
            case "thaw":
                done = [one.freeze(frozen=False) for one in chosen]
            case "evict":
                return await self._evict(run, force=request.query.get("force") == "true")
            case other:
                return web.Response(status=404, text=f"there is no act {other!r}: kill, freeze, thaw or evict")
        return web.json_response({"containers": sum(done)})

    async def _evict(self, run: PodRun, *, force: bool) -> web.Response:
        """Evict as Fargate does when it patches a node: first by the Eviction API, then regardless of budgets."""
        meta = run.facts.pod.metadata
        try:
            if not force:
                body = {"apiVersion": "policy/v1", "kind": "Eviction"}
                named = body | {"metadata": {"name": meta.name, "namespace": meta.namespace}}
                await self._api.create_in(PODS, meta.namespace, meta.name, "eviction", named)
            else:
                await self._api.patch_status(PODS, meta.namespace, meta.name, _disrupted(meta.uid))
                await self._api.remove(PODS, meta.namespace, meta.name, uid=meta.uid)
        except KubernetesError as error:
            return web.Response(status=error.status or 503, text=str(error))
        return web.json_response({})


def _disrupted(uid: str) -> dict[str, Any]:
    condition = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "EvictionByEvictionAPI",
        "message": "Fargate replaces the node under this pod",
        "lastTransitionTime": rfc3339(),
    }
    return {"metadata": {"uid": uid}, "status": {"conditions": [condition]}}


def _chosen(run: PodRun, name: str | None) -> list[ContainerLife]:
    return [one for one in run.containers if name is None or one.container.name == name]


def _describe(run: PodRun) -> dict[str, Any]:
    meta = run.facts.pod.metadata
    return {
        "namespace": meta.namespace,
        "pod": meta.name,
        "uid": meta.uid,
        "node": run.facts.node_name,
        "address": run.facts.address,
        "size": run.facts.size.annotation(),
        "containers": {one.container.name: one.view.state.report() for one in run.containers},
    }
