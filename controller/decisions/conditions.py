"""The conditions and the pending mark of a status, derived from the rest of the object. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from controller.decisions.transitions import pending_triggers
from entrypackage.conditions import ConditionType, Reason, set_condition
from entrypackage.failures import POLICIES, FailureClass, Provider
from entrypackage.resource import Pending

if TYPE_CHECKING:
    from datetime import datetime

    from entrypackage.conditions import Condition, ConditionStatus
    from entrypackage.resource import Attempt, EntryPackage, Package, Status


@dataclass(frozen=True, slots=True)
class Blocked:
    """The reason why something outside holds up an attempt."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class _Stated:
    status: ConditionStatus
    reason: str
    message: str = ""


def summarize(package: EntryPackage, now: datetime, *, blocked: Blocked | None = None) -> Status:
    """Return the status with pending, observedGeneration and all conditions derived anew."""
    status = package.status
    waits = bool(pending_triggers(package))
    pending = (status.pending or Pending(since=now)) if waits else None
    conditions: list[Condition] = list(status.conditions)
    for kind, said in _derive(package, blocked).items():
        conditions = set_condition(
            conditions,
            kind,
            said.status,
            said.reason,
            said.message,
            generation=package.metadata.generation,
            now=now,
        )
    return status.model_copy(
        update={"pending": pending, "conditions": conditions, "observed_generation": package.metadata.generation}
    )


def _derive(package: EntryPackage, blocked: Blocked | None) -> dict[ConditionType, _Stated]:
    return {
        ConditionType.READY: _ready(package, blocked),
        ConditionType.EXPORTED: _exported(package.status),
        ConditionType.PACKAGED: _packaged(package.status),
        ConditionType.NOTIFIED: _notified(package.status),
        ConditionType.STALLED: _stalled(package.status.attempt, blocked),
        ConditionType.SUSPENDED: _Stated("True", Reason.SUSPENDED, "spec.suspend is true: no new step is taken.")
        if package.spec.suspend
        else _Stated("False", Reason.RUNNING),
    }


def in_progress(attempt: Attempt | None) -> bool:
    """Whether an attempt is under way: there is one and it has not failed."""
    return attempt is not None and attempt.failure is None


def _explain(attempt: Attempt) -> str:
    if attempt.failure is None:
        return ""
    text = f"{attempt.failure_message} {POLICIES[attempt.failure].remedy}".strip()
    if attempt.next_attempt_time is not None:
        when = attempt.next_attempt_time.strftime("%Y-%m-%d %H:%M:%S UTC")
        text += f" Given up until {when}." if attempt.given_up else f" Next attempt at {when}."
    return text


def _ready(package: EntryPackage, blocked: Blocked | None) -> _Stated:
    status, attempt = package.status, package.status.attempt
    if blocked is not None:
        return _Stated("False", blocked.reason, blocked.message)
    if attempt is not None and attempt.failure is not None and attempt.failure is not FailureClass.INCOMPLETE:
        return _Stated("False", attempt.failure, _explain(attempt))
    if attempt is not None and attempt.failure is None:
        if attempt.job is not None:
            return _Stated("False", Reason.PACKING, f"Job {attempt.job.name} streams the archive to S3.")
        return _Stated("False", Reason.EXPORTING, f"Attempt {attempt.number} waits for Benchling's export.")
    if pending_triggers(package):
        if package.spec.suspend:
            return _Stated("False", Reason.SUSPENDED, "A trigger waits, but spec.suspend is true.")
        return _Stated("False", Reason.PENDING, "A trigger waits to be taken.")
    if status.package is None:
        return _Stated("Unknown", Reason.NOTHING_ASKED, "Neither spec.event nor spec.request is set.")
    if status.package.missing:
        return _Stated("True", Reason.INCOMPLETE, _missing(status.package, attempt))
    return _Stated("True", Reason.PACKAGED, f"{status.package.files} files, {status.package.size}.")


def _missing(package: Package, attempt: Attempt | None) -> str:
    count, known = package.missing, ", ".join(package.missing_ids)
    more = ", and others" if known and count > len(package.missing_ids) else ""
    which = f": {known}{more}" if known else ""
    text = f"Benchling left {count} attachment{'' if count == 1 else 's'} out of the export{which}."
    if attempt is None:
        return f"{text} It is not exported again by itself: look at them in Benchling, then ask for the package again."
    return f"{text} {POLICIES[FailureClass.INCOMPLETE].remedy}"


def _is_of_export(failure: FailureClass) -> bool:
    policy = POLICIES[failure]
    return policy.provider is Provider.BENCHLING and policy.exit_code is None


def _exported(status: Status) -> _Stated:
    attempt = status.attempt
    if attempt is not None and attempt.export is not None and attempt.export.completed_at is not None:
        return _Stated("True", Reason.EXPORTED)
    if attempt is not None and attempt.failure is not None:
        return _Stated("False", attempt.failure, attempt.failure_message)
    if attempt is not None:
        return _Stated("Unknown", Reason.EXPORTING)
    return _Stated("True", Reason.EXPORTED) if status.package is not None else _Stated("Unknown", Reason.NOT_YET)


def _packaged(status: Status) -> _Stated:
    attempt, package = status.attempt, status.package
    if attempt is not None and attempt.failure is None and attempt.job is not None:
        return _Stated("Unknown", Reason.WRITING, "A packager is writing.")
    if attempt is not None and attempt.touched:
        return _Stated("False", Reason.PARTLY_WRITTEN, "The last attempt failed after it had changed the package.")
    if package is None:
        if attempt is not None and attempt.failure is not None and not _is_of_export(attempt.failure):
            return _Stated("False", attempt.failure, attempt.failure_message)
        return _Stated("Unknown", Reason.NOT_YET)
    if package.missing:
        return _Stated("True", Reason.INCOMPLETE, _missing(package, attempt))
    return _Stated("True", Reason.PACKAGED, package.uri)


def _notified(status: Status) -> _Stated:
    attempt = status.attempt
    if attempt is not None and attempt.failure is FailureClass.NOTIFICATION_FAILED:
        return _Stated("False", attempt.failure, attempt.failure_message)
    if status.package is None:
        return _Stated("Unknown", Reason.NOT_YET)
    return _Stated("True", Reason.NOTIFIED, f"Message {status.package.message_id or 'of an earlier attempt'}.")


def _stalled(attempt: Attempt | None, blocked: Blocked | None) -> _Stated:
    if blocked is not None:
        return _Stated("True", blocked.reason, blocked.message)
    if attempt is not None and attempt.failure is not None:
        if attempt.given_up or attempt.failure is FailureClass.AUTH_FAILED:
            return _Stated("True", attempt.failure, _explain(attempt))
        if attempt.failure is not FailureClass.INCOMPLETE:
            return _Stated("False", Reason.RETRYING, _explain(attempt))
    return _Stated("False", Reason.PROGRESSING)
