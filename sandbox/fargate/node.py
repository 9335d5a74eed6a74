"""The scheduler and host of all pods: decides about each pod once and runs those that Fargate would run."""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from typing import TYPE_CHECKING, Any

from entrypackage.kubernetes import EVENTS, PODS, KubernetesError
from sandbox.fargate.addresses import PodAddresses
from sandbox.fargate.bill import Charge, Ledger
from sandbox.fargate.clock import rfc3339, unix_now
from sandbox.fargate.configurations import Configurations
from sandbox.fargate.control import PodFaults
from sandbox.fargate.environment import PodFacts
from sandbox.fargate.objects import INSTANCE, binding, event, node_address, node_name, node_object
from sandbox.fargate.pod import Pod
from sandbox.fargate.podrun import PodRun
from sandbox.fargate.refusal import PROFILE_LABEL, Profile, refusal, select
from sandbox.fargate.sizes import Size, provision
from sandbox.fargate.status import lost_status
from sandbox.kubernetes import NODES, Informer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sandbox.fargate.addresses import Network
    from sandbox.fargate.environment import ConfigurationKey
    from sandbox.fargate.settings import NodeSettings
    from sandbox.kubernetes import ClusterApi

Json = dict[str, Any]
_LOG = logging.getLogger(__name__)
_OUR_SCHEDULERS = frozenset({"default-scheduler", "fargate-scheduler"})
_RETRY_LONGEST = 5.0
# Another node program or scheduler on the same API server may take the pod.
_OTHERS_SECONDS = 2.0


class LaunchBucket:
    """A token bucket in which pods queue in order: the rate at which Fargate starts them."""

    def __init__(self, rate: float, burst: int) -> None:
        """`rate` pods per second, `burst` at once after a pause."""
        self._rate, self._burst = rate, float(burst)
        self._tokens = float(burst)
        self._at = time.monotonic()

    async def take(self) -> None:
        """Wait for this pod's turn."""
        now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate) - 1
        self._at = now
        if self._tokens < 0:
            await asyncio.sleep(-self._tokens / self._rate)


class FargateNode:
    """Everything between the API server's pods and the processes of this machine.

    Pods are known by their uid, so none is started twice whatever is listed or watched again.
    """

    def __init__(self, settings: NodeSettings, api: ClusterApi, network: Network, kubelet_port: int) -> None:
        """`kubelet_port` is where the API server finds the logs of every Node."""
        self.settings = settings
        self.profiles = settings.profiles
        self.faults = PodFaults()
        self.ledger = Ledger(settings.folder)
        self.runs: dict[str, PodRun] = {}
        self._api = api
        self._addresses = PodAddresses(network)
        self._port = kubelet_port
        self._bucket = LaunchBucket(settings.launch_rate, settings.launch_burst)
        self._configurations = Configurations(api, self._configuration_changed)
        self._decided: dict[str, asyncio.Task[None] | None] = {}
        self._resumed = {charge.uid: charge for charge in self.ledger.open_charges()}
        self._missed: dict[str, Json] = {}
        self._informer = Informer(api, PODS, "", self._listed, self._happened)
        self.ready = asyncio.Event()

    async def run(self) -> None:
        """Serve until cancelled."""
        pods = self.settings.folder / "pods"
        shutil.rmtree(pods, ignore_errors=True)
        # Volumes hold secrets.
        pods.mkdir(mode=0o700)
        watching = asyncio.create_task(self._informer.run())
        try:
            await self._informer.listed.wait()
            await self._clear_nodes()
            self._close_forgotten()
            self.ready.set()
            await watching
        finally:
            watching.cancel()
            self._configurations.close()
            for task in self._decided.values():
                if task is not None:
                    task.cancel()

    def find(self, namespace: str, name: str) -> PodRun | None:
        """The run of the pod of this name."""
        for run in reversed(self.runs.values()):
            meta = run.facts.pod.metadata
            if (meta.namespace, meta.name) == (namespace, name):
                return run
        return None

    # What the API server says

    def _listed(self, items: list[Json]) -> None:
        present = {item["metadata"]["uid"] for item in items}
        for uid in self._decided.keys() - present:
            self._object_gone(uid)
        for item in items:
            self._happened("ADDED", item)

    def _happened(self, kind: str, raw: Json) -> None:
        uid = raw["metadata"]["uid"]
        if kind == "DELETED":
            self._object_gone(uid)
        elif uid in self.runs:
            self.runs[uid].observe(Pod.model_validate(raw))
        elif uid not in self._decided:
            self._decide(Pod.model_validate(raw))
        else:
            # Between its binding and its run it can be deleted already.
            self._missed[uid] = raw

    def _object_gone(self, uid: str) -> None:
        if uid in self.runs:
            self.runs[uid].object_gone()
        elif uid in self._decided:
            # Not bound yet: a start in progress finds out when it binds, one that waits is ended here.
            task = self._decided.pop(uid)
            if task is not None:
                task.cancel()
        self._missed.pop(uid, None)

    def _decide(self, pod: Pod) -> None:
        """Look at a new pod: start it, refuse it, take over a left-over, or leave it alone."""
        uid, spec = pod.metadata.uid, pod.spec
        if spec.node_name:
            if pod.metadata.annotations.get(INSTANCE) == self.settings.instance:
                self._begin(uid, self._take_over(pod))
            return
        deleted = pod.metadata.deletion_timestamp is not None
        if deleted or pod.finished() or spec.scheduler_name not in _OUR_SCHEDULERS:
            return
        profile = select(self.profiles, pod.metadata)
        if profile is None:
            message = "0/0 nodes are available: no Fargate profile selects this pod's namespace and labels."
            self._begin(uid, self._refuse(pod, message, "default-scheduler", after=_OTHERS_SECONDS))
        elif (why := refusal(pod)) is not None:
            self._begin(uid, self._refuse(pod, why, "fargate-scheduler"))
        else:
            size = provision(pod)
            assert size is not None
            self._begin(uid, self._start(pod, profile, size))

    def _begin(self, uid: str, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._decided[uid] = task
        task.add_done_callback(lambda done: self._done(uid, done))

    def _done(self, uid: str, task: asyncio.Future[None]) -> None:
        if uid in self._decided:
            self._decided[uid] = None
        if not task.cancelled() and (error := task.exception()) is not None:
            _LOG.error("the pod %s came to an unexpected end", uid, exc_info=error)

    def _configuration_changed(self, namespace: str, key: ConfigurationKey) -> None:
        for run in self.runs.values():
            if run.facts.pod.metadata.namespace == namespace:
                run.configuration_changed(key)

    # One pod

    async def _refuse(self, pod: Pod, message: str, scheduler: str, after: float = 0.0) -> None:
        """Report once why the pod stays Pending, unless another scheduler has bound it by then."""
        meta = pod.metadata
        await asyncio.sleep(after)
        body = event(pod, "Warning", "FailedScheduling", message, scheduler, rfc3339())
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": message,
            "lastTransitionTime": rfc3339(),
        }
        status = {"metadata": {"uid": meta.uid}, "status": {"conditions": [condition]}}
        raw = await self._api.find(PODS, meta.namespace, meta.name)
        now = Pod.model_validate(raw) if raw is not None else None
        if now is None or now.metadata.uid != meta.uid or now.spec.node_name:
            return
        if all(one.message != message for one in now.status.conditions):
            await _insist(lambda: self._api.patch_status(PODS, meta.namespace, meta.name, status))
            await _insist(lambda: self._api.create(EVENTS, meta.namespace, body))

    async def _start(self, pod: Pod, profile: Profile, size: Size) -> None:
        await self._wait_for_start(pod)
        address = self._addresses.take()
        name = node_name(address)
        host, instance = self.settings.host_address, self.settings.instance
        node = node_object(name, size, self._port, host, instance, rfc3339())
        bound = binding(pod, name, size, profile.name, instance)
        meta = pod.metadata
        try:
            await _insist(lambda: self._api.create(NODES, "", node))
            if await _insist(lambda: self._api.create_in(PODS, meta.namespace, meta.name, "binding", bound)):
                # From here on the object and its Node are this task's to take away.
                await self._host(self._bound(pod, bound["metadata"], size, name, address))
        finally:
            self._addresses.give_back(address)
            await _insist(lambda: self._api.remove(NODES, "", name))

    async def _wait_for_start(self, pod: Pod) -> None:
        name = pod.full_name
        await self._bucket.take()
        await asyncio.sleep(self.settings.start_delay.of(pod.metadata.uid) + self.faults.delay(name))
        while self.faults.held(name):
            await self.faults.changed.wait()

    def _bound(self, pod: Pod, given: Json, size: Size, node: str, address: str) -> PodRun:
        meta = pod.metadata.model_copy(
            update={
                "labels": pod.metadata.labels | given["labels"],
                "annotations": pod.metadata.annotations | given["annotations"],
            }
        )
        facts = PodFacts(pod.model_copy(update={"metadata": meta}), node, address, self.settings.host_address, size)
        return self._make_run(facts, self._new_charge(facts))

    async def _host(self, run: PodRun) -> None:
        uid = run.facts.pod.metadata.uid
        self.runs[uid] = run
        self.ledger.put(run.charge)
        try:
            if (newest := self._missed.pop(uid, None)) is not None:
                run.observe(Pod.model_validate(newest))
            await run.pull(self.settings.pull_delay.of(uid))
            await run.run()
        finally:
            self._close(run)

    def _close(self, run: PodRun) -> None:
        uid = run.facts.pod.metadata.uid
        self.runs.pop(uid, None)
        self._decided.pop(uid, None)
        if run.gone:
            self.ledger.close(run.charge.model_copy(update={"gone_at": unix_now()}))

    def _make_run(self, facts: PodFacts, charge: Charge) -> PodRun:
        host, port = self._api.address
        cluster_env = {
            "KUBERNETES_SERVICE_HOST": host,
            "KUBERNETES_SERVICE_PORT": str(port),
            "KUBERNETES_SERVICE_PORT_HTTPS": str(port),
        }
        return PodRun(facts, self.settings, self._api, self._configurations, self.ledger, charge, cluster_env)

    @staticmethod
    def _new_charge(facts: PodFacts) -> Charge:
        meta, owner = facts.pod.metadata, facts.pod.controller()
        return Charge(
            namespace=meta.namespace,
            pod=meta.name,
            uid=meta.uid,
            owner_kind=owner.kind if owner else "",
            owner_name=owner.name if owner else "",
            profile=meta.labels.get(PROFILE_LABEL, ""),
            millicpu=facts.size.millicpu,
            mebibytes=facts.size.mebibytes,
            pull_started_at=unix_now(),
        )

    # Left-overs of an earlier run of this program

    async def _take_over(self, pod: Pod) -> None:
        """A pod of an earlier run: its processes are dead, so it has ended; bill it until it is gone."""
        meta = pod.metadata
        # Not podIP: the earlier run may have ended before its first report.
        address = node_address(pod.spec.node_name)
        self._addresses.reserve(address)
        size = provision(pod) or Size(250, 512)
        facts = PodFacts(pod, pod.spec.node_name, address, self.settings.host_address, size)
        charge = self._resumed.pop(meta.uid, None) or self._new_charge(facts)
        run = self._make_run(facts, charge)
        self.runs[meta.uid] = run
        try:
            await self._move_logs(pod.spec.node_name)
            if not pod.finished():
                await self._declare_lost(run)
            run.observe(pod)
            await run.stay()
        finally:
            self._close(run)
            self._addresses.give_back(address)
            await _insist(lambda: self._api.remove(NODES, "", pod.spec.node_name))

    async def _declare_lost(self, run: PodRun) -> None:
        meta = run.facts.pod.metadata
        run.charge = run.charge.model_copy(update={"finished_at": unix_now(), "exit_reason": "NodeLost"})
        self.ledger.put(run.charge)
        body = {"metadata": {"uid": meta.uid}, "status": lost_status(run.view(), rfc3339())}
        await _insist(lambda: self._api.patch_status(PODS, meta.namespace, meta.name, body))
        owner = run.facts.pod.controller()
        if owner is not None and owner.kind != "Job":
            # Nobody reads a lost pod of a Deployment, and its replacement has another name.
            await _insist(lambda: self._api.remove(PODS, meta.namespace, meta.name, uid=meta.uid, grace_seconds=0))

    async def _move_logs(self, node: str) -> None:
        endpoint = {"status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": self._port}}}}
        await _insist(lambda: self._api.patch_status(NODES, "", node, endpoint))

    async def _clear_nodes(self) -> None:
        """Delete Nodes of an earlier run whose pods are gone."""
        used = {run.facts.node_name for run in self.runs.values()}
        for item in await self._api.list_all(NODES, "", labels=f"{INSTANCE}={self.settings.instance}"):
            name = item["metadata"]["name"]
            if name not in used:
                await self._api.remove(NODES, "", name)

    def _close_forgotten(self) -> None:
        """Bill what vanished while the program was away up to now: when it went is not known."""
        for uid, charge in list(self._resumed.items()):
            if uid not in self._decided:
                self.ledger.close(charge.model_copy(update={"gone_at": unix_now()}))
                del self._resumed[uid]


async def _insist(call: Callable[[], Awaitable[Any]]) -> bool:
    """Repeat a call while the API server is away; False when it refuses (there already, or gone)."""
    pause = 0.2
    while True:
        try:
            await call()
        except KubernetesError as error:
            if not error.may_pass:
                if error.status not in (404, 409):
                    _LOG.warning("the API server refused: %s", error)
                return False
        else:
            return True
        await asyncio.sleep(pause)
        pause = min(pause * 2, _RETRY_LONGEST)
