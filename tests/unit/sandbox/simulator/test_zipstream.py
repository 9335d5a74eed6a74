"""Archives as streams: what zipfile makes of them, ranges, sizes that are never made."""

from __future__ import annotations

import io
import time
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.simulator.content import Deflated, Noise, Plain, Squeezed
from sandbox.simulator.zipstream import Member, ZipStream

GIB = 1 << 30


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
