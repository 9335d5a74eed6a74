"""An origin that answers what it was not asked: redirects that lead nowhere, and ranges of its own choice."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from entrypackage.failures import Failure, FailureClass
from packager.archive.source import open_archive
from packager.http1 import Client
from packager.retrying import Retrying

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ONCE = Retrying(tries=1)


@contextlib.asynccontextmanager
async def saying(head: str, body: bytes = b"", *, endless: bool = False) -> AsyncIterator[tuple[str, list[int]]]:
    """Serve one answer to everybody; yield the address and how many bytes of body each was sent."""
    sent: list[int] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(f"HTTP/1.1 {head}\r\n\r\n".encode() + body)
            sent.append(len(body))
            while endless:
                writer.write(bytes(65536))
                await writer.drain()
                sent[-1] += 65536
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/a.zip?sig=topsecretsignature", sent


@pytest.mark.parametrize(
    ("location", "said"),
    [("ftp://elsewhere/a.zip", "no http or https URL"), ("http://[bad", "no http or https URL"), ("/again", "circles")],
)
async def test_a_redirect_that_leads_nowhere_is_the_origins_fault(location: str, said: str) -> None:
    async with saying(f"302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\nConnection: close") as (url, _):
        with pytest.raises(Failure, match=said) as caught:
            await open_archive(Client(), url, ONCE)

    assert caught.value.failure is FailureClass.ARCHIVE_UNREACHABLE
    assert "topsecret" not in caught.value.message


async def test_no_more_is_read_than_was_asked_for_whatever_the_origin_claims() -> None:
    claimed = 400_000_000
    head = (
        f"206 Partial Content\r\nContent-Range: bytes 0-{claimed - 1}/{claimed}\r\nContent-Length: {claimed}\r\n"
        "Connection: close"
    )
    async with saying(head, endless=True) as (url, sent):
        with pytest.raises(Failure, match="not asked for") as caught:
            await open_archive(Client(), url, ONCE)

    assert caught.value.failure is FailureClass.ARCHIVE_UNREACHABLE
    assert sum(sent) < 32_000_000  # what the kernel's buffers take
