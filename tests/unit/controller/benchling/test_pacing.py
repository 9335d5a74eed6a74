"""Retry, polling, breaker and the export limit: the pure decisions."""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.benchling.breaker import Breaker, BreakerState
from controller.benchling.clock import LoopClock
from controller.benchling.errors import (
    AuthFailed,
    BenchlingFailure,
    CircuitOpen,
    LimitReached,
    NotFound,
    ProviderDown,
    Throttled,
)
from controller.benchling.export_limit import ExportSlots
from controller.benchling.retry import RetryPolicy
from controller.decisions.polling import next_poll_delay, poll_interval, polls_per_second, stretch_for
from tests.support.virtual_time import run_virtual

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


def _breaker() -> tuple[Breaker, list[BreakerState]]:
    states: list[BreakerState] = []
    return Breaker(5, states.append), states


def test_the_breaker_opens_after_failures_in_a_row_only() -> None:
    breaker, states = _breaker()
    for number in range(40):
        breaker.failed(number, ProviderDown("x", status=503), "/a")
        if number % 4 == 3:
            breaker.succeeded(number)
    assert states == []
    for number in range(5):
        breaker.failed(50.0 + number, ProviderDown("x", status=503), "/a")
    assert states == [BreakerState.OPEN]
    assert breaker.reading(60.0).since == 54.0


def test_one_entry_that_makes_benchling_fail_is_no_outage() -> None:
    breaker, states = _breaker()
    for _ in range(50):
        breaker.failed(0.0, ProviderDown("x", status=500), "/entries/etr_bad")
    assert states == []
    for number in range(5):
        breaker.failed(0.0, ProviderDown("x", status=500), f"/entries/etr_{number}")
    assert breaker.state is BreakerState.OPEN


def test_the_breaker_goes_through_half_open_and_keeps_when_it_opened() -> None:
    breaker, states = _breaker()
    breaker.failed(10.0, ProviderDown("gone", status=503), "/a", certain=True)
    breaker.probe_due(40.0)
    assert breaker.reading(15.0).next_probe_seconds == 25.0
    breaker.probing()
    breaker.failed(41.0, ProviderDown("x", status=503), "/a")
    breaker.probe_due(71.0)
    assert breaker.reading(45.0).since == 10.0
    breaker.probing()
    breaker.succeeded(72.0)
    assert states == [
        BreakerState.OPEN, BreakerState.HALF_OPEN, BreakerState.OPEN, BreakerState.HALF_OPEN, BreakerState.CLOSED,
    ]  # fmt: skip
    reading = breaker.reading(80.0)
    assert (reading.reason, reading.openings, reading.since) == ("", 1, 72.0)


def test_the_export_limit_is_learnt_and_climbs_again() -> None:
    """Refused at 5; nothing beyond is tried for two minutes; then the limit has risen and all of it is found."""

    async def scenario() -> None:
        slots = ExportSlots(LoopClock(), 10, Random(1).random)
        for number in range(5):
            await slots.take(1.0)
            slots.started(f"t{number}")
        await slots.take(1.0)
        slots.refused(None)
        assert slots.numbers.limit == 5
        with pytest.raises(Throttled):
            await slots.take(30.0)
        assert slots.free == 0
        slots.ended("t0")
        assert slots.free == 1
        await slots.take(1.0)
        slots.started("t5")
        await asyncio.sleep(200.0)
        for number in range(20):
            await slots.take(1.0)
            slots.started(f"u{number}")
        assert slots.numbers.limit == 25

    run_virtual(scenario())


def test_a_refusal_while_nothing_runs_waits_ever_longer() -> None:
    async def scenario() -> None:
        slots = ExportSlots(LoopClock(), 10, Random(1).random)
        began, tries = asyncio.get_running_loop().time(), 0
        while asyncio.get_running_loop().time() - began < 600:
            await slots.take(600.0)
            slots.refused(None)
            tries += 1
        assert tries < 25

    run_virtual(scenario())


def test_a_cancelled_caller_leaves_no_slot_taken() -> None:
    async def scenario() -> None:
        slots = ExportSlots(LoopClock(), 1, Random(1).random)
        await slots.take(1.0)
        waiting = asyncio.create_task(slots.take(100.0))
        await asyncio.sleep(1.0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        slots.unused()
        assert slots.numbers.running == 0
        assert slots.numbers.waiting == 0
        assert slots.free == 1

    run_virtual(scenario())


def test_exports_of_a_former_leader_count_and_forgotten_ones_do_not() -> None:
    async def scenario() -> None:
        slots = ExportSlots(LoopClock(), 2, Random(1).random)
        slots.seen_running("old-1")
        slots.seen_running("old-2")
        assert slots.free == 1  # one beyond the limit may be tried, since no refusal is known
        await asyncio.sleep(1900.0)
        await slots.take(1.0)
        assert slots.numbers.running == 1

    run_virtual(scenario())
