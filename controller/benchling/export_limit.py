"""How many exports may run at once: Benchling's limit is dynamic and unannounced, so it is learnt.

Every accepted export shows that the limit is at least that high; every 429 with budget left shows that it is not higher
than what runs. After a refusal nothing is tried beyond the limit that was found until a pause is over, which doubles
with each refusal that follows; as soon as one more is accepted the limit climbs with every acceptance again.
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
"""An export that was not looked at for this long is not counted any more."""


@dataclass(frozen=True, slots=True)
class ExportNumbers:
    """The export limit at one moment."""

    running: int
    """Exports that are known to run, those being started included."""
    limit: int
    """How many may run as far as is known."""
    waiting: int
    """Callers that wait for one to end."""
    refused: int
    """Starts that Benchling refused since the leader's start."""


class ExportSlots:
    """Lets as many exports run as Benchling takes, first come first served."""

    def __init__(self, clock: Clock, first_limit: int, jitter: Callable[[], float]) -> None:
        """Begin with a guess of the limit."""
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
        """What is known now."""
        return ExportNumbers(self._total(), self._limit, len(self._waiting), self._refused)

    @property
    def free(self) -> int:
        """How many exports can be started now without waiting."""
        now = self._clock.now()
        self._forget(now)
        if now < self._pause_until:
            return 0
        room = max(0, self._limit - self._total() - len(self._waiting))
        return max(room, int(self._may_climb(now) and not self._waiting))

    async def take(self, patience_seconds: float) -> None:
        """Wait until an export may be started; follow with `started`, `refused` or `unused`.

        Raises `Throttled` if that takes longer than the patience.
        """
        try:
            async with asyncio.timeout(patience_seconds):
                await self._turn()
        except TimeoutError:
            raise Throttled("Benchling's limit of exports at once left no room within the deadline.") from None

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
        """Record that Benchling accepted it."""
        self._starting -= 1
        self._running[task_id] = self._clock.now()
        if self._total() > self._limit:
            self._limit = self._total()
        if self._clock.now() >= self._climb_at:
            self._refused_in_a_row = 0
        self._pump()

    def refused(self, retry_after: float | None) -> None:
        """Record a 429 that was not about the rate of requests."""
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
        """Give the turn back: the request was not sent, or failed otherwise."""
        self._starting -= 1
        self._pump()

    def seen_running(self, task_id: str) -> None:
        """Count an export that runs, a former leader's too."""
        self._running[task_id] = self._clock.now()

    def ended(self, task_id: str) -> None:
        """Stop counting an export: it has ended, or nobody looks at it any more."""
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
