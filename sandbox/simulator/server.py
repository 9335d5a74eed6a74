"""The simulator on sockets: the API and its control, the archives, and the keys, each on its own origin."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from typing import TYPE_CHECKING, Self

from aiohttp import web

from sandbox.simulator import control_api
from sandbox.simulator.settings import TenantAddresses
from sandbox.simulator.simulator import Simulator
from sandbox.simulator.wire import Call, Reply
from sandbox.simulator.world import Origins

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from sandbox.simulator.clock import Clock
    from sandbox.simulator.settings import TenantSettings

_LARGEST_BODY = 110 * 1024 * 1024


class CannotServe(Exception):  # noqa: N818 - says what a person must change
    """A port or address that can't be had; the message says what to do."""


async def _body(request: web.BaseRequest) -> bytes:
    """The request's body, or as much as it takes to see that it is too large."""
    parts: list[bytes] = []
    size = 0
    async for part in request.content.iter_chunked(1 << 20):
        parts.append(part)
        size += len(part)
        if size > _LARGEST_BODY:
            break
    return b"".join(parts)


async def _call_of(request: web.BaseRequest) -> Call:
    path, _, query = request.raw_path.partition("?")
    headers = {name.lower(): value for name, value in request.headers.items()}
    return Call(request.method, path, query, headers, await _body(request))


async def _send(request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
    """Write the answer; a cut one ends with a reset connection."""
    transport = request.transport
    if reply.cut_after is not None and reply.cut_after < 0 and transport is not None:
        transport.abort()
        return web.Response(status=500)
    if reply.stream is None:
        return web.Response(status=reply.status, body=reply.body, headers=reply.headers)
    response = web.StreamResponse(status=reply.status, headers=reply.headers)
    response.content_length = reply.length
    if reply.length is None:
        response.enable_chunked_encoding()
    await response.prepare(request)
    sent = 0
    for piece in reply.stream:
        part = piece if reply.cut_after is None else piece[: max(0, reply.cut_after - sent)]
        await response.write(part)
        sent += len(part)
        if reply.cut_after is not None and sent >= reply.cut_after and transport is not None:
            # Let what was written reach the client: abort() would throw it away with the rest.
            await asyncio.sleep(0.02)
            transport.abort()
            return response
        await asyncio.sleep(reply.pause_each_piece)
    await response.write_eof()
    return response


class BenchlingServer:
    """A simulator that listens. Use as an async context manager, or `start` and `close`."""

    def __init__(
        self,
        settings: TenantSettings | None = None,
        *,
        addresses: TenantAddresses | None = None,
        clock: Clock | None = None,
        folder: Path | None = None,
    ) -> None:
        self.simulator = Simulator(settings, clock=clock, folder=folder)
        self._addresses = addresses or TenantAddresses()
        self._folder = folder
        self._runners: list[web.ServerRunner] = []

    @property
    def control_url(self) -> str:
        """Where `TenantControl` connects to."""
        return self.simulator.world.origins.api + control_api.PREFIX

    async def start(self) -> None:
        """Listen on all origins. Raises CannotServe."""
        places = self._addresses
        api = await self._listen("api", places.host, places.port)
        blobs = await self._listen("blobs", places.archive_host, places.archive_port)
        jwks = await self._listen("jwks", places.jwks_host, places.jwks_port)
        self.simulator.world.serve_at(Origins(api, blobs, jwks))

    async def _listen(self, origin: str, host: str, port: int) -> str:
        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            call = await _call_of(request)
            if origin == "blobs":
                reply = await self.simulator.blobs(call)
            elif origin == "jwks":
                reply = await self.simulator.jwks(call)
            elif call.path.startswith(control_api.PREFIX):
                reply = control_api.answer(self.simulator, call)
            else:
                reply = await self.simulator.api(call)
            return await _send(request, reply)

        server = web.Server(answer, access_log=None)
        runner = web.ServerRunner(server, shutdown_timeout=1.0)
        await runner.setup()
        self._runners.append(runner)
        try:
            await web.TCPSite(runner, host, port, backlog=1024).start()
        except OverflowError:
            message = f"{port} is not a port; choose one from 0 (any free one) to 65535"
            raise CannotServe(message) from None
        except OSError as problem:
            raise CannotServe(_why(origin, host, port, problem)) from None
        bound = runner.addresses[0][1]
        return f"http://{host}:{bound}"

    async def close(self) -> None:
        """Stop listening and sending."""
        await self.simulator.close()
        for runner in self._runners:
            await runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def ready(self) -> dict[str, object]:
        """The line that `serve` prints: every address and name that the other programs need."""
        origins, settings = self.simulator.world.origins, self.simulator.settings
        return {
            "ready": True,
            "api": f"{origins.api}/api/v2",
            "tenant": origins.api,
            "archives": origins.blobs,
            "jwks": f"{origins.jwks}/api/v1/apps/{settings.app_definition_id}/jwks",
            "control": self.control_url,
            "clientId": settings.client_id,
            "clientSecret": settings.client_secret,
            "appDefinitionId": settings.app_definition_id,
            "appId": settings.app_id,
            "tenantId": settings.tenant_id,
            "featureId": settings.feature_id,
        }

    def write_ready(self) -> None:
        """Leave the ready line in the folder too, for people's CLI verbs."""
        if self._folder is not None:
            (self._folder / "ready.json").write_text(json.dumps(self.ready()) + "\n")


def _why(origin: str, host: str, port: int, problem: OSError) -> str:
    flag = {"api": "", "blobs": "archive-", "jwks": "jwks-"}[origin]
    if problem.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use; choose another with --{flag}port, or 0 for a free one"
    return (
        f"can't listen on {host}:{port} ({os.strerror(problem.errno or 0)}); choose another address with --{flag}host"
    )
