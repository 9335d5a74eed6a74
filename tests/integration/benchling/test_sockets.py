"""The client over real sockets: connections are kept, cuts are told apart, nothing is followed or read for ever."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from controller.benchling.client import BenchlingClient
from controller.benchling.errors import AnswerUnreadable, ExportOutcomeUnknown, ProviderDown
from controller.benchling.settings import AppCredentials, BenchlingSettings
from tests.support.scripted_benchling import entry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Script = Callable[[str, str], "bytes | None"]
"""Given method and path: the bytes of the answer, or None to cut the connection."""


def answer(status: str, body: bytes, *headers: str, kind: str = "application/json") -> bytes:
    """Return an HTTP answer."""
    lines = [f"HTTP/1.1 {status}", f"content-type: {kind}", f"content-length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


TOKEN = answer("200 OK", json.dumps({"access_token": "t", "token_type": "Bearer", "expires_in": 900}).encode())
ENTRY = json.dumps({"entry": entry("etr_1")}).encode()


@dataclass
class Server:
    """A small HTTP server on the loopback that does as the script says."""

    script: Script
    connections: int = 0
    requests: list[str] = field(default_factory=list)
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                method, path, _ = head.decode().split(" ", 2)
                lengths = [line for line in head.decode().lower().split("\r\n") if line.startswith("content-length:")]
                await reader.readexactly(int(lengths[0].partition(":")[2]) if lengths else 0)
                self.requests.append(f"{method} {path}")
                content = TOKEN if path == "/api/v2/token" else self.script(method, path)
                if content is None:
                    break
                writer.write(content)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(script: Script, **changes: Any) -> AsyncIterator[tuple[Server, BenchlingClient]]:
    """Yield a server and a client of it."""
    server = Server(script)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    settings = BenchlingSettings(
        f"http://127.0.0.1:{server.port}", lambda: AppCredentials("a", SecretStr("b")), max_tries=1, **changes
    )
    async with listening, BenchlingClient(settings, rng=Random(1)) as client:
        yield server, client


async def test_one_connection_serves_call_after_call() -> None:
    async with serving(lambda _method, _path: answer("200 OK", ENTRY)) as (server, client):
        for _ in range(20):
            assert (await client.get_entry("etr_1")).display_id == "EXP1"
        assert server.connections == 1
        assert client.settings.keepalive_seconds > 30


async def test_a_compressed_answer_is_read() -> None:
    packed = answer("200 OK", gzip.compress(ENTRY), "content-encoding: gzip")
    async with serving(lambda _method, _path: packed) as (_, client):
        assert (await client.get_entry("etr_1")).raw == entry("etr_1")


@pytest.mark.parametrize(
    "content", [None, b"HTTP/1.1 202 Accepted\r\ncontent-length: 900\r\n\r\n{", b"nonsense\r\n\r\n"]
)
async def test_a_cut_connection_during_an_export_is_an_unknown_outcome(content: bytes | None) -> None:
    def script(_method: str, path: str) -> bytes | None:
        return None if path.endswith("/exports") and content is None else content

    async with serving(script) as (server, client):
        if content is None:
            with pytest.raises(ExportOutcomeUnknown):
                await client.start_export("etr_1")
        else:
            starting = asyncio.create_task(client.start_export("etr_1", deadline=1.0))
            with pytest.raises(ExportOutcomeUnknown):
                await starting
        assert server.requests.count("POST /api/v2/exports") == 1


async def test_a_redirect_is_not_followed_and_its_cookie_not_kept() -> None:
    moved = answer("302 Found", b"", "location: http://127.0.0.1:1/elsewhere", "set-cookie: session=LEAKMARK")
    async with serving(lambda _method, _path: moved) as (server, client):
        for _ in range(2):
            with pytest.raises(ProviderDown, match="redirect"):
                await client.get_entry("etr_1")
        assert len(server.requests) == 3


async def test_an_endless_answer_is_given_up_at_the_bound() -> None:
    bomb = answer("200 OK", gzip.compress(b'{"a": "' + b"x" * 20_000_000), "content-encoding: gzip")
    async with serving(lambda _method, _path: bomb, max_answer_bytes=1_000_000) as (_, client):
        with pytest.raises(AnswerUnreadable, match="larger"):
            await client.get_entry("etr_1")


async def test_nobody_listening_is_said_in_a_sentence() -> None:
    settings = BenchlingSettings("http://127.0.0.1:1", lambda: AppCredentials("a", SecretStr("b")), max_tries=1)
    async with BenchlingClient(settings) as client:
        with pytest.raises(ProviderDown, match="could not be reached"):
            await client.get_entry("etr_1")
