"""Decides when a call is sent again. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from controller.benchling.errors import CircuitOpen, LimitReached, ProviderDown, Throttled
from entrypackage.backoff import Backoff

if TYPE_CHECKING:
    from controller.benchling.errors import BenchlingFailure

_BACKOFF: Final = Backoff(base_seconds=0.5, cap_seconds=15.0)
"""The cap is Benchling's advice for the longest one."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The retries within one call. Longer waits belong to the attempt and are planned by the controller."""

    max_tries: int = 5
    backoff: Backoff = _BACKOFF

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
        pause = (failure.retry_after_seconds or 0.0) + self.backoff.full_jitter_seconds(tries, jitter)
        return pause if pause < left_seconds else None
