"""The rate limiter: calls queue here for a permit. `rate_window` decides who gets the next one."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from controller.benchling.priority import Priority

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from controller.benchling.clock import Clock
    from controller.benchling.rate_window import Charge, RateNumbers, RateWindow
    from controller.benchling.wire import RateLimit


@dataclass(slots=True, eq=False)
class _Waiter:
    since: float
    ready: asyncio.Future[Charge]


class Permit:
    """The right to send one request. End it with exactly one of `unused`, `ended` and `throttled`."""

    def __init__(self, limiter: RateLimiter, charge: Charge) -> None:
        self._limiter = limiter
        self._charge = charge
        self._open = True

    def unused(self) -> None:
        """Give the permit back: nothing was sent. Does nothing if the permit has ended already."""
        if self._close():
            self._limiter.window.refund(self._charge)
            self._limiter.pump()

    def ended(self, rate: RateLimit | None, *, accepted: bool) -> None:
        """Record the end of the request; `accepted` says that an answer came that was not a 429."""
        if self._close():
            now = self._limiter.clock.now()
            self._limiter.window.finish(now, self._charge, rate)
            if accepted:
                self._limiter.window.accepted(now)
            self._limiter.pump()

    def throttled(self, rate: RateLimit | None, retry_after: float | None, jitter: float) -> bool:
        """Record a 429 about the rate of requests; return whether even lone requests have long been refused.

        `jitter` is a random number in [0, 1).
        """
        if not self._close():
            return False
        now = self._limiter.clock.now()
        self._limiter.window.finish(now, self._charge, rate)
        storm = self._limiter.window.refused(now, self._charge, rate, retry_after, jitter)
        self._limiter.pump()
        return storm

    def _close(self) -> bool:
        was_open, self._open = self._open, False
        return was_open


class RateLimiter:
    """Hands out permits as the window allows, first come first served within a priority."""

    def __init__(self, clock: Clock, window: RateWindow) -> None:
        self.clock = clock
        self.window = window
        self._waiting: dict[Priority, deque[_Waiter]] = {priority: deque() for priority in Priority}
        self._alarm: asyncio.Task[None] | None = None
        self._alarm_at = float("inf")

    def numbers(self) -> RateNumbers:
        """Return the window's counters at present."""
        return self.window.numbers(self.clock.now())

    @property
    def waiting(self) -> Mapping[Priority, int]:
        """The number of calls that wait, by priority."""
        return {priority: len(queue) for priority, queue in self._waiting.items()}

    async def acquire(self, priority: Priority) -> Permit:
        """Wait for a permit and return it. A call that is cancelled meanwhile leaves the queue and costs nothing."""
        waiter = _Waiter(self.clock.now(), asyncio.get_running_loop().create_future())
        queue = self._waiting[priority]
        queue.append(waiter)
        self.pump()
        try:
            return Permit(self, await waiter.ready)
        except asyncio.CancelledError:
            if waiter.ready.done() and not waiter.ready.cancelled() and waiter.ready.exception() is None:
                self.window.refund(waiter.ready.result())
                self.pump()
            else:
                with contextlib.suppress(ValueError):
                    queue.remove(waiter)
            raise

    def turn_away(self, failure: Callable[[], Exception]) -> None:
        """Fail every call that waits, because Benchling is down."""
        for queue in self._waiting.values():
            while queue:
                waiter = queue.popleft()
                if not waiter.ready.done():
                    waiter.ready.set_exception(failure())

    def pump(self) -> None:
        """Hand out the permits that the window allows now; set an alarm for when it may allow more."""
        now = self.clock.now()
        while heads := self._heads():
            chosen = self.window.choose(now, heads)
            if chosen is None:
                self._set_alarm(now)
                return
            waiter = self._waiting[chosen].popleft()
            waiter.ready.set_result(self.window.begin(now, chosen))

    def close(self) -> None:
        """Stop the alarm."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _heads(self) -> dict[Priority, float]:
        heads = {}
        for priority, queue in self._waiting.items():
            while queue and queue[0].ready.done():
                queue.popleft()
            if queue:
                heads[priority] = queue[0].since
        return heads

    def _set_alarm(self, now: float) -> None:
        due = self.window.next_change(now)
        if due is None or (self._alarm is not None and not self._alarm.done() and self._alarm_at <= due):
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = due
        self._alarm = asyncio.create_task(self._ring(due - now), name="benchling-rate-limiter")

    async def _ring(self, seconds: float) -> None:
        await self.clock.sleep(seconds)
        self._alarm = None
        self.pump()
