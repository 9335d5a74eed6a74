"""How many exports may run at once. Benchling's limit changes and is not announced, so it is learnt.

An accepted export shows that the limit is at least the number that now runs. A 429 while the rate budget is not spent
shows that it is not higher than the number that runs. After a refusal no export is tried beyond the learnt limit until
a pause is over; the pause doubles with each further refusal. After that the limit climbs with every acceptance.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from controller.benchling.errors import Throttled
from entrypackage.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Callable

    from controller.benchling.clock import Clock

_CLIMB: Final = Backoff(base_seconds=120.0, cap_seconds=1800.0)
"""From a refusal to the next try of one more export than the limit."""
_IDLE: Final = Backoff(base_seconds=2.0, cap_seconds=60.0)
"""Pauses after refusals while none of our exports runs: others hold the limit."""
_FORGOTTEN_SECONDS: Final = 1800.0
"""An export that was not polled for this long is no longer counted."""


@dataclass(frozen=True, slots=True)
class ExportNumbers:
    """The export limit at one moment."""

    running: int
    """Exports that are known to run or are being started."""
    limit: int
    """How many may run at once, as far as is known."""
    waiting: int
    """Callers that wait until an export ends."""
    refused: int
    """Starts that Benchling has refused since the client was made."""


class ExportSlots:
    """Lets as many exports run as Benchling accepts, first come first served."""

    def __init__(self, clock: Clock, first_limit: int, jitter: Callable[[], float]) -> None:
        """`first_limit` is a first guess of the limit; `jitter` returns random numbers in [0, 1)."""
        self._clock = clock
        self._jitter = jitter
        self._limit = first_limit
        self._starting = 0
        self._running: dict[str, float] = {}
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._alarm: asyncio.Task[None] | None = None
        self._refused_in_a_row = 0
        self._climb_at = 0.0
        self._pause_until = 0.0
        self._refused = 0

    @property
    def numbers(self) -> ExportNumbers:
        """The limit and its use at present."""
        return ExportNumbers(self._total(), self._limit, len(self._waiting), self._refused)

    @property
    def free(self) -> int:
        """How many exports can be started now without waiting."""
        now = self._clock.now()
        self._forget(now)
        if now < self._pause_until:
            return 0
        capacity = max(0, self._limit - self._total() - len(self._waiting))
        return max(capacity, int(self._may_climb(now) and not self._waiting))

    async def take(self, patience_seconds: float) -> None:
        """Wait until an export may be started; follow with `started`, `refused` or `unused`.

        Raises `Throttled` if that takes longer than `patience_seconds`.
        """
        try:
            async with asyncio.timeout(patience_seconds):
                await self._turn()
        except TimeoutError:
            raise Throttled("Benchling's limit of exports at once left no capacity within the deadline.") from None

    async def _turn(self) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._pump()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.unused()
            else:
                with contextlib.suppress(ValueError):
                    self._waiting.remove(turn)
            raise

    def started(self, task_id: str) -> None:
        """Record that Benchling accepted the export."""
        self._starting -= 1
        self._running[task_id] = self._clock.now()
        if self._total() > self._limit:
            self._limit = self._total()
        if self._clock.now() >= self._climb_at:
            self._refused_in_a_row = 0
        self._pump()

    def refused(self, retry_after: float | None) -> None:
        """Record a 429 that was about the number of exports, not the rate of requests."""
        now = self._clock.now()
        self._starting -= 1
        self._refused += 1
        self._refused_in_a_row += 1
        self._limit = max(1, min(self._limit, len(self._running)))
        self._climb_at = now + _CLIMB.ceiling_seconds(self._refused_in_a_row) * (0.75 + self._jitter() / 2)
        if not self._running:
            pause = _IDLE.delay_seconds(self._refused_in_a_row, self._jitter())
            self._pause_until = max(self._pause_until, now + pause)
        self._pause_until = max(self._pause_until, now + (retry_after or 0.0))
        self._pump()

    def unused(self) -> None:
        """Give the turn back: the request was not sent or failed for another reason."""
        self._starting -= 1
        self._pump()

    def seen_running(self, task_id: str) -> None:
        """Count an export that runs, also one that a former leader started."""
        self._running[task_id] = self._clock.now()

    def ended(self, task_id: str) -> None:
        """Stop counting an export that has ended or is no longer polled."""
        if self._running.pop(task_id, None) is not None:
            self._pump()

    def close(self) -> None:
        """Stop the alarm."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _total(self) -> int:
        return self._starting + len(self._running)

    def _may_climb(self, now: float) -> bool:
        return self._total() == self._limit and now >= self._climb_at and self._starting == 0

    def _pump(self) -> None:
        now = self._clock.now()
        self._forget(now)
        while self._waiting:
            if self._waiting[0].done():
                _ = self._waiting.popleft()
            elif now >= self._pause_until and (self._total() < self._limit or self._may_climb(now)):
                self._starting += 1
                self._waiting.popleft().set_result(None)
            else:
                self._set_alarm(now)
                return

    def _forget(self, now: float) -> None:
        old = [task_id for task_id, seen in self._running.items() if now - seen > _FORGOTTEN_SECONDS]
        for task_id in old:
            del self._running[task_id]

    def _set_alarm(self, now: float) -> None:
        due = min((moment for moment in (self._pause_until, self._climb_at) if moment > now), default=None)
        if due is None:
            return
        self.close()
        self._alarm = asyncio.create_task(self._ring(due - now), name="benchling-exports")

    async def _ring(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._alarm = None
        self._pump()
