"""The work queue: keys to visit, each once, in order of urgency, some of them later.

`Schedule` holds the rules and reads no clock; `WorkQueue` waits.
"""

from __future__ import annotations

import asyncio
import heapq
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Urgency(IntEnum):
    """Who waits for a key; a lower urgency value goes first."""

    CLICK = 0
    MANUAL = 1
    EVENT = 2
    SWEEP = 3


@dataclass(slots=True)
class _Entry:
    due: float
    urgency: Urgency
    turn: int


@dataclass(slots=True)
class Schedule:
    """Decides which key is next. A key is held once, with its earliest time and its highest urgency.

    Times are in seconds. A key that was taken is not given out again before `done`, even if it is added meanwhile.
    """

    _entries: dict[str, _Entry] = field(default_factory=dict)
    _later: list[tuple[float, int, str]] = field(default_factory=list)
    _ready: list[tuple[Urgency, int, str]] = field(default_factory=list)
    _working: set[str] = field(default_factory=set)
    _turn: int = 0

    def __len__(self) -> int:
        """Return how many keys wait, now or later."""
        return len(self._entries)

    def add(self, key: str, due: float, urgency: Urgency = Urgency.EVENT) -> None:
        """Add a key, or move it forward: an earlier time and a higher urgency win."""
        known = self._entries.get(key)
        if known is not None:
            due, urgency = min(due, known.due), min(urgency, known.urgency)
            if due == known.due and urgency == known.urgency:
                return
        self._turn += 1
        self._entries[key] = _Entry(due, urgency, self._turn)
        heapq.heappush(self._later, (due, self._turn, key))

    def discard(self, key: str) -> None:
        """Drop a key that waits."""
        self._entries.pop(key, None)

    def take(self, now: float) -> str | None:
        """Return the most urgent key that is due, and mark it as taken; None if none is due."""
        while self._later and self._later[0][0] <= now:
            _, turn, key = heapq.heappop(self._later)
            entry = self._entries.get(key)
            if entry is not None and entry.turn == turn:
                heapq.heappush(self._ready, (entry.urgency, turn, key))
        held_back = []
        found = None
        while self._ready:
            item = heapq.heappop(self._ready)
            _, turn, key = item
            entry = self._entries.get(key)
            if entry is None or entry.turn != turn:
                continue
            if key in self._working:
                held_back.append(item)
                continue
            found = key
            break
        for item in held_back:
            heapq.heappush(self._ready, item)
        if found is not None:
            del self._entries[found]
            self._working.add(found)
        return found

    def done(self, key: str) -> None:
        """Record that the work on a key has ended."""
        self._working.discard(key)

    def next_due(self) -> float | None:
        """Return when the next key that is not due becomes due; None if there is none."""
        while self._later:
            due, turn, key = self._later[0]
            entry = self._entries.get(key)
            if entry is not None and entry.turn == turn:
                return due
            heapq.heappop(self._later)
        return None


class WorkQueue:
    """Waits for the next key of a `Schedule`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` returns monotonic seconds."""
        self._clock = clock
        self._schedule = Schedule()
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        """Return how many keys wait, now or later."""
        return len(self._schedule)

    def add(self, key: str, *, delay: float = 0.0, urgency: Urgency = Urgency.EVENT) -> None:
        """Add a key that is due after `delay` seconds."""
        self._schedule.add(key, self._clock() + delay, urgency)
        self._changed.set()

    def discard(self, key: str) -> None:
        """Drop a key that waits."""
        self._schedule.discard(key)

    async def take(self) -> str:
        """Wait for the next key and return it. No one else gets it before `done`."""
        while True:
            key = self._schedule.take(self._clock())
            if key is not None:
                self._changed.set()
                return key
            self._changed.clear()
            due = self._schedule.next_due()
            pause = None if due is None else max(0.0, due - self._clock())
            try:
                async with asyncio.timeout(pause):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def done(self, key: str) -> None:
        """Record that the work on a key has ended."""
        self._schedule.done(key)
        self._changed.set()
