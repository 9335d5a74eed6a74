"""When a running export is polled next: a young one often, an old one rarely, all together within their share.

The end of an export is noticed at most an eighth of its age late (2 s at least, 60 s at most). So a short export does
not wait, and one of half an hour costs some fifty polls. If more exports run than the polls' share of the rate budget
allows, all intervals are stretched by the same factor.
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
"""The part of an interval by which it is shortened or lengthened at random."""


def poll_interval(age_seconds: float, stretch: float = 1.0) -> float:
    """Return the time between two polls of an export of that age, in seconds, without jitter."""
    return stretch * max(SHORTEST_SECONDS, min(LONGEST_SECONDS, age_seconds * AGE_PART))


def polls_per_second(limit: int, period_seconds: float) -> float:
    """Return how many polls a second a budget of `limit` requests per period allows."""
    return max(1, int(limit * SHARES[Priority.POLL].ceiling)) / period_seconds


def stretch_for(ages_seconds: Iterable[float], allowed_per_second: float) -> float:
    """Return the factor, at least 1, by which all intervals grow so that all polls together stay within their share.

    It allows for the jitter: the share holds even if every interval is the shortest possible.
    """
    wanted = sum(1 / (poll_interval(age) * (1 - JITTER)) for age in ages_seconds)
    return max(1.0, wanted / allowed_per_second)


def next_poll_delay(age_seconds: float, jitter: float, stretch: float = 1.0) -> float:
    """Return the delay until the next poll in seconds; `jitter` is a random number in [0, 1)."""
    return poll_interval(age_seconds, stretch) * (1 - JITTER + 2 * JITTER * jitter)
