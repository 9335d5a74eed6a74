"""Budgets, faults and the clock, without any HTTP."""

from __future__ import annotations

import ast
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sandbox.simulator as package
from sandbox.simulator.clock import Clock, iso, parse_iso
from sandbox.simulator.faults import (
    FAULTS,
    OPTIONS,
    Rule,
    Switchboard,
    UnknownFault,
    UnknownOption,
    check_options,
)
from sandbox.simulator.rates import Budgets, Window


class Hands:
    """A monotonic clock that is moved by hand."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


@given(st.lists(st.floats(0, 200), min_size=1, max_size=300))
def test_a_window_never_gives_more_than_its_limit(moments: list[float]) -> None:
    window, given_by_period = Window(5, 30.0), dict[int, int]()
    for moment in sorted(moments):
        if window.spend(moment):
            period = int(moment // 30)
            given_by_period[period] = given_by_period.get(period, 0) + 1
    assert max(given_by_period.values()) <= 5


@given(st.floats(0, 1000))
def test_waiting_for_the_reset_is_always_enough(moment: float) -> None:
    window = Window(1, 30.0)
    assert window.spend(moment)
    assert not window.spend(moment)
    assert window.remaining(moment) == 0
    assert window.spend(moment + window.reset(moment))


def test_the_tenant_budget_is_hidden_and_shared() -> None:
    budgets = Budgets(Window(10, 30.0), Window(60, 30.0), 8, 30.0)
    assert sum(budgets.admit("one", 1.0) for _ in range(20)) == 8
    assert sum(budgets.admit("two", 1.0) for _ in range(20)) == 2
    assert budgets.of("two").remaining(1.0) == 6, "calls remain, and yet it is 429"
    assert budgets.admit("two", 31.0)


def test_a_fault_strikes_so_often_for_whom_it_is_set() -> None:
    board = Switchboard(Random(1))
    board.set(Rule("entry_404", times=2, subject="etr_a"))
    assert board.take("entry_404", 0.0, subject="etr_b") is None
    assert [board.take("entry_404", 0.0, subject="etr_a") is not None for _ in range(3)] == [True, True, False]
    board.set(Rule("api_503", until=10.0, operation="getTask"))
    assert board.take("api_503", 9.9, operation="getTask") is not None
    assert board.take("api_503", 9.9, operation="getEntry") is None
    assert board.take("api_503", 10.0, operation="getTask") is None
    assert board.counts == {"entry_404": 2, "api_503": 1}


def test_chance_is_seeded() -> None:
    def struck() -> list[bool]:
        board = Switchboard(Random(7))
        board.set(Rule("api_500", chance=0.5))
        return [board.take("api_500", 0.0) is not None for _ in range(50)]

    assert struck() == struck()
    assert 10 < sum(struck()) < 40


def test_an_unknown_fault_gets_a_hint() -> None:
    board = Switchboard(Random(1))
    with pytest.raises(UnknownFault, match="did you mean archive_slow"):
        board.set(Rule("archive_slo"))
    with pytest.raises(UnknownFault):
        board.clear("nonsense")


def test_every_fault_is_asked_for_somewhere() -> None:
    """A switch that nothing reads would be a promise that nobody keeps."""
    folder = Path(package.__path__[0])
    sources = "".join(path.read_text() for path in folder.rglob("*.py") if path.name != "faults.py")
    built = {f"api_{status}" for status in (500, 502, 503, 504)} | {f"api_{s}_html" for s in (502, 503, 504)}
    assert not [name for name in FAULTS if f'"{name}"' not in sources and name not in built]


def test_every_option_is_read_and_every_one_that_is_read_is_known() -> None:
    folder = Path(package.__path__[0])
    trees = [ast.parse(path.read_text()) for path in folder.rglob("*.py") if path.name != "faults.py"]
    read = {
        node.args[0].value
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        and (node.func.attr in ("number", "text") or ast.unparse(node.func) == "rule.options.get")
        and node.args and isinstance(node.args[0], ast.Constant)
    }  # fmt: skip
    assert read == {option for options in OPTIONS.values() for option in options}
    assert OPTIONS.keys() <= FAULTS.keys()
    with pytest.raises(UnknownOption, match="api_503 has no option 'foo'; it has: none"):
        check_options("api_503", ["foo"])


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
