"""Decides when a call is sent again. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from controller.benchling.errors import CircuitOpen, LimitReached, ProviderDown, Throttled

if TYPE_CHECKING:
    from controller.benchling.errors import BenchlingFailure


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The retries within one call. Longer waits belong to the attempt and are planned by the controller."""

    max_tries: int = 5
    base_seconds: float = 0.5
    cap_seconds: float = 15.0
    """The longest backoff that Benchling recommends."""

    def ceiling_seconds(self, tries: int) -> float:
        """Return the longest pause after `tries` requests, counted from 1."""
        return float(min(self.cap_seconds, self.base_seconds * 2.0 ** min(tries - 1, 60)))

    def pause(
        self,
        failure: BenchlingFailure,
        *,
        repeatable: bool,
        tries: int,
        left_seconds: float,
        jitter: float,
    ) -> float | None:
        """Return how long to wait before the next try, or None to give up.

        `jitter` in [0, 1) is the part of the longest pause that is taken (full jitter); `left_seconds` is the rest of
        the call's deadline. A wait that Benchling names is obeyed, with the jitter on top of it, so that calls do not
        come back in step.
        """
        if isinstance(failure, CircuitOpen | LimitReached) or not isinstance(failure, ProviderDown | Throttled):
            return None
        if tries >= self.max_tries or (failure.effect_possible and not repeatable):
            return None
        pause = (failure.retry_after_seconds or 0.0) + jitter * self.ceiling_seconds(tries)
        return pause if pause < left_seconds else None
