"""Trigger: why a package is wanted; one shape for Benchling's events and for a person's wishes."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from entrypackage.model import Instant, Model

MESSAGE_CHARS: Final = 8192
"""The longest message that a trigger carries, in characters."""


TIME_PATTERN: Final = r"^[12][0-9]{3}-.*([Zz]|[+-](0[0-9]|1[0-4]):[0-5][0-9])$"
"""The API server takes years and zones that Python's clock cannot hold; an object with one could never be read."""


class Trigger(Model):
    """The reason for which a package is wanted."""

    id: Annotated[str, Field(min_length=1, max_length=128)]
    """An id that no other trigger of the entry has: Benchling's event id, the webhook-id of a click, or any fresh word
    for a re-run by hand. Set by the receiver or by a person."""

    type: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """The kind of trigger: Benchling's message type such as v2.entry.updated.fields or v2.canvas.userInteracted, or
    manual for a re-run by hand. Set by the receiver or by a person."""

    occurred_at: Annotated[Instant, Field(json_schema_extra={"pattern": TIME_PATTERN})]
    """The time of the event by Benchling's clock, of the click, or of the request by hand, as RFC 3339 with a zone. It
    becomes the export timestamp of the package. Set by the receiver or by a person."""

    user_id: Annotated[str | None, Field(max_length=128)] = None
    """Benchling's id of the user who asked; absent where it is not known. Set by the receiver or by a person."""

    message: Annotated[str | None, Field(max_length=MESSAGE_CHARS)] = None
    """The webhook message as JSON in one string, for entry.json; a message of more than 8192 characters is stored
    without its updates and marked. Set by the receiver."""


class Taken(Model):
    """The ids of the triggers that the newest attempt serves."""

    event_id: Annotated[str | None, Field(max_length=128)] = None
    """The id that spec.event had when the newest attempt began. Set by the controller."""

    request_id: Annotated[str | None, Field(max_length=128)] = None
    """The id that spec.request had when the newest attempt began. Set by the controller."""
