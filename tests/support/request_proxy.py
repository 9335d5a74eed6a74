"""A way to a server that a test watches, holds up and cuts: plain HTTP on loopback, each request in the test's hand."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web
from yarl import URL

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sandbox.controlplane import Address

HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "upgrade", "host", "content-length"})
LARGEST_BODY = 64 * 1024 * 1024


class CutError(Exception):
    """Raised by a hook: the connection is reset and the client learns nothing."""


class RefusedError(Exception):
    """Raised by a `before` hook: the server does not get the request, the client this answer."""

    def __init__(self, status: int, reason: str) -> None:
        """Answer as a Kubernetes API server does."""
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(slots=True)
class Call:
    """One request, and its answer once there is one."""

    method: str
    path: str
    """With the query."""
    body: bytes
    status: int = 0

    @property
    def resource(self) -> str:
        """The path without the query."""
        return urlsplit(self.path).path

    @property
    def mutating(self) -> bool:
        return self.method not in {"GET", "HEAD", "OPTIONS"}

    def json(self) -> dict[str, Any]:
        """The body as an object, an empty one if it is none."""
        with contextlib.suppress(ValueError):
            content = json.loads(self.body)
            if isinstance(content, dict):
                return content
        return {}


async def let_through(_: Call) -> None:
    """Do nothing."""


@dataclass
class Proxy:
    """Passes requests on to one server. `before` runs ahead of each, `after` between its effect and its answer."""

    target: str
    token: str | None = None
    """A bearer token for every request; None: the client's own."""
    tls: ssl.SSLContext | None = None
    before: Callable[[Call], Awaitable[None]] = let_through
    after: Callable[[Call], Awaitable[None]] = let_through
    rewrite: Callable[[str], str] = lambda path: path
    calls: list[Call] = field(default_factory=list)
    """All requests that arrived, watches included, oldest first."""
    port: int = 0
    _open: bool = True
    _connections: set[asyncio.Transport] = field(default_factory=set)
    _session: aiohttp.ClientSession | None = None
    _runner: web.AppRunner | None = None

    @classmethod
    def to_api_server(cls, address: Address) -> Proxy:
        """To a control plane, as its administrator."""
        return cls(address.server, address.token, ssl.create_default_context(cafile=address.ca_file))

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=0, ssl=self.tls if self.tls is not None else False)
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=aiohttp.ClientTimeout(total=None), auto_decompress=False
        )
        application = web.Application(client_max_size=LARGEST_BODY)
        application.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()

    @property
    def url(self) -> str:
        """Where clients connect to."""
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Reset every connection, and from now on every new one."""
        self._open = False
        for transport in list(self._connections):
            transport.abort()

    def mend(self) -> None:
        """Let requests through again."""
        self._open = True

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        transport = request.transport
        assert isinstance(transport, asyncio.Transport)
        self._connections.add(transport)
        try:
            return await self._pass_on(request)
        except RefusedError as refused:
            content = {"kind": "Status", "status": "Failure", "reason": refused.reason, "code": refused.status}
            return web.json_response(content, status=refused.status)
        except (CutError, aiohttp.ClientError, ConnectionError):
            transport.abort()
            return web.Response(status=502)
        finally:
            self._connections.discard(transport)

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        call = Call(request.method, request.raw_path, await request.read())
        self._require_open()
        self.calls.append(call)
        await self.before(call)
        self._require_open()
        headers = [(name, value) for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP]
        if self.token is not None:
            headers = [pair for pair in headers if pair[0].lower() != "authorization"]
            headers.append(("Authorization", f"Bearer {self.token}"))
        assert self._session is not None
        url = URL(self.target + self.rewrite(call.path), encoded=True)
        async with self._session.request(call.method, url, headers=headers, data=call.body or None) as answer:
            call.status = answer.status
            if "watch=true" in call.path:
                return await self._stream(request, answer)
            content = await answer.read()
            await self.after(call)
            self._require_open()
            kept = [(name, value) for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP]
            return web.Response(status=answer.status, body=content, headers=dict(kept))

    async def _stream(self, request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.content_type})
        await response.prepare(request)
        async for chunk in answer.content.iter_any():
            await response.write(chunk)
        return response

    def _require_open(self) -> None:
        if not self._open:
            raise CutError
