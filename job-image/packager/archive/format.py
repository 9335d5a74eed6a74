"""The ZIP format, as far as an export needs it: the end record, the directory and the members' own headers.

Pure parsing. What parses and still is unacceptable is for `packager.decisions.policy`; fetching is for
`packager.archive.source`. Numbers are those of APPNOTE.TXT 6.3.10.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from entrypackage.failures import Failure, FailureClass

STORED: Final = 0
DEFLATED: Final = 8

ENCRYPTED_FLAGS: Final = 0x0001 | 0x0040 | 0x2000
DESCRIPTOR_FLAG: Final = 0x0008
UTF8_FLAG: Final = 0x0800

LOCAL_HEADER_BYTES: Final = 30
TAIL_BYTES: Final = 256 * 1024
"""What is asked for first: it holds the end record (at most 65,557 bytes with its comment) and most directories."""

_LOCAL: Final = struct.Struct("<4s5H3I2H")
_CENTRAL: Final = struct.Struct("<4s6H3I5H2I")
_END: Final = struct.Struct("<4s4H2IH")
_END64: Final = struct.Struct("<4sQ2H2I4Q")
_LOCATOR64: Final = struct.Struct("<4sIQI")
_NONE16: Final = 0xFFFF
_NONE32: Final = 0xFFFFFFFF


def refused(sentence: str) -> Failure:
    """Return the failure (`ArchiveRefused`) for an unacceptable archive."""
    return Failure(FailureClass.ARCHIVE_REFUSED, sentence)


def quoted(name: str) -> str:
    """Quote a member's name for a person, without control characters and at most 120 characters long."""
    printable = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in name)
    return f'"{printable[:119]}…"' if len(printable) > 120 else f'"{printable}"'


@dataclass(frozen=True, slots=True)
class Member:
    """One file or folder of the archive, as the directory describes it."""

    name: str
    offset: int
    """Where its own header begins."""
    packed: int
    """Bytes in the archive, without headers."""
    size: int
    """Bytes unpacked."""
    crc32: int
    method: int
    flags: int
    mode: int
    """Unix file mode; 0 where the archive was not made by Unix."""

    @property
    def is_folder(self) -> bool:
        """Whether it stands for a folder and not for a file."""
        return self.name.endswith("/")


@dataclass(frozen=True, slots=True)
class End:
    """Where the directory is."""

    members: int
    directory_offset: int
    directory_bytes: int
    end_offset: int
    """Where the first end record begins: right behind the directory."""


def find_end(tail: bytes, size: int) -> End:
    """Find the directory from an archive's last bytes, where `size` is that of the whole archive."""
    at = tail.rfind(b"PK\x05\x06")
    while at >= 0:
        if len(tail) - at >= _END.size:
            fields = _END.unpack_from(tail, at)
            if at + _END.size + fields[7] == len(tail):
                return _end(tail, size, at, fields)
        at = tail.rfind(b"PK\x05\x06", 0, at)
    raise refused("The archive is truncated or no ZIP: it does not end with an end record.")


def _end(tail: bytes, size: int, at: int, fields: tuple[int, ...]) -> End:
    _, disk, first_disk, here, members, length, offset, _ = fields
    end_offset = size - len(tail) + at
    located = _end64(tail, size, at)
    if located is not None:
        plain = (members, length, offset)
        wide = (located.members, located.directory_bytes, located.directory_offset)
        if any(a not in {b, none} for a, b, none in zip(plain, wide, (_NONE16, _NONE32, _NONE32), strict=True)):
            raise refused("The archive's two end records contradict each other.")
        return located
    if disk or first_disk or here != members:
        raise refused("The archive is one part of several, or its end record contradicts itself.")
    return _checked(End(members, offset, length, end_offset))


def _end64(tail: bytes, size: int, at: int) -> End | None:
    locator = at - _LOCATOR64.size
    if locator < 0 or tail[locator : locator + 4] != b"PK\x06\x07":
        return None
    _, disk, offset, disks = _LOCATOR64.unpack_from(tail, locator)
    start = offset - (size - len(tail))
    if disk or disks > 1 or not 0 <= start <= locator - _END64.size or tail[start : start + 4] != b"PK\x06\x06":
        raise refused("The archive's ZIP64 end record is not where the archive says.")
    _, length, _, _, disk, first_disk, here, members, directory_bytes, directory_offset = _END64.unpack_from(
        tail, start
    )
    if start + 12 + length != locator or disk or first_disk or here != members:
        raise refused("The archive's ZIP64 end record contradicts itself.")
    return _checked(End(members, directory_offset, directory_bytes, offset))


def _checked(end: End) -> End:
    if end.directory_offset + end.directory_bytes != end.end_offset:
        raise refused("The archive has bytes before, behind or inside its directory that do not belong there.")
    if end.members * _CENTRAL.size > end.directory_bytes:
        raise refused("The archive's directory is too short for the members that it claims.")
    return end


def parse_directory(raw: bytes, end: End) -> list[Member]:
    """Read the directory in its own order; raises `Failure` (`ArchiveRefused`) if it is damaged."""
    members = []
    at = 0
    for _ in range(end.members):
        if len(raw) - at < _CENTRAL.size or raw[at : at + 4] != b"PK\x01\x02":
            raise refused("The archive's directory is damaged.")
        fields = _CENTRAL.unpack_from(raw, at)
        name_end = at + _CENTRAL.size + fields[10]
        extra_end = name_end + fields[11]
        following = extra_end + fields[12]
        if following > len(raw):
            raise refused("The archive's directory is damaged.")
        members.append(_member(fields, raw[at + _CENTRAL.size : name_end], raw[name_end:extra_end]))
        at = following
    if at != len(raw):
        raise refused("The archive's directory has more in it than the members that it claims.")
    return members


def _member(fields: tuple[int, ...], raw_name: bytes, extra: bytes) -> Member:
    _, made_by, _, flags, method, _, _, crc, packed, size, _, _, _, disk, _, attributes, offset = fields
    name = decode_name(raw_name, flags)
    if _NONE32 in {packed, size, offset}:
        size, packed, offset = _zip64(extra, size, packed, offset, name)
    if disk not in {0, _NONE16}:
        raise refused(f"The archive is one part of several: {quoted(name)} is in another.")
    mode = attributes >> 16 if made_by >> 8 == 3 else 0
    return Member(name, offset, packed, size, crc, method, flags, mode)


def _zip64(extra: bytes, size: int, packed: int, offset: int, name: str) -> tuple[int, int, int]:
    field = find_extra(extra, 0x0001)
    values = [int.from_bytes(field[at : at + 8], "little") for at in range(0, len(field) - 7, 8)]
    resolved = []
    for value in (size, packed, offset):
        if value == _NONE32:
            if not values:
                raise refused(f"The archive's directory lacks the ZIP64 sizes of {quoted(name)}.")
            resolved.append(values.pop(0))
        else:
            resolved.append(value)
    return resolved[0], resolved[1], resolved[2]


def find_extra(extra: bytes, wanted: int) -> bytes:
    """Return one extra field's content; empty if it is absent."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == wanted:
            return extra[at + 4 : at + 4 + length]
        at += 4 + length
    return b""


def decode_name(raw: bytes, flags: int) -> str:
    """Read a member's name: UTF-8 if it says so or is valid as such, else code page 437, by the rule of ZIP."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        if flags & UTF8_FLAG:
            raise refused(f"A member's name claims to be UTF-8 and is not: {quoted(raw.decode('latin-1'))}.") from None
        return raw.decode("cp437")


@dataclass(frozen=True, slots=True)
class LocalHeader:
    """A member's own header, as far as it stands before the name."""

    flags: int
    method: int
    crc32: int
    packed: int
    size: int
    name_bytes: int
    extra_bytes: int

    @property
    def trailing_bytes(self) -> int:
        """Length of what stands between this fixed part and the content."""
        return self.name_bytes + self.extra_bytes


def parse_local_header(raw: bytes, name: str) -> LocalHeader:
    """Read the 30 fixed bytes; `name` is the directory's, for the message."""
    if len(raw) < LOCAL_HEADER_BYTES or raw[:4] != b"PK\x03\x04":
        raise refused(f"The archive has no member where its directory says that {quoted(name)} is.")
    _, _, flags, method, _, _, crc, packed, size, name_bytes, extra_bytes = _LOCAL.unpack_from(raw)
    return LocalHeader(flags, method, crc, packed, size, name_bytes, extra_bytes)


def local_sizes(header: LocalHeader, trailing: bytes) -> tuple[int, int]:
    """Return a member's packed and unpacked size as its own header says them, here or in its ZIP64 field."""
    if _NONE32 not in {header.packed, header.size}:
        return header.packed, header.size
    field = find_extra(trailing[header.name_bytes :], 0x0001)
    if len(field) < 16:
        return header.packed, header.size
    return int.from_bytes(field[8:16], "little"), int.from_bytes(field[:8], "little")


def check_local_header(member: Member, header: LocalHeader, trailing: bytes) -> None:
    """Raise `Failure` (`ArchiveRefused`) unless a member's own header says the same as the directory."""
    name = decode_name(trailing[: header.name_bytes], header.flags)
    packed, size = local_sizes(header, trailing)
    agree = name == member.name and header.method == member.method
    agree = agree and (header.flags & ENCRYPTED_FLAGS) == (member.flags & ENCRYPTED_FLAGS)
    if header.flags & DESCRIPTOR_FLAG:
        # Sizes then stand behind the content; zero or the true ones may stand here.
        agree = agree and packed in {0, member.packed, _NONE32} and size in {0, member.size, _NONE32}
        agree = agree and header.crc32 in {0, member.crc32}
    else:
        agree = agree and (packed, size, header.crc32) == (member.packed, member.size, member.crc32)
    if not agree:
        raise refused(f"The archive's directory and the member's own header differ for {quoted(member.name)}.")


def check_gap(member: Member, header: LocalHeader, gap: bytes) -> None:
    """Raise `Failure` unless what stands between a member's content and what follows is its data descriptor."""
    if not gap and not header.flags & DESCRIPTOR_FLAG:
        return
    if header.flags & DESCRIPTOR_FLAG:
        plain = struct.pack("<3I", member.crc32, member.packed & _NONE32, member.size & _NONE32)
        wide = struct.pack("<I2Q", member.crc32, member.packed, member.size)
        if gap in {plain, b"PK\x07\x08" + plain, wide, b"PK\x07\x08" + wide}:
            return
    raise refused(
        f"The archive has bytes behind {quoted(member.name)} that belong to no member, or a wrong descriptor."
    )


LARGEST_GAP: Final = 24
"""Length of the longest data descriptor."""
