"""Archives as streams: what zipfile makes of them, ranges, sizes that are never made."""

from __future__ import annotations

import io
import time
import zipfile
import zlib
from functools import cache
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.simulator import crc, gallery
from sandbox.simulator.content import BLOCK, Deflated, Noise, Plain, Squeezed, Unpacked
from sandbox.simulator.zipstream import Member, ZipStream

if TYPE_CHECKING:
    from sandbox.simulator.archives import Archive

SIZES = [0, 1, 15, 16, 17, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7, 11 * BLOCK]
GIB = 1 << 30


def _whole(content: Noise | Deflated | Unpacked | Squeezed | Plain) -> bytes:
    return content.read(0, content.packed)


@given(first=st.binary(max_size=300), second=st.binary(max_size=300))
def test_sums_combine(first: bytes, second: bytes) -> None:
    combined = crc.combine(zlib.crc32(first), zlib.crc32(second), len(second))
    assert combined == zlib.crc32(first + second)


@pytest.mark.parametrize("size", SIZES)
def test_sums_are_those_of_the_bytes(size: int) -> None:
    noise, deflated = Noise(size, "a"), Deflated(size, "a")
    assert noise.crc == zlib.crc32(_whole(noise))
    plain = zlib.decompress(_whole(deflated), wbits=-15)
    assert len(plain) == size
    assert deflated.crc == zlib.crc32(plain)
    assert _whole(Unpacked(deflated)) == plain


def test_noise_does_not_shrink_and_differs_by_seed_and_place() -> None:
    noise = _whole(Noise(4 * BLOCK, "a"))
    assert len(zlib.compress(noise)) > len(noise) * 0.99
    assert noise != _whole(Noise(4 * BLOCK, "b"))
    assert len({noise[start : start + BLOCK] for start in range(0, len(noise), BLOCK)}) == 4


@pytest.mark.parametrize("descriptor", [False, True])
@pytest.mark.parametrize("zip64", [False, True])
def test_zipfile_reads_what_the_stream_makes(descriptor: bool, zip64: bool) -> None:
    members = [
        Member("a/é.bin", Noise(150_000, "x"), descriptor=descriptor),
        Member("b.csv", Deflated(400_000, "y"), descriptor=descriptor),
        Member("zeros", Deflated(400_000, "y", 0.0), descriptor=descriptor),
        Member("empty", Plain(b""), descriptor=descriptor),
        Member("text", Squeezed(b"hello " * 500), descriptor=descriptor),
    ]
    stream = ZipStream(members, zip64=zip64)
    raw = b"".join(stream.pieces(piece=1013))
    assert len(raw) == stream.size
    archive = zipfile.ZipFile(io.BytesIO(raw))
    assert archive.testzip() is None
    assert archive.namelist() == [member.name for member in members]
    assert archive.read("text") == b"hello " * 500


STREAM = ZipStream(
    [Member("n", Noise(90_000, "r")), Member("d", Deflated(300_000, "r"), descriptor=True), Member("p", Plain(b"hi"))]
)
RAW = STREAM.read(0, STREAM.size)


@settings(max_examples=200)
@given(start=st.integers(0, STREAM.size), length=st.integers(0, STREAM.size))
def test_ranges_equal_slices(start: int, length: int) -> None:
    assert STREAM.read(start, start + length) == RAW[start : start + length]


def test_twenty_gib_cost_nothing() -> None:
    started = time.perf_counter()
    stream = ZipStream([Member("raw.bin", Noise(20 * GIB, "big")), Member("table.csv", Deflated(30 * GIB, "big"))])
    pieces = [stream.read(place, place + 65_536) for place in range(0, stream.size, stream.size // 50)]
    spent = time.perf_counter() - started
    table = stream.members[1].content
    assert stream.size > 20 * GIB + table.packed
    assert all(len(piece) == 65_536 for piece in pieces[:-1])
    assert spent < 2.0, "sizes and sums are arithmetic; nothing of that size is made"


def test_directory_of_an_archive_beyond_32_bits() -> None:
    """zipfile reads the directory of a 50 GiB archive through ranges, as the packager does."""
    stream = ZipStream([Member("raw.bin", Noise(20 * GIB, "big")), Member("last.txt", Plain(b"the end"))])
    archive = zipfile.ZipFile(_Ranges(stream))
    assert archive.getinfo("raw.bin").file_size == 20 * GIB
    assert stream.members[0].content.crc == archive.getinfo("raw.bin").CRC
    assert archive.read("last.txt") == b"the end"


class _Ranges(io.RawIOBase):
    """A file over an archive that is read by ranges."""

    def __init__(self, stream: ZipStream) -> None:
        self._stream = stream
        self._place = 0

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._stream.size}[whence]
        self._place = base + offset
        return self._place

    def read(self, size: int = -1) -> bytes:
        stop = self._stream.size if size < 0 else self._place + size
        part = self._stream.read(self._place, stop)
        self._place += len(part)
        return part


@cache
def _gallery(name: str) -> Archive:
    """A gallery archive, made once: the largest take seconds."""
    return gallery.gallery(name)


@pytest.mark.parametrize("name", gallery.names())
def test_every_gallery_archive_can_be_read_in_pieces(name: str) -> None:
    archive = _gallery(name)
    head, tail = archive.read(0, 4096), archive.read(max(0, archive.size - 4096), archive.size)
    assert len(head) == min(4096, archive.size)
    assert len(tail) == min(4096, archive.size)


@pytest.mark.parametrize("name", [name for name in gallery.names() if name.startswith("good")])
def test_good_archives_are_good(name: str) -> None:
    archive = zipfile.ZipFile(io.BytesIO(gallery.gallery_bytes(name)))
    assert archive.testzip() is None
    assert archive.namelist()


@pytest.mark.parametrize(
    "name",
    ["truncated", "truncated-directory", "no-end-record", "not-a-zip", "zero-bytes", "noise", "wrong-crc",
     "wrong-crc-stored", "corrupt-deflate", "unknown-method", "encrypted", "header-mismatch", "offset-outside",
     "stored-as-deflated", "comment-signature"],
)  # fmt: skip
def test_broken_archives_are_broken(name: str) -> None:
    def read() -> None:
        archive = zipfile.ZipFile(io.BytesIO(gallery.gallery_bytes(name)))
        for member in archive.infolist():
            archive.read(member)

    with pytest.raises((zipfile.BadZipFile, NotImplementedError, RuntimeError, zlib.error, EOFError, OSError)):
        read()


def test_the_gallery_is_the_same_every_time() -> None:
    names = [name for name in gallery.names() if not name.startswith("bomb")]
    assert [gallery.gallery(name).etag for name in names] == [gallery.gallery(name).etag for name in names]


def test_bombs_are_what_they_say() -> None:
    ratio = gallery.gallery("bomb-ratio")
    assert isinstance(ratio, ZipStream)
    assert ratio.members[1].content.size / ratio.members[1].content.packed > 500
    count = _gallery("bomb-count")
    assert int.from_bytes(count.read(count.size - 66, count.size - 58), "little") == 300_000
    overlapping = zipfile.ZipFile(io.BytesIO(gallery.gallery_bytes("overlapping")))
    assert sum(member.file_size for member in overlapping.infolist()) == 200 * (4 << 20)


def test_an_unknown_name_gets_a_hint() -> None:
    with pytest.raises(gallery.UnknownArchive, match="did you mean zip-slip"):
        gallery.gallery("zipslip")
