"""The feed: turns news from the watch and full lists into keys on the work queue.

A watch can miss deletes, so a full list replaces what is known every few minutes.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from controller import metrics
from controller.decisions.conditions import in_progress
from controller.decisions.transitions import pending_triggers
from controller.reconciler.observe import UnreadableObjectError, parse_package
from controller.reconciler.order_secrets import OrderSecrets
from controller.watch.work_queue import Urgency
from entrypackage.kubernetes import ENTRY_PACKAGES
from entrypackage.resource import KIND

if TYPE_CHECKING:
    from controller.reconciler.exports_in_flight import ExportsInFlight
    from controller.watch.work_queue import WorkQueue
    from entrypackage.kubernetes import Kubernetes, Object
    from entrypackage.resource import EntryPackage

log = logging.getLogger(__name__)


def urgency_of(package: EntryPackage) -> Urgency:
    """Return the urgency of an object's next visit, by who waits for it."""
    waiting = pending_triggers(package)
    if waiting.request is not None:
        return Urgency.CLICK if waiting.request.type.startswith("v2.canvas.") else Urgency.MANUAL
    if waiting.event is not None and waiting.event.type.startswith(("sweep.", "backfill")):
        return Urgency.SWEEP
    return Urgency.EVENT


@dataclass(slots=True)
class Feed:
    """Knows which EntryPackages exist, and puts the keys of those with news on the queue."""

    kubernetes: Kubernetes
    namespace: str
    queue: WorkQueue
    in_flight: ExportsInFlight
    _known: dict[str, str] = field(default_factory=dict)
    """The uid of each EntryPackage that is known to exist, by its name."""

    def __len__(self) -> int:
        """Return how many EntryPackages are known to exist."""
        return len(self._known)

    def package_changed(self, body: Object, *, deleted: bool) -> None:
        """Take news of an EntryPackage, except the echo of our own last write."""
        metadata = body["metadata"]
        name: str = metadata["name"]
        if deleted:
            self._known.pop(name, None)
            # The visit finds it gone and forgets what is known of it, also its running export.
            self.queue.add(name)
            return
        self._known[name] = metadata["uid"]
        if self.in_flight.is_own_write(name, metadata["resourceVersion"]):
            return
        self.in_flight.invalidate(name)
        self._add(name, body)

    def job_changed(self, body: Object) -> None:
        """Take news of one of our Jobs: its owner is visited."""
        for owner in body["metadata"].get("ownerReferences") or []:
            if owner.get("kind") == KIND and owner.get("controller"):
                self.in_flight.invalidate(owner["name"])
                self.queue.add(owner["name"])

    def _add(self, name: str, body: Object) -> None:
        try:
            self.queue.add(name, urgency=urgency_of(parse_package(body)))
        except UnreadableObjectError as unreadable:
            log.error("not readable", extra={"entrypackage": name, "why": str(unreadable)})  # noqa: TRY400

    async def resync(self) -> None:
        """Replace what is known by a full list, queue every object, and delete unused order Secrets."""
        before = set(self._known)
        # Orders first: a younger order may belong to an attempt that is younger than the list of objects.
        order_secrets = OrderSecrets(self.kubernetes, self.namespace)
        orders = await order_secrets.list_all()
        owners: set[str] = set()
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
            owners.add(package.metadata.uid)
            if in_progress(package.status.attempt):
                in_use.add((package.metadata.uid, package.status.attempts))
            self.in_flight.invalidate(name)
            self.queue.add(name, urgency=urgency_of(package))
        for missed in (self._known.keys() & before) - listed.keys():
            metrics.MISSED_DELETES.inc()
            self.queue.add(missed)
        made_meanwhile = {name: uid for name, uid in self._known.items() if name not in before}
        self._known = {**made_meanwhile, **listed}
        await order_secrets.sweep(orders, in_use, owners)
