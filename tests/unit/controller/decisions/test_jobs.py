"""The Job: what the design demands of it, and how its outcome is read."""

from __future__ import annotations

import pytest

from controller.decisions.jobs import build_job, read_job, read_outcome, read_pod
from controller.settings import PackagerSettings
from entrypackage.failures import EXIT_CODES, FailureClass
from tests.support.situations import (
    DIGEST,
    NOW,
    TIMING,
    UID,
    ago,
    attempt,
    ended_pod,
    event,
    job,
    package,
    report,
    with_attempt,
)

PACKAGER = PackagerSettings(image="packager:1", service_account="packager", env={"AWS_REGION": "eu-west-1"})
SOURCES = [{"secret": {"name": f"order-{number}"}} for number in range(2)]


def test_the_job_is_as_the_rules_demand() -> None:
    current = attempt(order_digest=DIGEST, order_parts=2)
    body = build_job(package(with_attempt(current), event=event()), current, "there", SOURCES, PACKAGER, TIMING)
    spec, pod = body["spec"], body["spec"]["template"]["spec"]
    container = pod["containers"][0]

    assert spec["backoffLimit"] == 0
    assert pod["restartPolicy"] == "Never"
    assert [rule["action"] for rule in spec["podFailurePolicy"]["rules"]] == ["Ignore", "FailJob"]
    assert spec["podFailurePolicy"]["rules"][1]["onExitCodes"]["values"] == sorted(EXIT_CODES)
    assert spec["ttlSecondsAfterFinished"] == TIMING.ttl_after_finished_seconds
    assert container["resources"]["requests"] == container["resources"]["limits"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert pod["volumes"][0]["projected"]["sources"] == SOURCES
    assert len(body["metadata"]["name"]) <= 63
    assert body["metadata"]["ownerReferences"] == [
        {
            "apiVersion": "benchling.quilt.bio/v1alpha1",
            "kind": "EntryPackage",
            "name": package().metadata.name,
            "uid": UID,
            "controller": True,
        }
    ]


FINISHED = job(finished_at=ago(1), reason="PodFailurePolicy")

OUTCOMES = {
    "report of success": ((ended_pod(said=report()),), None),
    "report of failure": (
        (ended_pod(code=20, said=report(package=None, failure=FailureClass.DESTINATION_DENIED)),),
        FailureClass.DESTINATION_DENIED,
    ),
    "success that the exit code denies": ((ended_pod(code=1, said=report()),), FailureClass.INTERNAL),
    "no pod": ((), FailureClass.REPORT_LOST),
    "no report": ((ended_pod(code=0),), FailureClass.INTERNAL),
    "memory": ((ended_pod(code=137, exit_reason="OOMKilled"),), FailureClass.OUT_OF_MEMORY),
    "eviction": ((ended_pod(code=143, disrupted=True),), FailureClass.DISRUPTED),
    "known exit code alone": ((ended_pod(code=14),), FailureClass.INTERNAL),
    "expired": ((ended_pod(code=10),), FailureClass.ARCHIVE_EXPIRED),
    "second pod after an eviction": (
        (ended_pod(code=143, disrupted=True), ended_pod(said=report(), name="job-1-y")),
        None,
    ),
}


@pytest.mark.parametrize("case", OUTCOMES)
def test_outcome(case: str) -> None:
    pods, failure = OUTCOMES[case]

    assert read_outcome(FINISHED, list(pods), DIGEST).failure == failure


def test_a_job_deadline_is_a_timeout() -> None:
    over = job(finished_at=ago(1), reason="DeadlineExceeded")

    assert read_outcome(over, [ended_pod(code=143)], DIGEST).failure is FailureClass.TIMEOUT


def test_what_its_deadline_stopped_is_no_disruption_though_the_packager_cannot_tell() -> None:
    stopped = ended_pod(
        code=30, said=report(package=None, failure=FailureClass.DISRUPTED, message="told to stop", touched=True)
    )

    late = read_outcome(job(finished_at=ago(1), reason="DeadlineExceeded"), [stopped], DIGEST)
    assert late.failure is FailureClass.TIMEOUT
    assert late.report is not None
    assert late.report.touched
    assert read_outcome(FINISHED, [stopped], DIGEST).failure is FailureClass.DISRUPTED


def test_views_tolerate_objects_without_status() -> None:
    metadata = {"name": "x", "uid": "u", "creationTimestamp": "2026-05-04T12:00:00Z"}

    assert not read_job({"metadata": metadata}).is_finished
    assert read_pod({"metadata": metadata}).phase == "Pending"


def test_the_report_of_an_evicted_pod_does_not_hide_its_successors_success() -> None:
    stopped = report(package=None, failure=FailureClass.DISRUPTED, message="stopped from outside")
    pods = [
        ended_pod(code=30, said=stopped, name="job-1-a", disrupted=True),
        ended_pod(said=report(), name="job-1-b"),
    ]

    outcome = read_outcome(job(finished_at=NOW, succeeded=True), pods, DIGEST)

    assert outcome.failure is None
    assert outcome.report == report()
