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
    """Why a package is wanted."""

    id: Annotated[str, Field(min_length=1, max_length=128)]
    """What tells it from other triggers: Benchling's event id, a webhook id, or any fresh word for a re-run by hand."""

    type: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """What happened, such as v2.entry.updated.fields, sweep.modified, backfill, v2.canvas.userInteracted or manual."""

    occurred_at: Annotated[Instant, Field(json_schema_extra={"pattern": TIME_PATTERN})]
    """When it happened. For events by Benchling's clock; it becomes the export timestamp of the package."""

    user_id: Annotated[str | None, Field(max_length=128)] = None
    """Who asked, where it is known."""

    message: Annotated[str | None, Field(max_length=MESSAGE_CHARS)] = None
    """The message's JSON as one string; of a longer message the updates are cut and it is marked."""


class Taken(Model):
    """The ids of the triggers that the newest attempt serves."""

    event_id: Annotated[str | None, Field(max_length=128)] = None
    """The id of spec.event when the attempt was begun."""

    request_id: Annotated[str | None, Field(max_length=128)] = None
    """The id of spec.request when the attempt was begun."""
