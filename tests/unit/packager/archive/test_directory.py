"""Archives in memory: what is read, what is refused, and that no bytes whatever crash the reader."""

from __future__ import annotations

import asyncio
import contextlib
import io
import ntpath
import posixpath
import random
import re
import struct
import zipfile
import zlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, unquote_to_bytes

import pytest
from awscrt.auth import AwsCredentialsProvider
from hypothesis import given, settings
from hypothesis import strategies as st

from entrypackage.failures import Failure, FailureClass
from packager.aws.client import Fence
from packager.aws.credentials import FixedCredentials
from packager.aws.store import ObjectOptions, open_store
from packager.http1 import Client
from tests.support.archives import make_zip, read_everything

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


@pytest.mark.parametrize("ranged", [True, False])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
async def test_what_zipfile_writes_is_read(method: int, ranged: bool) -> None:
    files = {"a.txt": b"a" * 300_000, "empty": b"", "deep/er/ü.bin": bytes(range(256))}

    assert (await read_everything(make_zip(files, method), ranged=ranged))[1] == files


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

    assert (await read_everything(bytes(pipe.written), ranged=ranged))[1] == {"a.txt": b"a" * 5000, "b.txt": b"b" * 70}


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

    found = (await read_everything(pipe.getvalue(), ranged=ranged))[1]
    assert found == {"empty.txt": b"", "full.txt": b"full", "last.txt": b""}


@given(st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
async def test_arbitrary_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(Failure):
        await read_everything(raw + b"x")


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


HOSTILE_NAMES = [
    b"../x", b"a/../b", b"..", b".", b"a/..", b"a/.", b"./a", b"/etc/passwd", b"//a", b"a//b", b"a/b//", b"", b"/",
    b"..\\x", b"a\\b", b"\\\\server\\x", b"C:x", b"c:/x", b"a\0b", b"a\nb", b"a\r\nx-amz-acl: public-read", b"a\x7fb",
    b"\xc2\x85", b"\xe2\x80\xa8", b"\xc0\xae\xc0\xae/x", b"\xed\xa0\x80", b"\xff/../x", b"\x81/..", b"n" * 1100,
    "\u00e9".encode() * 600, b"/".join([b"d"] * 700),
]  # fmt: skip
"""Refused, whatever the rest of the archive is like (or read as code page 437, where that makes them harmless)."""

ODD_NAMES = [
    b"a", b"b/c.txt", b"b/", b"a b", b"a+b", b"%2e%2e/x", b"%2F..%2F", b"..%5cx", b"...", b"..a/b..", b"~/x", b"?x=1",
    b"#x", b"&", b"*", b"entry.json", b"README.md", b"attachments/README.md", b"A", "\uff0e\uff0e/x".encode(),
    "\u2024\u2024/x".encode(), "\u202egpj".encode(), "\ufffe".encode(), "\U0001d11e".encode(), b"\x81\x82", b"n" * 1000,
]  # fmt: skip
"""Packed, each under exactly this name below the prefix."""


def _extra64(source: random.Random, *values: int) -> bytes:
    """A ZIP64 field, mostly as it should be; among others it may be hidden behind, or be cut."""
    field = b"".join(value.to_bytes(8, "little") for value in values)
    field = struct.pack("<2H", 1, len(field)) + field
    match source.randrange(12):
        case 0:
            return field[: source.randrange(len(field))]
        case 1:
            return struct.pack("<2H", 0x5455, 5) + b"\1\0\0\0\0" + field
        case 2:
            return field + field
        case _:
            return field


def _odd(source: random.Random, value: int) -> int:
    """Mostly the value itself, now and then a lie."""
    if source.randrange(60):
        return value
    return source.choice([0, 1, value + 1, value - 1, 0xFFFFFFFF, 0xFFFF, 0x7FFFFFFF]) & 0xFFFFFFFF


def forged(source: random.Random) -> bytes:
    """Return an archive whose headers agree with each other, with everything in it that a writer may choose or forge.

    Changing bytes at random hardly ever makes the same hostile name in both headers, so such names never got as far
    as the rules on names; these do.
    """
    body, directory = bytearray(), bytearray()
    count = source.randrange(6)
    for _ in range(count):
        name = source.choice(HOSTILE_NAMES if source.randrange(4) == 0 else ODD_NAMES)
        if name in ODD_NAMES and source.randrange(2):
            name = b"%d/%s" % (source.randrange(1000), name)
        content = b"" if name.endswith(b"/") else source.choice([b"", b"x", b"hello " * 90, make_zip({"../in": b"x"})])
        method = source.choice([0, 8])
        packer = zlib.compressobj(6, zlib.DEFLATED, -15)
        packed = content if method == 0 else packer.compress(content) + packer.flush()
        crc, sizes, offset = zlib.crc32(content), (len(content), len(packed)), len(body)
        described = source.randrange(3) == 0
        flags = (8 if described else 0) | (0x800 if source.randrange(2) else 0)
        lfh = (0, 0, 0) if described and source.randrange(2) else (crc, sizes[1], sizes[0])
        extra = b""
        if source.randrange(4) == 0:
            lfh, extra = (lfh[0], 0xFFFFFFFF, 0xFFFFFFFF), _extra64(source, *sizes)
        body += struct.pack(
            "<4s5H3I2H", b"PK\3\4", 20, flags, method, 0, 0x21, *(_odd(source, value) for value in lfh), len(name),
            len(extra),
        )  # fmt: skip
        body += name + extra + packed
        if described:
            form = source.choice(["<3I", "<I2Q"])
            body += source.choice([b"", b"PK\7\x08"]) + struct.pack(form, crc, _odd(source, sizes[1]), sizes[0])
        row, extra = [crc, sizes[1], sizes[0]], b""
        wide = source.randrange(4) == 0
        if wide:
            row, extra = [crc, 0xFFFFFFFF, 0xFFFFFFFF], _extra64(source, *sizes, offset)
        mode = source.choice([0, 0o100644, 0o100644, 0o040755, 0o120777]) << 16
        directory += struct.pack(
            "<4s6H3I5H2I", b"PK\1\2", source.choice([20, 0x314]), 20, flags, method, 0, 0x21,
            *(_odd(source, value) for value in row), len(name), len(extra), 0, 0, 0, mode,
            0xFFFFFFFF if wide else _odd(source, offset),
        )  # fmt: skip
        directory += name + extra
    return bytes(body + directory) + _forged_end(source, count, len(body), len(directory))


def _forged_end(source: random.Random, count: int, offset: int, length: int) -> bytes:
    """End records, of which the members' number, the place and the nesting in a comment may be lies."""
    count = source.choice([count] * 20 + [count + 1, max(0, count - 1), 0xFFFF])
    end = b""
    plain = (count, length, offset)
    if source.randrange(3) == 0:
        end = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, length, _odd(source, offset))
        end += struct.pack("<4sIQI", b"PK\6\7", 0, _odd(source, offset + length), 1)
        plain = source.choice([plain, (0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF), (count, length, 0xFFFFFFFF)])
    comment = source.choice([b""] * 12 + [b"a comment", b"PK\5\6" * 3, make_zip({"../in": b"x"})[-40:]])
    members, length, offset = plain
    return end + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, members, members, length, offset, len(comment)) + comment


PREFIX = "p/E/"


def check_name(name: str) -> None:
    """Fail unless a file of this name lies below the prefix for everybody who reads its key, also as a path."""
    key = PREFIX + name
    assert not {"", ".", ".."} & set(name.split("/"))
    assert posixpath.normpath(key) == key
    assert key.startswith(PREFIX)
    assert "\\" not in key
    assert len(key.encode()) <= 1024
    assert not any(ord(character) < 32 or ord(character) == 127 for character in key)
    assert not ntpath.splitdrive(name)[0]


@dataclass
class Tally:
    """What became of some thousand archives."""

    good: int = 0
    names: set[str] = field(default_factory=set)
    sentences: Counter[str] = field(default_factory=Counter)

    def refused_for(self, *words: str) -> list[int]:
        """Return how many were refused with a sentence that has each of the words."""
        return [sum(count for sentence, count in self.sentences.items() if word in sentence) for word in words]


async def fuzz(count: int, seed: int, make: Callable[[random.Random, int], bytes]) -> Tally:
    """Prove many archives. Anything but a refusal or files below the prefix is an error."""
    source = random.Random(seed)
    tally = Tally()
    for number in range(count):
        raw = make(source, number)
        try:
            content, found = await read_everything(raw, ranged=bool(number % 3))
        except Failure as failure:
            assert failure.failure is FailureClass.ARCHIVE_REFUSED  # noqa: PT017
            tally.sentences[re.sub(r'"[^"]*"', "NAME", failure.message, count=1)] += 1
            continue
        tally.good += 1
        assert len({file.name for file in content.files}) == len(content.files) == len(found)
        tally.names.update(file.name for file in content.files)
    for name in tally.names:
        check_name(name)
    return tally


def by_bytes(source: random.Random, number: int) -> bytes:
    """An honest archive with some bytes changed."""
    return mutated(SEEDS[number % len(SEEDS)], source)


def by_fields(source: random.Random, number: int) -> bytes:
    """A forged archive; now and then some bytes of it are changed as well."""
    raw = forged(source)
    return mutated(raw, source) if number % 10 == 0 else raw


async def request_targets(names: Iterable[str]) -> dict[str, str]:
    """Put a file of each name with the packager's own store; return what it asks the server for."""
    asked: list[str] = []

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                method, target, version = head.split(b"\r\n")[0].decode("ascii").split(" ")
                assert (method, version) == ("PUT", "HTTP/1.1")
                asked.append(target)
                writer.write(b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 0\r\n\r\n')
        writer.close()

    server = await asyncio.start_server(converse, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    client = Client()
    credentials = FixedCredentials(AwsCredentialsProvider.new_static("key", "secret"))
    store = await open_store(
        client, credentials, "bucket", region="us-east-1", default_region="us-east-1",
        endpoint_url=f"http://127.0.0.1:{address[1]}", options=ObjectOptions(),
    )  # fmt: skip
    ordered = sorted(names)
    try:
        for name in ordered:
            await store.put(PREFIX + name, [], crc=0, content_type="text/plain", fence=Fence())
    finally:
        client.close()
        server.close()
    return dict(zip(ordered, asked, strict=True))


async def check_targets(names: set[str]) -> None:
    """Fail unless what goes over the wire means exactly the key, to whoever decodes or resolves it."""
    for name, target in (await request_targets(names)).items():
        assert re.fullmatch(r"/bucket/p/E/[A-Za-z0-9._~/%-]+", target)
        assert unquote_to_bytes(target) == b"/bucket/p/E/" + name.encode()
        assert posixpath.normpath(target) == target
        assert posixpath.normpath(unquote(target)) == unquote(target)


async def fuzz_both(count: int, seed: int) -> None:
    """So many archives by each way; what was accepted is put."""
    plain = await fuzz(count, seed, by_bytes)
    made = await fuzz(count, seed + 1, by_fields)
    assert 0 < plain.good < count
    assert made.good > count // 10
    # The forged names got past the comparison of the headers: it is the rules on names that refused them.
    names = ("absolute", "backslash", "drive letter", "control", "empty part", "too long", "without a name", "UTF-8")
    assert all(made.refused_for(*names)), made.sentences
    assert all(made.refused_for("descriptor", "ZIP64", "link", "own header", "two members")), made.sentences
    odd = {name.decode() for name in ODD_NAMES if name.isascii() and not name.endswith(b"/")}
    assert odd - {"entry.json", "README.md"} <= made.names
    await check_targets(plain.names | made.names)


async def test_forged_archives_are_refused_or_read() -> None:
    await fuzz_both(1500, 1)


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_many_forged_archives_are_refused_or_read() -> None:
    await fuzz_both(60_000, 2)
