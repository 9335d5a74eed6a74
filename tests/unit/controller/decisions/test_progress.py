"""A transfer that outlasts its archive's address: what counts as progress, and what follows from it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from controller.decisions import transitions
from controller.decisions.conditions import summarize
from controller.decisions.plan import BeginAttempt, FailAttempt, ReuseExport, plan
from controller.settings import RetrySettings
from entrypackage.conditions import ConditionType, find_condition
from entrypackage.failures import POLICIES, FailureClass
from entrypackage.resource import Attempt, EntryFacts, ExportRecord, Status
from tests.support.situations import (
    NOW,
    TIMING,
    ago,
    ended_pod,
    event,
    job,
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


def test_the_report_says_how_far_it_came() -> None:
    said = report(
        package=None,
        failure=FailureClass.ARCHIVE_EXPIRED,
        message="over",
        files_uploaded=4,
        files_skipped=3,
        files_proven=5,
    )
    observation = seen(
        package(with_attempt(working()), event=event()),
        jobs=(job(finished_at=ago(1), reason="PodFailurePolicy"),),
        pods=(ended_pod(code=10, said=said),),
    )

    assert plan(observation, NOW, TIMING) == FailAttempt(FailureClass.ARCHIVE_EXPIRED, "over", progress=19)


def test_what_is_planned_after_an_expired_address() -> None:
    progressed = next_try(expire(with_attempt(working()), progress=3))
    later = NOW + timedelta(minutes=10)

    assert plan(seen(package(expire(progressed, progress=6), event=event())), later, TIMING) == ReuseExport()
    assert plan(seen(package(expire(progressed, progress=3), event=event())), later, TIMING) == BeginAttempt()


def test_giving_up_says_what_a_person_can_do() -> None:
    failed = expire(with_attempt(working(tries=RETRY.max_tries - 1, delays=4, progress=1)), progress=1)

    conditions = summarize(package(failed, event=event()), NOW).conditions
    for kind, status in ((ConditionType.READY, "False"), (ConditionType.STALLED, "True")):
        found = find_condition(conditions, kind)
        assert found is not None
        assert (found.status, found.reason) == (status, "ArchiveExpired")
        assert "If one file alone takes longer than the address lives" in found.message
        assert "Given up until" in found.message
