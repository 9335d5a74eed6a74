"""Webhook messages exactly as the webhook specification names their members, and the envelope around them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sandbox.simulator.clock import iso

if TYPE_CHECKING:
    from sandbox.simulator.settings import TenantSettings
    from sandbox.simulator.wire import Json

EVENTS = "events"
SIGNALS = "app_signals"
LIFECYCLE = {
    "v2.app.installed", "v2.app.activateRequested", "v2.app.deactivated", "v2-beta.app.configuration.updated",
}  # fmt: skip
CANVAS = {
    "v2.canvas.initialized", "v2.canvas.created", "v2-beta.canvas.created", "v2.canvas.userInteracted",
}  # fmt: skip


@dataclass(frozen=True)
class Outgoing:
    """A message that waits to be delivered; `subject` is what faults and tests know it by."""

    channel: str
    message: Json
    subject: str | None = None

    @property
    def type(self) -> str:
        """The message's type."""
        return str(self.message["type"])

    @property
    def suffix(self) -> str:
        """The path that SUFFIXED routing appends."""
        if self.channel == EVENTS:
            return "/event"
        return "/lifecycle" if self.type in LIFECYCLE else "/canvas"


def entry_message(
    kind: str, *, event_id: str, created_at: float, entry_id: str, schema_id: str | None, updates: list[str] | None
) -> Outgoing:
    """One of the v2.entry.* messages."""
    message: Json = {
        "id": event_id,
        "type": kind,
        "deprecated": False,
        "createdAt": iso(created_at),
        "resourceId": entry_id,
        "schema": None if schema_id is None else {"id": schema_id},
    }
    if updates is not None:
        message["updates"] = updates
    return Outgoing(EVENTS, message, entry_id)


def canvas_message(kind: str, *, subject: str, **members: Any) -> Outgoing:
    """One of the canvas messages; the members differ by type (see the webhook specification)."""
    message = {"type": kind, "deprecated": kind.startswith("v2-beta"), **members}
    return Outgoing(SIGNALS, message, subject)


def lifecycle_message(kind: str) -> Outgoing:
    """One of the app's life cycle messages."""
    return Outgoing(SIGNALS, {"type": kind, "deprecated": False})


def envelope(outgoing: Outgoing, settings: TenantSettings, tenant_url: str) -> Json:
    """The whole body of a delivery."""
    return {
        "version": "0",
        "baseURL": tenant_url,
        "tenantId": settings.tenant_id,
        "app": {"id": settings.app_id},
        "appDefinition": {"id": settings.app_definition_id, "versionNumber": settings.app_version},
        "channel": outgoing.channel,
        "message": outgoing.message,
    }
