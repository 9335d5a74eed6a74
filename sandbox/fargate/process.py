"""One run of a container: its process, its log, its memory and its end."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sandbox.fargate.isolation import ContainerSpec, Isolation, start
from sandbox.fargate.resources import tree, usage

if TYPE_CHECKING:
    import resource
    from pathlib import Path

    from sandbox.fargate.logs import ContainerLog

_DRAIN_SECONDS = 1.0
_FIRST_INTERVAL, _BUSY_INTERVAL, _QUIET_INTERVAL = 0.05, 0.2, 1.0


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
        self._changed = asyncio.Event()
        self._closed = False

    def data_received(self, data: bytes) -> None:
        self.text += data
        self._changed.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._closed = True
        self._changed.set()

    async def line(self) -> bool:
        """Wait for the first line or the end; whether the line came."""
        while b"\n" not in self.text and not self._closed:
            self._changed.clear()
            await self._changed.wait()
        return b"\n" in self.text

    async def closed(self) -> None:
        """Wait for the end: the command has taken over, or never will."""
        while not self._closed:
            self._changed.clear()
            await self._changed.wait()


class ContainerProcess:
    """A running container. Make it with `launch`, then await `wait` once."""

    def __init__(self, isolation: Isolation, limit_bytes: int, log: ContainerLog) -> None:
        """Use `ContainerProcess.launch`."""
        self._isolation = isolation
        self._limit = limit_bytes
        self._log = log
        self._pid: int | None = None
        self._watcher: asyncio.Future[None] | None = None
        self._oom = False
        self._peak = 0
        self._pumps: list[_Pump] = []
        self._transports: list[asyncio.ReadTransport] = []
        self._answer = _Answer()
        self.ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()

    @classmethod
    async def launch(
        cls, spec: ContainerSpec, isolation: Isolation, root: Path, limit_bytes: int, log: ContainerLog
    ) -> ContainerProcess:
        """Start the command; returns when it runs or has failed to, see `start_error`."""
        self = cls(isolation, limit_bytes, log)
        started = start(spec, isolation, root)
        # Popen must not reap what is reaped here.
        started.process.returncode = 0
        for stream, end in (("stdout", started.stdout), ("stderr", started.stderr)):
            pump = _Pump(log, stream)
            self._pumps.append(pump)
            await self._connect(pump, end)
        await self._connect(self._answer, started.status)
        first = started.process.pid
        named = await self._answer.line()
        if isolation == "none" or not named:
            self._watch_end(first)
        else:
            # The shim's parent half has said the pid and ends; then the container is this process's child.
            await _readable(first)
            _reap(first)
            self._watch_end(int(self._answer.text[1:].split(b"\n")[0]))
        await self._answer.closed()
        return self

    async def _connect(self, protocol: asyncio.Protocol, end: int) -> None:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(lambda: protocol, os.fdopen(end, "rb", 0))
        self._transports.append(transport)

    def start_error(self) -> str:
        """Why the command never ran, or empty."""
        _before, mark, reason = self._answer.text.partition(b"E")
        if mark:
            return reason.decode(errors="replace")
        return "" if b"S" in self._answer.text else "the container ended before its command was started"

    def _watch_end(self, pid: int) -> None:
        self._pid = pid
        self._watcher = asyncio.ensure_future(_readable(pid))
        self._watcher.add_done_callback(lambda _: self._finish(pid))

    def _finish(self, pid: int) -> None:
        if self._watcher is None or self._watcher.cancelled():
            return
        status, used = _reap(pid)
        code = os.waitstatus_to_exitcode(status)
        self._peak = max(self._peak, used.ru_maxrss * 1024)
        self.ended.set_result(Exit(code if code >= 0 else 128 - code, self._oom, self._peak))

    def main_pid(self) -> int | None:
        """The pid of the container's command as this machine sees it, or None when it has ended."""
        return None if self.ended.done() else self._pid

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
        for one in tree(pid) if pid is not None else ():
            with suppress(ProcessLookupError):
                os.kill(one, number)

    def _kill(self) -> None:
        pid = self.main_pid()
        if pid is None:
            return
        # Killing process 1 of a PID namespace ends all others in it; otherwise each is killed.
        for one in tree(pid) if self._isolation == "none" else [pid]:
            with suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)

    async def wait(self) -> Exit:
        """Watch the memory until the end; returns when the process and its output have ended."""
        # Short runs are measured too: the first samples come early.
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
        if pid is None:
            return _BUSY_INTERVAL
        used = usage(pid)
        before, self._peak = self._peak, max(self._peak, used.now, used.peak_of_one)
        if used.now > self._limit:
            self._oom = True
            self._kill()
        quiet = used.now < self._limit * 0.4 and self._peak < before * 1.05
        return _QUIET_INTERVAL if quiet else _BUSY_INTERVAL


async def _readable(pid: int) -> None:
    """Wait for the end of a process without reaping it."""
    loop = asyncio.get_running_loop()
    pidfd = os.pidfd_open(pid)
    ended = loop.create_future()

    def end() -> None:
        if not ended.done():
            ended.set_result(None)

    loop.add_reader(pidfd, end)
    try:
        await ended
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)


def _reap(pid: int) -> tuple[int, resource.struct_rusage]:
    """Take the end of a child that has ended: its wait status and what it used."""
    _pid, status, used = os.wait4(pid, 0)
    return status, used
