"""What is to be done about a delivery, by its message alone. Pure; `entrypackage.filing` decides the write itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from entrypackage.clicks import click_wish
from entrypackage.filing import Slot, Wish
from entrypackage.messages import (
    CanvasCreated,
    CanvasInitialized,
    CanvasInteracted,
    EntryMessage,
    Envelope,
    LifecycleMessage,
    UnknownMessage,
)
from entrypackage.trigger import Trigger
from receiver.answers import Accepted, DeliveryOutcome, Refusal, Why

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime


def check_tenant(envelope: Envelope, tenant_ids: Sequence[str]) -> None:
    """Raise `Refusal` (403) if the tenant is none of those configured; without any all are served."""
    if tenant_ids and envelope.tenant_id not in tenant_ids:
        raise Refusal(Why.TENANT_NOT_ALLOWED, "This receiver does not serve the delivery's tenant.")


def intake(envelope: Envelope, *, webhook_id: str, sent_at: datetime) -> Wish | Accepted:
    """Return the trigger to file, or the answer where there is none to file; raises `Refusal` for unknown types."""
    message = envelope.message
    match message:
        case EntryMessage():
            trigger = Trigger(id=message.id, type=message.type, occurred_at=message.created_at, message=envelope.text)
            return Wish(message.resource_id, Slot.EVENT, trigger)
        case CanvasInteracted() | CanvasInitialized():
            wish = click_wish(message, click_id=webhook_id, clicked_at=sent_at, text=envelope.text)
            return wish or Accepted(DeliveryOutcome.NOT_YET_SERVED, "The canvas asks for no package.")
        case CanvasCreated():
            return Accepted(DeliveryOutcome.NOT_YET_SERVED, "New canvases are not drawn yet.")
        case LifecycleMessage():
            return Accepted(DeliveryOutcome.ACKNOWLEDGED, "Noted.")
        case UnknownMessage():
            raise Refusal(
                Why.UNKNOWN_TYPE, "This release does not serve messages of this type: unsubscribe the app from it."
            )


def entry_of(envelope: Envelope, decided: Wish | Accepted | None) -> str | None:
    """Return the entry that a delivery is about, for the log; None if it names none."""
    if isinstance(decided, Wish):
        return decided.entry_id
    message = envelope.message
    return message.resource_id if isinstance(message, EntryMessage | CanvasInitialized) else None
