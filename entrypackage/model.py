"""The base of every typed model: camelCase outside, snake_case inside, frozen, unknown members ignored."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, PlainSerializer
from pydantic.alias_generators import to_camel


class Model(BaseModel):
    """A frozen value that is written in camelCase and tolerates members that it does not know."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        extra="ignore",
        use_attribute_docstrings=True,
    )


def _as_utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("a time needs a zone, such as the Z in 2026-01-31T12:00:00Z")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("a time must lie within the years 1 to 9999 of UTC") from None


def render_time(value: datetime) -> str:
    """Write an instant as RFC 3339 in UTC, with microseconds only where it has some."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


Instant = Annotated[datetime, AfterValidator(_as_utc), PlainSerializer(render_time, return_type=str)]
"""A point in time with a zone, held in UTC and written as RFC 3339 with ``Z``."""
