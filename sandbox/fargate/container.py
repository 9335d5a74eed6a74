"""One container of a pod: started, probed, restarted and stopped as a kubelet does it."""

from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from sandbox.fargate.backoff import RestartPolicy, restarts
from sandbox.fargate.clock import Grace, rfc3339
from sandbox.fargate.environment import ConfigurationError, PodFacts, expand, references, resolve
from sandbox.fargate.images import Image, find_image
from sandbox.fargate.isolation import BindMount, ContainerSpec
from sandbox.fargate.logs import ContainerLog, last_text
from sandbox.fargate.prober import Prober, ProbeState
from sandbox.fargate.process import ContainerProcess, Exit
from sandbox.fargate.resources import cpu_group, release_cpu_group
from sandbox.fargate.sizes import limit_bytes, parse_quantity
from sandbox.fargate.status import ContainerView, Running, Terminated, Waiting

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from sandbox.fargate.configurations import Configurations
    from sandbox.fargate.pod import Container, Probe
    from sandbox.fargate.settings import NodeSettings
    from sandbox.fargate.volumes import PodVolumes

# Limits of the API: a message from the file, and one made from the log.
_LONGEST_MESSAGE, _LONGEST_LOG_MESSAGE = 4096, 2048
_CONFIGURATION_RETRY_SECONDS = 1.0


class PodSide(Protocol):
    """What a container needs of its pod."""

    settings: NodeSettings
    facts: PodFacts
    volumes: PodVolumes
    configurations: Configurations
    folder: Path
    log_folder: Path
    cluster_env: Mapping[str, str]

    def changed(self) -> None:
        """Report the pod's status anew."""

    def record_event(self, kind: str, reason: str, message: str) -> None:
        """Post an Event about the pod."""


@dataclass
class _Run:
    """One run of the container's command."""

    process: ContainerProcess
    log: ContainerLog
    message_file: Path
    began: float
    started_at: str


class ContainerLife:
    """A container from its first start to its last end."""

    def __init__(self, container: Container, pod: PodSide) -> None:
        """Nothing is started before `live`."""
        self.container, self._pod = container, pod
        self._policy: RestartPolicy = pod.facts.pod.spec.restart_policy
        self.view = ContainerView(container.name, container.image, Waiting("ContainerCreating"))
        self.log: ContainerLog | None = None
        self._peak_before = 0
        self.begun = False
        self._run: _Run | None = None
        self._prober = Prober(container, pod.facts.address)
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()

    @property
    def peak_bytes(self) -> int:
        """The most memory that any run has had so far."""
        return max(self._peak_before, self._run.process.peak_bytes if self._run else 0)

    async def live(self) -> None:
        """Run the command until it is not to be started again; `stop` ends this too."""
        backoff = self._pod.settings.backoff
        self.begun = True
        try:
            while not self._stopping.is_set():
                began = time.monotonic()
                ended = await self._once()
                if ended is None or self._stopping.is_set() or not restarts(self._policy, ended.exit_code):
                    return
                backoff, wait = backoff.after(time.monotonic() - began)
                if wait > 0:
                    await self._wait_before_restart(ended, wait)
                if not self._stopping.is_set():
                    self.view = replace(self.view, last=ended, restart_count=self.view.restart_count + 1)
        finally:
            self._ended.set()

    async def stop(self, grace: Grace) -> None:
        """SIGTERM, and SIGKILL when the grace is over; returns when the container has ended."""
        self._stopping.set()
        if not self.begun:
            return
        run = self._run
        if run is not None and run.process.running:
            await self._end_process(run.process, grace)
        await self._ended.wait()

    def kill(self, number: signal.Signals = signal.SIGKILL) -> bool:
        """Send a signal to the command; False when it does not run."""
        if self._run is None or not self._run.process.running:
            return False
        self._run.process.signal(number)
        return True

    def freeze(self, *, frozen: bool) -> bool:
        """Stop or continue all processes; False when none run."""
        if self._run is None or not self._run.process.running:
            return False
        self._run.process.freeze(frozen)
        return True

    async def _once(self) -> Terminated | None:
        """One run, from waiting for what it needs to its end; None when stopped before it began."""
        spec = await self._prepared()
        if spec is None:
            return None
        run = await self._launch(spec)
        self._run, self.log = run, run.log
        if self._stopping.is_set():
            # Stopped while it was being started: nobody else ends it.
            run.process.signal(signal.SIGKILL)
        error = run.process.start_error()
        watcher: asyncio.Task[None] | None = None
        if not error:
            unprobed = self.container.startup_probe is None
            ready = unprobed and self.container.readiness_probe is None
            self._set(Running(run.started_at), ready=ready, started=unprobed, container_id=self._id())
            watcher = asyncio.create_task(self._watch(run.process))
        result = await run.process.wait()
        if watcher is not None:
            watcher.cancel()
        self._peak_before = max(self._peak_before, result.peak_bytes)
        release_cpu_group(spec.cgroup_files)
        ended = self._verdict(run, result, error)
        self._set(ended, ready=False, started=False, container_id=self._id())
        return ended

    async def _prepared(self) -> ContainerSpec | None:
        """What to start; waits while a Secret, ConfigMap or image is missing, None when stopped then."""
        while not self._stopping.is_set():
            image = find_image(self._pod.settings.images, self.container.image)
            try:
                return await self._spec(image)
            except ConfigurationError as error:
                reason = "ImagePullBackOff" if image is None else "CreateContainerConfigError"
                if self.view.state != Waiting(reason, str(error)):
                    self._set(Waiting(reason, str(error)), ready=False, started=False)
                    self._pod.record_event("Warning", "Failed", f"Error: {error}")
            await self._pause(_CONFIGURATION_RETRY_SECONDS)
        return None

    async def _spec(self, image: Image | None) -> ContainerSpec:
        container, pod = self.container, self._pod
        if image is None:
            raise ConfigurationError(f'no local program stands for image "{container.image}"')
        found = await pod.configurations.read(pod.facts.pod.metadata.namespace, references(container))
        base = {**image.base_env(), "HOSTNAME": pod.facts.pod.metadata.name}
        env = resolve(container, pod.facts, found, {**base, **dict(pod.settings.env), **pod.cluster_env})
        command = [expand(part, env) for part in container.command] or list(image.entrypoint)
        default = [] if container.command else list(image.arguments)
        arguments = [expand(part, env) for part in container.args] or default
        if not [*command, *arguments]:
            raise ConfigurationError(f'no command specified, and image "{container.image}" stands for none')
        context, of_pod = container.security_context, pod.facts.pod.spec.security_context
        honoured = pod.settings.honour_run_as_user
        user = context.run_as_user if context.run_as_user is not None else of_pod.run_as_user
        group = context.run_as_group if context.run_as_group is not None else of_pod.run_as_group
        return ContainerSpec(
            argv=[*command, *arguments],
            env=env,
            cwd=container.working_dir or str(image.folder),
            mounts=[*pod.volumes.mounts(container), self._message_mount()],
            runtime=image.folders(),
            hostname=pod.facts.pod.spec.hostname or pod.facts.pod.metadata.name,
            read_only_root=context.read_only_root_filesystem,
            uid=user if honoured else None,
            gid=group if honoured else None,
            cgroup_files=self._cpu_group(),
        )

    def _cpu_group(self) -> Sequence[Path]:
        limit = self.container.resources.limits.get("cpu")
        if not self._pod.settings.cpu_quota or limit is None:
            return ()
        name = f"{self._pod.facts.pod.metadata.uid}-{self.container.name}"
        return cpu_group(name, float(parse_quantity(limit)))

    def _message_mount(self) -> BindMount:
        file = self._folder() / f"message-{self.view.restart_count}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
        file.chmod(0o666)
        return BindMount(file, self.container.termination_message_path, read_only=False, folder=False)

    def _folder(self) -> Path:
        return self._pod.folder / "containers" / self.container.name

    async def _launch(self, spec: ContainerSpec) -> _Run:
        root = self._folder() / "root"
        root.mkdir(exist_ok=True)
        log = ContainerLog(self._pod.log_folder / f"{self.container.name}.log")
        limit = limit_bytes(self.container, self._pod.facts.size)
        isolation = self._pod.settings.isolation
        process = await ContainerProcess.launch(spec, isolation, root, limit, log)
        return _Run(process, log, spec.mounts[-1].source, time.monotonic(), rfc3339())

    def _verdict(self, run: _Run, result: Exit, start_error: str) -> Terminated:
        message = run.message_file.read_bytes()[:_LONGEST_MESSAGE].decode(errors="replace")
        wants_log = self.container.termination_message_policy == "FallbackToLogsOnError"
        if start_error:
            message = start_error
        elif not message and wants_log and result.code != 0:
            message = last_text(run.log.file, _LONGEST_LOG_MESSAGE)
        reason = "Completed" if result.code == 0 else "Error"
        if start_error:
            reason = "StartError"
        elif result.oom_killed:
            reason = "OOMKilled"
        return Terminated(
            exit_code=result.code,
            reason=reason,
            started_at=run.started_at,
            finished_at=rfc3339(),
            message=message.encode()[:_LONGEST_MESSAGE].decode(errors="ignore"),
            container_id=self._id(),
        )

    def _id(self) -> str:
        uid = self._pod.facts.pod.metadata.uid
        return f"local://{uid}/{self.container.name}/{self.view.restart_count}"

    def _set(self, state: Waiting | Running | Terminated, **other: bool | str) -> None:
        self.view = replace(self.view, state=state, **other)  # type: ignore[arg-type]
        self._pod.changed()

    async def _wait_before_restart(self, ended: Terminated, seconds: float) -> None:
        pod = self._pod.facts.pod
        message = (
            f"back-off {seconds:g}s restarting failed container={self.container.name} "
            f"pod={pod.metadata.name}_{pod.metadata.namespace}({pod.metadata.uid})"
        )
        self.view = replace(self.view, last=ended)
        self._set(Waiting("CrashLoopBackOff", message))
        self._pod.record_event("Warning", "BackOff", message)
        await self._pause(seconds)
        if self._stopping.is_set():
            self._set(ended)

    async def _pause(self, seconds: float) -> None:
        await asyncio.wait([waiter := asyncio.ensure_future(self._stopping.wait())], timeout=seconds)
        waiter.cancel()

    async def _watch(self, process: ContainerProcess) -> None:
        """Run the probes of one run: first the startup probe, then the other two."""
        container = self.container
        if container.startup_probe is not None:
            if not await self._until_started(container.startup_probe, process):
                return
            self._mark(started=True, ready=container.readiness_probe is None)
        async with asyncio.TaskGroup() as group:
            if container.readiness_probe is not None:
                group.create_task(self._watch_readiness(container.readiness_probe))
            if container.liveness_probe is not None:
                group.create_task(self._watch_liveness(container.liveness_probe, process))

    async def _until_started(self, probe: Probe, process: ContainerProcess) -> bool:
        state = ProbeState(1, probe.failure_threshold)
        await asyncio.sleep(probe.initial_delay_seconds)
        while True:
            success, why = await self._probe(probe)
            state = state.observe(success)
            if state.passing:
                return True
            self._unhealthy("Startup", why)
            if state.passing is False:
                await self._kill_unhealthy(process, probe.termination_grace_period_seconds)
                return False
            await asyncio.sleep(probe.period_seconds)

    async def _watch_readiness(self, probe: Probe) -> None:
        state = ProbeState(probe.success_threshold, probe.failure_threshold)
        await asyncio.sleep(probe.initial_delay_seconds)
        while True:
            success, why = await self._probe(probe)
            state = state.observe(success)
            if not success:
                self._unhealthy("Readiness", why)
            if state.passing is not None and state.passing != self.view.ready:
                self._mark(started=True, ready=state.passing)
            await asyncio.sleep(probe.period_seconds)

    async def _watch_liveness(self, probe: Probe, process: ContainerProcess) -> None:
        state = ProbeState(1, probe.failure_threshold)
        await asyncio.sleep(probe.initial_delay_seconds)
        while not self._stopping.is_set():
            success, why = await self._probe(probe)
            state = state.observe(success)
            if not success:
                self._unhealthy("Liveness", why)
            if state.passing is False and not self._stopping.is_set():
                await self._kill_unhealthy(process, probe.termination_grace_period_seconds)
                return
            await asyncio.sleep(probe.period_seconds)

    async def _probe(self, probe: Probe) -> tuple[bool, str]:
        return await self._prober.attempt(probe)

    def _unhealthy(self, which: str, why: str) -> None:
        self._pod.record_event("Warning", "Unhealthy", f"{which} probe failed: {why}")

    async def _kill_unhealthy(self, process: ContainerProcess, seconds: int | None) -> None:
        grace = self._pod.facts.pod.spec.termination_grace_period_seconds if seconds is None else seconds
        self._pod.record_event("Normal", "Killing", f"Container {self.container.name} will be restarted")
        await self._end_process(process, Grace(grace))

    @staticmethod
    async def _end_process(process: ContainerProcess, grace: Grace) -> None:
        if grace.left > 0:
            process.signal(signal.SIGTERM)
            expiry = asyncio.ensure_future(grace.over())
            either: list[asyncio.Future[Any]] = [expiry, process.ended]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            expiry.cancel()
        if process.running:
            process.signal(signal.SIGKILL)

    def _mark(self, *, started: bool, ready: bool) -> None:
        self.view = replace(self.view, started=started, ready=ready)
        self._pod.changed()
