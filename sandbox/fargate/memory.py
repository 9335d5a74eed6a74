"""How much memory a container's processes use, read from /proc. Cheap enough for several times a second."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass

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
