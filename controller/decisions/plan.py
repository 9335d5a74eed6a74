"""The plan for one EntryPackage: a pure function of an observation.

`plan` returns the one next action, or how long to wait. The executor carries it out and observes again. So every
decision rests on what is written, and after a crash at any point another process decides the same.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from controller.decisions.conditions import Blocked, in_progress, summarize
from controller.decisions.jobs import read_outcome
from controller.decisions.transitions import may_reuse_export, pending_triggers
from entrypackage.conditions import Reason
from entrypackage.failures import POLICIES, FailureClass, Provider
from entrypackage.identity import object_name

if TYPE_CHECKING:
    from controller.decisions.jobs import JobOutcome, JobView, PodView
    from controller.settings import Timing
    from entrypackage.order import Report
    from entrypackage.resource import Attempt, EntryPackage, Status


@dataclass(frozen=True, slots=True)
class ExportSeen:
    """This process's knowledge of the export in progress that is not in the status: Benchling's last answer."""

    asked: bool = False
    """Whether this process requested the export of the recorded intent, so that the outcome is known or will be."""
    task: str | None = None
    """The task that Benchling answered with, until its id is written."""
    ready: bool = False
    """Whether the archive can be fetched."""
    next_poll: datetime | None = None
    """When the export is polled next; None means now."""
    blocked: Blocked | None = None
    """Why polling does not work at present."""


@dataclass(frozen=True, slots=True)
class Observation:
    """Everything that a decision depends on."""

    package: EntryPackage
    jobs: tuple[JobView, ...] = ()
    """All Jobs of the object, read before the object itself."""
    pods: tuple[PodView, ...] = ()
    """The pods of the attempt in progress, once it has a Job."""
    order_present: bool = False
    """Whether all Secrets of the recorded order exist."""
    export: ExportSeen = field(default_factory=ExportSeen)
    holder: str = ""
    """The pod or Job of another attempt that holds the destination, such as ``pod x``; empty if none does."""
    held_since: datetime | None = None
    has_capacity: bool = True
    """Whether another export may be started now."""
    credential_version: str = ""
    """The version of the credentials in use; empty if it is unknown."""
    benchling_back: datetime | None = None
    """When Benchling last came back or the credentials last changed."""


@dataclass(frozen=True, slots=True)
class WriteStatus:
    """Bring the conditions and the pending mark up to date."""

    status: Status


@dataclass(frozen=True, slots=True)
class BeginAttempt:
    """Read the entry, write the intent, request the export."""


@dataclass(frozen=True, slots=True)
class ReuseExport:
    """Begin the next attempt with the archive of the last one."""


@dataclass(frozen=True, slots=True)
class RenewExport:
    """Request the export again, because the outcome of the last request is unknown."""


@dataclass(frozen=True, slots=True)
class RecordTask:
    """Write the id of the task, which could not be written when Benchling gave it."""

    task: str


@dataclass(frozen=True, slots=True)
class PollExport:
    """Poll the export."""


@dataclass(frozen=True, slots=True)
class MakeOrder:
    """Write the order into Secrets."""


@dataclass(frozen=True, slots=True)
class CreateJob:
    """Create or adopt the attempt's Job, if no other attempt holds the destination."""


@dataclass(frozen=True, slots=True)
class StorePackage:
    """Copy a successful report into the status."""

    report: Report


@dataclass(frozen=True, slots=True)
class FailAttempt:
    """End the attempt as failed."""

    failure: FailureClass
    message: str
    touched: bool = False
    progress: int = 0
    """How far the packager came, in steps (`Report.progress`)."""


@dataclass(frozen=True, slots=True)
class DeleteJob:
    """Delete a Job whose attempt is over, with the Secrets of its order."""

    job: JobView


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing until that time; None means until something changes."""

    until: datetime | None = None
    for_capacity: bool = False
    """Whether only Benchling's limit of exports holds the attempt up."""


BACK_SECONDS: Final = 30.0
"""Over how long the attempts that one outage held up are spread after it."""
CAPACITY_SECONDS: Final = 2.0
"""Between two checks whether another export may be started."""

Step = (
    WriteStatus
    | BeginAttempt
    | ReuseExport
    | RenewExport
    | RecordTask
    | PollExport
    | MakeOrder
    | CreateJob
    | StorePackage
    | FailAttempt
    | DeleteJob
)
"""An action that is carried out."""

Action = Step | Wait


def plan(observation: Observation, now: datetime, timing: Timing) -> Action:
    """Return the one next action."""
    package = observation.package
    if package.metadata.deletion_timestamp is not None:
        return Wait()
    wanted = object_name(package.spec.entry_id)
    if package.metadata.name != wanted:
        blocked = Blocked(
            FailureClass.NAME_MISMATCH,
            f"The name that belongs to spec.entryId is {wanted}. Delete this object and create that one.",
        )
        return _update_conditions(observation, now, blocked) or Wait()
    return _update_conditions(observation, now, _blocked(observation, now, timing)) or _act(observation, now, timing)


def _update_conditions(observation: Observation, now: datetime, blocked: Blocked | None) -> WriteStatus | None:
    status = summarize(observation.package, now, blocked=blocked)
    return WriteStatus(status) if status != observation.package.status else None


def _blocked(observation: Observation, now: datetime, timing: Timing) -> Blocked | None:
    if not in_progress(observation.package.status.attempt):
        return None
    if observation.export.blocked is not None:
        return observation.export.blocked
    holder, since = observation.holder, observation.held_since
    if not holder or since is None or now - since < timedelta(seconds=timing.destination_wait_seconds):
        return None
    return Blocked(
        Reason.WAITING_FOR_POD,
        f"The {holder} of another attempt still holds this destination. "
        f"If it hangs for good, because its node is gone, say: kubectl delete --force {holder}",
    )


def _act(observation: Observation, now: datetime, timing: Timing) -> Action:
    attempt = observation.package.status.attempt
    cleaning = _clean(observation, now, timing)
    if isinstance(cleaning, DeleteJob):
        return cleaning
    if in_progress(attempt) and attempt is not None:
        action = _continue(observation, attempt, now, timing)
    else:
        action = _start(observation, now, timing)
    if isinstance(action, Wait):
        return replace(action, until=_earliest(action.until, cleaning))
    return action


def _clean(observation: Observation, now: datetime, timing: Timing) -> DeleteJob | datetime | None:
    """Return a Job to delete, or when the next one may be deleted."""
    status, later = observation.package.status, None
    active = status.attempt if in_progress(status.attempt) else None
    for job in observation.jobs:
        if job.deleting or job.attempt > status.attempts or (active and job.attempt == active.number):
            continue
        if job.finished_at is None:
            return DeleteJob(job)
        kept = timing.retain_succeeded_seconds if job.succeeded else timing.retain_failed_seconds
        due = job.finished_at + timedelta(seconds=kept)
        if due <= now:
            return DeleteJob(job)
        later = _earliest(later, due)
    return later


def _earliest(*times: datetime | None) -> datetime | None:
    return min((time for time in times if time is not None), default=None)


def _start(observation: Observation, now: datetime, timing: Timing) -> Action:
    package, attempt = observation.package, observation.package.status.attempt
    if package.spec.suspend:
        return Wait()
    waiting = pending_triggers(package)
    if waiting.request is not None:
        return _when_there_is_capacity(BeginAttempt(), observation, now)
    if attempt is not None and attempt.next_attempt_time is not None:
        restarts = waiting.event is not None and (attempt.given_up or attempt.failure is FailureClass.INCOMPLETE)
        if not restarts:
            due = _next_try(observation, attempt.next_attempt_time)
            if due > now:
                return Wait(due)
            if may_reuse_export(attempt) and not waiting:
                return ReuseExport()
            return _when_there_is_capacity(BeginAttempt(), observation, now)
    if waiting.event is None:
        return Wait()
    since = package.status.pending.since if package.status.pending else now
    due = since + timing.quiet_period
    return _when_there_is_capacity(BeginAttempt(), observation, now) if due <= now else Wait(due)


def _when_there_is_capacity(action: BeginAttempt | RenewExport, observation: Observation, now: datetime) -> Action:
    """Hold a request for an export back here, where waiting costs nothing, rather than in the client's queue."""
    return action if observation.has_capacity else Wait(now + timedelta(seconds=CAPACITY_SECONDS), for_capacity=True)


def _next_try(observation: Observation, planned: datetime) -> datetime:
    """Return when a failed attempt is tried again: as planned, or sooner if the cause of its failure is gone.

    Attempts that one outage held up are spread over `BACK_SECONDS`.
    """
    status, back = observation.package.status, observation.benchling_back
    if status.attempt is None or status.attempt.failure is None:
        return planned
    known, used = observation.credential_version, status.attempt.credential_version
    if known and used and known != used:
        return min(planned, status.attempt.started_at)
    if back is None or not status.history:
        return planned
    policy = POLICIES[status.attempt.failure]
    if policy.provider is not Provider.BENCHLING or not policy.is_outage or status.history[0].completed_at >= back:
        return planned
    place = int(hashlib.sha256(observation.package.metadata.uid.encode()).hexdigest()[:8], 16) / 0xFFFFFFFF
    return min(planned, back + timedelta(seconds=BACK_SECONDS * place))


def _continue(observation: Observation, attempt: Attempt, now: datetime, timing: Timing) -> Action:
    if attempt.job is not None:
        return _watch_job(observation, attempt, now, timing)
    if observation.export.task is not None:
        return RecordTask(observation.export.task)
    if observation.package.spec.suspend:
        return Wait()
    if attempt.export is None or attempt.export.task_id is None:
        return Wait() if observation.export.asked else _when_there_is_capacity(RenewExport(), observation, now)
    next_poll = observation.export.next_poll
    if attempt.order_digest is not None and observation.order_present:
        return CreateJob() if not observation.holder or next_poll is None else Wait(next_poll)
    if observation.export.ready:
        return MakeOrder() if observation.export.blocked is None or next_poll is None else Wait(next_poll)
    if attempt.export.completed_at is None:
        deadline = attempt.export.intent_time + timedelta(seconds=timing.export_deadline_seconds)
        if deadline <= now:
            return FailAttempt(FailureClass.TIMEOUT, "The export took longer than timing.exportDeadlineSeconds.")
        return PollExport() if next_poll is None else Wait(min(next_poll, deadline))
    return PollExport() if next_poll is None else Wait(next_poll)


def _watch_job(observation: Observation, attempt: Attempt, now: datetime, timing: Timing) -> Action:
    recorded = attempt.job
    job = next((job for job in observation.jobs if recorded is not None and job.uid == recorded.uid), None)
    if recorded is None or job is None:
        name = recorded.name if recorded else ""
        return FailAttempt(FailureClass.REPORT_LOST, f"Job {name} is gone and its report was not read.", touched=True)
    if job.is_finished:
        return _conclude(read_outcome(job, list(observation.pods), attempt.order_digest or ""))
    # A finished pod counts as started, because its Job is marked as finished only a moment later.
    pods = [pod for pod in observation.pods if pod.job_name == job.name]
    if not any(pod.started or pod.is_finished for pod in pods):
        start_by = job.created_at + timedelta(seconds=timing.pod_start_deadline_seconds)
        if start_by > now:
            return Wait(start_by)
        # A pod that is gone may have run and written before it was deleted by force.
        return FailAttempt(FailureClass.POD_NEVER_STARTED, _why_not_started(pods), touched=not pods)
    end_by = job.created_at + timedelta(seconds=timing.running_deadline_seconds + 60)
    if end_by <= now:
        # A Job whose pod was deleted by force never ends by itself under a podFailurePolicy.
        return FailAttempt(
            FailureClass.TIMEOUT, "The Job took longer than timing.runningDeadlineSeconds.", touched=True
        )
    return Wait(end_by)


def _why_not_started(pods: list[PodView]) -> str:
    why = next((pod.waiting for pod in pods if pod.waiting), "the cluster says nothing about it")
    return f"The pod did not start within timing.podStartDeadlineSeconds: {why}."


def _conclude(outcome: JobOutcome) -> StorePackage | FailAttempt:
    if outcome.failure is None and outcome.report is not None:
        return StorePackage(outcome.report)
    failure = outcome.failure or FailureClass.INTERNAL
    if outcome.report is None:
        return FailAttempt(failure, outcome.message, touched=True)
    return FailAttempt(failure, outcome.message, touched=outcome.report.touched, progress=outcome.report.progress)
