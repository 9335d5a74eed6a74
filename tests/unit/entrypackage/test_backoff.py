"""The waits between tries: doubling, capped, and spread by a jitter that the caller draws."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrypackage.backoff import Backoff, from_half

BACKOFF = Backoff(base_seconds=0.5, cap_seconds=15)
CHANCE = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize(("failures", "ceiling"), [(0, 0.5), (1, 0.5), (2, 1), (3, 2), (5, 8), (6, 15), (10**9, 15)])
def test_ceiling_doubles_up_to_the_cap(failures: int, ceiling: float) -> None:
    assert BACKOFF.ceiling_seconds(failures) == ceiling


@given(failures=st.integers(1, 10**6), jitter=CHANCE)
def test_delay_is_from_half_of_the_ceiling_to_the_whole(failures: int, jitter: float) -> None:
    ceiling = BACKOFF.ceiling_seconds(failures)
    assert ceiling / 2 <= BACKOFF.delay_seconds(failures, jitter) <= ceiling
    assert BACKOFF.delay_seconds(failures, jitter) == from_half(ceiling, jitter)


@given(failures=st.integers(1, 10**6), jitter=CHANCE)
def test_full_jitter_is_from_nothing_to_the_ceiling(failures: int, jitter: float) -> None:
    assert BACKOFF.full_jitter_seconds(failures, jitter) == jitter * BACKOFF.ceiling_seconds(failures)
