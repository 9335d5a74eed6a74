"""Buffers, room and progress of a transfer, and the corners of reading an archive without ranges."""

from __future__ import annotations

import asyncio
import io
import zipfile

import pytest

from entrypackage.failures import Failure
from entrypackage.order import Limits, PackedPackage, Report
from packager.archive.format import End
from packager.capacity import Capacity, PartBuffers
from packager.decisions.policy import check_directory_size
from packager.progress import bar, told
from packager.transfer import Progress
from tests.unit.packager.archive.test_format import prove

MIB = 1024 * 1024


async def test_part_buffers_are_used_again_and_never_exceed_the_room() -> None:
    buffers = PartBuffers(Capacity(10 * MIB))
    first, second = await buffers.acquire(5 * MIB), await buffers.acquire(5 * MIB)

    third = asyncio.ensure_future(buffers.acquire(5 * MIB))
    await asyncio.sleep(0)
    assert not third.done()

    buffers.release(first)
    assert await third is first
    buffers.release(second)
    assert await buffers.acquire(5 * MIB) is second


async def test_buffers_that_come_back_at_once_are_all_used_again() -> None:
    buffers = PartBuffers(Capacity(20 * MIB))
    used = [await buffers.acquire(5 * MIB) for _ in range(4)]
    waiting = [asyncio.ensure_future(buffers.acquire(5 * MIB)) for _ in range(4)]
    await asyncio.sleep(0)

    for buffer in used:
        buffers.release(buffer)

    assert {id(buffer) for buffer in await asyncio.gather(*waiting)} == {id(buffer) for buffer in used}


async def test_buffers_of_another_size_do_not_come_on_top() -> None:
    buffers = PartBuffers(Capacity(10 * MIB))
    small = await buffers.acquire(5 * MIB)
    buffers.release(small)

    large = await buffers.acquire(10 * MIB)
    buffers.release(large)

    assert (large.size, (await buffers.acquire(5 * MIB)) is small) == (10 * MIB, False)


async def test_idle_buffers_make_way_for_small_members() -> None:
    capacity = Capacity(10 * MIB)
    buffers = PartBuffers(capacity)
    first, second = await buffers.acquire(5 * MIB), await buffers.acquire(5 * MIB)
    buffers.release(first)
    buffers.release(second)

    await capacity.acquire(6 * MIB)
    assert buffers.idle_bytes == 0
    assert capacity.free == 4 * MIB


async def test_a_buffer_takes_what_fits() -> None:
    buffer = await PartBuffers(Capacity(MIB)).acquire(10)

    assert buffer.fill(0, memoryview(b"1234567")) == 7
    assert buffer.fill(7, memoryview(b"89abc")) == 3
    assert bytes(buffer.content(10)) == b"123456789a"


def test_the_rate_leaves_out_what_was_skipped() -> None:
    progress = Progress(bytes_total=1000, bytes_done=800, bytes_skipped=600)
    assert progress.rate(7.0) == 0.0

    progress.moving_since = 5.0
    assert progress.rate(7.0) == 100.0


@pytest.mark.parametrize("ranged", [True, False])
async def test_an_empty_member_with_a_long_descriptor_is_read(ranged: bool) -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, offset: int, whence: int = 0) -> int:
            raise OSError

        def tell(self) -> int:
            raise OSError

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in {"empty.txt": b"", "full.txt": b"full", "last.txt": b""}.items():
            with archive.open(name, "w", force_zip64=True) as member:
                member.write(body)

    found = (await prove(pipe.getvalue(), ranged=ranged))[1]
    assert found == {"empty.txt": b"", "full.txt": b"full", "last.txt": b""}


@pytest.mark.parametrize(
    ("members", "length", "taken"),
    [(1, 1500, True), (1, 100_000, False), (250_000, 49 * MIB, True), (250_000, 65 * MIB, False)],
)
def test_a_directory_is_refused_before_it_is_fetched_if_no_members_explain_it(
    members: int, length: int, taken: bool
) -> None:
    end = End(members, 10**9, length, 10**9 + length)
    if taken:
        check_directory_size(end, Limits())
    else:
        with pytest.raises(Failure, match="far larger"):
            check_directory_size(end, Limits())


def test_a_person_is_told_what_became_of_it() -> None:
    report = Report(
        package=PackedPackage(uri="s3://b/p/E/", files=7, bytes=3 * MIB, manifest_checksum="c"),
        files_uploaded=6,
        files_skipped=1,
        bytes_uploaded=2 * MIB,
        peak_memory_bytes=50 * MIB,
        seconds={"members": 1.5, "message": 0.5},
        missing_count=2,
        missing=["exf_1", "exf_2"],
        notices=["Something to know."],
    )

    assert told(report) == [
        "7 files, 3.0 MiB at s3://b/p/E/",
        "6 files put (2.0 MiB), 1 there already; 2.0 s, at most 50.0 MiB of memory",
        "2 of the entry's attachments are missing in the archive: exf_1, exf_2",
        "Something to know.",
    ]


@pytest.mark.parametrize("stage", ["members", "replacing", "comparing"])
def test_the_bar_fits_a_line(stage: str) -> None:
    progress = Progress(files_total=250_000, files_done=249_999, bytes_total=10**15, bytes_done=10**15, stage=stage)

    line = bar(progress, 1e12, 123456.0)
    assert len(line) <= 100
    assert "100%" in line
    assert ("left" in line) == (stage != "comparing")
