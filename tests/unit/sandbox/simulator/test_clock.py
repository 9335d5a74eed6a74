"""Tenant time and its time stamps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.simulator.clock import Clock, iso, parse_iso


class Hands:
    """A monotonic clock that is moved by hand."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


def test_tenant_time_runs_at_its_scale_and_jumps() -> None:
    hands = Hands()
    clock = Clock(scale=60.0, start=1000.0, monotonic=hands)
    hands.at += 2
    assert clock.now() == pytest.approx(1120.0)
    assert clock.real() == pytest.approx(2.0)
    clock.rescale(0.0)
    hands.at += 100
    assert clock.now() == pytest.approx(1120.0)
    clock.advance(30)
    assert clock.now() == pytest.approx(1150.0)
    with pytest.raises(ValueError, match="forward"):
        clock.advance(-1)


@given(st.integers(0, 4_000_000_000))
def test_time_stamps_survive_a_round_trip(seconds: int) -> None:
    moment = seconds + 0.25
    assert parse_iso(iso(moment)) == moment
