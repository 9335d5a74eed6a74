"""Polling: an ended export is noticed soon, and all polls together stay within their share."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from controller.decisions.polling import next_poll_delay, poll_interval, polls_per_second, stretch_for

JITTERS = st.floats(0, 1, exclude_max=True)


@given(age=st.floats(0, 7200), jitter=JITTERS)
def test_an_ended_export_is_noticed_soon(age: float, jitter: float) -> None:
    """At most an eighth of its age late, within 2 and 60 s, give or take the jitter."""
    delay = next_poll_delay(age, jitter)
    assert 2 * 0.9 <= delay <= 60 * 1.1
    assert delay <= max(2.0, age / 8) * 1.1


@given(
    ages=st.lists(st.floats(0, 3600), max_size=400),
    limit=st.integers(2, 600),
    seed=st.integers(0, 9),
)
def test_all_polls_together_stay_within_their_half(ages: list[float], limit: int, seed: int) -> None:
    rng = Random(seed)
    stretch = stretch_for(ages, polls_per_second(limit, 30.0))
    rate = sum(1 / next_poll_delay(age, rng.random(), stretch) for age in ages)
    assert rate <= max(1, limit // 2) / 30.0 * 1.000001


def test_a_long_export_costs_few_polls() -> None:
    age, polls = 0.0, 0
    while age < 1800:
        age += poll_interval(age)
        polls += 1
    assert polls < 70
