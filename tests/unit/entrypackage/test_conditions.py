"""Conditions: the time moves with the status alone, one of each type, messages within bounds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from entrypackage.conditions import MESSAGE_CHARS, Condition, ConditionType, Reason, find_condition, set_condition
from entrypackage.failures import FailureClass

START = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
LATER = START + timedelta(minutes=5)


def ready(conditions: list[Condition], **changes: object) -> list[Condition]:
    given_facts = {"status": "False", "reason": "Exporting", "message": "", "generation": 1, "now": START} | changes
    return set_condition(conditions, ConditionType.READY, **given_facts)  # type: ignore[arg-type]


def test_a_condition_is_added_once_and_replaced_in_place() -> None:
    first = ready([])
    both = set_condition(first, ConditionType.STALLED, "False", "Running", "", generation=1, now=START)
    again = ready(both, reason="Packing", generation=2)
    assert [condition.type for condition in again] == ["Ready", "Stalled"]
    found = find_condition(again, ConditionType.READY)
    assert found is not None
    assert (found.reason, found.observed_generation) == ("Packing", 2)
    assert find_condition(again, ConditionType.EXPORTED) is None


def test_the_transition_time_moves_only_with_the_status() -> None:
    first = ready([])
    same = ready(first, reason="Packing", message="more", now=LATER)
    assert same[0].last_transition_time == START
    assert ready(same, status="True", now=LATER)[0].last_transition_time == LATER


def test_what_was_there_is_not_changed() -> None:
    first = ready([])
    ready(first, status="True")
    assert first[0].status == "False"


@given(st.text(max_size=3 * MESSAGE_CHARS))
def test_a_message_fits_the_schema(message: str) -> None:
    shown = ready([], message=message)[0].message
    assert len(shown) <= MESSAGE_CHARS
    assert shown == message or shown.endswith("…")


def test_every_reason_and_failure_is_a_valid_reason() -> None:
    for reason in (*Reason, *FailureClass):
        assert ready([], reason=reason.value)[0].reason == reason.value
