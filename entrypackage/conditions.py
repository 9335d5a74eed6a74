"""Conditions of a resource: their types, the reasons that are not failures, and how one is set."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from entrypackage.model import Instant, Model

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

MESSAGE_CHARS = 1024


class ConditionType(StrEnum):
    """The conditions of an EntryPackage, all of them set from the first visit on."""

    READY = "Ready"
    EXPORTED = "Exported"
    PACKAGED = "Packaged"
    NOTIFIED = "Notified"
    STALLED = "Stalled"
    SUSPENDED = "Suspended"


class Reason(StrEnum):
    """Reasons of conditions and events that are no failure; failures use the names of `FailureClass`."""

    NOTHING_ASKED = "NothingAsked"
    NOT_YET = "NotYet"
    PENDING = "Pending"
    EXPORTING = "Exporting"
    EXPORTED = "Exported"
    PACKING = "Packing"
    WRITING = "Writing"
    PACKAGED = "Packaged"
    INCOMPLETE = "Incomplete"
    PARTLY_WRITTEN = "PartlyWritten"
    NOTIFIED = "Notified"
    UNCHANGED = "Unchanged"
    PROGRESSING = "Progressing"
    WAITING_FOR_POD = "WaitingForPod"
    SUSPENDED = "Suspended"
    RUNNING = "Running"
    RETRYING = "Retrying"
    DISPLAY_ID_CHANGED = "DisplayIdChanged"
    EXPORT_ORPHANED = "ExportOrphaned"
    JOB_CREATED = "JobCreated"
    NOTICE = "Notice"


ConditionStatus = Literal["True", "False", "Unknown"]


class Condition(Model):
    """One observed aspect of the EntryPackage, as Kubernetes writes conditions. Set by the controller."""

    type: Annotated[str, Field(max_length=64, pattern=r"^[A-Z][A-Za-z0-9]*$")]
    """The name of the condition: Ready, Exported, Packaged, Notified, Stalled or Suspended."""

    status: ConditionStatus
    """True, False, or Unknown where the controller cannot tell yet."""

    reason: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Z][A-Za-z0-9]*$")]
    """The cause of the status as one CamelCase word: a reason of docs/operations.md or a failure of
    docs/failures.md."""

    message: Annotated[str, Field(max_length=MESSAGE_CHARS)] = ""
    """The cause of the status as a sentence for a person, with what can be done about it."""

    observed_generation: Annotated[int | None, Field(ge=0)] = None
    """The metadata.generation of the object that the condition was derived from."""

    last_transition_time: Instant
    """The time at which the status last changed, by the controller's clock; a new reason or message leaves it."""


def find_condition(conditions: Sequence[Condition], kind: ConditionType) -> Condition | None:
    """Return the condition of that type, if there is one."""
    return next((condition for condition in conditions if condition.type == kind), None)


def set_condition(
    conditions: Sequence[Condition],
    kind: ConditionType,
    status: ConditionStatus,
    reason: str,
    message: str,
    *,
    generation: int,
    now: datetime,
) -> list[Condition]:
    """Return the conditions with one replaced or added; the transition time moves only with the status."""
    old = find_condition(conditions, kind)
    since = old.last_transition_time if old is not None and old.status == status else now.replace(microsecond=0)
    text = message if len(message) <= MESSAGE_CHARS else message[: MESSAGE_CHARS - 1] + "…"
    new = Condition(
        type=kind,
        status=status,
        reason=reason,
        message=text,
        observed_generation=generation,
        last_transition_time=since,
    )
    if old is None:
        return [*conditions, new]
    return [new if condition.type == kind else condition for condition in conditions]
