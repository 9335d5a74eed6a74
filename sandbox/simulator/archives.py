"""What lies behind a presigned URL: something with a size, an ETag and readable ranges."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Protocol

from sandbox.simulator.content import Content, Deflated, Noise, Plain, Squeezed, Unpacked
from sandbox.simulator.zipstream import PIECE, Member

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox.simulator.notebook import Attachment


class Archive(Protocol):
    """Bytes that are made as they are read."""

    size: int
    etag: str

    def read(self, start: int, stop: int) -> bytes:
        """Bytes [start, stop), cut at the end."""

    def pieces(self, start: int = 0, stop: int | None = None, piece: int = PIECE) -> Iterator[bytes]:
        """Bytes [start, stop) piece by piece."""


class ContentArchive:
    """One content as it is, or another archive cut short or with a suffix."""

    def __init__(self, content: Content, *, name: str = "") -> None:
        self.size = content.packed
        self._content = content
        self.etag = hashlib.md5(f"{name}/{content.crc}/{self.size}".encode(), usedforsecurity=False).hexdigest()

    def read(self, start: int, stop: int) -> bytes:
        """Bytes [start, stop), cut at the end."""
        return self._content.read(start, min(stop, self.size))

    def pieces(self, start: int = 0, stop: int | None = None, piece: int = PIECE) -> Iterator[bytes]:
        """Bytes [start, stop) piece by piece."""
        end = self.size if stop is None else min(stop, self.size)
        for place in range(start, end, piece):
            yield self.read(place, min(place + piece, end))


def whole(payload: bytes) -> ContentArchive:
    """An archive of given bytes."""
    return ContentArchive(Plain(payload))


class Shortened:
    """The first part of another archive."""

    def __init__(self, inner: Archive, size: int) -> None:
        self._inner = inner
        self.size = min(size, inner.size)
        self.etag = f"{inner.etag[:-4]}cut0"

    def read(self, start: int, stop: int) -> bytes:
        """Bytes [start, stop), cut at the end."""
        return self._inner.read(start, min(stop, self.size))

    def pieces(self, start: int = 0, stop: int | None = None, piece: int = PIECE) -> Iterator[bytes]:
        """Bytes [start, stop) piece by piece."""
        return self._inner.pieces(start, self.size if stop is None else min(stop, self.size), piece)


def attachment_content(attachment: Attachment) -> Content:
    """The bytes of an attachment: incompressible and stored, or compressible and deflated."""
    if attachment.payload is not None:
        return Squeezed(attachment.payload) if attachment.deflated else Plain(attachment.payload)
    if attachment.deflated:
        return Deflated(attachment.size, attachment.seed)
    return Noise(attachment.size, attachment.seed)


def attachment_file(attachment: Attachment) -> ContentArchive:
    """An attachment outside any archive, unpacked."""
    if attachment.payload is not None:
        return ContentArchive(Plain(attachment.payload), name=attachment.seed)
    plain: Content = Noise(attachment.size, attachment.seed)
    if attachment.deflated:
        plain = Unpacked(Deflated(attachment.size, attachment.seed))
    return ContentArchive(plain, name=attachment.seed)


def unique_names(names: list[str]) -> list[str]:
    """Names as Benchling would put them side by side: a repeated one gets a number."""
    seen: dict[str, int] = {}
    given: list[str] = []
    for name in names:
        count = seen.get(name, 0)
        seen[name] = count + 1
        stem, dot, suffix = name.rpartition(".")
        given.append(name if not count else f"{stem} ({count}){dot}{suffix}" if dot else f"{name} ({count})")
    return given


def export_members(pdf_name: str, pdf: bytes, attachments: list[Attachment], *, descriptors: bool) -> list[Member]:
    """The members of an export: the rendered entry, then its attachments."""
    names = unique_names([pdf_name, *(attachment.name for attachment in attachments)])
    contents: list[Content] = [Squeezed(pdf), *map(attachment_content, attachments)]
    return [Member(name, content, descriptor=descriptors) for name, content in zip(names, contents, strict=True)]
