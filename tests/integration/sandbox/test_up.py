"""However `python -m sandbox up` ends, nothing is left of the whole sandbox."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sandbox import janitor
from sandbox.simulator.control import TenantControl
from tests.support.paths import ROOT
from tests.support.waiting import PATIENCE_SECONDS, until_ended, until_holds, until_true

if TYPE_CHECKING:
    from collections.abc import Iterator

LEAST = {
    "etcd": 1,
    "kube-apiserver": 1,
    "kube-controller-manager": 1,
    "-m sandbox.fargate": 1,
    "-m sandbox.simulator": 1,
    "-m sandbox.aws": 1,
    "-m sandbox.ingress": 1,
    "-m receiver": 2,
    "-m controller": 2,
    "-m packager": 1,
    "janitor.py": 1,
}
"""What the whole consists of: parts of command lines, and how many processes at least have them."""

LISTENING = "0A"


def parents() -> dict[int, int]:
    """Return each living process's parent."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text(errors="replace")
            except OSError:
                continue
            state, parent = stat.rpartition(")")[2].split()[:2]
            if state not in "ZX":
                found[int(entry.name)] = int(parent)
    return found


def below(root: int) -> set[int]:
    """Return a process and all that descend from it."""
    known, found = parents(), {root}
    while more := {pid for pid, parent in known.items() if parent in found} - found:
        found |= more
    return found


def command(pid: int) -> str:
    """Return the command line of a process, empty if it is gone."""
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def mentions(pid: int, folder: Path) -> bool:
    """Whether the folder is in the command line or the environment of a process."""
    with contextlib.suppress(OSError):
        process = Path("/proc") / str(pid)
        return os.fsencode(folder) in (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
    return False


def sockets(pids: set[int]) -> set[str]:
    """Return the inodes of the processes' sockets."""
    found = set()
    for pid in pids:
        try:
            links = [os.readlink(file) for file in (Path("/proc") / str(pid) / "fd").iterdir()]  # noqa: PTH115 - socket:[1]
        except OSError:
            continue
        found |= {link[8:-1] for link in links if link.startswith("socket:[")}
    return found


def listeners() -> set[str]:
    """Return the inodes of the sockets that listen on this machine; a port could be another's by now."""
    lines = [line.split() for name in ("tcp", "tcp6") for line in (Path("/proc/net") / name).read_text().splitlines()]
    return {line[9] for line in lines if line[3] == LISTENING}


class Whole:
    """A running sandbox with a packager at work: its processes and what they listen on."""

    def __init__(self, folder: Path, process: subprocess.Popen[str], environment: dict[str, str]) -> None:
        self.folder = folder
        self.process = process
        self.environment = environment
        self.pids: set[int] = set()
        self.listening: set[str] = set()

    async def start_packager(self) -> None:
        """Make an entry whose archive comes so slowly that the packager is at work until it is stopped."""
        async with TenantControl(self.environment["ENTRYPACKAGE_SIMULATOR"]) as benchling:
            await benchling.set_fault("archive_slow")
            await benchling.create_entry(attachments=[{"name": "large.bin", "size": 500_000_000}])

    async def complete(self) -> None:
        """Wait until every part runs; remember processes and addresses."""

        def runs() -> bool:
            self.pids = below(self.process.pid)
            commands = [command(pid) for pid in self.pids]
            return all(sum(part in line for line in commands) >= least for part, least in LEAST.items())

        await until_holds(runs, "every part of the sandbox")
        self.listening = sockets(self.pids) & listeners()


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder for temporary files, with a path short enough for etcd's socket."""
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


@contextlib.contextmanager
def whole(folder: Path) -> Iterator[Whole]:
    """Run `python -m sandbox up` with its temporary folder in `folder` until it says what to source."""
    with (folder / "errors").open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "sandbox", "up"],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if found := re.match(r"\s+source (\S+)$", line):
                break
        else:
            raise AssertionError(f"{said}\n{(folder / 'errors').read_text()}")
        exports = [shlex.split(line)[1] for line in Path(found.group(1)).read_text().splitlines()]
        yield Whole(folder, process, dict(line.split("=", 1) for line in exports))
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate()


def wait_until_removed(folder: Path) -> None:
    """Wait until the sandbox's folders are gone."""
    until_true(lambda: [path.name for path in folder.iterdir()] == ["errors"], "the folders' removal")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["interrupted", "killed"])
async def test_nothing_is_left_of_the_whole_sandbox(folder: Path, number: signal.Signals) -> None:
    """It takes about twenty seconds, most of it the start of the whole product, which is the point here."""
    with whole(folder) as sandbox:
        await sandbox.start_packager()
        await sandbox.complete()
        started = {pid: janitor.start_time(pid) for pid in sandbox.pids}
        assert len(sandbox.listening) >= 8, "API server, node, simulator, S3 and SQS, ingress, programs"

        sandbox.process.send_signal(number)
        sandbox.process.communicate(timeout=PATIENCE_SECONDS)

        until_ended({pid for pid, start in started.items() if start and janitor.start_time(pid) == start})
        until_ended({pid for pid in parents() if mentions(pid, folder)})
        wait_until_removed(folder)
        # A process that ends loses its memory, by which it is known, before its sockets.
        until_true(lambda: not sandbox.listening & listeners(), "the end of all that listened")
        interrupted = number is signal.SIGINT
        assert sandbox.process.returncode == (130 if interrupted else -9)
        expected = "\nStopping everything (Ctrl-C again: at once) ...\n" if interrupted else ""
        assert (folder / "errors").read_text() == expected
