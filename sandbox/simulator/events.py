"""The events feed: processing order, two weeks of retention, whole entries as they were."""

from __future__ import annotations

from dataclasses import dataclass, field

from sandbox.simulator.clock import iso
from sandbox.simulator.wire import Json, bad_request

ENTRY_TYPES = {
    "v2.entry.created", "v2.entry.updated.fields", "v2.entry.updated.reviewRecord",
    "v2.entry.updated.assignedReviewers", "v2-beta.entry.updated.reviewSnapshot",
}  # fmt: skip


@dataclass(frozen=True)
class Event:
    """One event of the feed."""

    id: str
    type: str
    created_at: float
    entry: Json
    updates: list[str] | None

    def whole(self) -> Json:
        """The event as the API gives it."""
        body: Json = {
            "id": self.id,
            "eventType": self.type,
            "createdAt": iso(self.created_at),
            "deprecated": False,
            "excludedProperties": [],
            "schema": self.entry["schema"],
            "entry": self.entry,
        }
        return body if self.updates is None else {**body, "updates": self.updates}


@dataclass
class EventFeed:
    """All events in processing order."""

    retention: float
    events: list[Event] = field(default_factory=list)

    def add(self, event: Event) -> None:
        """The newest event."""
        self.events.append(event)

    def lose(self, since: float) -> None:
        """Forget the events created since a moment (a gap)."""
        self.events = [event for event in self.events if event.created_at < since]

    def kept(self, now: float) -> list[Event]:
        """The events that the API still has."""
        return [event for event in self.events if event.created_at > now - self.retention]

    def after(self, event_id: str, now: float) -> list[Event]:
        """The events behind one. Raises Refusal (400) for an id that is unknown or too old."""
        kept = self.kept(now)
        for place, event in enumerate(kept):
            if event.id == event_id:
                return kept[place + 1 :]
        raise bad_request(f"startingAfter event {event_id} was not found")
