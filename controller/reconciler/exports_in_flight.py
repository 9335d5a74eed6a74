"""What the leader knows and does not write down: exports being looked at, and its own last writes.

All of it can be lost: a new leader asks again. What outlives the loss of the Lease is an answer that is not written
yet, because Benchling cannot be asked for it a second time.
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
    """What is known of one object's attempt."""

    uid: str
    attempt: int
    asked_for: datetime | None = None
    """The intent whose request this process made."""
    task: str | None = None
    """Benchling's answer to that request, until it is written."""
    url: SecretStr | None = None
    """The archive's address, as last answered."""
    next_poll: float | None = None
    """When it is asked next, by the monotonic clock in seconds."""
    blocked: Blocked | None = None
    """Why looking does not work at present."""
    holder: str = ""
    held_since: datetime | None = None
    polled_package: EntryPackage | None = None
    """Set while nothing but a look at the export is due: the object as it was."""

    def export_seen(self, package: EntryPackage, now: datetime, monotonic: float) -> ExportSeen:
        """Return what the plan may know of it."""
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
    """The notes by key (the object's name), and the newest resourceVersion that this process wrote of each."""

    _tracked: dict[str, TrackedExport] = field(default_factory=dict)
    _written: dict[str, str] = field(default_factory=dict)
    _waiting_for_capacity: dict[str, Urgency] = field(default_factory=dict)

    def tracked(self, key: str, uid: str, attempt: int) -> TrackedExport:
        """Return the tracked export of this very attempt, a blank one if the last was of another."""
        known = self._tracked.get(key)
        if known is None or known.uid != uid or known.attempt != attempt:
            known = self._tracked[key] = TrackedExport(uid, attempt)
        return known

    def polled_only(self, key: str) -> TrackedExport | None:
        """Return the tracked export if nothing but a look at the export is due for this key."""
        tracked = self._tracked.get(key)
        return tracked if tracked is not None and tracked.polled_package is not None else None

    def invalidate(self, key: str) -> None:
        """The object changed: a look alone will not do."""
        self._waiting_for_capacity.pop(key, None)
        if (tracked := self._tracked.get(key)) is not None:
            tracked.polled_package = None

    def forget(self, key: str) -> None:
        """The object is gone."""
        self._tracked.pop(key, None)
        self._written.pop(key, None)
        self._waiting_for_capacity.pop(key, None)

    def clear(self) -> None:
        """Leadership ended: keep nothing but answers that could not be written."""
        self._tracked = {
            key: TrackedExport(tracked.uid, tracked.attempt, asked_for=tracked.asked_for, task=tracked.task)
            for key, tracked in self._tracked.items()
            if tracked.task is not None
        }
        self._written.clear()
        self._waiting_for_capacity.clear()

    def set_waiting_for_capacity(self, key: str, urgency: Urgency) -> None:
        """Only the limit of exports at once holds this object up."""
        self._waiting_for_capacity[key] = urgency

    def urgency_waiting_for_capacity(self, key: str) -> Urgency | None:
        """Return its urgency if nothing but room is missing, as far as is known."""
        return self._waiting_for_capacity.get(key)

    def count_more_urgent(self, urgency: Urgency) -> int:
        """Return how many wait for room with a higher urgency."""
        return sum(1 for other in self._waiting_for_capacity.values() if other < urgency)

    def record_write(self, key: str, version: str) -> None:
        """Remember our own write, so that its echo on the watch is no news."""
        self._written[key] = version

    def is_own_write(self, key: str, version: str) -> bool:
        """Whether that version is our own last write."""
        return self._written.get(key) == version

    def export_ages(self, now: datetime) -> list[float]:
        """Return for how many seconds each export that is being looked at has been in the making."""
        exports = [
            tracked.polled_package.status.attempt.export
            for tracked in self._tracked.values()
            if tracked.polled_package is not None and tracked.polled_package.status.attempt is not None
        ]
        return [max(0.0, (now - export.intent_time).total_seconds()) for export in exports if export is not None]

    def count_polled(self) -> int:
        """Return how many exports are being looked at."""
        return sum(1 for tracked in self._tracked.values() if tracked.polled_package is not None)
