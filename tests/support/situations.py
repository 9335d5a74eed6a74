"""Builds EntryPackages and what is seen around them, for tests of the pure decisions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from controller.decisions.conditions import summarize
from controller.decisions.jobs import JobView, PodView
from controller.decisions.plan import Observation
from controller.settings import Timing
from entrypackage.identity import object_name
from entrypackage.order import PackedPackage, Report
from entrypackage.resource import (
    Attempt,
    EntryFacts,
    EntryPackage,
    ExportRecord,
    JobRef,
    Metadata,
    Spec,
    Status,
)
from entrypackage.trigger import Taken, Trigger

NOW = datetime(2026, 5, 4, 12, 0, 0, tzinfo=UTC)
ENTRY = "etr_Ab12Cd34"
UID = "11111111-2222-3333-4444-555555555555"
DIGEST = "d" * 64
TIMING = Timing()


def ago(seconds: float) -> datetime:
    """Return the time so many seconds before NOW."""
    return NOW - timedelta(seconds=seconds)


def event(number: int = 1, **changes: Any) -> Trigger:
    """Return an event; a higher number is a later one."""
    fields = {"id": f"evt_{number}", "type": "v2.entry.updated.fields", "occurred_at": ago(1000 - number)}
    return Trigger(**{**fields, **changes})


def request(number: int = 1, **changes: Any) -> Trigger:
    """Return a person's wish."""
    fields = {"id": f"req-{number}", "type": "manual", "occurred_at": ago(500 - number), "user_id": "ent_1"}
    return Trigger(**{**fields, **changes})


def package(
    status: Status | None = None, *, name: str | None = None, deleted: bool = False, **spec: Any
) -> EntryPackage:
    """Return an object of ENTRY with that spec and status."""
    return EntryPackage(
        metadata=Metadata(
            name=name or object_name(ENTRY),
            namespace="lab",
            uid=UID,
            resource_version="7",
            generation=3,
            deletion_timestamp=NOW if deleted else None,
        ),
        spec=Spec(entry_id=ENTRY, **spec),
        status=status or Status(),
    )


def settled(given: EntryPackage) -> EntryPackage:
    """Return the object with its conditions and marks as they would have been written a while ago."""
    return given.model_copy(update={"status": summarize(given, ago(3600))})


def attempt(number: int = 1, **changes: Any) -> Attempt:
    """Return an attempt whose export is being made."""
    fields: dict[str, Any] = {
        "number": number,
        "trigger": event(),
        "started_at": ago(60),
        "export": ExportRecord(intent_time=ago(60), covers_modified_at="2026-05-04T11:00:00Z", task_id="task-1"),
    }
    return Attempt(**{**fields, **changes})


def with_attempt(current: Attempt, *, taken_event: str | None = "evt_1", taken_request: str | None = None) -> Status:
    """Return a status with that attempt."""
    return Status(
        attempts=current.number,
        attempt=current,
        taken=Taken(event_id=taken_event, request_id=taken_request),
        entry=EntryFacts(display_id="EXP1", modified_at="2026-05-04T11:00:00Z"),
    )


def working(number: int = 1, **changes: Any) -> Attempt:
    """Return an attempt whose Job is recorded."""
    done = ExportRecord(intent_time=ago(60), task_id="task-1", completed_at=ago(30))
    job = JobRef(name=f"job-{number}", uid=f"job-uid-{number}", created_at=ago(30))
    return attempt(number, export=done, order_digest=DIGEST, order_parts=1, job=job, **changes)


def job(number: int = 1, **changes: Any) -> JobView:
    """Return the Job of that attempt, still running."""
    fields: dict[str, Any] = {
        "name": f"job-{number}",
        "uid": f"job-uid-{number}",
        "owner_uid": UID,
        "attempt": number,
        "destination": "there",
        "created_at": ago(30),
        "finished_at": None,
        "succeeded": False,
        "reason": "",
        "deleting": False,
    }
    return JobView(**{**fields, **changes})


def pod(number: int = 1, **changes: Any) -> PodView:
    """Return the pod of that attempt, running."""
    fields: dict[str, Any] = {
        "name": f"job-{number}-x",
        "uid": f"pod-uid-{number}",
        "job_name": f"job-{number}",
        "owner_uid": UID,
        "attempt": number,
        "phase": "Running",
        "started": True,
        "exit_code": None,
        "exit_reason": "",
        "message": "",
        "disrupted": False,
        "waiting": "",
    }
    return PodView(**{**fields, **changes})


def packed() -> PackedPackage:
    """Return what a good report says of its package."""
    return PackedPackage(
        uri="s3://bucket/benchling/EXP1/", files=7, bytes=4096, manifest_checksum="crc", message_id="m-1", notified=True
    )


def report(**changes: Any) -> Report:
    """Return a successful report."""
    return Report(**{"order_digest": DIGEST, "package": packed(), **changes})


def ended_pod(number: int = 1, *, code: int = 0, said: Report | None = None, **changes: Any) -> PodView:
    """Return a pod that ended with that exit code and report."""
    message = said.to_bytes().decode() if said is not None else ""
    phase = "Succeeded" if code == 0 else "Failed"
    return pod(number, phase=phase, exit_code=code, message=message, **changes)


def seen(given: EntryPackage, **around: Any) -> Observation:
    """Return the observation of an object whose conditions are up to date."""
    return Observation(package=settled(given), **around)
