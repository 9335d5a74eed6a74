"""However a run ends, no process and no folder is left."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.processes import Run, SandboxError, call
from tests.support.paths import ROOT
from tests.support.waiting import until_ended

# A root that starts a child, which starts a grandchild in a session of its own; both ignore SIGTERM.
PROGRAM = textwrap.dedent(
    """
    import asyncio, os, sys
    from pathlib import Path
    from sandbox.processes import Run, announce_ready, die_with_parent, run_program

    async def main():
        die_with_parent()
        async with Run(Path(sys.argv[1])) as run:
            grandchild = "trap '' TERM; echo $$ > grandchild; sleep 1000 & wait; wait"
            child = await run.start(
                "child",
                ["sh", "-c", f"trap '' TERM; setsid sh -c \\"{grandchild}\\" & sleep 1000 & wait; wait"],
                grace_seconds=0.5,
            )

            async def grandchild_runs():
                return Path("grandchild").exists() or (run.folder / "grandchild").exists()

            await child.until(grandchild_runs, seconds=120, what="start its child")
            while not (pid := (run.folder / "grandchild").read_text().strip()):
                await asyncio.sleep(0.01)
            announce_ready(child=child.pid, grandchild=int(pid), janitor=run._janitor.pid)
            await asyncio.Event().wait()

    sys.exit(run_program(main, interactive=True))
    """
)


class Root:
    def __init__(self, folder: Path, through: list[str]) -> None:
        self.folder = folder
        (folder.parent / "root.py").write_text(PROGRAM)
        self.process = subprocess.Popen(
            [*through, sys.executable, str(folder.parent / "root.py"), str(folder)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read() if self.process.stderr else ""
        self.ready: dict[str, Any] = json.loads(line)

    @property
    def pids(self) -> list[int]:
        return [self.ready["child"], self.ready["grandchild"], self.ready["janitor"]]


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Root]:
    started = Root(tmp_path / "run", [])
    yield started
    if started.process.poll() is None:
        started.process.kill()
    started.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_nothing_is_left_after_a_signal(root: Root, number: signal.Signals) -> None:
    root.process.send_signal(number)
    _, errors = root.process.communicate(timeout=120)
    until_ended(root.pids)
    assert not root.folder.exists()
    if number is not signal.SIGKILL:
        assert errors.strip().splitlines() == ["Stopping everything (Ctrl-C again: at once) ..."]
    expected = {signal.SIGINT: 130, signal.SIGKILL: -9}.get(number, 0)
    assert root.process.returncode == expected


def test_nothing_is_left_after_the_starter_was_killed(tmp_path: Path) -> None:
    # As `make` starts it, and `make` is killed: a shell that waits for its child.
    starter = Root(tmp_path / "run", ["sh", "-c", '"$@"; true', "sh"])
    starter.process.kill()
    starter.process.communicate(timeout=120)
    until_ended(starter.pids)
    assert not starter.folder.exists()


async def test_processes_stop_in_reverse_order(tmp_path: Path) -> None:
    script = 'trap "echo $0 >> order; exit 0" TERM; echo "{\\"ready\\": true}"; while :; do sleep 0.02; done'
    async with Run(tmp_path / "run") as run:
        for name in ("first", "second"):
            child = await run.start(name, ["sh", "-c", script, name], folder=tmp_path, grace_seconds=120)
            assert await child.ready_line(seconds=120) == {"ready": True}
    assert (tmp_path / "order").read_text().split() == ["second", "first"]
    assert not (tmp_path / "run").exists()


async def test_a_process_that_ends_early_is_explained_by_its_log(tmp_path: Path) -> None:
    async with Run() as run:
        child = await run.start("piece", ["sh", "-c", "echo the port is taken >&2; exit 3"])
        with pytest.raises(SandboxError, match=r"(?s)piece ended with exit code 3 .*the port is taken"):
            await child.ready_line(seconds=120)


async def test_a_process_that_never_gets_ready_is_explained(tmp_path: Path) -> None:
    async with Run() as run:
        child = await run.start("piece", ["sleep", "1000"])
        with pytest.raises(SandboxError, match=r"piece did not get ready within 0 s"):
            await child.ready_line(seconds=0.1)


async def test_a_missing_program_is_named() -> None:
    async with Run() as run:
        child = await run.start("piece", ["/nowhere/program"])
        with pytest.raises(SandboxError, match=r"(?s)piece ended with exit code 127 .*/nowhere/program"):
            await child.ready_line(seconds=120)


async def test_a_folder_that_held_something_is_kept(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    async with Run(tmp_path):
        pass
    assert (tmp_path / "mine").read_text() == "x"


async def test_a_failing_tool_says_why() -> None:
    with pytest.raises(SandboxError, match="sh says: no such thing"):
        await call(["sh", "-c", "echo no such thing >&2; exit 1"])
    assert await call(["cat"], stdin="text") == "text"
