"""The leader's memory: exports that are being polled, and its own last writes. None of it is written to Kubernetes.

All of it may be lost, since a new leader asks again. Only an answer that is not yet written outlives the loss of the
Lease, because Benchling does not give it a second time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from controller.decisions.plan import ExportSeen

if TYPE_CHECKING:
    from pydantic import SecretStr

    from controller.decisions.conditions import Blocked
    from controller.watch.work_queue import Urgency
    from entrypackage.resource import EntryPackage


@dataclass(slots=True)
class TrackedExport:
    """The leader's knowledge of one attempt and its export."""

    uid: str
    attempt: int
    asked_for: datetime | None = None
    """The time of the intent whose export this process requested."""
    task: str | None = None
    """The task that Benchling answered with, until its id is written."""
    url: SecretStr | None = None
    """The archive's address in Benchling's last answer."""
    next_poll: float | None = None
    """When the export is polled next, in seconds of the monotonic clock; None means now."""
    blocked: Blocked | None = None
    """Why polling does not work at present."""
    holder: str = ""
    """The pod or Job of another attempt that holds the destination; empty if none does."""
    held_since: datetime | None = None
    """When the holder was first seen."""
    polled_package: EntryPackage | None = None
    """The object as it was read last; set while nothing except a poll of the export is due."""

    def export_seen(self, package: EntryPackage, now: datetime, monotonic: float) -> ExportSeen:
        """Return the part of it that the plan depends on."""
        attempt = package.status.attempt
        intent = attempt.export.intent_time if attempt is not None and attempt.export is not None else None
        pause = None if self.next_poll is None else self.next_poll - monotonic
        asked = intent is not None and intent == self.asked_for
        return ExportSeen(
            asked=asked,
            task=self.task if asked else None,
            ready=self.url is not None,
            next_poll=now + timedelta(seconds=pause) if pause is not None and pause > 0 else None,
            blocked=self.blocked,
        )


@dataclass(slots=True)
class ExportsInFlight:
    """The tracked export, the last written resourceVersion and the wait for capacity of each key (an object's name)."""

    _tracked: dict[str, TrackedExport] = field(default_factory=dict)
    _written: dict[str, str] = field(default_factory=dict)
    _waiting_for_capacity: dict[str, Urgency] = field(default_factory=dict)

    def tracked(self, key: str, uid: str, attempt: int) -> TrackedExport:
        """Return the tracked export of this attempt; a blank one if none of this attempt is known."""
        known = self._tracked.get(key)
        if known is None or known.uid != uid or known.attempt != attempt:
            known = self._tracked[key] = TrackedExport(uid, attempt)
        return known

    def polled_only(self, key: str) -> TrackedExport | None:
        """Return the tracked export if nothing except a poll is due for this key, else None."""
        tracked = self._tracked.get(key)
        return tracked if tracked is not None and tracked.polled_package is not None else None

    def invalidate(self, key: str) -> None:
        """Record that the object changed, so that a poll alone does not suffice."""
        self._waiting_for_capacity.pop(key, None)
        if (tracked := self._tracked.get(key)) is not None:
            tracked.polled_package = None

    def forget(self, key: str) -> None:
        """Drop everything about an object that is gone."""
        self._tracked.pop(key, None)
        self._written.pop(key, None)
        self._waiting_for_capacity.pop(key, None)

    def clear(self) -> None:
        """Drop everything except answers that could not be written; called when leading begins."""
        self._tracked = {
            key: TrackedExport(tracked.uid, tracked.attempt, asked_for=tracked.asked_for, task=tracked.task)
            for key, tracked in self._tracked.items()
            if tracked.task is not None
        }
        self._written.clear()
        self._waiting_for_capacity.clear()

    def set_waiting_for_capacity(self, key: str, urgency: Urgency) -> None:
        """Record that an object waits only for capacity for another export."""
        self._waiting_for_capacity[key] = urgency

    def urgency_waiting_for_capacity(self, key: str) -> Urgency | None:
        """Return the urgency of an object that waits only for capacity; None if it does not."""
        return self._waiting_for_capacity.get(key)

    def count_more_urgent(self, urgency: Urgency) -> int:
        """Return how many objects wait for capacity with a higher urgency."""
        return sum(1 for other in self._waiting_for_capacity.values() if other < urgency)

    def record_write(self, key: str, version: str) -> None:
        """Record the version that this process wrote, so that its echo on the watch is ignored."""
        self._written[key] = version

    def is_own_write(self, key: str, version: str) -> bool:
        """Whether a version is the last one that this process wrote."""
        return self._written.get(key) == version

    def export_ages(self, now: datetime) -> list[float]:
        """Return the age in seconds of each export that is being polled."""
        exports = [
            tracked.polled_package.status.attempt.export
            for tracked in self._tracked.values()
            if tracked.polled_package is not None and tracked.polled_package.status.attempt is not None
        ]
        return [max(0.0, (now - export.intent_time).total_seconds()) for export in exports if export is not None]

    def count_polled(self) -> int:
        """Return how many exports are being polled."""
        return sum(1 for tracked in self._tracked.values() if tracked.polled_package is not None)
