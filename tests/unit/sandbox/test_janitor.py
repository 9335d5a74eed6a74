"""What the janitor recognises, and what it leaves alone."""

import os
import subprocess
import sys
from pathlib import Path

from sandbox import janitor

SLEEPER = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"]


def start_sleeper(token: str) -> "subprocess.Popen[bytes]":
    """Start a process that carries the token and ends with its stdin; return when it runs."""
    environment = {**os.environ, janitor.TOKEN_VARIABLE: token}
    process = subprocess.Popen(SLEEPER, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_only_a_marked_folder_is_removed(tmp_path: Path) -> None:
    mine, foreign, unmarked = (tmp_path / name for name in ("mine", "foreign", "unmarked"))
    for folder, token in ((mine, "mine"), (foreign, "other"), (unmarked, None)):
        folder.mkdir()
        if token:
            (folder / janitor.FOLDER_MARKER).write_text(token)
        janitor.remove_folder(folder, "mine")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["foreign", "unmarked"]


def test_a_run_within_a_run_belongs_to_both() -> None:
    with start_sleeper("outer-1 inner-1") as process:
        assert list(janitor.pids_with_token("outer-1")) == [process.pid]
        assert list(janitor.pids_with_token("inner-1")) == [process.pid]
        assert list(janitor.pids_with_token("outer")) == []
        assert janitor.sweep("inner-1") == [process.pid]
        assert process.wait(120) == -9


def test_a_pid_that_is_somebody_else_by_now_is_left_alone() -> None:
    with start_sleeper("test-reused") as process:
        started = janitor.start_time(process.pid)
        assert started is not None
        assert janitor.sweep("unknown", [(process.pid, started - 1)]) == []
        assert process.poll() is None
        assert janitor.sweep("unknown", [(process.pid, started)]) == [process.pid]
        assert process.wait(120) == -9


def test_the_dead_have_no_start_time() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait(120)
    assert janitor.start_time(process.pid) is None
