"""Archives in memory: what is read, what is refused, and that no bytes whatever crash the reader."""

from __future__ import annotations

import io
import random
import zipfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrypackage.failures import Failure, FailureClass
from entrypackage.order import Limits
from packager.directory import learn
from packager.source import LocalArchive
from packager.transfer import close_member, member_pieces, open_member
from tests.unit.packager.making import content_of, make_zip

if TYPE_CHECKING:
    from packager.policy import Content

SMALL = Limits(max_member_bytes=1 << 20, max_total_bytes=1 << 22, max_members=1000)


async def prove(raw: bytes, *, ranged: bool = True, limits: Limits = SMALL) -> tuple[Content, dict[str, bytes]]:
    """Read a whole archive as the packager does."""
    archive = LocalArchive(io.BytesIO(raw))
    archive.ranged = ranged
    content = await learn(archive, "p/E/", limits)
    found = {}
    for file in content.files:
        feed = archive.read(file.member.offset, file.until)
        header = await open_member(feed, file)
        found[file.name] = b"".join([bytes(piece) async for piece in member_pieces(feed, file)])
        await close_member(feed, file, header)
    return content, found


@pytest.mark.parametrize("ranged", [True, False])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
async def test_what_zipfile_writes_is_read(method: int, ranged: bool) -> None:
    files = {"a.txt": b"a" * 300_000, "empty": b"", "deep/er/ü.bin": bytes(range(256))}

    assert (await prove(make_zip(files, method), ranged=ranged))[1] == files


@pytest.mark.parametrize("ranged", [True, False])
async def test_what_is_written_to_a_pipe_is_read(ranged: bool) -> None:
    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.written = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            self.written += bytes(data)  # type: ignore[call-overload]
            return len(data)  # type: ignore[arg-type]

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", b"a" * 5000)
        archive.writestr("b.txt", b"b" * 70)

    assert (await prove(bytes(pipe.written), ranged=ranged))[1] == {"a.txt": b"a" * 5000, "b.txt": b"b" * 70}


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("/etc/passwd", "absolute"), ("../x", "empty part"), ("a/../b", "empty part"), ("a//b", "empty part"),
        ("./a", "empty part"), ("C:x", "drive letter"), ("a\\b", "backslash"), ("a\nb", "control"),
        ("n" * 1100, "too long"),
    ],
)  # fmt: skip
def test_a_bad_name_is_refused(name: str, word: str) -> None:
    with pytest.raises(Failure, match=word) as caught:
        content_of(make_zip({name: b"x"}))

    assert caught.value.failure is FailureClass.ARCHIVE_REFUSED


def test_a_name_fits_s3_with_the_prefix_and_not_a_byte_more() -> None:
    prefix = "benchling/EXP1/"
    longest = "é" * 504 + "x"

    assert content_of(make_zip({longest: b""}), prefix).files[0].name == longest
    with pytest.raises(Failure, match="too long"):
        content_of(make_zip({longest + "x": b""}), prefix)


def test_limits_are_refused_before_anything_is_read() -> None:
    raw = make_zip({"a": b"0" * 1000, "b": b"1" * 1000})

    for limits in (Limits(max_member_bytes=999), Limits(max_total_bytes=1999), Limits(max_ratio=10)):
        with pytest.raises(Failure):
            content_of(raw, limits=limits)


def test_case_clashes_are_kept_and_told() -> None:
    content = content_of(make_zip({"A.txt": b"1", "a.txt": b"2"}))

    assert [file.name for file in content.files] == ["A.txt", "a.txt"]
    assert content.notices


def test_a_moved_member_finds_a_free_name() -> None:
    content = content_of(make_zip({"README.md": b"1", "attachments/README.md": b"2"}))

    assert [file.name for file in content.files] == ["attachments/attachments/README.md", "attachments/README.md"]


@given(st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
async def test_arbitrary_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(Failure):
        await prove(raw + b"x")


def mutated(raw: bytes, source: random.Random) -> bytes:
    """Return an archive with some bytes changed, cut, repeated or put in."""
    body = bytearray(raw)
    for _ in range(source.randint(1, 4)):
        at = source.randrange(len(body))
        match source.randrange(6):
            case 0:
                body[at] = source.randrange(256)
            case 1:
                body[at] ^= 1 << source.randrange(8)
            case 2:
                del body[at : at + source.randint(1, 40)]
            case 3:
                body[at:at] = source.randbytes(source.randint(1, 12))
            case 4:
                body[at : at + 4] = source.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"PK\x01\x02", b"PK\x05\x06"])
            case _:
                body[at:at] = body[at : at + source.randint(1, 60)]
        if not body:
            return b"PK"
    return bytes(body)


SEEDS = [
    make_zip({"a.txt": b"a" * 300, "b/c.txt": b"hello", "README.md": b"x"}),
    make_zip({"a.bin": bytes(range(256)), "empty": b""}, zipfile.ZIP_STORED),
    make_zip({"ü.txt": b"y" * 2000}),
]


async def fuzz(count: int, seed: int) -> int:
    """Prove mutated archives; return how many were still good. Anything but a refusal is an error."""
    source = random.Random(seed)
    good = 0
    for number in range(count):
        raw = mutated(SEEDS[number % len(SEEDS)], source)
        try:
            content, _ = await prove(raw, ranged=bool(number % 3))
        except Failure as failure:
            assert failure.failure is FailureClass.ARCHIVE_REFUSED  # noqa: PT017
            continue
        good += 1
        for file in content.files:
            parts = file.name.split("/")
            assert not {"", ".", ".."} & set(parts)
            assert "\\" not in file.name
    return good


async def test_mutated_archives_are_refused_or_read() -> None:
    assert 0 < await fuzz(1500, 1) < 1500


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_many_mutated_archives_are_refused_or_read() -> None:
    assert 0 < await fuzz(60_000, 2) < 60_000
