"""How the status changes: tries, back-off, what is kept and what starts over."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.decisions import transitions
from controller.decisions.conditions import summarize
from controller.settings import RetrySettings
from entrypackage.conditions import ConditionType, find_condition
from entrypackage.failures import POLICIES, FailureClass
from entrypackage.resource import EntryFacts, EntryPackage, Status
from tests.support.situations import (
    NOW,
    attempt,
    event,
    package,
    packed,
    report,
    request,
    with_attempt,
    working,
)

RETRY = RetrySettings()
FACTS = EntryFacts(display_id="EXP1", modified_at="2026-05-04T11:59:00Z")


def condition(given_package: EntryPackage, kind: ConditionType) -> tuple[str, str]:
    status = summarize(given_package, NOW)
    found = find_condition(status.conditions, kind)
    assert found is not None
    return found.status, found.reason


def test_an_attempt_takes_both_slots_and_serves_the_event() -> None:
    begun = transitions.begin(package(event=event(), request=request()), FACTS, NOW)

    assert begun.taken is not None
    assert (begun.taken.event_id, begun.taken.request_id) == ("evt_1", "req-1")
    assert begun.attempt is not None
    assert begun.attempt.trigger == event()
    assert begun.attempt.request_id == "req-1"
    assert begun.attempt.notify_always
    assert begun.attempt.export is not None
    assert begun.attempt.export.covers_modified_at == FACTS.modified_at
    assert not transitions.pending_triggers(package(begun, event=event(), request=request()))


def test_a_retry_keeps_the_request_that_was_not_served() -> None:
    failed = transitions.fail(
        with_attempt(attempt(request_id="req-1", notify_always=True, canvas_id="cnvs_1"), taken_request="req-1"),
        FailureClass.EXPORT_FAILED,
        "no",
        NOW,
        RETRY,
        spread=0,
    )

    again = transitions.begin(package(failed, event=event(2), request=request()), FACTS, NOW).attempt

    assert again is not None
    assert (again.request_id, again.notify_always, again.canvas_id) == ("req-1", True, "cnvs_1")
    assert again.trigger == event(2)
    assert (again.tries, again.number) == (1, 2)


def test_a_request_starts_the_tries_over() -> None:
    failed = transitions.fail(
        with_attempt(attempt(tries=3, delays=3)), FailureClass.EXPORT_FAILED, "no", NOW, RETRY, spread=0
    )

    again = transitions.begin(package(failed, event=event(), request=request()), FACTS, NOW).attempt

    assert again is not None
    assert (again.tries, again.delays) == (0, 0)


def test_the_tries_are_used_up() -> None:
    status = with_attempt(attempt(tries=RETRY.max_tries - 1, delays=4))

    failed = transitions.fail(status, FailureClass.EXPORT_FAILED, "no", NOW, RETRY, spread=0).attempt

    assert failed is not None
    assert failed.given_up
    assert failed.next_attempt_time == NOW + timedelta(seconds=RETRY.given_up_seconds)


@given(st.sampled_from(list(FailureClass)), st.integers(0, 200), st.floats(0, 1, exclude_max=True))
def test_an_outage_never_gives_up_and_every_pause_is_bounded(failure: FailureClass, delays: int, spread: float) -> None:
    policy = POLICIES[failure]
    status = with_attempt(attempt(delays=delays, tries=0))

    failed = transitions.fail(status, failure, "no", NOW, RETRY, spread=spread).attempt

    assert failed is not None
    assert failed.next_attempt_time is not None
    pause = (failed.next_attempt_time - NOW).total_seconds()
    if policy.is_outage:
        assert not failed.given_up
    if failed.given_up:
        assert RETRY.given_up_seconds <= pause <= RETRY.given_up_seconds * 1.1
    else:
        ceiling = policy.backoff.ceiling_seconds(delays + 1)
        assert ceiling / 2 <= pause <= ceiling


def test_success_ends_the_attempt_and_is_kept_in_the_history() -> None:
    done = transitions.succeed(with_attempt(working()), report(), packed(), NOW, RETRY)

    assert done.attempt is None
    assert done.package is not None
    assert done.package.size == "4.0 KiB"
    assert [past.outcome for past in done.history] == ["Succeeded"]
    assert condition(package(done, event=event()), ConditionType.READY) == ("True", "Packaged")


def test_an_incomplete_export_is_ready_and_repeated_a_few_times() -> None:
    status, pauses = with_attempt(working()), []
    for _ in range(len(RETRY.incomplete_seconds) + 1):
        done = transitions.succeed(status, report(missing_count=2), packed(), NOW, RETRY)
        assert condition(package(done, event=event()), ConditionType.READY) == ("True", "Incomplete")
        if done.attempt is None:
            break
        assert done.attempt.next_attempt_time is not None
        pauses.append((done.attempt.next_attempt_time - NOW).total_seconds())
        begun = transitions.begin(package(done, event=event()), FACTS, NOW)
        assert begun.attempt is not None
        status = with_attempt(working(begun.attempt.number, re_exports=begun.attempt.re_exports))
    assert pauses == RETRY.incomplete_seconds


def test_history_keeps_the_last_ten() -> None:
    status = Status()
    for number in range(1, 15):
        status = status.model_copy(update={"attempt": attempt(number), "attempts": number})
        status = transitions.fail(status, FailureClass.DISRUPTED, "gone", NOW, RETRY, spread=0)

    assert [past.number for past in status.history] == list(range(14, 4, -1))


@pytest.mark.parametrize(("touched", "wanted"), [(False, ("True", "Packaged")), (True, ("False", "PartlyWritten"))])
def test_a_failed_attempt_says_whether_the_old_package_was_changed(touched: bool, wanted: tuple[str, str]) -> None:
    old = transitions.succeed(with_attempt(working()), report(), packed(), NOW, RETRY)
    writing = old.model_copy(update={"attempt": working(2), "attempts": 2})
    assert condition(package(writing, event=event()), ConditionType.PACKAGED) == ("Unknown", "Writing")

    failed = transitions.fail(
        writing, FailureClass.ARCHIVE_REFUSED, "a.txt lies", NOW, RETRY, spread=0, touched=touched
    )

    assert condition(package(failed, event=event()), ConditionType.PACKAGED) == wanted
    assert condition(package(failed, event=event()), ConditionType.READY) == ("False", "ArchiveRefused")


def test_what_is_said_again_keeps_its_transition_time() -> None:
    first = summarize(package(event=event()), NOW)
    later = summarize(package(first, event=event()), NOW + timedelta(hours=1))

    assert later == first


@pytest.mark.parametrize(
    ("message", "canvas"),
    [('{"canvasId":"cnvs_1"}', "cnvs_1"), ("no json", None), ("[]", None), ('{"canvasId":7}', None), (None, None)],
)
def test_the_canvas_of_a_click(message: str | None, canvas: str | None) -> None:
    assert transitions.canvas_of(request(message=message)) == canvas
