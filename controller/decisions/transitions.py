"""The changes of the status at each step of an attempt. Pure: each function returns the next status."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from entrypackage.conditions import Reason
from entrypackage.failures import POLICIES, FailureClass
from entrypackage.human_size import human_size
from entrypackage.resource import (
    HISTORY_LENGTH,
    MISSING_IDS,
    Attempt,
    EntryFacts,
    ExportRecord,
    JobRef,
    Package,
    PastAttempt,
)
from entrypackage.trigger import Taken

if TYPE_CHECKING:
    from datetime import datetime

    from controller.settings import RetrySettings
    from entrypackage.order import PackedPackage, Report
    from entrypackage.resource import EntryPackage, Status
    from entrypackage.trigger import Trigger


@dataclass(frozen=True, slots=True)
class PendingTriggers:
    """The triggers that no attempt has taken."""

    event: Trigger | None
    request: Trigger | None

    def __bool__(self) -> bool:
        """Whether any trigger waits."""
        return self.event is not None or self.request is not None


def pending_triggers(package: EntryPackage) -> PendingTriggers:
    """Return the triggers whose ids differ from those that were taken."""
    taken = package.status.taken or Taken()
    event, request = package.spec.event, package.spec.request
    return PendingTriggers(
        event=event if event is not None and event.id != taken.event_id else None,
        request=request if request is not None and request.id != taken.request_id else None,
    )


def begin(package: EntryPackage, facts: EntryFacts | None, now: datetime) -> Status:
    """Return the status of a new attempt that takes both triggers and states the intent to export.

    The export is requested only after this status is written. `facts` is the entry as read just now, whose modifiedAt
    the export will cover; None if the entry could not be read.
    """
    status, waiting = package.status, pending_triggers(package)
    covers = facts.modified_at if facts is not None else None
    attempt = _next_attempt(package, waiting, now).model_copy(
        update={"export": ExportRecord(intent_time=now, covers_modified_at=covers)}
    )
    event, request = package.spec.event, package.spec.request
    return status.model_copy(
        update={
            "attempts": attempt.number,
            "attempt": attempt,
            "taken": Taken(event_id=event.id if event else None, request_id=request.id if request else None),
            "entry": facts or status.entry,
        }
    )


def begin_again_with_same_export(package: EntryPackage, now: datetime) -> Status:
    """Return the status of a new attempt with the archive of the last one; it keeps trigger and taken ids."""
    old = package.status.attempt
    if old is None or old.export is None:
        raise ValueError("there is no export to use again")
    attempt = _next_attempt(package, PendingTriggers(None, None), now).model_copy(update={"export": old.export})
    return package.status.model_copy(update={"attempts": attempt.number, "attempt": attempt})


def _next_attempt(package: EntryPackage, waiting: PendingTriggers, now: datetime) -> Attempt:
    old = package.status.attempt
    trigger = waiting.event or waiting.request or (old.trigger if old else None)
    if trigger is None:
        raise ValueError("an attempt needs a trigger")
    starts_over = waiting.request is not None or old is None or (waiting.event is not None and old.given_up)
    return Attempt(
        number=package.status.attempts + 1,
        trigger=trigger,
        request_id=waiting.request.id if waiting.request else (old.request_id if old else None),
        canvas_id=canvas_of(waiting.request) or (old.canvas_id if old else None),
        notify_always=waiting.request is not None or (old.notify_always if old else False),
        started_at=now,
        touched=old.touched if old else False,
        tries=0 if starts_over or old is None else old.tries,
        delays=0 if starts_over or old is None else old.delays,
        # A newer trigger may stand for other files, so progress is measured anew.
        progress=0 if waiting or old is None else old.progress,
        re_exports=0 if waiting or old is None else old.re_exports,
    )


def canvas_of(trigger: Trigger | None) -> str | None:
    """Return the canvas that a trigger's message names, if any."""
    if trigger is None or trigger.message is None:
        return None
    try:
        message = json.loads(trigger.message)
    except ValueError:
        return None
    canvas = message.get("canvasId") if isinstance(message, dict) else None
    return canvas if isinstance(canvas, str) and 0 < len(canvas) <= 128 else None


def renew_export(status: Status, facts: EntryFacts, now: datetime) -> Status:
    """Return the status with a new intent of the same attempt; the export of the last intent is unknown or gone."""
    export = ExportRecord(intent_time=now, covers_modified_at=facts.modified_at)
    return _with_attempt(status, export=export, order_digest=None, order_parts=None).model_copy(update={"entry": facts})


def record_task(status: Status, task_id: str) -> Status:
    """Return the status with the id of Benchling's task."""
    return _with_attempt(status, export=_export(status).model_copy(update={"task_id": task_id}))


def record_order(status: Status, digest: str, parts: int, entry: EntryFacts, checksum: str, now: datetime) -> Status:
    """Return the status with the order that is about to be written into Secrets."""
    export = _export(status)
    return _with_attempt(
        status,
        export=export.model_copy(update={"completed_at": export.completed_at or now}),
        order_digest=digest,
        order_parts=parts,
        entry_checksum=checksum,
    ).model_copy(update={"entry": entry})


def record_job(status: Status, job: JobRef) -> Status:
    """Return the status with the attempt's Job."""
    return _with_attempt(status, job=job)


def succeed(status: Status, report: Report, packed: PackedPackage, now: datetime, retry: RetrySettings) -> Status:
    """Return the status with the new package. If it is incomplete, the attempt is kept, to export again later."""
    attempt = _attempt(status)
    package = Package(
        uri=packed.uri,
        files=packed.files,
        bytes=packed.bytes,
        size=human_size(packed.bytes),
        manifest_checksum=packed.manifest_checksum,
        entry_checksum=attempt.entry_checksum,
        covers_modified_at=attempt.export.covers_modified_at if attempt.export else None,
        completed_at=now,
        message_id=packed.message_id,
        missing=report.missing_count,
        missing_ids=[identity for identity in report.missing if len(identity) <= 128][:MISSING_IDS],
    )
    reason = Reason.INCOMPLETE if report.missing_count else Reason.PACKAGED if packed.notified else Reason.UNCHANGED
    past = _past(attempt, "Succeeded", reason, now, packed.bytes)
    return status.model_copy(
        update={
            "package": package,
            "attempt": _repeat_when_incomplete(attempt, report, now, retry),
            "history": [past, *status.history][:HISTORY_LENGTH],
        }
    )


def _repeat_when_incomplete(attempt: Attempt, report: Report, now: datetime, retry: RetrySettings) -> Attempt | None:
    if not report.missing_count or attempt.re_exports >= len(retry.incomplete_seconds):
        return None
    pause = retry.incomplete_seconds[attempt.re_exports] * retry.scale
    return attempt.model_copy(
        update={
            "failure": FailureClass.INCOMPLETE,
            "failure_message": f"Benchling left out {report.missing_count} attachments.",
            "re_exports": attempt.re_exports + 1,
            "next_attempt_time": now + timedelta(seconds=pause),
            "notify_always": False,
            # A package was made, so earlier failures no longer count.
            "touched": False,
            "tries": 0,
            "delays": 0,
            "progress": 0,
        }
    )


def fail(
    status: Status,
    failure: FailureClass,
    message: str,
    now: datetime,
    retry: RetrySettings,
    *,
    spread: float,
    touched: bool = False,
    progress: int = 0,
    credentials: str = "",
) -> Status:
    """Return the status of a failed attempt with the time of its next try; `spread` in [0, 1) is the jitter.

    `progress` is how far the packager came (`Report.progress`). If the failure class forgives progress, an attempt
    that came further than any before it resets the count of failures. Files are finite, so this cannot go on for ever.
    `credentials` is the version in use. A refused version is recorded, because other credentials end the wait.
    """
    policy, attempt = POLICIES[failure], _attempt(status)
    progressed = policy.forgives_progress and progress > attempt.progress
    tries = 0 if progressed else attempt.tries + (1 if policy.counts else 0)
    delays = 0 if progressed else attempt.delays + 1
    given_up = not policy.retryable or (policy.counts and not progressed and tries >= retry.max_tries)
    if given_up:
        pause = retry.given_up_seconds * (1 + spread / 10)
    else:
        pause = policy.backoff.delay_seconds(delays, spread) * retry.scale
    failed = attempt.model_copy(
        update={
            "failure": failure,
            "failure_message": message[:1024],
            "touched": attempt.touched or touched,
            "credential_version": credentials or None if failure is FailureClass.AUTH_FAILED else None,
            "tries": tries,
            "delays": delays,
            "progress": max(attempt.progress, progress),
            "given_up": given_up,
            "next_attempt_time": now + timedelta(seconds=pause),
        }
    )
    past = _past(attempt, "Failed", failure, now, None)
    return status.model_copy(update={"attempt": failed, "history": [past, *status.history][:HISTORY_LENGTH]})


def may_reuse_export(attempt: Attempt) -> bool:
    """Whether the next attempt may pack the archive that this one had.

    An address that expired or cannot be reached is requested anew once. If that does not help either, the export
    itself may be at fault, and the entry is exported anew. A given-up attempt is tried again long after Benchling has
    deleted its archive.
    """
    export = attempt.export
    if (
        attempt.failure is None
        or attempt.given_up
        or export is None
        or export.task_id is None
        or export.completed_at is None
    ):
        return False
    reused_already = export.completed_at < attempt.started_at
    policy = POLICIES[attempt.failure]
    if policy.blames_address and reused_already and attempt.delays:
        return False  # delays is 0 after progress alone
    return policy.reuses_export


def _past(attempt: Attempt, outcome: str, reason: str, now: datetime, size: int | None) -> PastAttempt:
    export, job = attempt.export, attempt.job
    exported = export.completed_at - export.intent_time if export and export.completed_at else None
    return PastAttempt(
        number=attempt.number,
        outcome=outcome,
        reason=str(reason),
        trigger_type=attempt.trigger.type,
        started_at=attempt.started_at,
        completed_at=now,
        export_seconds=max(0.0, round(exported.total_seconds(), 3)) if exported else None,
        pack_seconds=max(0.0, round((now - job.created_at).total_seconds(), 3)) if job else None,
        bytes=size,
    )


def _attempt(status: Status) -> Attempt:
    if status.attempt is None:
        raise ValueError("there is no attempt")
    return status.attempt


def _export(status: Status) -> ExportRecord:
    export = _attempt(status).export
    if export is None:
        raise ValueError("there is no export")
    return export


def _with_attempt(status: Status, **changes: object) -> Status:
    return status.model_copy(update={"attempt": _attempt(status).model_copy(update=changes)})
