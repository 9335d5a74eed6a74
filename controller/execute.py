"""Carries out the planned action: intent is written before effect, and what exists is adopted."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, assert_never

from controller import metrics, plan, transitions
from controller.benchling.errors import BenchlingFailure, ExportOutcomeUnknown, NotFound, Rejected
from controller.benchling.links import entry_links
from controller.benchling.models import TaskFailed, TaskGone, TaskId, TaskRunning, TaskSucceeded
from controller.benchling.polling import next_poll_delay, polls_per_second, stretch_for
from controller.benchling.priority import Priority as CallPriority
from controller.jobs import build_job, build_secrets, controlling_owner, read_job, read_pod
from controller.observe import order_selector, parse_package
from controller.orders import build_order, entry_checksum, entry_facts, is_usable_display_id
from controller.summary import Blocked, summarize
from entrypackage import identity
from entrypackage.conditions import Reason
from entrypackage.failures import POLICIES, Failure, FailureClass
from entrypackage.kubernetes import (
    ENTRY_PACKAGES,
    JOBS,
    PODS,
    SECRETS,
    AlreadyExistsError,
    ConflictError,
    NotFoundError,
    UnreachableError,
)
from entrypackage.model import render_time
from entrypackage.order import encode_order
from entrypackage.resource import API_VERSION, KIND, JobRef

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from controller.benchling.client import BenchlingClient
    from controller.benchling.models import Entry
    from controller.events import EventRecorder
    from controller.notebook import Note, Notebook
    from controller.settings import ControllerSettings
    from entrypackage.kubernetes import Kind, Kubernetes, Object
    from entrypackage.order import Report
    from entrypackage.resource import Attempt, EntryPackage, Status

log = logging.getLogger(__name__)

HOLDER_PAUSE_SECONDS = 2.0


class StaleError(Exception):
    """A result belongs to an attempt that is no longer the current one; it is dropped."""


@dataclass(slots=True)
class Executor:
    """Does what was planned, through the guarded client: nothing is written without the Lease."""

    kubernetes: Kubernetes
    benchling: BenchlingClient
    settings: ControllerSettings
    notebook: Notebook
    events: EventRecorder
    random: Random
    monotonic: Callable[[], float]
    _last_stretch: float = 1.0
    _stretched_at: float = float("-inf")

    async def execute(self, action: plan.Action, seen: plan.Observation) -> None:
        """Carry out one action; raises `ConflictError` if it was overtaken and `KubernetesError` to try again."""
        package = seen.package
        metrics.ACTIONS.labels(type(action).__name__).inc()
        match action:
            case plan.WriteStatus():
                await self._put(package, action.status)
            case plan.BeginAttempt():
                await self._begin(package)
            case plan.ReuseExport():
                await self._decide(package, transitions.begin_again_with_same_export(package, self._now()))
            case plan.RenewExport():
                await self._renew(package)
            case plan.PollExport():
                await self.poll(package)
            case plan.MakeOrder():
                await self._make_order(package)
            case plan.CreateJob():
                await self._create_job(package)
            case plan.StorePackage():
                await self._store(package, action.report)
            case plan.FailAttempt():
                await self._fail(package, action.failure, action.message, touched=action.touched)
            case plan.DeleteJob():
                await self._delete_order(package, action.job.attempt)
                await self.kubernetes.delete(JOBS, self._namespace, action.job.name, uid=action.job.uid)
            case plan.Wait():
                pass
            case _:
                assert_never(action)

    @property
    def _namespace(self) -> str:
        return self.settings.namespace

    def _now(self) -> datetime:
        return datetime.now(UTC)

    def _note(self, package: EntryPackage) -> Note:
        attempt = package.status.attempt
        return self.notebook.note(
            package.metadata.name, package.metadata.uid, attempt.number if attempt is not None else 0
        )

    # Status

    async def _put(self, package: EntryPackage, status: Status) -> EntryPackage:
        """Write a complete status over the version that `package` was read at; raises `ConflictError`."""
        metadata = package.metadata
        body = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {
                "name": metadata.name,
                "namespace": metadata.namespace,
                "uid": metadata.uid,
                "resourceVersion": metadata.resource_version,
            },
            "spec": package.spec.model_dump(mode="json", by_alias=True, exclude_none=True),
            "status": status.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True),
        }
        answer = await self.kubernetes.replace_status(ENTRY_PACKAGES, self._namespace, metadata.name, body)
        written = parse_package(answer)
        self.notebook.wrote(metadata.name, written.metadata.resource_version)
        return written

    async def _decide(self, package: EntryPackage, status: Status) -> EntryPackage:
        """Write what starts something, with the conditions that follow from it; a conflict gives it up."""
        return await self._put(package, summarize(package.model_copy(update={"status": status}), self._now()))

    async def _record(self, package: EntryPackage, change: Callable[[Status], Status]) -> EntryPackage:
        """Write a result: kept and written again after re-reading, while the attempt and its intent are the same."""
        current, pause = package, 0.1
        while True:
            try:
                return await self._decide(current, change(current.status))
            except ConflictError:
                current = await self._same(package)
            except UnreachableError:
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)
                with contextlib.suppress(UnreachableError):
                    current = await self._same(package)

    async def _same(self, package: EntryPackage) -> EntryPackage:
        """Re-read; raises `StaleError` unless uid, attempt, intent and outcome are what they were."""
        try:
            body = await self.kubernetes.get(ENTRY_PACKAGES, self._namespace, package.metadata.name)
        except NotFoundError:
            raise StaleError(f"{package.metadata.name} is gone") from None
        current = parse_package(body)
        if _identity(current) != _identity(package):
            raise StaleError(f"attempt {package.status.attempts} of {package.metadata.name} is over")
        return current

    # Export

    async def _begin(self, package: EntryPackage) -> None:
        now = self._now()
        try:
            entry = await self.benchling.get_entry(package.spec.entry_id, priority=self._urgency(package))
        except BenchlingFailure as failure:
            await self._fail_unread(package, failure, now)
            return
        if not is_usable_display_id(entry.display_id):
            text = f"Benchling gives the entry no display id that can name a package: {entry.display_id!r}."
            await self._fail_unread(package, Rejected(text, status=200), now)
            return
        facts = entry_facts(entry)
        old = package.status.entry
        package = await self._decide(package, transitions.begin(package, facts, now))
        if old is not None and old.display_id != facts.display_id:
            text = f"The entry was {old.display_id} and is {facts.display_id} now: a new package is made, the old kept."
            await self.events.post(package, Reason.DISPLAY_ID_CHANGED, text, warning=True)
        await self.events.post(package, Reason.EXPORTING, f"Attempt {package.status.attempts}: {_why(package)}.")
        await self._ask(package)

    async def _fail_unread(self, package: EntryPackage, failure: BenchlingFailure, now: datetime) -> None:
        """The entry could not be read: the attempt takes the triggers and fails in one write."""
        begun = transitions.begin(package, None, now)
        status = self._failed(begun, failure.failure, failure.message, touched=False)
        await self._announce_failure(await self._decide(package, status))

    async def _renew(self, package: EntryPackage) -> None:
        """The intent of an earlier process has an unknown outcome: ask again and count the orphan."""
        try:
            entry = await self.benchling.get_entry(package.spec.entry_id, priority=self._urgency(package))
        except BenchlingFailure as failure:
            await self._fail(package, failure.failure, failure.message)
            return
        status = transitions.renew_export(package.status, entry_facts(entry), self._now())
        package = await self._decide(package, status)
        metrics.ORPHANED_EXPORTS.inc()
        text = "Whether the last export was started is unknown, so it is asked for again."
        await self.events.post(package, Reason.EXPORT_ORPHANED, text)
        await self._ask(package)

    async def _ask(self, package: EntryPackage) -> None:
        """Ask for the export whose intent has just been written."""
        note, attempt = self._note(package), _current(package)
        note.asked_for = attempt.export.intent_time if attempt.export is not None else None
        try:
            task = await self.benchling.start_export(package.spec.entry_id, priority=self._urgency(package))
        except ExportOutcomeUnknown as failure:
            metrics.ORPHANED_EXPORTS.inc()
            await self._fail(package, FailureClass.EXPORT_LOST, failure.message)
            return
        except BenchlingFailure as failure:
            await self._fail(package, failure.failure, failure.message)
            return
        self._look_later(package)
        await self._record(package, lambda status: transitions.record_task(status, str(task)))

    async def poll(self, package: EntryPackage) -> bool:
        """Look at the export; return whether anything but the time of the next look has changed."""
        note, attempt = self._note(package), _current(package)
        if attempt.export is None or attempt.export.task_id is None:
            raise ValueError("there is no export to look at")
        try:
            answer = await self.benchling.get_task(TaskId(attempt.export.task_id), priority=CallPriority.POLL)
        except BenchlingFailure as failure:
            return self._note_trouble(note, failure)
        recovered = note.trouble is not None
        note.trouble = None
        match answer:
            case TaskRunning():
                self._look_later(package)
                return recovered
            case TaskSucceeded():
                note.url = answer.url
            case TaskFailed():
                await self._fail(package, FailureClass.EXPORT_FAILED, f"Benchling says: {answer.message}")
            case TaskGone():
                text = "Benchling no longer knows the export; it keeps one for 30 minutes."
                await self._fail(package, FailureClass.EXPORT_LOST, text)
            case _:
                assert_never(answer)
        return True

    def _look_later(self, package: EntryPackage) -> None:
        note, export = self._note(package), _current(package).export
        age = (self._now() - export.intent_time).total_seconds() if export is not None else 0.0
        note.next_look = self.monotonic() + next_poll_delay(max(0.0, age), self.random.random(), self._stretch())

    def _stretch(self) -> float:
        """Return the factor that keeps all looks within their share of the budget; reckoned at most once a second."""
        now = self.monotonic()
        if now - self._stretched_at >= 1.0:
            budget = self.benchling.numbers.budget
            ages = self.notebook.export_ages(self._now())
            self._last_stretch = stretch_for(
                ages, polls_per_second(budget.limit, self.benchling.settings.period_seconds)
            )
            self._stretched_at = now
        return self._last_stretch

    def _note_trouble(self, note: Note, failure: BenchlingFailure) -> bool:
        """The export goes on without us: keep the attempt and look again when Benchling may answer."""
        pause = max(failure.retry_after_seconds or 0.0, 5.0) * self.random.uniform(1.0, 1.5)
        note.next_look = self.monotonic() + pause
        trouble = Blocked(failure.failure, f"{failure.message} {failure.policy.remedy}")
        changed = note.trouble is None or note.trouble.reason != trouble.reason
        if changed:
            note.trouble = trouble
        return changed

    def _urgency(self, package: EntryPackage) -> CallPriority:
        request = transitions.pending_triggers(package).request
        attempt = package.status.attempt
        asked = request is not None or (attempt is not None and attempt.notify_always)
        return CallPriority.CLICK if asked else CallPriority.EXPORT

    # Order and Job

    async def _make_order(self, package: EntryPackage) -> None:
        note, attempt = self._note(package), _current(package)
        if note.url is None:
            raise ValueError("there is no archive to order")
        try:
            entry = await self.benchling.get_entry(package.spec.entry_id, priority=CallPriority.READ)
            links = await self.benchling.link_names(entry_links(entry), cap=self.settings.name_lookups)
            sizes = await self._attachment_sizes(entry) if attempt.re_exports else {}
        except BenchlingFailure as failure:
            if failure.policy.is_outage:
                self._note_trouble(note, failure)
                return
            await self._fail(package, failure.failure, failure.message)
            return
        note.trouble = None
        order = build_order(package, entry, links, sizes, note.url, self.settings)
        encoded = encode_order(order)
        package = await self._decide(
            package,
            transitions.record_order(
                package.status,
                encoded.digest,
                len(encoded.parts),
                entry_facts(entry),
                entry_checksum(entry),
                self._now(),
            ),
        )
        await self._delete_order(package, attempt.number, keep=encoded.digest)
        for secret in build_secrets(package, attempt, encoded):
            await self._create_or_adopt(SECRETS, package, secret)

    async def _attachment_sizes(self, entry: Entry) -> dict[str, int]:
        """Return the sizes of the entry's attachments, by which those that an export lacks are told; one call each."""
        sizes = {}
        for file_id in entry.external_file_ids():
            with contextlib.suppress(NotFound):
                file = await self.benchling.external_file(entry.id, file_id, priority=CallPriority.READ)
                if file.size is not None:
                    sizes[file_id] = file.size
        return sizes

    async def _delete_order(self, package: EntryPackage, attempt: int, keep: str | None = None) -> None:
        selector = order_selector(package, attempt)
        found = [
            secret["metadata"]
            async for secret in self.kubernetes.pages(SECRETS, self._namespace, labels=selector, metadata_only=True)
        ]
        for metadata in found:
            if keep is None or metadata["labels"].get(identity.LABEL_ORDER) != keep[:16]:
                await self.kubernetes.delete(SECRETS, self._namespace, metadata["name"], uid=metadata["uid"])

    async def _create_or_adopt(self, kind: Kind, package: EntryPackage, body: Object) -> Object:
        """Create an object of ours; one that is there already must be ours."""
        try:
            return await self.kubernetes.create(kind, self._namespace, body)
        except AlreadyExistsError:
            known = await self.kubernetes.get(kind, self._namespace, body["metadata"]["name"])
            if controlling_owner(known) != package.metadata.uid:
                name = body["metadata"]["name"]
                raise Failure(FailureClass.INTERNAL, f"The {kind.plural} name {name} belongs to another.") from None
            return known

    async def _create_job(self, package: EntryPackage) -> None:
        note, attempt = self._note(package), _current(package)
        facts = package.status.entry
        if facts is None:
            raise ValueError("an order was made without the entry's facts")
        name = f"{self.settings.destination.prefix}/{facts.display_id}"
        destination = identity.destination_hash(self.settings.destination.bucket, name)
        if not await self._destination_is_free(package, attempt, destination, note):
            return
        body = build_job(package, attempt, destination, self.settings.packager, self.settings.timing)
        job = read_job(await self._create_or_adopt(JOBS, package, body))
        reference = JobRef(name=job.name, uid=job.uid, created_at=job.created_at)
        package = await self._record(package, lambda status: transitions.record_job(status, reference))
        await self.events.post(package, Reason.JOB_CREATED, f"Job {job.name} streams the archive to S3.")

    async def _destination_is_free(self, package: EntryPackage, attempt: Attempt, destination: str, note: Note) -> bool:
        """Whether no other attempt may still write there; asks the API server, not a cache."""
        selector = f"{identity.LABEL_DESTINATION}={destination}"
        ours = (package.metadata.uid, attempt.number)
        jobs = [read_job(job) for job in await self.kubernetes.list_all(JOBS, self._namespace, labels=selector)]
        pods = [read_pod(pod) for pod in await self.kubernetes.list_all(PODS, self._namespace, labels=selector)]
        other_jobs = [job for job in jobs if (job.owner_uid, job.attempt) != ours and not job.is_finished]
        for job in other_jobs:
            if job.owner_uid == package.metadata.uid and not job.deleting:
                await self.kubernetes.delete(JOBS, self._namespace, job.name, uid=job.uid)
        holder = next((p for p in pods if (p.owner_uid, p.attempt) != ours and not p.is_finished), None)
        note.holder = holder
        if holder is None and not other_jobs:
            note.held_since = note.next_look = None
            return True
        note.held_since = note.held_since or self._now()
        note.next_look = self.monotonic() + HOLDER_PAUSE_SECONDS
        return False

    # Outcome

    async def _store(self, package: EntryPackage, report: Report) -> None:
        packed = report.package
        if packed is None:
            raise ValueError("a successful report names its package")
        attempt, retry = _current(package), self.settings.retry
        package = await self._record(
            package, lambda status: transitions.succeed(status, report, packed, self._now(), retry)
        )
        past = package.status.history[0]
        metrics.ATTEMPTS.labels(past.reason).inc()
        metrics.PACKAGED_BYTES.inc(packed.bytes)
        if past.export_seconds is not None:
            metrics.STAGE_SECONDS.labels("export").observe(past.export_seconds)
        if past.pack_seconds is not None:
            metrics.STAGE_SECONDS.labels("pack").observe(past.pack_seconds)
        log.info(
            "packaged", extra={"entrypackage": package.metadata.name, "attempt": attempt.number, "uri": packed.uri}
        )
        await self.events.post(package, past.reason, f"{packed.files} files at {packed.uri}")
        for notice in report.notices:
            await self.events.post(package, Reason.NOTICE, notice, warning=True)

    async def _fail(self, package: EntryPackage, failure: FailureClass, message: str, *, touched: bool = False) -> None:
        attempt = _current(package)
        package = await self._record(package, lambda status: self._failed(status, failure, message, touched=touched))
        await self._announce_failure(package)
        if attempt.order_digest is not None and attempt.job is None:
            await self._delete_order(package, attempt.number)

    def _failed(self, status: Status, failure: FailureClass, message: str, *, touched: bool) -> Status:
        spread = self.random.random()
        return transitions.fail(
            status, failure, message, self._now(), self.settings.retry, spread=spread, touched=touched
        )

    async def _announce_failure(self, package: EntryPackage) -> None:
        attempt = package.status.attempt
        if attempt is None or attempt.failure is None:
            return
        metrics.ATTEMPTS.labels(attempt.failure.value).inc()
        log.warning(
            "attempt failed",
            extra={
                "entrypackage": package.metadata.name,
                "attempt": attempt.number,
                "reason": attempt.failure.value,
                "why": attempt.failure_message,
                "given_up": attempt.given_up,
            },
        )
        text = f"{attempt.failure_message} {POLICIES[attempt.failure].remedy}"
        await self.events.post(package, attempt.failure.value, text, warning=True)


def _identity(package: EntryPackage) -> tuple[object, ...]:
    attempt = package.status.attempt
    intent = attempt.export.intent_time if attempt is not None and attempt.export is not None else None
    failure = attempt.failure if attempt is not None else None
    return (package.metadata.uid, attempt.number if attempt is not None else None, intent, failure)


def _current(package: EntryPackage) -> Attempt:
    if package.status.attempt is None:
        raise ValueError("there is no attempt")
    return package.status.attempt


def _why(package: EntryPackage) -> str:
    attempt = _current(package)
    trigger = attempt.trigger
    by = f" by {trigger.user_id}" if trigger.user_id else ""
    return f"{trigger.type}{by} of {render_time(trigger.occurred_at)}"
