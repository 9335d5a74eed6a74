"""The objects under a package's prefix, as S3 describes them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ListedObject:
    """An object as a listing shows it."""

    size: int
    etag: str


@dataclass(frozen=True, slots=True)
class ObjectFacts:
    """An object as a HEAD shows it."""

    size: int
    crc32: int | None
    """Of the whole object; None where S3 keeps none, or only a checksum of checksums."""
    etag: str
    options: str = ""
    """The digest of the settings that it was stored with."""
