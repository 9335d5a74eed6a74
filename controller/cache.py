"""What is there, as small projections: fed by the watch, replaced by full lists, because a watch can miss deletes."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from controller import metrics
from controller.observe import UnreadableObjectError, parse_package
from controller.queue import Priority
from controller.summary import in_progress
from controller.transitions import pending_triggers
from entrypackage import identity
from entrypackage.kubernetes import ENTRY_PACKAGES, JOBS, SECRETS
from entrypackage.resource import KIND

if TYPE_CHECKING:
    from controller.notebook import Notebook
    from controller.queue import WorkQueue
    from entrypackage.kubernetes import Kubernetes, Object
    from entrypackage.resource import EntryPackage

log = logging.getLogger(__name__)


def urgency(package: EntryPackage) -> Priority:
    """Return who waits for this object."""
    waiting = pending_triggers(package)
    if waiting.request is not None:
        return Priority.CLICK if waiting.request.type.startswith("v2.canvas.") else Priority.MANUAL
    if waiting.event is not None and waiting.event.type.startswith(("sweep.", "backfill")):
        return Priority.SWEEP
    return Priority.EVENT


@dataclass(slots=True)
class Feed:
    """Turns news from the watch and full lists into keys on the queue."""

    kubernetes: Kubernetes
    namespace: str
    queue: WorkQueue
    notebook: Notebook
    _known: dict[str, str] = field(default_factory=dict)
    """uid by name."""

    def __len__(self) -> int:
        """Return how many objects are known."""
        return len(self._known)

    def package_changed(self, body: Object, *, deleted: bool) -> None:
        """Take news of an EntryPackage."""
        metadata = body["metadata"]
        name: str = metadata["name"]
        if deleted:
            if self._known.pop(name, None) is not None:
                # The visit finds it gone and forgets what is known of it, the export in the making included.
                self.queue.add(name)
            return
        self._known[name] = metadata["uid"]
        if self.notebook.is_echo(name, metadata["resourceVersion"]):
            return
        self.notebook.touch(name)
        self._add(name, body)

    def job_changed(self, body: Object) -> None:
        """Take news of one of our Jobs: its owner is to be looked at."""
        for owner in body["metadata"].get("ownerReferences") or []:
            if owner.get("kind") == KIND and owner.get("controller"):
                self.notebook.touch(owner["name"])
                self.queue.add(owner["name"])

    def _add(self, name: str, body: Object) -> None:
        try:
            self.queue.add(name, priority=urgency(parse_package(body)))
        except UnreadableObjectError as unreadable:
            log.error("not readable", extra={"entrypackage": name, "why": str(unreadable)})  # noqa: TRY400

    async def resync(self) -> None:
        """Replace what is known by a full list and look at every object; then remove orders that nobody needs."""
        in_use: set[tuple[str, int]] = set()
        listed: dict[str, str] = {}
        async for body in self.kubernetes.pages(ENTRY_PACKAGES, self.namespace):
            name = body["metadata"]["name"]
            listed[name] = body["metadata"]["uid"]
            try:
                package = parse_package(body)
            except UnreadableObjectError as unreadable:
                log.error("not readable", extra={"entrypackage": name, "why": str(unreadable)})  # noqa: TRY400
                continue
            if in_progress(package.status.attempt):
                in_use.add((package.metadata.uid, package.status.attempts))
            self.notebook.touch(name)
            self.queue.add(name, priority=urgency(package))
        for ghost in self._known.keys() - listed.keys():
            metrics.GHOSTS.inc()
            self.queue.add(ghost)
        self._known = listed
        await self._remove_unused_orders(in_use)

    async def _remove_unused_orders(self, in_use: set[tuple[str, int]]) -> None:
        """Delete order Secrets without a Job whose attempt is over: a crash left them between two writes."""
        selector = f"{identity.LABEL_MANAGED_BY}={identity.MANAGED_BY}"
        jobs = self.kubernetes.pages(JOBS, self.namespace, labels=selector, metadata_only=True)
        with_job = {_attempt_of(job) async for job in jobs}
        orders = f"{selector},{identity.LABEL_COMPONENT}={identity.COMPONENT_ORDER}"
        known = set(self._known.values())
        async for secret in self.kubernetes.pages(SECRETS, self.namespace, labels=orders, metadata_only=True):
            owner, attempt = _attempt_of(secret)
            if owner in known and (owner, attempt) not in in_use | with_job:
                metadata = secret["metadata"]
                log.info("removing an unused order", extra={"secret": metadata["name"]})
                await self.kubernetes.delete(SECRETS, self.namespace, metadata["name"], uid=metadata["uid"])


def _attempt_of(thing: Object) -> tuple[str, int]:
    labels = thing["metadata"].get("labels") or {}
    number = labels.get(identity.LABEL_ATTEMPT, "")
    return labels.get(identity.LABEL_OWNER, ""), int(number) if number.isdecimal() else 0
