"""The steps from a trigger to an archive: read the entry, request the export, poll it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, assert_never

from controller import metrics
from controller.benchling.errors import BenchlingFailure, ExportOutcomeUnknown, Rejected
from controller.benchling.models import TaskFailed, TaskGone, TaskId, TaskRunning, TaskSucceeded
from controller.benchling.priority import Priority
from controller.decisions import transitions
from controller.decisions.orders import entry_facts, is_usable_display_id
from controller.reconciler.status_store import current_attempt
from entrypackage.conditions import Reason
from entrypackage.failures import FailureClass
from entrypackage.model import render_time
from entrypackage.telemetry import redact

if TYPE_CHECKING:
    from controller.benchling.client import BenchlingClient
    from controller.benchling.models import Entry
    from controller.reconciler.events import EventRecorder
    from controller.reconciler.outcomes import Outcomes
    from controller.reconciler.poll_schedule import PollSchedule
    from controller.reconciler.status_store import StatusStore
    from entrypackage.resource import EntryPackage


@dataclass(slots=True)
class Exporting:
    """Begins and polls exports."""

    store: StatusStore
    benchling: BenchlingClient
    events: EventRecorder
    outcomes: Outcomes
    polls: PollSchedule
    _beginning: int = 0

    def has_capacity(self, kept: int = 0) -> bool:
        """Whether another export may be started besides `kept` others and those that are about to be requested."""
        return self.benchling.free_exports > self._beginning + kept

    def forget(self, task: str | None) -> None:
        """Stop counting an export that is no longer polled."""
        if task is not None:
            self.benchling.forget_export(task)

    async def begin(self, package: EntryPackage) -> None:
        """Read the entry, write the intent, request the export."""
        self._beginning += 1
        try:
            begun = await self._read_and_write_intent(package)
        finally:
            self._beginning -= 1
        if begun is not None:
            await self._request_export(begun)

    async def _read_and_write_intent(self, package: EntryPackage) -> EntryPackage | None:
        now = datetime.now(UTC)
        try:
            entry = await self.benchling.get_entry(package.spec.entry_id, priority=self._priority(package))
        except BenchlingFailure as failure:
            await self.outcomes.fail_unread(package, failure, now)
            return None
        if not is_usable_display_id(entry.display_id):
            await self.outcomes.fail_unread(package, Rejected(_no_display_id(entry), status=200), now)
            return None
        facts = entry_facts(entry)
        old = package.status.entry
        package = await self.store.decide(package, transitions.begin(package, facts, now))
        if old is not None and old.display_id != facts.display_id:
            text = f"The entry was {old.display_id} and is {facts.display_id} now: a new package is made, the old kept."
            await self.events.post(package, Reason.DISPLAY_ID_CHANGED, text, warning=True)
        await self.events.post(package, Reason.EXPORTING, f"Attempt {package.status.attempts}: {_why(package)}.")
        return package

    async def renew(self, package: EntryPackage) -> None:
        """Request the export again, because the outcome of an earlier request is unknown; count the orphan."""
        try:
            entry = await self.benchling.get_entry(package.spec.entry_id, priority=self._priority(package))
        except BenchlingFailure as failure:
            await self.outcomes.fail(package, failure.failure, failure.message)
            return
        if not is_usable_display_id(entry.display_id):
            await self.outcomes.fail(package, FailureClass.PROVIDER_REJECTED, _no_display_id(entry))
            return
        status = transitions.renew_export(package.status, entry_facts(entry), datetime.now(UTC))
        package = await self.store.decide(package, status)
        metrics.ORPHANED_EXPORTS.inc()
        text = "Whether the last export was started is unknown, so it is asked for again."
        await self.events.post(package, Reason.EXPORT_ORPHANED, text)
        await self._request_export(package)

    async def _request_export(self, package: EntryPackage) -> None:
        """Request the export whose intent has just been written."""
        tracked, attempt = self.store.tracked(package), current_attempt(package)
        tracked.asked_for = attempt.export.intent_time if attempt.export is not None else None
        try:
            tracked.task = await self._start_export(package)
        finally:
            if tracked.task is None:
                # Without an answer nothing is awaited, however the request ended: the export is requested again.
                tracked.asked_for = None
        if tracked.task is not None:
            self.polls.schedule_poll(package)
            await self.record_task(package, tracked.task)

    async def _start_export(self, package: EntryPackage) -> str | None:
        """Request the export and return the id of its task; None after a failure, which is recorded."""
        try:
            return str(await self.benchling.start_export(package.spec.entry_id, priority=self._priority(package)))
        except ExportOutcomeUnknown as failure:
            metrics.ORPHANED_EXPORTS.inc()
            await self.outcomes.fail(package, failure.failure, failure.message)
        except BenchlingFailure as failure:
            await self.outcomes.fail(package, failure.failure, failure.message)
        return None

    async def record_task(self, package: EntryPackage, task: str) -> None:
        """Write the id of the task. It is kept in memory until then, because Benchling does not give it again."""
        await self.store.record(package, lambda status: transitions.record_task(status, task))
        self.store.tracked(package).task = None

    async def poll(self, package: EntryPackage) -> bool:
        """Poll the export; return whether anything except the time of the next poll has changed."""
        tracked, attempt = self.store.tracked(package), current_attempt(package)
        if attempt.export is None or attempt.export.task_id is None:
            raise ValueError("there is no export to poll")
        try:
            answer = await self.benchling.get_task(TaskId(attempt.export.task_id), priority=Priority.POLL)
        except BenchlingFailure as failure:
            return await self.polls.handle_failed_poll(package, failure)
        recovered = tracked.blocked is not None
        tracked.blocked = None
        match answer:
            case TaskRunning():
                self.polls.schedule_poll(package)
                return recovered
            case TaskSucceeded():
                tracked.url = answer.url
            case TaskFailed():
                await self.outcomes.fail(
                    package, FailureClass.EXPORT_FAILED, f"Benchling says: {redact(answer.message)[:500]}"
                )
            case TaskGone():
                text = "Benchling no longer knows the export; it keeps one for 30 minutes."
                await self.outcomes.fail(package, FailureClass.EXPORT_LOST, text)
            case _:
                assert_never(answer)
        return True

    def _priority(self, package: EntryPackage) -> Priority:
        request = transitions.pending_triggers(package).request
        attempt = package.status.attempt
        asked = request is not None or (attempt is not None and attempt.notify_always)
        return Priority.CLICK if asked else Priority.EXPORT


def _no_display_id(entry: Entry) -> str:
    return f"Benchling gives the entry no display id that can name a package: {entry.display_id[:64]!r}."


def _why(package: EntryPackage) -> str:
    attempt = current_attempt(package)
    trigger = attempt.trigger
    by = f" by {trigger.user_id}" if trigger.user_id else ""
    return f"{trigger.type}{by} of {render_time(trigger.occurred_at)}"
