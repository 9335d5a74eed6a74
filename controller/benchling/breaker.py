"""The circuit breaker: after enough outage answers in a row nothing is sent except a probe now and then."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from controller.benchling.errors import BenchlingFailure


class BreakerState(StrEnum):
    """Whether requests are sent."""

    CLOSED = "closed"
    """Requests are sent."""
    OPEN = "open"
    """Benchling is down: nothing is sent until the next probe."""
    HALF_OPEN = "half-open"
    """Benchling was down, and one probe is under way."""


@dataclass(frozen=True, slots=True)
class BreakerReading:
    """The breaker at one moment."""

    state: BreakerState
    since: float
    """When it closed, or when it opened if it is open or half-open; in seconds of the client's clock."""
    next_probe_seconds: float
    """Seconds until the next probe; 0 while closed."""
    reason: str
    """The failure that opened it, as a sentence; empty while closed."""
    openings: int
    """How often it has opened since the start."""


class Breaker:
    """Counts outage answers. It reads no clock and sends no probe; its owner passes times and sends probes."""

    def __init__(self, failures: int, on_change: Callable[[BreakerState], None]) -> None:
        """Open after `failures` outage answers in a row; `on_change` is called with each new state."""
        self._needed = failures
        self._on_change = on_change
        self._state = BreakerState.CLOSED
        self._since = 0.0
        self._next_probe = 0.0
        self._row = 0
        self._last_subject: str | None = None
        self._reason = ""
        self._openings = 0

    @property
    def state(self) -> BreakerState:
        """The present state."""
        return self._state

    def reading(self, now: float) -> BreakerReading:
        """Return the breaker as it is at `now`."""
        wait = max(0.0, self._next_probe - now) if self._state is not BreakerState.CLOSED else 0.0
        return BreakerReading(self._state, self._since, wait, self._reason, self._openings)

    def succeeded(self, now: float) -> None:
        """Record an answer that shows that Benchling works. It ends an outage."""
        self._row = 0
        self._last_subject = None
        if self._state is not BreakerState.CLOSED:
            self._reason = ""
            self._since = now
            self._set(BreakerState.CLOSED)

    def failed(self, now: float, failure: BenchlingFailure, subject: str, *, certain: bool = False) -> None:
        """Record an outage answer. A 500 does not count if the last outage answer had the same `subject`.

        With `certain` this one answer is enough to open the breaker.
        """
        if failure.status == 500 and subject == self._last_subject:
            return
        self._last_subject = subject
        self._row += self._needed if certain else 1
        if self._state is BreakerState.CLOSED and self._row >= self._needed:
            self._reason = failure.message
            self._since = now
            self._openings += 1
            self._set(BreakerState.OPEN)

    def schedule_probe(self, moment: float) -> None:
        """Record when the next probe will be sent. Call it only while the breaker is not closed."""
        self._next_probe = moment
        if self._state is BreakerState.HALF_OPEN:
            self._set(BreakerState.OPEN)

    def start_probe(self) -> None:
        """Record that the probe is under way."""
        if self._state is BreakerState.OPEN:
            self._set(BreakerState.HALF_OPEN)

    def _set(self, state: BreakerState) -> None:
        self._state = state
        self._on_change(state)
