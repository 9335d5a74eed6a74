"""When a running export is looked at next: young ones often, old ones rarely, all together within their share.

An export's end is noticed at most an eighth of its age late (2 s at least, 60 s at most), so a short export is not kept
waiting and one of half an hour costs some fifty polls. When more exports run than the share of the budget allows, all
intervals are stretched by the same factor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from controller.benchling.priority import SHARES, Priority

if TYPE_CHECKING:
    from collections.abc import Iterable

SHORTEST_SECONDS: Final = 2.0
LONGEST_SECONDS: Final = 60.0
AGE_PART: Final = 1 / 8
JITTER: Final = 0.1
"""Part of an interval by which it is shortened or lengthened at random."""


def poll_interval(age_seconds: float, stretch: float = 1.0) -> float:
    """Return how long to wait before the next look at an export of that age, in seconds."""
    return stretch * max(SHORTEST_SECONDS, min(LONGEST_SECONDS, age_seconds * AGE_PART))


def polls_per_second(limit: int, period_seconds: float) -> float:
    """Return how many polls a budget of `limit` requests per period allows: the polls' share, at most half of it."""
    return max(1, int(limit * SHARES[Priority.POLL].ceiling)) / period_seconds


def stretch_for(ages_seconds: Iterable[float], allowed_per_second: float) -> float:
    """Return the factor, at least 1, by which intervals grow so that all exports together stay within their share.

    The jitter is allowed for: even if every interval came out shortest, the share would hold.
    """
    wanted = sum(1 / (poll_interval(age) * (1 - JITTER)) for age in ages_seconds)
    return max(1.0, wanted / allowed_per_second)


def next_poll_delay(age_seconds: float, jitter: float, stretch: float = 1.0) -> float:
    """Return the jittered delay in seconds; `jitter` in [0, 1) is where in the jitter's range it lies."""
    return poll_interval(age_seconds, stretch) * (1 - JITTER + 2 * JITTER * jitter)
