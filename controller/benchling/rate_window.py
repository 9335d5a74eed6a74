"""The arithmetic of the rate limiter. It reads no clock and never waits.

Four rules decide whether a request may be sent; all of them must allow it:

* **Window.** A request is charged from its start until one period after its *end*. Benchling counts it at some moment
  in between, so that no period of Benchling can hold more than the limit, however slow the network is.
* **View.** What is left of Benchling's current period by its headers, less the requests under way. It includes the
  requests of a former leader, and it follows the limit down and up.
* **Flow.** After a small burst, requests are sent evenly at the limit's rate. Otherwise a flood of reads would spend
  the window in two seconds, and an export would wait for the rest of it. Clicks are exempt.
* **Caution.** After a 429 everything pauses, then one request is sent alone. A 429 that the headers did not announce
  (the tenant's hidden limit) also halves the limit, which then grows back by a tenth per period. If even lone requests
  are refused for two periods, our rate is not the cause, and the limit is restored.

A new window starts with the same caution: one request is sent alone, and the headers of its answer say what is left.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from controller.benchling.priority import KEPT_FOR_CLICKS, SHARES, Priority
from entrypackage.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Mapping

    from controller.benchling.wire import RateLimit

_ROUNDING_SECONDS: Final = 1.0
"""The reset header is in whole seconds, so a period may last this much longer."""
_SAME_PERIOD_SECONDS: Final = 2.0
"""Two ends of a period that are this close together are the same end, read at different moments."""
_SMALLEST_FACTOR: Final = 0.05
_GROWTH: Final = 0.1
_BACKOFF: Final = Backoff(base_seconds=1.0, cap_seconds=30.0)
_STORM_PERIODS: Final = 2.0
_TICK_SECONDS: Final = 1e-6
"""Added to a moment that rounding could otherwise bring forward."""
_BURST: Final = 1 / 15
"""The part of the limit that may be sent at once after a quiet time."""


@dataclass(slots=True)
class _View:
    ends: float
    left: int


@dataclass(frozen=True, slots=True)
class RateNumbers:
    """The window's counters at one moment, for metrics."""

    limit: int
    """Requests per period that are allowed at present."""
    period_seconds: float
    announced_limit: int
    """The limit in Benchling's latest headers."""
    used: int
    """Requests charged to the current window."""
    left_by_headers: int | None
    """What is left of Benchling's period by its headers, less the requests under way; None after that period."""
    in_flight: int
    used_by: Mapping[Priority, int]
    paused_seconds: float
    """For how many more seconds nothing is sent because of a 429."""
    throttled: int
    """429 answers since the start."""
    hidden_throttled: int
    """429 answers that the headers had not announced."""


@dataclass(slots=True)
class Charge:
    """One request that is charged to the budget."""

    priority: Priority
    begun: float
    alone: bool
    """Whether it was sent alone, to find out whether requests are accepted again."""


class RateWindow:
    """Decides which call may send now. All times are seconds of one monotonic clock."""

    def __init__(self, limit: int, period_seconds: float, concurrency: int) -> None:
        """`limit` holds until the headers of an answer correct it; `concurrency` bounds the requests under way."""
        self.period_seconds = period_seconds
        self._announced = limit
        self._concurrency = concurrency
        self._factor = 1.0
        self._in_flight: Counter[Priority] = Counter()
        self._in_flight_total = 0
        self._spent: deque[tuple[float, Priority]] = deque()
        self._spent_by: Counter[Priority] = Counter()
        self._view: _View | None = None
        self._flow = 1.0
        self._flow_at = float("-inf")
        self._alone = True
        self._paused_until = 0.0
        self._throttled_in_a_row = 0
        self._last_throttled = float("-inf")
        self._last_change = float("-inf")
        self._refused_since = float("-inf")
        self._factor_before = 1.0
        self.throttled = 0
        self.hidden_throttled = 0

    @property
    def limit(self) -> int:
        """Requests per period that are allowed at present; at least 1."""
        return max(1, round(self._announced * self._factor))

    @property
    def in_flight(self) -> int:
        """The number of requests under way."""
        return self._in_flight_total

    def choose(self, now: float, waiting: Mapping[Priority, float]) -> Priority | None:
        """Return the priority whose call may send now; None if none may.

        `waiting` holds, for each priority with waiting calls, since when the first of them waits.
        """
        self._forget(now)
        allowed = [priority for priority in waiting if self._may_send(now, priority)]
        if not allowed:
            return None
        if Priority.CLICK in allowed:
            return Priority.CLICK
        short = [priority for priority in allowed if self._used(priority) < self._floor(priority)]
        if short:
            return min(short, key=lambda priority: waiting[priority])
        return min(allowed, key=lambda priority: (SHARES[priority].level, waiting[priority]))

    def begin(self, now: float, priority: Priority) -> Charge:
        """Charge a request that is sent at `now`."""
        self._in_flight[priority] += 1
        self._in_flight_total += 1
        self._flow = max(-self._burst, self._flow - 1.0)
        if self._view is not None:
            self._view.left -= 1
        return Charge(priority, now, self._alone)

    def refund(self, charge: Charge) -> None:
        """Take back a charge whose request was not sent."""
        self._end(charge)
        self._flow += 1.0
        if self._view is not None:
            self._view.left += 1

    def finish(self, now: float, charge: Charge, rate: RateLimit | None) -> None:
        """Record the end of a request; `rate` is what the headers of its answer say, None without an answer."""
        self._end(charge)
        self._forget(now)
        self._spent.append((now + self.period_seconds + _TICK_SECONDS, charge.priority))
        self._spent_by[charge.priority] += 1
        if rate is not None:
            self._follow(now, rate)

    def accepted(self, now: float) -> None:
        """Record an answer that was not a 429."""
        self._alone = False
        if self._is_storm(now):
            self._factor = self._factor_before
        self._throttled_in_a_row = 0
        if self._factor < 1.0 and now - self._last_change >= self.period_seconds:
            self._factor = min(1.0, self._factor + _GROWTH)
            self._last_change = now

    def refused(
        self, now: float, charge: Charge, rate: RateLimit | None, retry_after: float | None, jitter: float
    ) -> bool:
        """Record a 429; return whether it is a storm: for two periods even lone requests have been refused.

        `jitter` in [0, 1) spreads the pause. Of requests that were sent together only the first 429 lengthens it.
        """
        self.throttled += 1
        announced = rate is not None and rate.remaining == 0
        if not announced:
            self.hidden_throttled += 1
        if charge.begun < self._last_throttled:
            return False
        self._last_throttled = now
        if self._throttled_in_a_row == 0:
            self._refused_since, self._factor_before = now, self._factor
        self._throttled_in_a_row += 1
        self._alone = True
        pause = _BACKOFF.delay_seconds(self._throttled_in_a_row, jitter)
        if announced and rate is not None:
            pause = rate.reset_seconds + _ROUNDING_SECONDS + jitter
        elif not charge.alone and now - self._last_change >= self.period_seconds:
            self._factor = max(_SMALLEST_FACTOR, self._factor / 2)
            self._last_change = now
        self._paused_until = max(self._paused_until, now + max(pause, retry_after or 0.0))
        return self._is_storm(now)

    def next_change(self, now: float) -> float | None:
        """Return the next moment at which more may be allowed; None if only an answer can change that."""
        moments = [self._paused_until]
        if self._view is not None:
            moments.append(self._view.ends)
        if self._spent:
            moments.append(self._spent[0][0])
        if self._flow < 1.0:
            moments.append(self._flow_at + (1.0 - self._flow) / self._rate + _TICK_SECONDS)
        return min((moment for moment in moments if moment > now), default=None)

    def numbers(self, now: float) -> RateNumbers:
        """Return the counters at `now`."""
        self._forget(now)
        return RateNumbers(
            limit=self.limit,
            period_seconds=self.period_seconds,
            announced_limit=self._announced,
            used=self._in_flight_total + len(self._spent),
            left_by_headers=None if self._view is None else self._view.left,
            in_flight=self._in_flight_total,
            used_by={priority: self._used(priority) for priority in Priority},
            paused_seconds=max(0.0, self._paused_until - now),
            throttled=self.throttled,
            hidden_throttled=self.hidden_throttled,
        )

    def _may_send(self, now: float, priority: Priority) -> bool:
        if now < self._paused_until or (self._alone and self._in_flight_total):
            return False
        kept = 0 if priority is Priority.CLICK else self._kept()
        slots_kept = min(2, self._concurrency - 1) if priority is not Priority.CLICK else 0
        if self._in_flight_total >= self._concurrency - slots_kept:
            return False
        if self._in_flight_total + len(self._spent) >= self.limit - kept:
            return False
        if self._view is not None and self._view.left <= kept:
            return False
        if self._flow < 1.0 and priority is not Priority.CLICK:
            return False
        return self._used(priority) < self._ceiling(priority)

    @property
    def _burst(self) -> float:
        return max(1.0, self.limit * _BURST)

    @property
    def _rate(self) -> float:
        return self.limit / self.period_seconds

    def _kept(self) -> int:
        return max(0, int(self.limit * KEPT_FOR_CLICKS) - self._used(Priority.CLICK))

    def _used(self, priority: Priority) -> int:
        return self._in_flight[priority] + self._spent_by[priority]

    def _floor(self, priority: Priority) -> int:
        return max(1, int(self.limit * SHARES[priority].floor))

    def _ceiling(self, priority: Priority) -> int:
        return max(1, int(self.limit * SHARES[priority].ceiling))

    def _is_storm(self, now: float) -> bool:
        return self._throttled_in_a_row > 0 and now - self._refused_since > _STORM_PERIODS * self.period_seconds

    def _end(self, charge: Charge) -> None:
        self._in_flight[charge.priority] -= 1
        self._in_flight_total -= 1

    def _forget(self, now: float) -> None:
        while self._spent and self._spent[0][0] <= now:
            _, priority = self._spent.popleft()
            self._spent_by[priority] -= 1
        if self._view is not None and self._view.ends <= now:
            self._view = None
        if now > self._flow_at:
            self._flow = min(self._burst, self._flow + (now - self._flow_at) * self._rate)
            self._flow_at = now

    def _follow(self, now: float, rate: RateLimit) -> None:
        self._announced = max(1, rate.limit)
        ends = now + rate.reset_seconds + _ROUNDING_SECONDS
        left = rate.remaining - self._in_flight_total
        if self._view is None or ends > self._view.ends + _SAME_PERIOD_SECONDS:
            self._view = _View(ends, left)
        elif ends >= self._view.ends - _SAME_PERIOD_SECONDS:
            self._view.left = min(self._view.left, left)
