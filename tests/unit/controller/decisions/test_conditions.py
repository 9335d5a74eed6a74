"""Conditions: what the status says of itself."""

from __future__ import annotations

from controller.decisions import transitions
from controller.decisions.conditions import summarize
from controller.settings import RetrySettings
from entrypackage.conditions import ConditionType, find_condition
from entrypackage.failures import FailureClass
from tests.support.situations import NOW, event, package, packed, report, with_attempt, working

RETRY = RetrySettings()


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


def test_giving_up_says_what_a_person_can_do() -> None:
    last = with_attempt(working(tries=RETRY.max_tries - 1, delays=4, progress=1))
    failed = transitions.fail(
        last, FailureClass.ARCHIVE_EXPIRED, "the address is over", NOW, RETRY, spread=0, progress=1
    )

    conditions = summarize(package(failed, event=event()), NOW).conditions
    for kind, status in ((ConditionType.READY, "False"), (ConditionType.STALLED, "True")):
        found = find_condition(conditions, kind)
        assert found is not None
        assert (found.status, found.reason) == (status, "ArchiveExpired")
        assert "If one file alone takes longer than the address lives" in found.message
        assert "Given up until" in found.message
