"""How a trigger gets into an EntryPackage: what one write must be, given what was read.

Pure. Everyone who files a trigger (webhooks, sweep, backfill, clicks) decides here and sends the answer as it is, so
that all writers keep the same precondition: a slot is replaced whole, and only if it still is what was read. Such a
patch does not conflict with writes of the status.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from entrypackage.identity import ANNOTATION_ENTRY, LABEL_MANAGED_BY, MANAGED_BY, object_name
from entrypackage.resource import API_VERSION, KIND
from entrypackage.trigger import Trigger

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CANVAS_TYPES: Final = "v2.canvas."
"""What the types of clicks start with; their times all come from one clock, Benchling's."""


class Slot(StrEnum):
    """Which of the two members of spec a trigger goes to."""

    EVENT = "event"
    REQUEST = "request"


@dataclass(frozen=True, slots=True)
class Wish:
    """A trigger on its way to the EntryPackage of an entry."""

    entry_id: str
    slot: Slot
    trigger: Trigger


@dataclass(frozen=True, slots=True)
class Create:
    """There is no object: create this one. "Already exists" means read and decide again."""

    manifest: dict[str, Any]
    written: frozenset[str]
    """The ids of the triggers in it."""


@dataclass(frozen=True, slots=True)
class Patch:
    """Send this JSON Patch. A failed test or a missing object means read and decide again."""

    operations: list[dict[str, Any]]
    written: frozenset[str]
    """The ids of the triggers in it."""


@dataclass(frozen=True, slots=True)
class Nothing:
    """What is there covers all the wishes."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """It cannot be filed now."""

    reason: str
    message: str


Decision = Create | Patch | Nothing | Refuse


def decide(wishes: Sequence[Wish], read: Mapping[str, Any] | None) -> Decision:
    """Decide the one write that serves all these wishes for one entry, given its object as read (None: absent).

    Of several wishes for a slot the newest wins; it stands for the others, because the export that serves it starts
    later. `wishes` is not empty and all are of the same entry.
    """
    entry_id = wishes[0].entry_id
    newest = {slot: _newest([wish.trigger for wish in wishes if wish.slot == slot]) for slot in Slot}
    if read is None:
        return _create(entry_id, newest)
    metadata, spec = read["metadata"], read["spec"]
    if metadata.get("deletionTimestamp") is not None:
        return Refuse("BeingDeleted", "The EntryPackage is being deleted.")
    if spec.get("entryId") != entry_id:
        return Refuse("NameTaken", f"The EntryPackage {metadata['name']} belongs to another entry: delete it.")
    try:
        found = {slot: Trigger.model_validate(spec[slot]) if spec.get(slot) else None for slot in Slot}
    except ValidationError:
        return Refuse("Unreadable", f"The spec of the EntryPackage {metadata['name']} cannot be read.")
    changed = {
        slot: trigger
        for slot, trigger in newest.items()
        if trigger is not None and not _covered(slot, trigger, found[slot])
    }
    return _patch(spec, changed) if changed else Nothing()


def _newest(triggers: Sequence[Trigger]) -> Trigger | None:
    """Return the newest; of equally old ones the last that came."""
    best: Trigger | None = None
    for trigger in triggers:
        if best is None or trigger.occurred_at >= best.occurred_at:
            best = trigger
    return best


def _covered(slot: Slot, trigger: Trigger, found: Trigger | None) -> bool:
    """Whether what is in the slot serves the trigger too."""
    if found is None:
        return False
    if found.id == trigger.id:
        return True
    if slot is Slot.EVENT:
        return trigger.occurred_at <= found.occurred_at
    # A request by hand carries a person's clock, with which nothing is compared; clicks share Benchling's.
    both_clicks = trigger.type.startswith(CANVAS_TYPES) and found.type.startswith(CANVAS_TYPES)
    return both_clicks and trigger.occurred_at < found.occurred_at


def _create(entry_id: str, newest: Mapping[Slot, Trigger | None]) -> Create:
    slots = {slot.value: _written(trigger) for slot, trigger in newest.items() if trigger is not None}
    manifest = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {
            "name": object_name(entry_id),
            "labels": {LABEL_MANAGED_BY: MANAGED_BY},
            "annotations": {ANNOTATION_ENTRY: entry_id},
        },
        "spec": {"entryId": entry_id, **slots},
    }
    return Create(manifest, frozenset(slot["id"] for slot in slots.values()))


def _patch(spec: Mapping[str, Any], changed: Mapping[Slot, Trigger]) -> Patch:
    # A test of null passes on an absent member; adding to a present one replaces it whole.
    operations: list[dict[str, Any]] = [{"op": "test", "path": "/metadata/deletionTimestamp", "value": None}]
    for slot, trigger in changed.items():
        operations.append({"op": "test", "path": f"/spec/{slot}", "value": spec.get(slot)})
        operations.append({"op": "add", "path": f"/spec/{slot}", "value": _written(trigger)})
    return Patch(operations, frozenset(trigger.id for trigger in changed.values()))


def _written(trigger: Trigger) -> dict[str, Any]:
    return trigger.model_dump(mode="json", by_alias=True, exclude_none=True)
