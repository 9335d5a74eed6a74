"""What a container's processes use and may use: memory as /proc tells it, CPU as a control group limits it.

Cheap enough for several times a second.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_V1, _V2 = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")
_PERIOD_MICROSECONDS = 100_000
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Usage:
    """Bytes: now of the whole tree, and the most that any one of its processes has ever had."""

    now: int
    peak_of_one: int


def tree(root: int) -> list[int]:
    """The pids of a process and all that it started, as far as they live."""
    found, queue = [], [root]
    while queue:
        pid = queue.pop()
        found.append(pid)
        queue.extend(children(pid))
    return found


def children(pid: int) -> list[int]:
    """The pids of the processes that this one (any of its threads) started."""
    result: list[int] = []
    # A process that ends meanwhile has no children any more.
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208
            with suppress(OSError), open(f"/proc/{pid}/task/{thread}/children", "rb") as file:  # noqa: PTH123
                result.extend(map(int, file.read().split()))
    return result


def usage(root: int) -> Usage:
    """The memory of a process and its descendants.

    Private pages are added up; pages of files and shared memory are counted once, as the largest share of one
    process, since workers of one program share them.
    """
    private, shared, peak = 0, 0, 0
    for pid in tree(root):
        with suppress(OSError, IndexError, ValueError):
            with open(f"/proc/{pid}/statm", "rb") as file:  # noqa: PTH123
                fields = file.read().split()
            resident, common = int(fields[1]), int(fields[2])
            private += resident - common
            shared = max(shared, common)
            peak = max(peak, _high_water(pid))
    return Usage((private + shared) * _PAGE, peak)


def _high_water(pid: int) -> int:
    with open(f"/proc/{pid}/status", "rb") as file:  # noqa: PTH123
        text = file.read()
    at = text.find(b"VmHWM:")
    return int(text[at + 6 : text.index(b"kB", at)]) * 1024 if at >= 0 else 0


def cpu_group(name: str, cpus: float) -> Sequence[Path]:
    """Make a control group with this quota, which needs root.

    The result are the files to which the first process of the group writes `0`.

    Raises OSError where control groups can't be made.
    """
    quota = int(cpus * _PERIOD_MICROSECONDS)
    if (_V1 / "cpu.cfs_quota_us").exists() or not (_V2 / "cgroup.controllers").exists():
        folder = _V1 / f"local-fargate-{name}"
        folder.mkdir(exist_ok=True)
        (folder / "cpu.cfs_period_us").write_text(str(_PERIOD_MICROSECONDS))
        (folder / "cpu.cfs_quota_us").write_text(str(quota))
    else:
        folder = _V2 / f"local-fargate-{name}"
        folder.mkdir(exist_ok=True)
        (folder / "cpu.max").write_text(f"{quota} {_PERIOD_MICROSECONDS}")
    return (folder / "cgroup.procs",)


def release_cpu_group(files: Sequence[Path]) -> None:
    """Remove the group of a container that has ended."""
    for file in files:
        with suppress(OSError):
            file.parent.rmdir()
