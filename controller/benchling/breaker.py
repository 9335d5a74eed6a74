"""The circuit breaker: after enough outage answers in a row nothing is sent but a probe now and then."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from controller.benchling.errors import BenchlingFailure


class BreakerState(StrEnum):
    """Whether requests go out."""

    CLOSED = "closed"
    """As usual."""
    OPEN = "open"
    """Benchling is down; nothing is sent."""
    HALF_OPEN = "half-open"
    """One probe is under way."""


@dataclass(frozen=True, slots=True)
class BreakerReading:
    """The breaker at one moment."""

    state: BreakerState
    since: float
    """When it took this state or, between open and half-open, when it opened; by the client's clock, in seconds."""
    next_probe_seconds: float
    """Time until the next probe; 0 while closed."""
    reason: str
    """What opened it, as a sentence; empty while closed."""
    openings: int
    """How often it has opened."""


class Breaker:
    """Counts outages. It knows no clock and sends nothing: times are given, and the probe is its owner's."""

    def __init__(self, failures: int, on_change: Callable[[BreakerState], None]) -> None:
        """Open after so many outage answers in a row; `on_change` is called with each new state."""
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
        """The state now."""
        return self._state

    def reading(self, now: float) -> BreakerReading:
        """Return all that is known."""
        wait = max(0.0, self._next_probe - now) if self._state is not BreakerState.CLOSED else 0.0
        return BreakerReading(self._state, self._since, wait, self._reason, self._openings)

    def succeeded(self, now: float) -> None:
        """Record an answer that shows Benchling at work; it also ends an outage."""
        self._row = 0
        self._last_subject = None
        if self._state is not BreakerState.CLOSED:
            self._reason = ""
            self._since = now
            self._set(BreakerState.CLOSED)

    def failed(self, now: float, failure: BenchlingFailure, subject: str, *, certain: bool = False) -> None:
        """Record an outage answer; the same subject failing with a 500 again and again is not an outage.

        `certain`: it is known to be an outage, so this one is enough.
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

    def probe_due(self, moment: float) -> None:
        """Say when the next probe will be sent; with an open breaker only."""
        self._next_probe = moment
        if self._state is BreakerState.HALF_OPEN:
            self._set(BreakerState.OPEN)

    def probing(self) -> None:
        """Say that the probe is under way."""
        if self._state is BreakerState.OPEN:
            self._set(BreakerState.HALF_OPEN)

    def _set(self, state: BreakerState) -> None:
        self._state = state
        self._on_change(state)
