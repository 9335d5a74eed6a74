"""Waiting: for what others do, by asking again and again; and for time itself, where time is what a test is about.

All tests wait here. They give up only after `PATIENCE_SECONDS`, so a slow machine makes a test slow and does not fail
it.
"""

from __future__ import annotations

import asyncio
import os
import select
import threading
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

Found = TypeVar("Found")
PATIENCE_SECONDS = 120.0
_PAUSE_SECONDS = 0.02


async def until(look: Callable[[], Awaitable[Found | None]], what: str, *, seconds: float = PATIENCE_SECONDS) -> Found:
    """Look until something is found, which is neither None nor False; return it, or raise AssertionError."""
    try:
        async with asyncio.timeout(seconds):
            while (found := await look()) is None or found is False:  # noqa: ASYNC110 - other processes are asked
                await asyncio.sleep(_PAUSE_SECONDS)
            return found
    except TimeoutError:
        raise AssertionError(f"waited {seconds:.0f} s in vain for {what}") from None


async def until_holds(condition: Callable[[], object], what: str, *, seconds: float = PATIENCE_SECONDS) -> None:
    """Ask until a condition holds that needs no awaiting; raises AssertionError."""

    async def look() -> bool:
        return bool(condition())

    await until(look, what, seconds=seconds)


def until_true(condition: Callable[[], object], what: str, *, seconds: float = PATIENCE_SECONDS) -> None:
    """Ask until a condition holds, blocking this thread; raises AssertionError."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain for {what}"
        pause.wait(_PAUSE_SECONDS)


def until_ended(pids: Iterable[int], *, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait for the end of each process, blocking this thread; raises AssertionError. Zombies have ended."""
    for pid in pids:
        try:
            watched = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            assert select.select([watched], [], [], seconds)[0], f"process {pid} is still there"
        finally:
            os.close(watched)


async def elapse(seconds: float) -> None:
    """Let that much time pass: for a clock of another process that has to run out, never for what it may have done."""
    await asyncio.sleep(max(0.0, seconds))


def elapse_blocking(seconds: float) -> None:
    """Do the same in a thread."""
    threading.Event().wait(max(0.0, seconds))
