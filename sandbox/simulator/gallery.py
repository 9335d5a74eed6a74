"""Hostile and broken archives by name, usable without the simulator."""

from __future__ import annotations

import difflib
import io
import zipfile
from typing import TYPE_CHECKING

from sandbox.simulator.archives import Archive, Shortened, whole
from sandbox.simulator.content import Content, Deflated, Noise, Plain, Squeezed
from sandbox.simulator.zipstream import (
    FLAG_ENCRYPTED,
    Member,
    ZipStream,
    central_header,
    descriptor_of,
    end_records,
    local_header,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_TEXT = Plain(b"an ordinary member\n")
_PACKAGE_FILES = ("entry.json", "input.json", "README.md", "entry_data.json", "links.json")
_GOOD = Member("good.txt", _TEXT)


class UnknownArchive(ValueError):  # noqa: N818 - a person's mistake
    """A name that the gallery doesn't have; the message names the nearest one."""

    def __init__(self, name: str) -> None:
        near = difflib.get_close_matches(name, list(GALLERY), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        super().__init__(f"there is no archive named {name!r} in the gallery{hint}")


def _named(*names: str) -> Callable[[], Archive]:
    return lambda: ZipStream([_GOOD, *(Member(name, Plain(f"{name!r}\n".encode())) for name in names)])


def _one(**members: object) -> Callable[[], Archive]:
    """An archive with a good member and one that lies."""

    def build() -> Archive:
        content = members.get("content", Squeezed(b"row,value\n" * 400))
        assert isinstance(content, Plain | Squeezed | Deflated | Noise)
        rest = {name: value for name, value in members.items() if name != "content"}
        return ZipStream([_GOOD, Member("victim.csv", content, **rest)])  # type: ignore[arg-type]

    return build


def assembled(
    parts: list[tuple[Member, int | None]],
    *,
    suffix: bytes = b"",
    prefix: bytes = b"",
    count: int | None = None,
    shift: int = 0,
    ending: bool = True,
) -> bytes:
    """A small archive by hand: each member with the offset that its directory line claims (None: the true one).

    `count` is the number of members that the end record claims; `shift` moves its directory offset.
    """
    body = bytearray(prefix)
    lines = bytearray()
    for member, claimed in parts:
        place = len(body)
        body += local_header(member) + member.content.read(0, member.content.packed) + descriptor_of(member)
        lines += central_header(member, place if claimed is None else claimed)
    start = len(body)
    body += lines
    if ending:
        body += end_records(len(parts) if count is None else count, start + shift, len(lines))
    return bytes(body + suffix)


def _overlapping() -> Archive:
    """200 directory lines for one and the same deflated member."""
    kernel = Member("kernel.bin", Deflated(4 << 20, "overlap", 0.0))
    body = local_header(kernel) + kernel.content.read(0, kernel.content.packed)
    lines = b"".join(central_header(Member(f"copy-{number:03}.bin", kernel.content), 0) for number in range(200))
    return whole(body + lines + end_records(200, len(body), len(lines)))


def _overlapping_partly() -> Archive:
    """A second member that begins inside the bytes of the first."""
    inner = Member("inner.txt", Plain(b"inside\n"))
    nested = local_header(inner) + inner.content.read(0, inner.content.packed)
    outer = Member("outer.bin", Plain(nested + b"rest of the outer member\n"))
    body = local_header(outer) + outer.content.read(0, outer.content.packed)
    lines = central_header(outer, 0) + central_header(inner, len(local_header(outer)))
    return whole(body + lines + end_records(2, len(body), len(lines)))


def _bomb_nested() -> Archive:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("zeros.bin", bytes(4 << 20))
    return ZipStream([_GOOD, Member("inner.zip", Squeezed(inner.getvalue()))])


def _truncated(share: float) -> Callable[[], Archive]:
    def build() -> Archive:
        archive = ZipStream([_GOOD, Member("raw.bin", Noise(300_000, "truncated"))])
        return Shortened(archive, int(archive.size * share))

    return build


def _corrupt_deflate() -> Archive:
    content = Squeezed(b"".join(b"%d\n" % number for number in range(20_000)))
    packed = bytearray(content.read(0, content.packed))
    packed[len(packed) // 2 :] = b"\xff" * (len(packed) - len(packed) // 2)
    lying = Member("broken.txt", Plain(bytes(packed)), method=8, claimed_size=content.size, claimed_crc=content.crc)
    return ZipStream([_GOOD, lying])


def _directory_behind_end() -> Archive:
    return whole(assembled([(_GOOD, None)], shift=10_000))


def _offset_outside() -> Archive:
    return whole(assembled([(_GOOD, None), (Member("far.txt", _TEXT), 0x7FFFFFFF)]))


def _wrong_count(count: int) -> Callable[[], Archive]:
    return lambda: whole(assembled([(_GOOD, None), (Member("second.txt", _TEXT), None)], count=count))


def _zip64_lie() -> Archive:
    """A 64-bit end record whose directory offset lies far outside the archive."""
    lines = central_header(_GOOD, 0)
    body = local_header(_GOOD) + _GOOD.content.read(0, _GOOD.content.packed)
    return whole(body + lines + end_records(1, 1 << 60, len(lines), zip64=True))


def _html() -> Archive:
    return whole(b"<html><body>Sign in to continue</body></html>")


def _name_of_bytes(raw: bytes) -> Callable[[], Archive]:
    """A member whose name is not valid UTF-8 although its flag says so."""

    def build() -> Archive:
        stand_in = "x" * (len(raw) - 2) + "é"
        archive = assembled([(_GOOD, None), (Member(stand_in, _TEXT), None)])
        return whole(archive.replace(stand_in.encode(), raw))

    return build


def _bomb_total() -> Archive:
    """40 members of 25 GiB each, 2.4 : 1: no single ratio is suspicious, the total is."""
    return ZipStream([Member(f"part-{n:02}.csv", Deflated(25 << 30, f"total{n}", 0.4)) for n in range(40)])


def _bomb_ratio() -> Archive:
    return ZipStream([_GOOD, Member("zeros.bin", Deflated(64 << 30, "ratio", 0.0))])


def _bomb_lying() -> Archive:
    """Claims to be small and unpacks to 256 MiB."""
    return ZipStream([_GOOD, Member("small.bin", Deflated(256 << 20, "lying", 0.0), claimed_size=1000)])


def _bomb_count() -> Archive:
    return ZipStream([Member(f"{number:06}", Plain(b"")) for number in range(300_000)])


def _many_long_names() -> Archive:
    # In folders, so that a server over a file system (255 bytes a segment) can hold them too.
    folders = "/".join(["m" * 178] * 5)
    return ZipStream([Member(f"{folders}{number:06}", Plain(b"")) for number in range(2000)])


def _truncated_directory() -> Archive:
    archive = ZipStream([_GOOD])
    return Shortened(archive, archive.size - 9)


def _symlink() -> Archive:
    return ZipStream([_GOOD, Member("link", Plain(b"/etc/passwd"), unix_mode=0o120777)])


def _device() -> Archive:
    return ZipStream([_GOOD, Member("device", Plain(b""), unix_mode=0o020666)])


def _encrypted() -> Archive:
    return ZipStream([_GOOD, Member("secret.bin", Noise(500, "secret"), flags=FLAG_ENCRYPTED)])


def _good(**options: bool) -> Callable[[], Archive]:
    def build() -> Archive:
        contents: list[tuple[str, Content]] = [
            ("EXP26000001.pdf", Squeezed(b"%PDF-1.4\n" + b"text " * 900)),
            ("raw data/plate 1.csv", Deflated(700_000, "plate")),
            ("images/gel — é.tif", Noise(1_500_000, "gel")),
            ("empty.txt", Plain(b"")),
        ]
        descriptor = options.get("descriptor", False)
        members = [Member(name, content, descriptor=descriptor) for name, content in contents]
        return ZipStream(members, zip64=options.get("zip64", False))

    return build


GALLERY: dict[str, tuple[str, Callable[[], Archive]]] = {
    "good": ("nothing wrong: stored, deflated, empty and non-ASCII members", _good()),
    "good-descriptors": ("nothing wrong: sizes in data descriptors", _good(descriptor=True)),
    "good-zip64": ("nothing wrong: 64-bit end records", _good(zip64=True)),
    "good-directories": ("nothing wrong: directory members among the files", _named("raw/", "raw/a.txt")),
    "good-comment": ("nothing wrong: an archive comment", lambda: ZipStream([_GOOD], comment=b"made by a test")),
    "comment-signature": ("a comment that holds an end record's signature",
                          lambda: ZipStream([_GOOD], comment=b"PK\5\6 made by a test")),
    "good-prefix": (
        "nothing wrong: bytes before the first member",
        lambda: whole(assembled([(_GOOD, None)], prefix=b"#!stub\n")),
    ),
    "empty": ("no members at all", lambda: ZipStream([])),
    "zip-slip": ("names that climb out: ../", _named("../outside.txt", "a/../../outside.txt")),
    "zip-slip-end": ("a name that ends in ..", _named("a/..")),
    "dot-segments": ("names with . and empty segments", _named("./a.txt", "b//c.txt", "d/./e.txt")),
    "absolute": ("a name that begins with /", _named("/etc/cron.d/evil")),
    "drive-letter": ("a name with a drive", _named("C:\\Windows\\evil.dll", "c:evil.txt")),
    "backslash": ("backslashes as separators, climbing out", _named("..\\..\\evil.txt", "a\\b.txt")),
    "unc": ("a network share as a name", _named("\\\\server\\share\\x", "//server/share/x")),
    "control-characters": ("line feed, escape and NUL in names", _named("a\nb.txt", "c\x1b[2Jd.txt", "e\0f.txt")),
    "bidi": ("a name that shows otherwise than it is", _named("report\u202efdp.exe", "zero\u200bwidth.txt")),
    "overlong": ("names above 1,024 bytes", _named("n" * 1100 + ".txt", "é" * 600, "/".join(["d"] * 700))),
    "overlong-segment": ("a segment of 300 bytes", _named("s" * 300 + ".txt")),
    "empty-name": ("a member without a name", _named("")),
    "space-names": ("names of spaces and dots", _named(" ", ".", "..", "a /b. ")),
    "not-utf8": ("a name that is not UTF-8 although it says so", _name_of_bytes(b"bad-\xff\xfe.txt")),
    "duplicates": ("the same name three times", _named("same.txt", "same.txt", "same.txt")),
    "case-clash": ("names that differ in case", _named("Report.txt", "report.txt", "REPORT.TXT")),
    "normal-form-clash": ("names that differ in Unicode normal form", _named("caf\u00e9.txt", "cafe\u0301.txt")),
    "file-and-directory": ("a name that is a file and a directory", _named("a", "a/b.txt")),
    "reserved": ("names of the package's own files", _named(*_PACKAGE_FILES)),
    "many-long-names": ("2,000 names of 900 bytes", _many_long_names),
    "symlink": ("a symbolic link to /etc/passwd", _symlink),
    "device": ("a character device", _device),
    "encrypted": ("an encrypted member", _encrypted),
    "overlapping": ("200 directory lines on the same bytes", _overlapping),
    "overlapping-partly": ("a member inside another one's bytes", _overlapping_partly),
    "bomb-ratio": ("64 GiB of zeros, 600 : 1", _bomb_ratio),
    "bomb-total": ("1,000 GiB in members of a harmless ratio", _bomb_total),
    "bomb-count": ("300,000 empty members", _bomb_count),
    "bomb-lying": ("claims 1,000 bytes, unpacks to 256 MiB", _bomb_lying),
    "bomb-nested": ("an archive in an archive: to be stored, never unpacked", _bomb_nested),
    "size-too-small": ("unpacked size claimed too small", _one(claimed_size=100)),
    "size-too-large": ("unpacked size claimed too large", _one(claimed_size=1 << 20)),
    "packed-too-large": ("packed size reaches beyond the archive", _one(claimed_packed=1 << 30)),
    "packed-too-small": ("packed size ends inside the member", _one(claimed_packed=10)),
    "packed-zero": ("packed size 0 with an unpacked size", _one(claimed_packed=0)),
    "wrong-crc": ("the sum doesn't match (deflated)", _one(claimed_crc=0x12345678)),
    "wrong-crc-stored": (
        "the sum doesn't match (stored)",
        _one(content=Noise(300_000, "wrong"), claimed_crc=0x12345678),
    ),
    "header-mismatch": ("the local header has another name", _one(local_name="other.csv")),
    "header-mismatch-slip": ("the local header climbs out, the directory doesn't", _one(local_name="../../victim")),
    "unknown-method": ("packing method 99", _one(method=99)),
    "method-lzma": ("packing method 14 (LZMA)", _one(method=14)),
    "stored-as-deflated": ("plain bytes that call themselves deflated", _one(content=Plain(b"plain" * 50), method=8)),
    "corrupt-deflate": ("a deflate stream that breaks in the middle", _corrupt_deflate),
    "trailing-garbage": ("bytes behind the end record", lambda: ZipStream([_GOOD], suffix=b"\0garbage" * 40)),
    "truncated": ("ends in the middle of a member", _truncated(0.5)),
    "truncated-directory": ("ends in the end record", _truncated_directory),
    "no-end-record": ("members and directory, no end record", lambda: whole(assembled([(_GOOD, None)], ending=False))),
    "directory-outside": ("the directory's offset lies behind the end", _directory_behind_end),
    "offset-outside": ("a member's offset lies behind the end", _offset_outside),
    "count-too-large": ("the end record counts 500 members, there are 2", _wrong_count(500)),
    "count-too-small": ("the end record counts 1 member, there are 2", _wrong_count(1)),
    "zip64-outside": ("a 64-bit directory offset of 2**60", _zip64_lie),
    "not-a-zip": ("an HTML page", _html),
    "zero-bytes": ("nothing at all", lambda: whole(b"")),
    "noise": ("100 KB of random bytes", lambda: whole(Noise(100_000, "noise").read(0, 100_000))),
}  # fmt: skip
"""Name -> (what is wrong, how to make it)."""


def gallery(name: str) -> Archive:
    """The archive of this name; its `pieces()` are its bytes. Raises UnknownArchive."""
    if name not in GALLERY:
        raise UnknownArchive(name)
    return GALLERY[name][1]()


def gallery_bytes(name: str) -> bytes:
    """A gallery archive at once; not for the huge ones (bomb-total, bomb-ratio are 25 GiB to hundreds of GiB)."""
    archive = gallery(name)
    if archive.size > 1 << 30:
        message = f"{name} has {archive.size} bytes: read it in pieces"
        raise ValueError(message)
    return b"".join(archive.pieces())


def names() -> list[str]:
    """Every name of the gallery; those that begin with `good` hold nothing to refuse."""
    return list(GALLERY)
