"""One run of a container: its process, its log, its memory and its end."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sandbox.fargate import memory
from sandbox.fargate.isolation import ContainerSpec, Isolation, start

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.fargate.logs import ContainerLog

_DRAIN_SECONDS = 1.0
_FIRST_INTERVAL, _BUSY_INTERVAL, _QUIET_INTERVAL = 0.05, 0.2, 1.0


class StartError(Exception):
    """The command could not be started; the message says why."""


@dataclass(frozen=True)
class Exit:
    """How a run ended. `code` is 128 + signal for a signal; memory in bytes."""

    code: int
    oom_killed: bool
    peak_bytes: int


class _Pump(asyncio.Protocol):
    """Carries one output stream into the log."""

    def __init__(self, log: ContainerLog, stream: str) -> None:
        self._log, self._stream = log, stream
        self.ended = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self._log.write(self._stream, data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if not self.ended.done():
            self.ended.set_result(None)


class _Answer(asyncio.Protocol):
    """Reads what the shim says about the start."""

    def __init__(self) -> None:
        self.text = b""
        self.known = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.text += data
        if not self.known.done():
            self.known.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if not self.known.done():
            self.known.set_result(None)


class ContainerProcess:
    """A running container. Make it with `launch`, then await `wait` once."""

    def __init__(self, pid: int, isolation: Isolation, limit_bytes: int, log: ContainerLog) -> None:
        """Use `ContainerProcess.launch`."""
        self.outer_pid = pid
        self._isolation = isolation
        self._limit = limit_bytes
        self._log = log
        self._oom = False
        self._peak = 0
        self._floor = 0
        self._pumps: list[_Pump] = []
        self._transports: list[asyncio.ReadTransport] = []
        self._answer = _Answer()
        self.ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()

    @classmethod
    async def launch(
        cls, spec: ContainerSpec, isolation: Isolation, root: Path, limit_bytes: int, log: ContainerLog
    ) -> ContainerProcess:
        """Start the command; returns when it runs, raises StartError when it can't."""
        # A child's own measure of its peak starts at what this process has: the kernel counts the fork.
        floor = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        started = start(spec, isolation, root)
        self = cls(started.process.pid, isolation, limit_bytes, log)
        self._floor = floor
        # The child is reaped by its pidfd below, with its resource usage; Popen must not try to.
        started.process.returncode = 0
        loop = asyncio.get_running_loop()
        for stream, end in (("stdout", started.stdout), ("stderr", started.stderr)):
            pump = _Pump(log, stream)
            transport, _ = await loop.connect_read_pipe(lambda pump=pump: pump, os.fdopen(end, "rb", 0))  # type: ignore[misc]
            self._pumps.append(pump)
            self._transports.append(transport)
        self._watch_end(loop)
        answer = self._answer
        transport, _ = await loop.connect_read_pipe(lambda: answer, os.fdopen(started.status, "rb", 0))
        self._transports.append(transport)
        await asyncio.wait([answer.known, self.ended], return_when=asyncio.FIRST_COMPLETED)
        return self

    def start_error(self) -> str:
        """Why the command never ran, or empty."""
        _before, mark, reason = self._answer.text.partition(b"E")
        return reason.decode(errors="replace") if mark else ""

    def _watch_end(self, loop: asyncio.AbstractEventLoop) -> None:
        pidfd = os.pidfd_open(self.outer_pid)

        def reap() -> None:
            loop.remove_reader(pidfd)
            os.close(pidfd)
            _pid, status, used = os.wait4(self.outer_pid, 0)
            code = os.waitstatus_to_exitcode(status)
            measured = used.ru_maxrss * 1024
            self._peak = max(self._peak, measured if measured > self._floor else 0)
            self.ended.set_result(Exit(code if code >= 0 else 128 - code, self._oom, self._peak))

        loop.add_reader(pidfd, reap)

    def main_pid(self) -> int | None:
        """The pid of the container's command as this machine sees it, or None when it is not there."""
        if self.ended.done():
            return None
        if self._isolation == "none":
            return self.outer_pid
        inner = memory.children(self.outer_pid)
        return inner[0] if inner else None

    @property
    def running(self) -> bool:
        """Whether the process has not ended yet."""
        return not self.ended.done()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the container's command; SIGKILL ends all of its processes."""
        pid = self.main_pid()
        if number == signal.SIGKILL:
            self._kill()
        elif pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def freeze(self, frozen: bool) -> None:
        """Stop or continue every process of the container."""
        number = signal.SIGSTOP if frozen else signal.SIGCONT
        pid = self.main_pid()
        for one in memory.tree(pid) if pid is not None else ():
            with suppress(ProcessLookupError):
                os.kill(one, number)

    def _kill(self) -> None:
        pid = self.main_pid()
        # Killing process 1 of a PID namespace ends all others in it; otherwise each is killed.
        victims = memory.tree(self.outer_pid) if self._isolation == "none" else [pid or self.outer_pid]
        for one in victims:
            with suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)

    async def wait(self) -> Exit:
        """Watch the memory until the end; returns when the process and its output have ended."""
        # Short runs are measured too: the first looks come early.
        interval, most = _FIRST_INTERVAL, _BUSY_INTERVAL
        while not self.ended.done():
            await asyncio.wait([self.ended], timeout=min(interval, most))
            interval *= 2
            if not self.ended.done():
                most = self._sample()
        await asyncio.wait([pump.ended for pump in self._pumps], timeout=_DRAIN_SECONDS)
        for transport in self._transports:
            transport.close()
        self._log.close()
        result = self.ended.result()
        return Exit(137, True, result.peak_bytes) if self._oom else result

    @property
    def peak_bytes(self) -> int:
        """The most memory seen so far."""
        return self._peak

    def _sample(self) -> float:
        """Measure once, kill above the limit, and say when to measure again."""
        pid = self.main_pid()
        if pid is None or not self._answer.text:
            return _BUSY_INTERVAL
        used = memory.usage(pid)
        before, self._peak = self._peak, max(self._peak, used.now, used.peak_of_one)
        if used.now > self._limit:
            self._oom = True
            self._kill()
        quiet = used.now < self._limit * 0.4 and self._peak < before * 1.05
        return _QUIET_INTERVAL if quiet else _BUSY_INTERVAL
