"""A ZIP archive of known size that is never held: every byte range is made when it is asked for."""

from __future__ import annotations

import bisect
import hashlib
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sandbox.simulator.content import Content

FLAG_ENCRYPTED = 0x0001
FLAG_DESCRIPTOR = 0x0008
FLAG_UTF8 = 0x0800
LIMIT_32 = 0xFFFFFFFF
LIMIT_16 = 0xFFFF
PIECE = 256 * 1024
"""Bytes of one piece of a streamed body."""


@dataclass(frozen=True)
class Member:
    """One file of an archive. The members after `descriptor` exist for archives that lie."""

    name: str
    content: Content
    descriptor: bool = False
    local_name: str | None = None
    flags: int = 0
    method: int | None = None
    claimed_size: int | None = None
    claimed_packed: int | None = None
    claimed_crc: int | None = None
    unix_mode: int = 0o100644

    @property
    def all_flags(self) -> int:
        """General purpose bits, as both headers carry them."""
        utf8 = 0 if self.name.isascii() else FLAG_UTF8
        return self.flags | utf8 | (FLAG_DESCRIPTOR if self.descriptor else 0)

    @property
    def size(self) -> int:
        """The unpacked size that the headers claim."""
        return self.content.size if self.claimed_size is None else self.claimed_size

    @property
    def packed(self) -> int:
        """The packed size that the headers claim."""
        return self.content.packed if self.claimed_packed is None else self.claimed_packed

    @property
    def crc(self) -> int:
        """The CRC-32 that the headers claim."""
        return self.content.crc if self.claimed_crc is None else self.claimed_crc

    @property
    def packing(self) -> int:
        """The method that the headers claim."""
        return self.content.method if self.method is None else self.method

    @property
    def length(self) -> int:
        """Bytes that the member takes with its headers, as `local_header` and `descriptor_of` write them."""
        name = self.name if self.local_name is None else self.local_name
        wide = self.needs_zip64
        behind = (24 if wide else 16) if self.descriptor else 0
        return 30 + len(name.encode()) + (20 if wide else 0) + self.content.packed + behind

    @property
    def needs_zip64(self) -> bool:
        """Whether a size doesn't fit into 32 bits."""
        return self.size >= LIMIT_32 or self.packed >= LIMIT_32


_DOS_TIME = 12 << 11
_DOS_DATE = (2026 - 1980) << 9 | 1 << 5 | 5


def local_header(member: Member) -> bytes:
    """The header in front of a member's bytes."""
    name = (member.name if member.local_name is None else member.local_name).encode()
    extra = b""
    crc, packed, size = member.crc, member.packed, member.size
    if member.needs_zip64:
        sizes = (0, 0) if member.descriptor else (size, packed)
        extra = struct.pack("<HHQQ", 1, 16, *sizes)
        packed = size = LIMIT_32
    elif member.descriptor:
        packed = size = 0
    if member.descriptor:
        crc = 0
    fixed = struct.pack(
        "<4sHHHHHIIIHH", b"PK\3\4", 45 if extra else 20, member.all_flags, member.packing, _DOS_TIME, _DOS_DATE,
        crc, packed, size, len(name), len(extra),
    )  # fmt: skip
    return fixed + name + extra


def descriptor_of(member: Member) -> bytes:
    """The sizes and the sum behind a member's bytes, if it has such a record."""
    if not member.descriptor:
        return b""
    shape = "<4sIQQ" if member.needs_zip64 else "<4sIII"
    return struct.pack(shape, b"PK\7\x08", member.crc, member.packed, member.size)


def central_header(member: Member, offset: int) -> bytes:
    """The member's line in the directory."""
    name = member.name.encode()
    wide = b""
    size, packed, place = member.size, member.packed, offset
    if member.needs_zip64:
        wide += struct.pack("<QQ", size, packed)
        size = packed = LIMIT_32
    if offset >= LIMIT_32:
        wide += struct.pack("<Q", offset)
        place = LIMIT_32
    extra = struct.pack("<HH", 1, len(wide)) + wide if wide else b""
    fixed = struct.pack(
        "<4sHHHHHHIIIHHHHHII", b"PK\1\2", 3 << 8 | 45, 45 if wide else 20, member.all_flags, member.packing,
        _DOS_TIME, _DOS_DATE, member.crc, packed, size, len(name), len(extra), 0, 0, 0,
        member.unix_mode << 16, place,
    )  # fmt: skip
    return fixed + name + extra


def end_records(count: int, offset: int, size: int, *, zip64: bool = False, comment: bytes = b"") -> bytes:
    """The end of the archive: with the 64-bit records if asked for or needed."""
    records = b""
    if zip64 or count >= LIMIT_16 or offset >= LIMIT_32 or size >= LIMIT_32:
        records = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, offset)
        records += struct.pack("<4sIQI", b"PK\6\7", 0, offset + size, 1)
    short = min(count, LIMIT_16)
    places = min(size, LIMIT_32), min(offset, LIMIT_32)
    return records + struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, short, short, *places, len(comment)) + comment


class ZipStream:
    """An archive over its members; `read` makes any slice of it.

    `size` and `etag` are known at once. Memory: the members, and one directory line for each.
    """

    def __init__(
        self, members: Sequence[Member], *, zip64: bool = False, suffix: bytes = b"", comment: bytes = b""
    ) -> None:
        self.members = tuple(members)
        self._starts: list[int] = []
        lines: list[bytes] = []
        offset = 0
        for member in self.members:
            self._starts.append(offset)
            lines.append(central_header(member, offset))
            offset += member.length
        directory = b"".join(lines)
        self._directory_at = offset
        end = end_records(len(lines), offset, len(directory), zip64=zip64, comment=comment)
        self._ending = directory + end + suffix
        self.size = offset + len(self._ending)
        self.etag = hashlib.md5(self._ending, usedforsecurity=False).hexdigest()

    def read(self, start: int, stop: int) -> bytes:
        """Bytes [start, stop) of the archive, cut at its end."""
        stop = min(stop, self.size)
        parts: list[bytes] = []
        place = start
        while place < min(stop, self._directory_at):
            index = bisect.bisect_right(self._starts, place) - 1
            part = self._member_bytes(index, place, stop)
            parts.append(part)
            place += len(part)
        if place < stop:
            parts.append(self._ending[place - self._directory_at : stop - self._directory_at])
        return b"".join(parts)

    def _member_bytes(self, index: int, start: int, stop: int) -> bytes:
        """The bytes of one member, headers included, from `start` to `stop` or the member's end."""
        member = self.members[index]
        head, tail = local_header(member), descriptor_of(member)
        first = self._starts[index]
        border = first + len(head)
        ending = border + member.content.packed
        parts = [head[max(0, start - first) : max(0, stop - first)]]
        low, high = max(start, border), min(stop, ending)
        if low < high:
            parts.append(member.content.read(low - border, high - border))
        parts.append(tail[max(0, start - ending) : max(0, stop - ending)])
        return b"".join(parts)

    def pieces(self, start: int = 0, stop: int | None = None, piece: int = PIECE) -> Iterator[bytes]:
        """Bytes [start, stop) in pieces of `piece` bytes (the last one shorter)."""
        end = self.size if stop is None else min(stop, self.size)
        for place in range(start, end, piece):
            yield self.read(place, min(place + piece, end))
