"""Clean up after a run whose root process was killed without a chance to do it itself.

Started by `sandbox.processes.Run` as `python -I janitor.py TOKEN` in a session of its own, with the read end of a pipe
as stdin. The root tells it, one line each, which processes and folders belong to the run:

    process <pid> <start time>
    folder <path>

The pipe reaches its end when the root is gone, however it went. Then everything that still lives is killed and the
folders are removed. A process is recognised by pid *and* start time, or by the run's token in its environment, which
grandchildren inherit; so a pid that the system has given to somebody else is never touched.

Uses the standard library alone and imports nothing of this project: it must start in milliseconds, in any state.
"""

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

TOKEN_VARIABLE = "SANDBOX_RUN"
"""Environment variable that holds the tokens, separated by blanks, of the runs that a process belongs to."""

FOLDER_MARKER = ".sandbox-run"
"""A folder is removed only if this file, which holds the run's token, lies in it."""

_GIVE_UP_SECONDS = 15.0
_POLL_SECONDS = 0.02


def start_time(pid: int) -> int | None:
    """Return when the process started, in clock ticks since boot; None if there is none (or only a zombie)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The second field, the program's name in parentheses, may hold blanks and parentheses.
    fields = stat.rpartition(")")[2].split()
    if fields[0] in "ZX":
        return None
    return int(fields[19])


def pids_with_token(token: str) -> Iterator[int]:
    """Yield this user's processes that carry the token in the environment that they were started with."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:  # gone, or another user's
            continue
        for variable in environment.split(b"\0"):
            name, _, value = variable.partition(b"=")
            if name == TOKEN_VARIABLE.encode() and token.encode() in value.split():
                yield int(entry.name)


def sweep(token: str, listed: Iterable[tuple[int, int]] = ()) -> list[int]:
    """Send SIGKILL to what is left of the run; return the pids that got it."""
    left = {pid for pid, started in listed if start_time(pid) == started}
    left.update(pid for pid in pids_with_token(token) if start_time(pid) is not None)
    for pid in left:
        try:
            os.kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue
    return sorted(left)


def remove_folder(folder: Path, token: str) -> None:
    """Remove the run's folder if its marker says that it is one."""
    try:
        marked = (folder / FOLDER_MARKER).read_text(encoding="utf-8") == token
    except OSError:
        return
    if marked:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    token = sys.argv[1]
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    processes: list[tuple[int, int]] = []
    folders: list[Path] = []
    for line in sys.stdin:
        kind, _, rest = line.rstrip("\n").partition(" ")
        if kind == "process":
            pid, started = rest.split()
            processes.append((int(pid), int(started)))
        elif kind == "folder":
            folders.append(Path(rest))
    deadline = time.monotonic() + _GIVE_UP_SECONDS
    while sweep(token, processes) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)  # noqa: TID251 - a process of its own, with nothing to wait on
    for folder in folders:
        remove_folder(folder, token)


if __name__ == "__main__":
    main()
