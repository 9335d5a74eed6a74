"""Which archives are taken: names, kinds, sizes, order. Each rule has a row in docs/package-format.md.

Pure. A rule that is broken raises `Failure` (`ArchiveRefused`) whose sentence names the member.
"""

from __future__ import annotations

import re
import stat
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from packager.archive.format import (
    DEFLATED,
    ENCRYPTED_FLAGS,
    LARGEST_GAP,
    LOCAL_HEADER_BYTES,
    STORED,
    End,
    Member,
    quoted,
    refused,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from entrypackage.order import Limits

METADATA_FILES: Final = ("entry.json", "entry_data.json", "input.json", "links.json", "README.md")
"""What the packager writes itself; a member of that name moves to ``attachments/``."""

KEY_BYTES: Final = 1024
"""The longest key that S3 takes, in bytes of UTF-8."""

_DIRECTORY_ROW_BYTES: Final = 46 + KEY_BYTES + 256
"""The longest honest row of a directory: its fixed part, a name that S3 takes, and a few extra fields."""

_DIRECTORY_BYTES: Final = 64 * 1024 * 1024
"""The directory is held in memory; that of 250,000 members with names of 150 bytes takes 49 MiB."""

_DRIVE: Final = re.compile(r"[A-Za-z]:")
_METHODS: Final = {
    1: "shrink", 6: "implode", 9: "Deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 95: "xz", 96: "JPEG",
    97: "WavPack", 98: "PPMd", 99: "AES encryption",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class File:
    """A member that becomes a file of the package, and its name there."""

    member: Member
    name: str
    """Relative to the package."""
    until: int
    """Where in the archive the next member or the directory begins."""

    @property
    def moved(self) -> bool:
        """Whether it was renamed because a metadata file has its name."""
        return self.name != self.member.name


@dataclass(frozen=True, slots=True)
class Content:
    """The files of an archive that keeps all rules."""

    files: Sequence[File]
    """In the archive's order."""
    total_bytes: int
    notices: Sequence[str]


def most_directory_bytes(members: int) -> int:
    """Return how long the directory of so many members may be."""
    return min(64 * 1024 + members * _DIRECTORY_ROW_BYTES, _DIRECTORY_BYTES)


def check_directory_size(end: End, limits: Limits) -> None:
    """Refuse a directory that lists too much before it is fetched and read."""
    if end.members > limits.max_members:
        raise refused(f"The archive lists {end.members} members; at most {limits.max_members} are taken.")
    if end.directory_bytes > most_directory_bytes(end.members):
        raise refused("The archive's directory is far larger than its members explain.")


def examine(members: Sequence[Member], end: End, key_prefix: str, limits: Limits) -> Content:
    """Apply every rule that the directory alone can break, and name the files of the package."""
    ordered = sorted(members, key=lambda member: member.offset)
    spaces = _spaces(ordered, end)
    total = 0
    taken: set[str] = set()
    for member in members:
        _check_name(member.name)
        _check_kind(member)
        _check_sizes(member, limits)
        total += member.size
        if member.name in taken:
            raise refused(f"The archive has two members called {quoted(member.name)}.")
        taken.add(member.name)
    if total > limits.max_total_bytes:
        raise refused(f"The archive unpacks to {total} bytes; at most {limits.max_total_bytes} are taken.")
    files = []
    for member, until in zip(ordered, spaces, strict=True):
        if member.is_folder:
            continue
        name = _name_in_package(member.name, taken)
        if len((key_prefix + name).encode()) > KEY_BYTES:
            raise refused(f"The name of {quoted(member.name)} is too long for S3's keys of {KEY_BYTES} bytes.")
        files.append(File(member, name, until))
    taken.update(METADATA_FILES, (file.name for file in files if file.moved))
    _check_nesting(taken)
    return Content(files, total, _notices(files))


def _spaces(ordered: Sequence[Member], end: End) -> list[int]:
    """Return where each member's space ends, having checked that the members follow each other without overlap."""
    if ordered and ordered[0].offset != 0:
        raise refused(f"The archive has bytes before its first member {quoted(ordered[0].name)}.")
    if not ordered and end.directory_offset:
        raise refused("The archive has bytes before its directory that belong to no member.")
    ends = [member.offset for member in ordered[1:]] + ([end.directory_offset] if ordered else [])
    for member, until in zip(ordered, ends, strict=True):
        least = LOCAL_HEADER_BYTES + len(member.name.encode("utf-8", "surrogatepass")) // 4 + member.packed
        if until - member.offset < least:
            raise refused(f"The archive's members overlap at {quoted(member.name)}.")
        if until - member.offset > LOCAL_HEADER_BYTES + 2 * 65535 + member.packed + LARGEST_GAP:
            raise refused(f"The archive has bytes behind {quoted(member.name)} that belong to no member.")
    return ends


def _check_name(name: str) -> None:
    bare = name.removesuffix("/")
    if not bare:
        raise refused("The archive has a member without a name.")
    if name.startswith("/"):
        raise refused(f"The name of {quoted(name)} is absolute.")
    if "\\" in name:
        raise refused(f"The name of {quoted(name)} holds a backslash.")
    if _DRIVE.match(name):
        raise refused(f"The name of {quoted(name)} begins with a drive letter.")
    if any(unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in name):
        raise refused(f"The name of {quoted(name)} holds control characters.")
    if any(segment in {"", ".", ".."} for segment in bare.split("/")):
        raise refused(f'The name of {quoted(name)} holds an empty part, "." or "..".')


def _check_kind(member: Member) -> None:
    if member.flags & ENCRYPTED_FLAGS:
        raise refused(f"The member {quoted(member.name)} is encrypted.")
    if member.method not in {STORED, DEFLATED}:
        method = _METHODS.get(member.method, f"number {member.method}")
        raise refused(f"The member {quoted(member.name)} is compressed by {method}; only deflate is read.")
    kind = stat.S_IFMT(member.mode)
    allowed = {0, stat.S_IFREG, stat.S_IFDIR} if member.is_folder else {0, stat.S_IFREG}
    if kind not in allowed:
        raise refused(f"The member {quoted(member.name)} is a link, a device or the like and no file.")
    if member.is_folder and (member.size or member.packed > 2):
        raise refused(f"The folder {quoted(member.name)} claims to have content.")


def _check_sizes(member: Member, limits: Limits) -> None:
    if member.size > limits.max_member_bytes:
        raise refused(
            f"The member {quoted(member.name)} unpacks to {member.size} bytes; "
            f"at most {limits.max_member_bytes} are taken."
        )
    if member.method == STORED and member.packed != member.size:
        raise refused(f"The member {quoted(member.name)} is stored, yet its two sizes differ.")
    if member.size > max(member.packed, 1) * limits.max_ratio:
        raise refused(
            f"The member {quoted(member.name)} claims to unpack to more than {limits.max_ratio} times its size."
        )
    if member.packed > member.size + member.size // 1000 + 1024:
        raise refused(f"The member {quoted(member.name)} is far larger packed than unpacked.")


def _check_nesting(names: set[str]) -> None:
    """Refuse a name that is a file and also a folder of others: no file system and no package browser can show both.

    `names` are those of the package, so that the packager's own files and what was moved for them count as well.
    """
    folders = {parent for name in names for parent in _parents(name)}
    for name in names:
        if not name.endswith("/") and name in folders:
            raise refused(f"The package would have {quoted(name)} as a file and as a folder.")


def _parents(name: str) -> Iterable[str]:
    at = name.find("/")
    while at >= 0:
        if at < len(name) - 1:
            yield name[:at]
        at = name.find("/", at + 1)


def _name_in_package(name: str, taken: set[str]) -> str:
    if name not in METADATA_FILES:
        return name
    moved = f"attachments/{name}"
    while moved in taken:
        moved = f"attachments/{moved}"
    return moved


def _notices(files: Sequence[File]) -> list[str]:
    notices = []
    folded: dict[str, str] = {}
    clashes = 0
    for file in files:
        twin = folded.setdefault(unicodedata.normalize("NFC", file.name).casefold(), file.name)
        if twin != file.name:
            clashes += 1
            if clashes == 1:
                notices.append(f"{quoted(twin)} and {quoted(file.name)} differ only in case or accents' encoding.")
    if clashes > 1:
        notices.append(f"So do {clashes - 1} more pairs of names.")
    return notices
