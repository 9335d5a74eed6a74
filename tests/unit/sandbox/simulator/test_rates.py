"""Rate windows and the budgets of apps and tenant."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sandbox.simulator.rates import Budgets, Window


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
