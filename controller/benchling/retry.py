"""When a call is sent again: a pure decision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from controller.benchling.errors import CircuitOpen, LimitReached, ProviderDown, Throttled

if TYPE_CHECKING:
    from controller.benchling.errors import BenchlingFailure


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Repeats within one call; longer waits are the attempt's, and the controller's to plan. Times are in seconds."""

    max_tries: int = 5
    base_seconds: float = 0.5
    cap_seconds: float = 15.0
    """Benchling's advice for the longest back-off."""

    def ceiling_seconds(self, tries: int) -> float:
        """Return the longest pause after so many tries (from 1)."""
        return float(min(self.cap_seconds, self.base_seconds * 2.0 ** min(tries - 1, 60)))

    def pause(
        self,
        failure: BenchlingFailure,
        *,
        repeatable: bool,
        tries: int,
        left_seconds: float,
        dice: float,
    ) -> float | None:
        """Return how long to wait before the next try, or None to give up.

        `dice` in [0, 1) gives full jitter; `left_seconds` is what is left of the call's deadline. A failure that names
        a wait is obeyed, with the jitter on top of it, so that callers do not come back in step.
        """
        if isinstance(failure, CircuitOpen | LimitReached) or not isinstance(failure, ProviderDown | Throttled):
            return None
        if tries >= self.max_tries or (failure.effect_possible and not repeatable):
            return None
        pause = (failure.retry_after_seconds or 0.0) + dice * self.ceiling_seconds(tries)
        return pause if pause < left_seconds else None
