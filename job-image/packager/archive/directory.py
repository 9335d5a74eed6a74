"""What an archive holds: from its directory by ranges, or by reading all of it where the origin serves no ranges."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from packager.archive.format import (
    DEFLATED,
    DESCRIPTOR_FLAG,
    ENCRYPTED_FLAGS,
    LOCAL_HEADER_BYTES,
    STORED,
    End,
    Member,
    decode_name,
    find_end,
    local_sizes,
    parse_directory,
    parse_local_header,
    quoted,
    refused,
)
from packager.archive.unpack import PIECE_BYTES, Unpacker
from packager.decisions.policy import Content, check_directory_size, examine, most_directory_bytes

if TYPE_CHECKING:
    from entrypackage.order import Limits
    from packager.archive.source import ArchiveSource, ByteReader

_NONE32: Final = 0xFFFFFFFF
_END_BYTES: Final = 66_000
"""The end records with the longest comment."""


async def read_content(archive: ArchiveSource, key_prefix: str, limits: Limits) -> Content:
    """Return the archive's files, every rule of the directory kept; raises `Failure` (`ArchiveRefused`)."""
    members, end = await (_by_ranges(archive, limits) if archive.ranged else _by_reading(archive, limits))
    return examine(members, end, key_prefix, limits)


async def _by_ranges(archive: ArchiveSource, limits: Limits) -> tuple[list[Member], End]:
    assert archive.size is not None
    end = find_end(archive.tail, archive.size)
    check_directory_size(end, limits)
    reader = archive.read(end.directory_offset, end.end_offset)
    try:
        raw = await reader.exactly(end.directory_bytes)
    finally:
        reader.close()
    return parse_directory(raw, end), end


@dataclass(slots=True)
class _FoundMembers:
    """The members found while an archive is read from its start."""

    members: dict[int, tuple[str, int, int, int]] = field(default_factory=dict)
    """Name, packed, size, CRC-32, by offset."""
    total: int = 0


async def _by_reading(archive: ArchiveSource, limits: Limits) -> tuple[list[Member], End]:
    reader = archive.read(0, None)
    found_members = _FoundMembers()
    try:
        while (start := await reader.exactly(4)) == b"PK\x03\x04":
            reader.unread(start)
            await _read_past_member(reader, found_members, limits)
        reader.unread(start)
        begin = reader.at
        tail = await _rest(reader, most_directory_bytes(len(found_members.members)) + _END_BYTES)
    finally:
        reader.close()
    archive.size = reader.at
    end = find_end(tail, reader.at)
    check_directory_size(end, limits)
    if end.directory_offset != begin:
        raise refused("The archive's directory is not behind its last member.")
    members = parse_directory(tail[: end.directory_bytes], end)
    listed = {member.offset: (member.name, member.packed, member.size, member.crc32) for member in members}
    if listed != found_members.members:
        raise refused("The archive's directory does not list the members that the archive has.")
    return members, end


async def _rest(reader: ByteReader, most: int) -> bytes:
    pieces = []
    total = 0
    while piece := await reader.some(PIECE_BYTES):
        total += len(piece)
        if total > most:
            raise refused("The archive's directory is far larger than its members explain.")
        pieces.append(piece)
    return b"".join(pieces)


async def _read_past_member(reader: ByteReader, found_members: _FoundMembers, limits: Limits) -> None:
    offset = reader.at
    header = parse_local_header(await reader.exactly(LOCAL_HEADER_BYTES), f"byte {offset}")
    trailing = await reader.exactly(header.trailing_bytes)
    name = decode_name(trailing[: header.name_bytes], header.flags)
    if len(found_members.members) >= limits.max_members:
        raise refused(f"The archive has more than the {limits.max_members} members that are taken.")
    if header.flags & ENCRYPTED_FLAGS:
        raise refused(f"The member {quoted(name)} is encrypted.")
    if header.method not in {STORED, DEFLATED}:
        raise refused(f"The member {quoted(name)} is compressed by method {header.method}; only deflate is read.")
    described = bool(header.flags & DESCRIPTOR_FLAG)
    packed, size = local_sizes(header, trailing)
    if described and header.method == STORED and not packed and not name.endswith("/"):
        raise refused(f"The member {quoted(name)} is stored without its size, and the origin serves no ranges.")
    if described and header.method == STORED and name.endswith("/"):
        packed = size = 0
    most = min(limits.max_member_bytes, limits.max_total_bytes - found_members.total)
    meter = _MemberMeter(name, limits, most)
    if described and header.method == DEFLATED:
        await meter.until_its_end(reader)
    else:
        await meter.exactly(reader, header.method, packed)
    if described:
        await _descriptor(reader, meter)
    elif (meter.packed, meter.size, meter.crc) != (packed, size, header.crc32):
        raise refused(f"The content of {quoted(name)} does not have the size or the CRC-32 that the archive claims.")
    found_members.total += meter.size
    found_members.members[offset] = (name, meter.packed, meter.size, meter.crc)


class _MemberMeter:
    """Unpacks a member whose size may be unknown, within the limits, and keeps only its size and CRC-32."""

    def __init__(self, name: str, limits: Limits, most: int) -> None:
        self.packed = 0
        self.size = 0
        self.crc = 0
        self._name = name
        self._ratio = limits.max_ratio
        self._most = most

    async def exactly(self, reader: ByteReader, method: int, packed: int) -> None:
        unpacker = Unpacker(Member(self._name, 0, packed, self._most, 0, method, 0, 0))
        left = packed
        while left:
            piece = await reader.some(min(left, PIECE_BYTES))
            if not piece:
                raise refused("The archive ends too early.")
            left -= len(piece)
            self.packed += len(piece)
            for out in unpacker.feed(piece):
                self._count(out)
        for out in unpacker.rest():
            self._count(out)
        self.crc = unpacker.crc32

    async def until_its_end(self, reader: ByteReader) -> None:
        unpacker = Unpacker(Member(self._name, 0, 0, self._most, 0, DEFLATED, 0, 0))
        while not unpacker.ended:
            piece = await reader.some(PIECE_BYTES)
            if not piece:
                raise refused("The archive ends too early.")
            self.packed += len(piece)
            for out in unpacker.feed(piece, open_ended=True):
                self._count(out)
        reader.unread(unpacker.behind)
        self.packed -= len(unpacker.behind)
        self.crc = unpacker.crc32

    def _count(self, out: bytes) -> None:
        self.size += len(out)
        if self.size > self._most:
            raise refused(f"The member {quoted(self._name)} unpacks to more than the {self._most} bytes allowed.")
        if self.size > max(self.packed, 1024) * self._ratio:
            raise refused(f"The member {quoted(self._name)} unpacks to more than {self._ratio} times its size.")


async def _descriptor(reader: ByteReader, meter: _MemberMeter) -> None:
    """Read the data descriptor, of which four forms exist; the right one is the one that is true."""
    plain = struct.pack("<3I", meter.crc, meter.packed & _NONE32, meter.size & _NONE32)
    wide = struct.pack("<I2Q", meter.crc, meter.packed, meter.size)
    found = await reader.exactly(4)
    mark = b"PK\x07\x08"
    if found == mark and not plain.startswith(mark):
        found = await reader.exactly(4)
    found += await reader.exactly(8)
    if found == plain and not (wide.startswith(plain) and await _zeros_follow(reader)):
        return
    found += await reader.exactly(8)
    if found != wide:
        raise refused("A member's data descriptor differs from its content.")


async def _zeros_follow(reader: ByteReader) -> bool:
    """Return whether the long form goes on.

    For an empty member it begins like the short one, and no header begins with zeros.
    """
    following = await reader.exactly(4)
    reader.unread(following)
    return following == bytes(4)
