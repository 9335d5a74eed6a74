"""What the end of one attempt leaves for the next, and what it says of itself."""

from __future__ import annotations

from datetime import timedelta

from controller.decisions import transitions
from controller.decisions.conditions import summarize
from controller.decisions.jobs import read_outcome
from controller.decisions.plan import BeginAttempt, Observation, plan
from controller.settings import RetrySettings
from entrypackage.conditions import ConditionType, find_condition
from entrypackage.failures import FailureClass
from tests.support.situations import (
    DIGEST,
    NOW,
    TIMING,
    ended_pod,
    event,
    job,
    package,
    packed,
    report,
    settled,
    with_attempt,
    working,
)

RETRY = RetrySettings()


def test_an_incomplete_package_ends_what_failed_before_it() -> None:
    status = with_attempt(working(touched=True, tries=4, delays=6))

    done = transitions.succeed(status, report(missing_count=2), packed(), NOW, RETRY)

    assert done.attempt is not None
    assert (done.attempt.tries, done.attempt.delays) == (0, 0)
    packaged = find_condition(summarize(package(done, event=event()), NOW).conditions, ConditionType.PACKAGED)
    assert packaged is not None
    assert (packaged.status, packaged.reason) == ("True", "Incomplete")


def test_an_incomplete_package_says_when_it_is_not_repeated_any_more() -> None:
    messages = []
    for repeated in (0, len(RETRY.incomplete_seconds)):
        status = with_attempt(working(re_exports=repeated))
        done = transitions.succeed(status, report(missing_count=2), packed(), NOW, RETRY)
        ready = find_condition(summarize(package(done, event=event()), NOW).conditions, ConditionType.READY)
        assert ready is not None
        messages.append(ready.message)

    assert "exported again soon" in messages[0]
    assert "not exported again by itself" in messages[1]


def test_a_given_up_attempt_is_looked_at_again_with_a_new_export() -> None:
    last = working(tries=RETRY.max_tries - 1)
    failed = transitions.fail(with_attempt(last), FailureClass.OUT_OF_MEMORY, "too much", NOW, RETRY, spread=0)
    assert failed.attempt is not None
    assert failed.attempt.given_up

    later = NOW + timedelta(days=2)

    assert plan(Observation(settled(package(failed, event=event()))), later, TIMING) == BeginAttempt()


def test_the_report_of_an_evicted_pod_does_not_hide_its_successors_success() -> None:
    stopped = report(package=None, failure=FailureClass.DISRUPTED, message="stopped from outside")
    pods = [
        ended_pod(code=30, said=stopped, name="job-1-a", disrupted=True),
        ended_pod(said=report(), name="job-1-b"),
    ]

    outcome = read_outcome(job(finished_at=NOW, succeeded=True), pods, DIGEST)

    assert outcome.failure is None
    assert outcome.report == report()
