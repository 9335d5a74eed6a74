"""How the status changes: tries, back-off, what is kept and what starts over."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.decisions import transitions
from controller.decisions.conditions import summarize
from controller.decisions.plan import BeginAttempt, ReuseExport, plan
from controller.settings import RetrySettings
from entrypackage.conditions import ConditionType, find_condition
from entrypackage.failures import POLICIES, FailureClass
from entrypackage.resource import Attempt, EntryFacts, EntryPackage, ExportRecord, Status
from tests.support.situations import (
    NOW,
    TIMING,
    ago,
    attempt,
    event,
    package,
    packed,
    report,
    request,
    seen,
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


def test_an_incomplete_package_ends_what_failed_before_it() -> None:
    status = with_attempt(working(touched=True, tries=4, delays=6))

    done = transitions.succeed(status, report(missing_count=2), packed(), NOW, RETRY)

    assert done.attempt is not None
    assert (done.attempt.tries, done.attempt.delays) == (0, 0)
    packaged = find_condition(summarize(package(done, event=event()), NOW).conditions, ConditionType.PACKAGED)
    assert packaged is not None
    assert (packaged.status, packaged.reason) == ("True", "Incomplete")


def expire(status: Status, progress: int, failure: FailureClass = FailureClass.ARCHIVE_EXPIRED) -> Status:
    """End an attempt that came so far."""
    return transitions.fail(status, failure, "the address is over", NOW, RETRY, spread=0, progress=progress)


def next_try(status: Status) -> Status:
    """Begin the next attempt as the plan has it, and bring it as far as its Job."""
    assert status.attempt is not None
    reused = transitions.may_reuse_export(status.attempt)
    there = package(status, event=event())
    begun = transitions.begin_again_with_same_export(there, NOW) if reused else transitions.begin(there, FACTS, NOW)
    assert begun.attempt is not None
    ready = working(begun.attempt.number).model_copy(
        update={name: getattr(begun.attempt, name) for name in ("tries", "delays", "progress", "started_at")}
    )
    # An archive that was there before the attempt is one that is used again.
    export = ExportRecord(intent_time=ago(60), task_id="task-1", completed_at=ago(30) if reused else NOW)
    return begun.model_copy(update={"attempt": ready.model_copy(update={"export": export})})


def attempt_of(status: Status) -> Attempt:
    """Return the attempt."""
    assert status.attempt is not None
    return status.attempt


def test_progress_outlasts_any_number_of_addresses() -> None:
    status = with_attempt(working())
    for life in range(1, 4 * RETRY.max_tries):
        failed = expire(status, progress=10 * life)
        ended = attempt_of(failed)
        assert not ended.given_up
        assert ended.next_attempt_time is not None
        assert ended.next_attempt_time - NOW <= timedelta(seconds=5), "the back-off does not grow"
        assert transitions.may_reuse_export(ended), "the same export, with a fresh address"
        status = next_try(failed)


def test_an_attempt_that_stores_nothing_new_uses_up_a_try() -> None:
    status, pauses = with_attempt(working()), []
    for _ in range(RETRY.max_tries):
        failed = expire(status, progress=7)
        ended = attempt_of(failed)
        assert not ended.given_up
        assert ended.next_attempt_time is not None
        pauses.append((ended.next_attempt_time - NOW).total_seconds())
        status = next_try(failed)

    # The first stored seven files; the others found those and came no further.
    assert pauses == [2.5, 2.5, 5.0, 10.0, 20.0]
    assert attempt_of(expire(status, progress=7)).given_up


def test_files_that_are_stored_over_and_over_are_no_progress() -> None:
    """Each export renders the entry anew: its document is put each time, and that alone must not go on for ever."""
    status = with_attempt(working())
    for _ in range(RETRY.max_tries):
        status = next_try(expire(status, progress=1))

    assert attempt_of(expire(status, progress=1)).given_up


def test_an_address_that_was_over_from_the_start_leads_to_a_new_export() -> None:
    """Where reading the task does not renew the address, every second attempt stores nothing; the others go on."""
    status = with_attempt(working())
    for life in range(1, 3 * RETRY.max_tries):
        progressed = expire(status, progress=10 * life)
        assert transitions.may_reuse_export(attempt_of(progressed))
        stuck = expire(next_try(progressed), progress=0)
        assert not transitions.may_reuse_export(attempt_of(stuck))
        assert (attempt_of(stuck).tries, attempt_of(stuck).given_up) == (1, False)
        status = next_try(stuck)


def test_an_unreachable_archive_is_exported_anew_once_a_fresh_address_was_in_vain() -> None:
    """The fault may be of that export's address; and as it may be an outage, it is never given up."""
    status, reused = with_attempt(working()), []
    for _ in range(4 * RETRY.max_tries):
        failed = expire(status, 0, FailureClass.ARCHIVE_UNREACHABLE)
        assert (attempt_of(failed).tries, attempt_of(failed).given_up) == (0, False)
        reused.append(transitions.may_reuse_export(attempt_of(failed)))
        status = next_try(failed)

    assert reused == [True, False] * (2 * RETRY.max_tries)
    assert attempt_of(status).delays == 4 * RETRY.max_tries, "the back-off grows as in any outage"


def test_an_unreachable_archive_of_which_more_was_read_is_used_again() -> None:
    status = next_try(expire(with_attempt(working()), 10, FailureClass.ARCHIVE_UNREACHABLE))
    further = attempt_of(expire(status, 20, FailureClass.ARCHIVE_UNREACHABLE))
    no_further = attempt_of(expire(status, 10, FailureClass.ARCHIVE_UNREACHABLE))

    assert transitions.may_reuse_export(further)
    assert further.delays == 0
    assert not transitions.may_reuse_export(no_further)


def test_an_export_that_benchling_let_go_of_meanwhile_does_not_end_the_progress() -> None:
    """A transfer of hours: the task is gone when its address is asked for again, and the entry is exported anew."""
    status = with_attempt(working())
    for life in range(1, 3 * RETRY.max_tries):
        gone = expire(next_try(expire(status, progress=10 * life)), 0, FailureClass.EXPORT_LOST)
        assert (attempt_of(gone).tries, attempt_of(gone).given_up) == (1, False)
        status = next_try(gone)


@pytest.mark.parametrize("failure", [one for one in FailureClass if not POLICIES[one].forgives_progress])
def test_other_failures_are_counted_whatever_was_stored(failure: FailureClass) -> None:
    ended = attempt_of(expire(with_attempt(working(tries=2, delays=3)), 50, failure))

    assert (ended.tries, ended.delays) == (2 + POLICIES[failure].counts, 4)


def test_newer_triggers_and_a_whole_package_measure_progress_anew() -> None:
    failed = expire(with_attempt(working()), progress=70)
    assert attempt_of(failed).progress == 70

    assert attempt_of(transitions.begin(package(failed, event=event(2)), FACTS, NOW)).progress == 0
    asked = transitions.begin(package(failed, event=event(), request=request()), FACTS, NOW)
    assert attempt_of(asked).progress == 0
    done = transitions.succeed(with_attempt(working(progress=70)), report(missing_count=1), packed(), NOW, RETRY)
    assert attempt_of(done).progress == 0


def test_what_is_planned_after_an_expired_address() -> None:
    progressed = next_try(expire(with_attempt(working()), progress=3))
    later = NOW + timedelta(minutes=10)

    assert plan(seen(package(expire(progressed, progress=6), event=event())), later, TIMING) == ReuseExport()
    assert plan(seen(package(expire(progressed, progress=3), event=event())), later, TIMING) == BeginAttempt()
