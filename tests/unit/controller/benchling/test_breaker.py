"""The circuit breaker: when it opens, and what is no outage."""

from __future__ import annotations

from controller.benchling.breaker import Breaker, BreakerState
from controller.benchling.errors import (
    ProviderDown,
)


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
    breaker.schedule_probe(40.0)
    assert breaker.reading(15.0).next_probe_seconds == 25.0
    breaker.start_probe()
    breaker.failed(41.0, ProviderDown("x", status=503), "/a")
    breaker.schedule_probe(71.0)
    assert breaker.reading(45.0).since == 10.0
    breaker.start_probe()
    breaker.succeeded(72.0)
    assert states == [
        BreakerState.OPEN, BreakerState.HALF_OPEN, BreakerState.OPEN, BreakerState.HALF_OPEN, BreakerState.CLOSED,
    ]  # fmt: skip
    reading = breaker.reading(80.0)
    assert (reading.reason, reading.openings, reading.since) == ("", 1, 72.0)
