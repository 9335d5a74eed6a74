"""The steps from an archive to a running packager: the order, its Secrets and the Job."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from controller.benchling.errors import BenchlingFailure, NotFound
from controller.benchling.links import entry_links
from controller.benchling.priority import Priority
from controller.decisions import transitions
from controller.decisions.jobs import build_job, read_job, read_pod
from controller.decisions.orders import build_order, entry_checksum, entry_facts, is_usable_display_id
from controller.reconciler.adoption import create_or_adopt
from controller.reconciler.order_secrets import volume_sources
from controller.reconciler.status_store import current_attempt
from entrypackage import identity
from entrypackage.conditions import Reason
from entrypackage.failures import Failure, FailureClass
from entrypackage.kubernetes import JOBS, PODS, ConflictError, KubernetesError
from entrypackage.order import encode_order
from entrypackage.resource import JobRef
from entrypackage.telemetry import redact

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from controller.benchling.client import BenchlingClient
    from controller.benchling.models import Entry
    from controller.reconciler.events import EventRecorder
    from controller.reconciler.exports_in_flight import TrackedExport
    from controller.reconciler.order_secrets import OrderSecrets
    from controller.reconciler.outcomes import Outcomes
    from controller.reconciler.poll_schedule import PollSchedule
    from controller.reconciler.status_store import StatusStore
    from controller.settings import ControllerSettings
    from entrypackage.resource import Attempt, EntryPackage

HOLDER_PAUSE_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class JobSteps:
    """Writes orders and creates Jobs."""

    store: StatusStore
    benchling: BenchlingClient
    settings: ControllerSettings
    events: EventRecorder
    outcomes: Outcomes
    order_secrets: OrderSecrets
    polls: PollSchedule
    monotonic: Callable[[], float]

    async def make_order(self, package: EntryPackage) -> None:
        """Write the order into Secrets; a final refusal by the API server ends the attempt."""
        await self._or_fail(package, self._make_order)

    async def create_job(self, package: EntryPackage) -> None:
        """Create or adopt the Job if the destination is free; a final refusal by the API server ends the attempt."""
        await self._or_fail(package, self._create_job)

    async def _or_fail(self, package: EntryPackage, step: Callable[[EntryPackage], Awaitable[None]]) -> None:
        """Take a step; a lasting refusal ends the attempt, such as by a quota, an admission rule or a wrong setting."""
        try:
            await step(package)
        except Failure as failure:
            refused = failure
        except ConflictError:
            raise
        except KubernetesError as error:
            if error.may_pass or error.status == 404:
                raise
            text = redact(f"The API server refused the packager's order or Job: {error.message}")
            refused = Failure(FailureClass.INTERNAL, text)
        else:
            return
        await self.outcomes.fail(package, refused.failure, refused.message)

    async def _make_order(self, package: EntryPackage) -> None:
        tracked, attempt = self.store.tracked(package), current_attempt(package)
        if tracked.url is None:
            raise ValueError("there is no archive to order")
        try:
            entry = await self.benchling.get_entry(package.spec.entry_id, priority=Priority.READ)
            links = await self.benchling.link_names(entry_links(entry), cap=self.settings.name_lookups)
            sizes = await self._attachment_sizes(entry) if attempt.re_exports else {}
        except BenchlingFailure as failure:
            await self.polls.handle_failed_poll(package, failure)
            return
        if not is_usable_display_id(entry.display_id):
            raise Failure(FailureClass.PROVIDER_REJECTED, "The entry's display id can no longer name a package.")
        tracked.blocked = None
        order = build_order(package, entry, links, sizes, tracked.url, self.settings)
        encoded = encode_order(order)
        package = await self.store.decide(
            package,
            transitions.record_order(
                package.status,
                encoded.digest,
                len(encoded.parts),
                entry_facts(entry),
                entry_checksum(entry),
                datetime.now(UTC),
            ),
        )
        await self.order_secrets.write(package, attempt, encoded)

    async def _attachment_sizes(self, entry: Entry) -> dict[str, int]:
        """Return the sizes of the entry's attachments, which show which ones an export lacks; one call for each."""
        sizes = {}
        for file_id in entry.external_file_ids():
            with contextlib.suppress(NotFound):
                file = await self.benchling.external_file(entry.id, file_id, priority=Priority.READ)
                if file.size is not None:
                    sizes[file_id] = file.size
        return sizes

    async def _create_job(self, package: EntryPackage) -> None:
        tracked, attempt = self.store.tracked(package), current_attempt(package)
        facts = package.status.entry
        if facts is None:
            raise ValueError("an order was made without the entry's facts")
        name = f"{self.settings.destination.prefix}/{facts.display_id}"
        destination = identity.destination_hash(self.settings.destination.bucket, name)
        if not await self._destination_is_free(package, attempt, destination, tracked):
            return
        body = build_job(
            package,
            attempt,
            destination,
            volume_sources(package, attempt),
            self.settings.packager,
            self.settings.timing,
        )
        job = read_job(await create_or_adopt(self.store.kubernetes, self.store.namespace, JOBS, package, body))
        reference = JobRef(name=job.name, uid=job.uid, created_at=job.created_at)
        package = await self.store.record(package, lambda status: transitions.record_job(status, reference))
        await self.events.post(package, Reason.JOB_CREATED, f"Job {job.name} streams the archive to S3.")

    async def _destination_is_free(
        self, package: EntryPackage, attempt: Attempt, destination: str, tracked: TrackedExport
    ) -> bool:
        """Whether no other attempt can still write to the destination; reads the API server, not a cache."""
        selector = f"{identity.LABEL_DESTINATION}={destination}"
        ours = (package.metadata.uid, attempt.number)
        jobs = [
            read_job(job) for job in await self.store.kubernetes.list_all(JOBS, self.store.namespace, labels=selector)
        ]
        pods = [
            read_pod(pod) for pod in await self.store.kubernetes.list_all(PODS, self.store.namespace, labels=selector)
        ]
        other_jobs = [job for job in jobs if (job.owner_uid, job.attempt) != ours and not job.is_finished]
        for job in other_jobs:
            if job.owner_uid == package.metadata.uid and not job.deleting:
                await self.store.kubernetes.delete(JOBS, self.store.namespace, job.name, uid=job.uid)
        holder = next((p for p in pods if (p.owner_uid, p.attempt) != ours and not p.is_finished), None)
        tracked.holder = f"pod {holder.name}" if holder else f"job {other_jobs[0].name}" if other_jobs else ""
        if not tracked.holder:
            tracked.held_since = tracked.next_poll = None
            return True
        tracked.held_since = tracked.held_since or datetime.now(UTC)
        tracked.next_poll = self.monotonic() + HOLDER_PAUSE_SECONDS
        return False
