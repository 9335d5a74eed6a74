"""Checking whether the claim is still held, by a clock that the test moves."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from awscrt.auth import AwsCredentialsProvider

from entrypackage.failures import Failure, FailureClass
from packager.aws.client import StaleClaim
from packager.aws.credentials import FixedCredentials
from packager.aws.store import ObjectOptions, open_store
from packager.claim import FRESH_SECONDS, Claim
from packager.http1 import Client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@dataclass
class SlowS3:
    """An inventory that no other packager claims; the first `slow` checks take longer than a check is valid."""

    slow: int
    checks: int = 0
    now: float = 1000.0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            self.checks += 1
            self.now += FRESH_SECONDS + 1 if self.checks <= self.slow else 0.1
            writer.write(b'HTTP/1.1 200 OK\r\nETag: "mine"\r\nContent-Length: 2\r\n\r\n')
            await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def claim_on(s3: SlowS3) -> AsyncIterator[Claim]:
    """Hold a claim there."""
    server = await asyncio.start_server(s3.answer, "127.0.0.1", 0)
    credentials = FixedCredentials(AwsCredentialsProvider.new_static("a", "b"))
    client = Client()
    async with server, asyncio.timeout(20):
        store = await open_store(
            client,
            credentials,
            "lab",
            region="us-east-1",
            default_region="us-east-1",
            endpoint_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}",
            options=ObjectOptions(),
        )
        yield Claim(store, ".entrypackage/E.json", "mine", lambda: s3.now)
    client.close()


async def test_a_check_that_took_too_long_is_repeated() -> None:
    s3 = SlowS3(slow=2)
    async with claim_on(s3) as claim:
        with pytest.raises(StaleClaim):
            claim.test()
        await claim.refresh()
        claim.test()

    assert s3.checks == 3


async def test_checks_that_always_take_too_long_end_the_attempt() -> None:
    s3 = SlowS3(slow=1_000_000)
    async with claim_on(s3) as claim:
        with pytest.raises(Failure, match="S3 took longer than 5 s to say whose the package is") as caught:
            await claim.confirm()

    assert caught.value.failure is FailureClass.DESTINATION_DOWN
    assert s3.checks == 5
