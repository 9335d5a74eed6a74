"""The plan as a table of situations: what is seen, and the one next action."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from controller.decisions import transitions
from controller.decisions.conditions import Blocked
from controller.decisions.plan import (
    CAPACITY_SECONDS,
    BeginAttempt,
    CreateJob,
    DeleteJob,
    ExportSeen,
    FailAttempt,
    MakeOrder,
    Observation,
    PollExport,
    RecordTask,
    RenewExport,
    ReuseExport,
    StorePackage,
    Wait,
    WriteStatus,
    plan,
)
from controller.decisions.transitions import fail, succeed
from controller.settings import RetrySettings
from entrypackage.conditions import ConditionType, find_condition
from entrypackage.failures import FailureClass
from entrypackage.resource import ExportRecord, Pending, Status
from entrypackage.trigger import Taken
from tests.support.situations import (
    DIGEST,
    NOW,
    TIMING,
    ago,
    attempt,
    ended_pod,
    event,
    job,
    package,
    packed,
    pod,
    report,
    request,
    seen,
    settled,
    with_attempt,
    working,
)

ASKED = ExportSeen(asked=True)
ANSWERED = ExportSeen(asked=True, task="t")
READY = ExportSeen(asked=True, ready=True)
LATER = ExportSeen(asked=True, next_poll=NOW + timedelta(seconds=5))
NO_TASK = ExportRecord(intent_time=ago(60))
ORDERED = attempt(
    export=ExportRecord(intent_time=ago(60), task_id="t", completed_at=ago(5)), order_digest=DIGEST, order_parts=1
)
FAILED = attempt(failure=FailureClass.EXPORT_FAILED, tries=1, delays=1, next_attempt_time=NOW + timedelta(minutes=1))
GIVEN_UP = FAILED.model_copy(update={"given_up": True, "next_attempt_time": NOW + timedelta(hours=24)})
QUIET = NOW + TIMING.quiet_period


def fresh_event(since: float) -> Observation:
    status = Status(pending=Pending(since=ago(since)))
    return seen(package(status, event=event()))


SITUATIONS = {
    "nothing asked": (seen(package()), Wait()),
    "event in its quiet period": (fresh_event(10), Wait(ago(10) + TIMING.quiet_period)),
    "event after its quiet period": (fresh_event(31), BeginAttempt()),
    "request at once": (seen(package(request=request())), BeginAttempt()),
    "request beside a fresh event": (seen(package(request=request(), event=event())), BeginAttempt()),
    "request, but no capacity for another export": (
        seen(package(request=request()), has_capacity=False),
        Wait(NOW + timedelta(seconds=CAPACITY_SECONDS), for_capacity=True),
    ),
    "unknown outcome, but no capacity for another export": (
        seen(package(with_attempt(attempt(export=NO_TASK)), event=event()), has_capacity=False),
        Wait(NOW + timedelta(seconds=CAPACITY_SECONDS), for_capacity=True),
    ),
    "suspended with a request": (seen(package(request=request(), suspend=True)), Wait()),
    "taken event": (seen(package(Status(taken=Taken(event_id="evt_1")), event=event())), Wait()),
    "being deleted": (Observation(package(deleted=True, request=request())), Wait()),
    "intent without a task, asked by us": (
        seen(package(with_attempt(attempt(export=NO_TASK)), event=event()), export=ASKED),
        Wait(),
    ),
    "intent without a task, asked by nobody alive": (
        seen(package(with_attempt(attempt(export=NO_TASK)), event=event())),
        RenewExport(),
    ),
    "intent without a task, the answer not written": (
        seen(package(with_attempt(attempt(export=NO_TASK)), event=event(), suspend=True), export=ANSWERED),
        RecordTask("t"),
    ),
    "suspended with an unknown outcome": (
        seen(package(with_attempt(attempt(export=NO_TASK)), event=event(), suspend=True)),
        Wait(),
    ),
    "export running, look due": (seen(package(with_attempt(attempt()), event=event())), PollExport()),
    "export running, look later": (
        seen(package(with_attempt(attempt()), event=event()), export=LATER),
        Wait(NOW + timedelta(seconds=5)),
    ),
    "archive ready": (seen(package(with_attempt(attempt()), event=event()), export=READY), MakeOrder()),
    "export over its deadline": (
        seen(package(with_attempt(attempt(export=ExportRecord(intent_time=ago(7201), task_id="t"))), event=event())),
        FailAttempt(FailureClass.TIMEOUT, "The export took longer than timing.exportDeadlineSeconds."),
    ),
    "order written": (seen(package(with_attempt(ORDERED), event=event()), order_present=True), CreateJob()),
    "order recorded but not all there": (seen(package(with_attempt(ORDERED), event=event())), PollExport()),
    "order written, destination held": (
        seen(
            package(with_attempt(ORDERED), event=event()),
            order_present=True,
            holder="pod other",
            held_since=ago(1),
            export=LATER,
        ),
        Wait(NOW + timedelta(seconds=5)),
    ),
    "order written, destination to be asked about again": (
        seen(package(with_attempt(ORDERED), event=event()), order_present=True, holder="pod other", held_since=ago(1)),
        CreateJob(),
    ),
    "suspended before the Job": (
        seen(package(with_attempt(ORDERED), event=event(), suspend=True), order_present=True),
        Wait(),
    ),
    "Job running": (
        seen(package(with_attempt(working()), event=event()), jobs=(job(),), pods=(pod(),)),
        Wait(job().created_at + timedelta(seconds=TIMING.running_deadline_seconds + 60)),
    ),
    "Job running while suspended": (
        seen(package(with_attempt(working()), event=event(), suspend=True), jobs=(job(),), pods=(pod(),)),
        Wait(job().created_at + timedelta(seconds=TIMING.running_deadline_seconds + 60)),
    ),
    "pod not started yet": (
        seen(
            package(with_attempt(working()), event=event()),
            jobs=(job(),),
            pods=(pod(phase="Pending", started=False),),
        ),
        Wait(job().created_at + timedelta(seconds=TIMING.pod_start_deadline_seconds)),
    ),
    "pod never started": (
        seen(
            package(with_attempt(working()), event=event()),
            jobs=(job(created_at=ago(601)),),
            pods=(pod(phase="Pending", started=False, waiting="no profile matches"),),
        ),
        FailAttempt(
            FailureClass.POD_NEVER_STARTED,
            "The pod did not start within timing.podStartDeadlineSeconds: no profile matches.",
        ),
    ),
    "pod done, and its Job does not say so yet": (
        seen(
            package(with_attempt(working()), event=event()),
            jobs=(job(created_at=ago(900)),),
            pods=(ended_pod(said=report()),),
        ),
        Wait(ago(900) + timedelta(seconds=TIMING.running_deadline_seconds + 60)),
    ),
    "pod gone before it was seen": (
        seen(package(with_attempt(working()), event=event()), jobs=(job(created_at=ago(601)),)),
        FailAttempt(
            FailureClass.POD_NEVER_STARTED,
            "The pod did not start within timing.podStartDeadlineSeconds: the cluster says nothing about it.",
            touched=True,
        ),
    ),
    "other credentials than those that were refused": (
        seen(
            package(
                with_attempt(
                    FAILED.model_copy(
                        update={"failure": FailureClass.AUTH_FAILED, "tries": 0, "credential_version": "old"}
                    )
                ),
                event=event(),
            ),
            credential_version="new",
        ),
        BeginAttempt(),
    ),
    "Job gone without a report": (
        seen(package(with_attempt(working()), event=event())),
        FailAttempt(FailureClass.REPORT_LOST, "Job job-1 is gone and its report was not read.", touched=True),
    ),
    "Job done": (
        seen(
            package(with_attempt(working()), event=event()),
            jobs=(job(finished_at=ago(1), succeeded=True),),
            pods=(ended_pod(said=report()),),
        ),
        StorePackage(report()),
    ),
    "Job done, but by another order": (
        seen(
            package(with_attempt(working()), event=event()),
            jobs=(job(finished_at=ago(1), succeeded=True),),
            pods=(ended_pod(said=report(order_digest="e" * 64)),),
        ),
        FailAttempt(FailureClass.REPORT_LOST, "Job job-1 is over, but no pod of it holds a report.", touched=True),
    ),
    "Job failed with a report": (
        seen(
            package(with_attempt(working()), event=event()),
            jobs=(job(finished_at=ago(1), reason="PodFailurePolicy"),),
            pods=(
                ended_pod(
                    code=11, said=report(package=None, failure=FailureClass.ARCHIVE_REFUSED, message="a.txt lies")
                ),
            ),
        ),
        FailAttempt(FailureClass.ARCHIVE_REFUSED, "a.txt lies", touched=False),
    ),
    "Job failed by memory": (
        seen(
            package(with_attempt(working()), event=event()),
            jobs=(job(finished_at=ago(1), reason="BackoffLimitExceeded"),),
            pods=(ended_pod(code=137, exit_reason="OOMKilled"),),
        ),
        FailAttempt(FailureClass.OUT_OF_MEMORY, "Pod job-1-x was killed at its memory limit.", touched=True),
    ),
    "Job that never ends after a forced delete": (
        seen(package(with_attempt(working()), event=event()), jobs=(job(created_at=ago(21661)),), pods=(pod(),)),
        FailAttempt(FailureClass.TIMEOUT, "The Job took longer than timing.runningDeadlineSeconds.", touched=True),
    ),
    "failed, waiting": (
        seen(package(with_attempt(FAILED), event=event())),
        Wait(NOW + timedelta(minutes=1)),
    ),
    "failed, time for the next try": (
        seen(package(with_attempt(FAILED.model_copy(update={"next_attempt_time": ago(1)})), event=event())),
        BeginAttempt(),
    ),
    "failed after the export, time for the next try": (
        seen(
            package(with_attempt(working(failure=FailureClass.OUT_OF_MEMORY, next_attempt_time=ago(1))), event=event())
        ),
        ReuseExport(),
    ),
    "failed after the export, but something newer has come": (
        seen(
            package(with_attempt(working(failure=FailureClass.OUT_OF_MEMORY, next_attempt_time=ago(1))), event=event(2))
        ),
        BeginAttempt(),
    ),
    "failed, a new event does not end the back-off": (
        seen(package(with_attempt(FAILED), event=event(2))),
        Wait(NOW + timedelta(minutes=1)),
    ),
    "failed, a request does": (
        seen(package(with_attempt(FAILED), event=event(), request=request())),
        BeginAttempt(),
    ),
    "given up, waiting": (
        seen(package(with_attempt(GIVEN_UP), event=event())),
        Wait(NOW + timedelta(hours=24)),
    ),
    "given up, a new event after its quiet period": (
        seen(package(with_attempt(GIVEN_UP).model_copy(update={"pending": Pending(since=ago(60))}), event=event(2))),
        BeginAttempt(),
    ),
    "Job of an attempt that is over, kept for its time": (
        seen(
            package(Status(attempts=1, taken=Taken(event_id="evt_1")), event=event()),
            jobs=(job(finished_at=ago(5), succeeded=True),),
        ),
        Wait(NOW + timedelta(seconds=10)),
    ),
    "Job of an attempt that is over, due": (
        seen(
            package(Status(attempts=1, taken=Taken(event_id="evt_1")), event=event()),
            jobs=(job(finished_at=ago(16), succeeded=True),),
        ),
        DeleteJob(job(finished_at=ago(16), succeeded=True)),
    ),
    "Job of an attempt that is over, but it still runs": (
        seen(package(with_attempt(GIVEN_UP), event=event()), jobs=(job(),)),
        DeleteJob(job()),
    ),
    "Job of an attempt that this status does not know yet": (
        seen(package(Status(attempts=1, taken=Taken(event_id="evt_1")), event=event()), jobs=(job(2),)),
        Wait(),
    ),
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_next_action(situation: str) -> None:
    observation, wanted = SITUATIONS[situation]

    action = plan(observation, NOW, TIMING)

    assert action == wanted


def down() -> Observation:
    """An attempt that failed a minute ago because Benchling was down."""
    failed = fail(
        with_attempt(attempt()), FailureClass.PROVIDER_DOWN, "no answer", ago(60), RetrySettings(), spread=0.5
    )
    waiting = failed.attempt
    assert waiting is not None
    later = waiting.model_copy(update={"next_attempt_time": NOW + timedelta(minutes=9)})
    return seen(package(failed.model_copy(update={"attempt": later}), event=event()))


def test_an_outage_that_is_over_brings_the_next_try_forward() -> None:
    held = down()
    back = replace(held, benchling_back=ago(31))
    later = replace(held, benchling_back=ago(120))
    just_now = replace(held, benchling_back=NOW)

    assert plan(held, NOW, TIMING) == Wait(NOW + timedelta(minutes=9))
    assert plan(back, NOW, TIMING) == BeginAttempt()
    assert plan(later, NOW, TIMING) == Wait(NOW + timedelta(minutes=9)), "it failed after Benchling had come back"
    spread = plan(just_now, NOW, TIMING)
    assert isinstance(spread, Wait)
    assert spread.until is not None
    assert NOW < spread.until < NOW + timedelta(seconds=30)


def test_first_visit_sets_every_condition() -> None:
    action = plan(Observation(package(event=event())), NOW, TIMING)

    assert isinstance(action, WriteStatus)
    assert {condition.type for condition in action.status.conditions} == set(ConditionType)
    assert all(condition.observed_generation == 3 for condition in action.status.conditions)
    assert action.status.pending == Pending(since=NOW)


def test_a_foreign_name_stalls_and_has_no_effect() -> None:
    given = package(name="mine", request=request())

    first = plan(Observation(given), NOW, TIMING)
    assert isinstance(first, WriteStatus)
    stalled = find_condition(first.status.conditions, ConditionType.STALLED)
    assert stalled is not None
    assert (stalled.status, stalled.reason) == ("True", "NameMismatch")

    again = plan(Observation(given.model_copy(update={"status": first.status})), NOW, TIMING)
    assert again == Wait()


def test_a_destination_held_for_long_is_said() -> None:
    given = seen(
        package(with_attempt(ORDERED), event=event()),
        order_present=True,
        holder="pod stuck",
        held_since=ago(601),
        export=LATER,
    )

    action = plan(given, NOW, TIMING)

    assert isinstance(action, WriteStatus)
    stalled = find_condition(action.status.conditions, ConditionType.STALLED)
    assert stalled is not None
    assert stalled.reason == "WaitingForPod"
    assert "stuck" in stalled.message


def test_trouble_with_an_attempt_that_is_over_is_not_said() -> None:
    blocked = ExportSeen(blocked=Blocked("ProviderDown", "no answer"))

    assert plan(seen(package(with_attempt(FAILED), event=event()), export=blocked), NOW, TIMING) == Wait(
        NOW + timedelta(minutes=1)
    )


def test_toggling_suspend_of_a_finished_package_asks_for_nothing() -> None:
    done = succeed(with_attempt(working()), report(), packed(), NOW, RetrySettings())
    for suspend in (True, False):
        action = plan(seen(package(done, event=event(), suspend=suspend)), NOW, TIMING)
        assert action == Wait()


def test_every_step_of_a_good_attempt_is_reached_by_planning_alone() -> None:
    """Following the plan from the first event leads to a package, whatever is forgotten in between."""
    given = seen(package(Status(pending=Pending(since=ago(31))), event=event()))
    assert plan(given, NOW, TIMING) == BeginAttempt()
    assert plan(seen(package(with_attempt(attempt()), event=event())), NOW, TIMING) == PollExport()
    assert plan(seen(package(with_attempt(ORDERED), event=event()), order_present=True), NOW, TIMING) == CreateJob()


RETRY = RetrySettings()


def test_a_given_up_attempt_is_looked_at_again_with_a_new_export() -> None:
    last = working(tries=RETRY.max_tries - 1)
    failed = transitions.fail(with_attempt(last), FailureClass.OUT_OF_MEMORY, "too much", NOW, RETRY, spread=0)
    assert failed.attempt is not None
    assert failed.attempt.given_up

    later = NOW + timedelta(days=2)

    assert plan(Observation(settled(package(failed, event=event()))), later, TIMING) == BeginAttempt()


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
