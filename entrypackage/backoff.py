"""How long to wait after failures in a row: arithmetic alone; the jitter, a number in [0, 1), comes from the caller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_MOST_DOUBLINGS: Final = 60
"""Enough to reach any cap; 2.0 to the power of much more is no float."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits that double with each failure in a row, up to a cap; all in seconds."""

    base_seconds: float
    cap_seconds: float

    def ceiling_seconds(self, failures: int) -> float:
        """Return the longest wait after so many failures in a row (from 1)."""
        return float(min(self.cap_seconds, self.base_seconds * 2.0 ** min(max(failures - 1, 0), _MOST_DOUBLINGS)))

    def delay_seconds(self, failures: int, jitter: float) -> float:
        """Return a wait from half of the ceiling to the whole of it, so that it never is next to nothing."""
        return from_half(self.ceiling_seconds(failures), jitter)

    def full_jitter_seconds(self, failures: int, jitter: float) -> float:
        """Return a wait from nothing to the ceiling, which spreads callers that failed together best."""
        return self.ceiling_seconds(failures) * jitter


def from_half(longest_seconds: float, jitter: float) -> float:
    """Return a wait from half of `longest_seconds` to the whole of it."""
    return longest_seconds * (1 + jitter) / 2
