"""Retries: bounded, jittered, obedient to the server, and never of what must not be repeated."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.benchling.errors import (
    AuthFailed,
    BenchlingFailure,
    CircuitOpen,
    LimitReached,
    NotFound,
    ProviderDown,
    Throttled,
)
from controller.benchling.retry import RetryPolicy

JITTERS = st.floats(0, 1, exclude_max=True)


@given(
    tries=st.integers(1, 200),
    jitter=JITTERS,
    left=st.floats(0.001, 600),
    after=st.none() | st.floats(0, 60),
    effect=st.booleans(),
    repeatable=st.booleans(),
)
def test_a_pause_is_bounded_obeys_the_server_and_ends_within_the_deadline(
    tries: int, jitter: float, left: float, after: float | None, effect: bool, repeatable: bool
) -> None:
    policy = RetryPolicy()
    failure = ProviderDown("down", retry_after_seconds=after, effect_possible=effect)
    pause = policy.pause(failure, repeatable=repeatable, tries=tries, left_seconds=left, jitter=jitter)
    if effect and not repeatable:
        assert pause is None
    if pause is not None:
        assert tries < policy.max_tries
        assert (after or 0.0) <= pause < left
        assert pause <= (after or 0.0) + policy.backoff.cap_seconds


def test_jitter_is_full() -> None:
    """A thousand callers that failed together come back spread over the whole of the pause."""
    policy, rng = RetryPolicy(), Random(1)
    pauses = [
        policy.pause(ProviderDown("x"), repeatable=True, tries=4, left_seconds=600, jitter=rng.random()) or 0.0
        for _ in range(1000)
    ]
    pauses.sort()
    assert pauses[950] - pauses[50] > 0.85 * policy.backoff.ceiling_seconds(4)


@pytest.mark.parametrize(
    "failure", [CircuitOpen(3.0), LimitReached("no"), AuthFailed("no"), NotFound("no", status=404)]
)
def test_what_is_never_repeated(failure: BenchlingFailure) -> None:
    assert RetryPolicy().pause(failure, repeatable=True, tries=1, left_seconds=600, jitter=0.5) is None


def test_throttled_calls_are_repeated_even_if_they_must_not_happen_twice() -> None:
    assert RetryPolicy().pause(Throttled("no"), repeatable=False, tries=1, left_seconds=600, jitter=0.5) is not None
