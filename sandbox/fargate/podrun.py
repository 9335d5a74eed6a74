"""One pod on its Fargate node: from its binding until its object and its Node are gone."""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from entrypackage.kubernetes import EVENTS, PODS, AlreadyExistsError, ConflictError, KubernetesError, NotFoundError
from sandbox.fargate.clock import Grace, rfc3339, unix_now
from sandbox.fargate.container import ContainerLife
from sandbox.fargate.logs import move_aside
from sandbox.fargate.objects import event
from sandbox.fargate.status import PodView, Transitions, exit_reason, finished, pod_status
from sandbox.fargate.volumes import PodVolumes, VolumeError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from sandbox.fargate.bill import Charge, Ledger
    from sandbox.fargate.configurations import Configurations
    from sandbox.fargate.environment import ConfigurationKey, PodFacts
    from sandbox.fargate.pod import Pod
    from sandbox.fargate.settings import NodeSettings
    from sandbox.kubernetes import ClusterApi

Json = dict[str, Any]
_LOG = logging.getLogger(__name__)
# Short for a person, and long enough that containers which start together are one write.
_GATHER_SECONDS = 0.02
_FIRST_REPORT_SECONDS = 1.0
_VOLUME_RETRY_SECONDS = 1.0
_RETRY_LONGEST = 5.0
_MOST_EVENTS = 100
_MEASURE_SECONDS = 2.0


class PodGoneError(Exception):
    """The pod's object is not there any more, or another has its name."""


class PodRun:
    """Runs one pod. `observe` and `object_gone` feed it what the API server says; `run` does the rest."""

    def __init__(
        self,
        facts: PodFacts,
        settings: NodeSettings,
        api: ClusterApi,
        configurations: Configurations,
        ledger: Ledger,
        charge: Charge,
        cluster_env: Mapping[str, str],
    ) -> None:
        """The pod must be bound to its node already."""
        self.facts, self.settings = facts, settings
        self.configurations = configurations
        self.cluster_env = cluster_env
        self._api, self._ledger, self.charge = api, ledger, charge
        meta = facts.pod.metadata
        self.folder: Path = settings.folder / "pods" / meta.uid
        self.log_folder: Path = settings.folder / "logs" / meta.namespace / meta.name
        self.volumes = PodVolumes(api, configurations, facts, self.folder / "volumes")
        self.containers = [ContainerLife(one, self) for one in facts.pod.spec.containers]
        self.latest = facts.pod
        self._started_at = rfc3339()
        self._transitions = Transitions()
        self._ending = False
        self._verdict: tuple[str, str] | None = None
        self._grace: Grace | None = None
        self._end = asyncio.Event()
        self._gone = asyncio.Event()
        self._deleting = asyncio.Event()
        self._dirty = asyncio.Event()
        self._stale = asyncio.Event()
        self._reported: Json | None = None
        self._reporting = asyncio.Lock()
        self._told: set[tuple[str, str]] = set()
        self._side: set[asyncio.Task[Any]] = set()

    # What the API server says

    def observe(self, pod: Pod) -> None:
        """Take the newest state of the object."""
        before, self.latest = self.latest, pod
        if pod.metadata.deletion_timestamp is not None:
            spec_grace = pod.spec.termination_grace_period_seconds
            seconds = pod.metadata.deletion_grace_period_seconds
            self.end(spec_grace if seconds is None else seconds)
            self._deleting.set()
        if (before.metadata.labels, before.metadata.annotations) != (pod.metadata.labels, pod.metadata.annotations):
            self.facts = self.volumes.facts = replace(self.facts, pod=pod)
            self._stale.set()

    def object_gone(self) -> None:
        """The object is gone: what still runs has a second to end, as with a kubelet."""
        self._gone.set()
        self._deleting.set()
        self.end(1)

    def configuration_changed(self, key: ConfigurationKey) -> None:
        """A Secret or ConfigMap of the namespace changed."""
        if key in self.volumes.references:
            self._stale.set()

    def end(self, grace_seconds: float, verdict: tuple[str, str] | None = None) -> None:
        """Stop all containers; a verdict is the reason and message that make the pod Failed."""
        if self._verdict is None and verdict is not None and not self._ending:
            self._verdict = verdict
        if self._grace is None:
            self._grace = Grace(max(1.0, grace_seconds))
        else:
            self._grace.shorten(max(1.0, grace_seconds))
        self._end.set()

    @property
    def gone(self) -> bool:
        """Whether the pod's object is gone."""
        return self._gone.is_set()

    # What containers need

    def changed(self) -> None:
        """Report the status soon."""
        self._dirty.set()

    def record_event(self, kind: str, reason: str, message: str) -> None:
        """Post an Event, without waiting for it; the same again is not posted."""
        if (reason, message) in self._told or len(self._told) >= _MOST_EVENTS:
            return
        self._told.add((reason, message))
        meta = self.facts.pod.metadata
        body = event(self.facts.pod, kind, reason, message, "kubelet", rfc3339())
        self._spawn(self._quietly(lambda: self._api.create(EVENTS, meta.namespace, body)))

    # The life

    async def pull(self, seconds: float) -> None:
        """Take as long as an image pull would; a deletion ends it."""
        if seconds > 0:
            await _first(seconds, self._end)

    async def run(self) -> None:
        """Run the pod to its end and stay until its object is gone."""
        move_aside(self.log_folder)
        reporter = asyncio.create_task(self._report_for_ever())
        asyncio.get_running_loop().call_later(_FIRST_REPORT_SECONDS, self.changed)
        try:
            await self._live()
            self._ending = True
            self._close_running()
            await self._report_until_done()
            await self._leave()
        except PodGoneError:
            self._gone.set()
            self.end(1)
            await self._stop_all()
        finally:
            for task in [reporter, *self._side]:
                task.cancel()
            shutil.rmtree(self.folder, ignore_errors=True)

    async def stay(self) -> None:
        """Keep a finished pod of an earlier run of the node until its object is gone."""
        await self._leave()

    async def _live(self) -> None:
        work = asyncio.create_task(self._containers())
        end = asyncio.create_task(self._end.wait())
        watchers = [asyncio.create_task(watch) for watch in (self._refresh(), self._limits(), self._measure())]
        await asyncio.wait([work, end], return_when=asyncio.FIRST_COMPLETED)
        try:
            if not work.done():
                await self._stop_all()
            await work
        finally:
            for task in [end, *watchers]:
                task.cancel()

    async def _stop_all(self) -> None:
        grace = self._grace or Grace(1.0)
        await asyncio.gather(*(one.stop(grace) for one in self.containers))

    async def _containers(self) -> None:
        if not await self._fill_volumes():
            return
        if not self._end.is_set():
            await asyncio.gather(*(one.live() for one in self.containers))

    async def _fill_volumes(self) -> bool:
        """Wait until every volume is there; False when the pod ends before."""
        while not self._end.is_set():
            self._stale.clear()
            try:
                await self.volumes.fill()
            except (VolumeError, KubernetesError, OSError) as error:
                if isinstance(error, VolumeError) or (isinstance(error, KubernetesError) and error.status):
                    self.record_event("Warning", "FailedMount", f"MountVolume.SetUp failed: {error}")
                else:
                    _LOG.warning("%s: filling volumes: %s", self.facts.pod.full_name, error)
                await _first(_VOLUME_RETRY_SECONDS, self._end, self._stale)
            else:
                return True
        return False

    async def _refresh(self) -> None:
        """Write volumes again when what they hold changed or a token is to be renewed."""
        while True:
            due = self.volumes.renew_at
            await _first(max(1.0, due - unix_now()) if due is not None else 3600.0, self._stale)
            self._stale.clear()
            try:
                await self.volumes.fill()
            except (VolumeError, KubernetesError, OSError) as error:
                _LOG.warning("%s: refreshing volumes: %s", self.facts.pod.full_name, error)
                await asyncio.sleep(_VOLUME_RETRY_SECONDS)
                self._stale.set()

    async def _limits(self) -> None:
        """End the pod when its deadline passes or an emptyDir grows over its limit."""
        seconds = self.facts.pod.spec.active_deadline_seconds
        deadline = None if seconds is None else time.monotonic() + seconds
        checked = self.volumes.limited()
        while checked or deadline is not None:
            left = 3600.0 if deadline is None else deadline - time.monotonic()
            await asyncio.sleep(max(0.0, min(left, self.settings.size_check_interval if checked else left)))
            if deadline is not None and time.monotonic() >= deadline:
                message = "Pod was active on the node longer than the specified deadline"
                self.end(self.facts.pod.spec.termination_grace_period_seconds, ("DeadlineExceeded", message))
                return
            over = await asyncio.to_thread(self.volumes.over_limit) if checked else None
            if over is not None:
                self.record_event("Warning", "Evicted", over)
                self.end(1, ("Evicted", over))
                return

    async def _measure(self) -> None:
        """Keep the memory of a pod that runs on the bill current."""
        while True:
            await asyncio.sleep(_MEASURE_SECONDS)
            peaks = self._peaks()
            if peaks != self.charge.peak_rss_bytes:
                self.charge = self.charge.model_copy(update={"peak_rss_bytes": peaks})
                self._ledger.put(self.charge)

    def _peaks(self) -> dict[str, int]:
        return {one.container.name: one.peak_bytes for one in self.containers}

    async def _leave(self) -> None:
        """Wait for the deletion, confirm it and wait until the object is gone."""
        meta = self.facts.pod.metadata
        await self._deleting.wait()
        pause = 0.2
        while not self._gone.is_set():
            try:
                if not await self._api.remove(PODS, meta.namespace, meta.name, uid=meta.uid, grace_seconds=0):
                    self._gone.set()
                    return
                # A finalizer may hold it: then its release removes the object, and no second call is needed.
                await self._gone.wait()
            except KubernetesError as error:
                _LOG.warning("%s: confirming the deletion: %s", self.facts.pod.full_name, error)
                await _first(pause, self._gone)
                pause = min(pause * 2, _RETRY_LONGEST)

    # Status

    def view(self) -> PodView:
        """The pod as it is now."""
        return PodView(
            spec=self.facts.pod.spec,
            address=self.facts.address,
            host_address=self.facts.host_address,
            started_at=self._started_at,
            containers=[one.view for one in self.containers],
            ending=self._ending,
            verdict=self._verdict,
        )

    def _close_running(self) -> None:
        view = self.view()
        self.charge = self.charge.model_copy(
            update={
                "finished_at": unix_now(),
                "peak_rss_bytes": self._peaks(),
                "exit_reason": exit_reason(view, deleted=self._deleting.is_set()),
            }
        )
        self._ledger.put(self.charge)

    async def _report_for_ever(self) -> None:
        pause = 0.2
        while True:
            await self._dirty.wait()
            await asyncio.sleep(_GATHER_SECONDS)
            try:
                await self._report()
                pause = 0.2
            except PodGoneError:
                self.object_gone()
                return
            except KubernetesError as error:
                _LOG.warning("%s: reporting its status: %s", self.facts.pod.full_name, error)
                self._dirty.set()
                await asyncio.sleep(pause)
                pause = min(pause * 2, _RETRY_LONGEST)

    async def _report_until_done(self) -> None:
        pause = 0.2
        while not self._gone.is_set():
            try:
                await self._report()
            except KubernetesError as error:
                _LOG.warning("%s: reporting its end: %s", self.facts.pod.full_name, error)
                await _first(pause, self._gone)
                pause = min(pause * 2, _RETRY_LONGEST)
            else:
                return

    async def _report(self) -> None:
        """Send the status if it differs from what was sent last."""
        async with self._reporting:
            self._dirty.clear()
            view = self.view()
            if finished(view) and not self._ending:
                # The last state is reported once all containers have ended and the bill knows.
                return
            status = pod_status(view, self._transitions, rfc3339())
            if status == self._reported:
                return
            meta = self.facts.pod.metadata
            body = {"metadata": {"uid": meta.uid}, "status": status}
            try:
                await self._api.patch_status(PODS, meta.namespace, meta.name, body)
            except (NotFoundError, ConflictError) as error:
                raise PodGoneError from error
            self._reported = status

    # Small things

    def _spawn(self, work: Awaitable[Any]) -> None:
        task = asyncio.ensure_future(work)
        self._side.add(task)
        task.add_done_callback(self._side.discard)

    async def _quietly(self, call: Callable[[], Awaitable[Any]]) -> None:
        try:
            await call()
        except AlreadyExistsError:
            pass
        except KubernetesError as error:
            _LOG.info("%s: posting an event: %s", self.facts.pod.full_name, error)


async def _first(seconds: float, *events: asyncio.Event) -> None:
    """Wait until one of the events is set or the time is over."""
    waiters = [asyncio.ensure_future(one.wait()) for one in events]
    try:
        await asyncio.wait(waiters, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for waiter in waiters:
            waiter.cancel()
