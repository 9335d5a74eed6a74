"""Start the sandbox's processes and leave nothing behind, however the run ends.

A `Run` owns a folder and the processes started in it. Three nets catch what falls:

* leaving `async with Run(...)` stops the processes in reverse order: SIGTERM, a deadline, SIGKILL;
* each process dies with its parent (PR_SET_PDEATHSIG, set by `setpriv`). That signal follows the *thread* that forked
  and is not inherited by grandchildren, so processes are started from the main thread only, and a process that starts
  further ones uses a `Run` of its own;
* a janitor (`sandbox.janitor`) in a session of its own kills the rest and removes the folder when the root is gone.
"""

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sandbox import janitor

_POLL_SECONDS = 0.02
_TAIL_LINES = 15
_SWEEP_SECONDS = 5.0


class SandboxError(Exception):
    """Something that a person can meet and mend: its text is one clear sentence; a log's tail may follow."""


@dataclass
class Child:
    """One process of a run. Its stdout and stderr go to `log`, one after another."""

    name: str
    process: asyncio.subprocess.Process
    log: Path
    grace_seconds: float
    """How long it may take to stop after SIGTERM; then SIGKILL follows."""
    log_start: int
    """Length of the log when the process started: a restarted one appends."""

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process.returncode is None

    def tail(self, lines: int = _TAIL_LINES) -> str:
        """Return the last lines of what the process wrote."""
        with self.log.open("rb") as log:
            log.seek(max(self.log_start, log.seek(0, os.SEEK_END) - 200 * lines))
            text = log.read().decode(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    async def until(self, condition: Callable[[], Awaitable[bool]], *, seconds: float, what: str) -> None:
        """Wait until the condition holds.

        Raises `SandboxError` with the log's tail if the process ends first or the time is over. `what` completes the
        sentence "<name> did not … within N s".
        """
        deadline = time.monotonic() + seconds
        while True:
            if not self.running:
                raise SandboxError(
                    f"{self.name} ended with exit code {self.process.returncode} before it could {what}."
                    f" Its last lines ({self.log}):\n{self.tail()}"
                )
            if await condition():
                return
            if time.monotonic() > deadline:
                raise SandboxError(
                    f"{self.name} did not {what} within {seconds:.0f} s. Its last lines ({self.log}):\n{self.tail()}"
                )
            await asyncio.sleep(_POLL_SECONDS)

    async def ready_line(self, *, seconds: float) -> dict[str, Any]:
        """Wait for the line `{"ready": true, ...}` that each piece of the sandbox prints, and return it."""
        found: dict[str, Any] = {}

        async def has_line() -> bool:
            found.update(_find_ready_line(self.log, self.log_start))
            return bool(found)

        await self.until(has_line, seconds=seconds, what="get ready")
        return found

    async def stop(self) -> None:
        """End the process and its process group: SIGTERM, the grace, SIGKILL. Safe to call twice."""
        if self.running and self.grace_seconds > 0:
            self.signal_group(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.process.wait(), self.grace_seconds)
        if self.running:
            self.signal_group(signal.SIGKILL)
            await self.process.wait()

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to the process and those of its group; for a running process only."""
        # The leader has not been reaped yet (`running`), so the id still means this group.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)


def _find_ready_line(log: Path, start: int) -> dict[str, Any]:
    with log.open("rb") as lines:
        lines.seek(start)
        for line in lines:
            if not (line.startswith(b"{") and line.endswith(b"\n") and b'"ready"' in line):
                continue
            with contextlib.suppress(ValueError):
                content = json.loads(line)
                if content.get("ready") is True:
                    return dict(content)
    return {}


class Run:
    """A folder, the processes that were started in it, and the promise that both are gone at the end."""

    def __init__(self, folder: Path | None = None, *, keep: bool = False, in_order: bool = True) -> None:
        """Use `folder` (made if absent) or a new temporary one; it is removed at the end unless `keep` is set.

        A folder that existed before and holds something is never removed. Processes are stopped one after another in
        reverse order, or without `in_order` all at once.
        """
        self._in_order = in_order
        self._wanted_folder = folder
        self._keep = keep
        self._token = secrets.token_hex(8)
        self._children: list[Child] = []
        self._janitor: subprocess.Popen[bytes] | None = None
        self.folder = Path()

    async def __aenter__(self) -> Self:
        self.folder = self._make_folder()
        self._janitor = _start_janitor(self._token)
        if not self._keep:
            self._tell_janitor(f"folder {self.folder}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _make_folder(self) -> Path:
        if self._wanted_folder is None:
            folder = Path(tempfile.mkdtemp(prefix="entrypackage-"))
        else:
            folder = self._wanted_folder.absolute()
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if any(folder.iterdir()):
                self._keep = True
                return folder
        (folder / janitor.FOLDER_MARKER).write_text(self._token, encoding="utf-8")
        return folder

    async def start(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        grace_seconds: float = 5.0,
        log: Path | None = None,
    ) -> Child:
        """Start a program that dies with this process; `environment` is added to this process's own.

        Its output goes to `<run folder>/<name>.log` unless `log` says otherwise. Raises `SandboxError` if the program
        cannot be started.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("the death signal follows the forking thread: start processes from the main thread")
        log = log or self.folder / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            log_start = output.tell()
            try:
                process = await asyncio.create_subprocess_exec(
                    *_dying_with_parent([str(part) for part in argv]),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd=folder or self.folder,
                    env=self._environment(environment or {}),
                    start_new_session=True,
                )
            except OSError as error:
                raise SandboxError(f"{name} cannot be started: {error.strerror}: {argv[0]}.") from error
        child = Child(name, process, log, grace_seconds, log_start)
        self._children.append(child)
        started = janitor.start_time(process.pid)
        if started is not None:
            self._tell_janitor(f"process {process.pid} {started}")
        return child

    async def start_piece(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        environment: Mapping[str, str] | None = None,
        seconds: float = 120.0,
        grace_seconds: float = 5.0,
    ) -> dict[str, Any]:
        """Start `python -m <argv>`, wait for its ready line and return what that says."""
        child = await self.start(
            name, [sys.executable, "-m", *argv], environment=environment, grace_seconds=grace_seconds
        )
        return await child.ready_line(seconds=seconds)

    def child(self, name: str) -> Child:
        """Return the newest process of this name."""
        return next(child for child in reversed(self._children) if child.name == name)

    @property
    def children(self) -> tuple[Child, ...]:
        """All processes that were started, ended ones included, in the order of their start."""
        return tuple(self._children)

    async def first_to_end(self) -> Child:
        """Wait until one of the running processes ends and return it: none should before the run is over."""
        waits = {asyncio.ensure_future(c.process.wait()): c for c in self._children if c.running}
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return waits[done.pop()]
        finally:
            for wait in waits:
                wait.cancel()

    async def close(self) -> None:
        """Stop the processes, kill what they left behind, remove the folder. Safe to call twice."""
        try:
            if self._in_order:
                for child in reversed(self._children):
                    await child.stop()
            else:
                await asyncio.gather(*(child.stop() for child in self._children))
        finally:
            # Reached on cancellation as well; nothing from here on waits for a process to be polite.
            for child in self._children:
                if child.running:
                    child.signal_group(signal.SIGKILL)
            self._sweep()
            if not self._keep:
                janitor.remove_folder(self.folder, self._token)
            self._dismiss_janitor()

    def kill(self) -> None:
        """Kill everything at once, without waiting: the second Ctrl-C."""
        janitor.sweep(self._token)

    def _sweep(self) -> None:
        deadline = time.monotonic() + _SWEEP_SECONDS
        while janitor.sweep(self._token) and time.monotonic() < deadline:
            os.sched_yield()

    def _environment(self, extra: Mapping[str, str]) -> dict[str, str]:
        environment = {**os.environ, **extra}
        outer = os.environ.get(janitor.TOKEN_VARIABLE, "")
        environment[janitor.TOKEN_VARIABLE] = f"{outer} {self._token}".strip()
        # What a piece leaves in the folder for temporary files, as when it is killed, goes with the run's folder.
        environment["TMPDIR"] = extra.get("TMPDIR", str(self.folder))
        # A piece is started as `python -m sandbox...` whatever the folder that it runs in.
        root = str(Path(__file__).parent.parent)
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
        return environment

    def _tell_janitor(self, line: str) -> None:
        if self._janitor is not None and self._janitor.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._janitor.stdin.write(f"{line}\n".encode())
                self._janitor.stdin.flush()

    def _dismiss_janitor(self) -> None:
        if self._janitor is not None and self._janitor.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._janitor.stdin.close()
            self._janitor.wait()
            self._janitor = None


def _start_janitor(token: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(Path(janitor.__file__)), token],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={},  # above all without an outer run's token: that run's sweep must not kill this janitor
        start_new_session=True,
    )


def _dying_with_parent(argv: list[str]) -> list[str]:
    setpriv = shutil.which("setpriv")
    if setpriv is None:  # not Linux: the janitor alone must do
        return argv
    return [setpriv, "--pdeathsig", "KILL", *argv]


async def call(
    argv: Sequence[str | Path], *, environment: Mapping[str, str] | None = None, stdin: str | None = None
) -> str:
    """Run a short-lived program and return its stdout; it is killed when the caller is cancelled.

    Raises `SandboxError` with its stderr if it can't be started or its exit code isn't 0.
    """
    name = Path(argv[0]).name
    try:
        process = await asyncio.create_subprocess_exec(
            *_dying_with_parent([str(part) for part in argv]),
            stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **(environment or {})},
            start_new_session=True,  # Ctrl-C is answered by the caller
        )
    except OSError as error:
        raise SandboxError(f"{name} cannot be started: {error.strerror}: {argv[0]}.") from error
    try:
        output, errors = await process.communicate(None if stdin is None else stdin.encode())
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        raise SandboxError(f"{name} says: {errors.decode(errors='replace').strip()}")
    return output.decode(errors="replace")


def die_with_parent() -> None:
    """Have this process get SIGTERM when its parent ends; for a root that `make` starts.

    Raises `SandboxError` if the parent is gone already. Does nothing where the system has no such signal.
    """
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    parent = os.getppid()
    pr_set_pdeathsig = 1
    ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        raise SandboxError("The program that started this one has ended; nothing was started.")


def announce_ready(**addresses: object) -> None:
    """Print the line by which a piece says that it serves; values must fit into JSON."""
    print(json.dumps({"ready": True, **addresses}), flush=True)


def run_program(main: Callable[[], Awaitable[int | None]], *, interactive: bool = False) -> int:
    """Run a program's coroutine until it ends or SIGINT, SIGTERM or SIGHUP cancels it; return the exit code.

    `SandboxError` becomes one sentence on stderr and exit code 1. With `interactive`, a signal is answered by one line
    and the exit code is 130 after Ctrl-C. A second Ctrl-C ends the process at once: the janitor cleans up.
    """
    try:
        return asyncio.run(_until_signal(main, interactive))
    except SandboxError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 1


async def _until_signal(main: Callable[[], Awaitable[int | None]], interactive: bool) -> int:
    task = asyncio.ensure_future(main())
    received: list[signal.Signals] = []

    def on_signal(number: signal.Signals) -> None:
        if received:
            if number is signal.SIGINT:
                os._exit(130)
            return
        received.append(number)
        if interactive:
            print("\nStopping everything (Ctrl-C again: at once) ...", file=sys.stderr, flush=True)
        task.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal, number)
    try:
        return await task or 0
    except asyncio.CancelledError:
        if not received:
            raise
        return 130 if received[0] is signal.SIGINT else 0


@contextlib.asynccontextmanager
async def stopped_by_signal() -> AsyncIterator[asyncio.Event]:
    """Give an event that SIGTERM and SIGINT set, for a piece that wants to end in order."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
