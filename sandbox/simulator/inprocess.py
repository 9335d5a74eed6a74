"""An httpx transport that leads straight into a simulator: no sockets, so a test's own clock can drive both."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
from typing_extensions import override

from sandbox.simulator.wire import Call, Reply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sandbox.simulator.simulator import Simulator


class _Body(httpx.AsyncByteStream):
    def __init__(self, reply: Reply, simulator: Simulator) -> None:
        self._reply = reply
        self._simulator = simulator

    @override
    async def __aiter__(self) -> AsyncIterator[bytes]:
        sent = 0
        for piece in self._reply.stream or iter([self._reply.body]):
            cut = self._reply.cut_after  # a stream may end itself
            part = piece if cut is None else piece[: max(0, cut - sent)]
            yield part
            sent += len(part)
            if cut is not None and sent >= cut:
                message = "the simulator reset the connection"
                raise httpx.ReadError(message)
            if self._reply.pause_each_piece:
                await self._simulator.clock.sleep(self._reply.pause_each_piece)


class InProcess(httpx.AsyncBaseTransport):
    """Requests by origin: the simulator's `world.origins` say which is which."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        call = Call(
            request.method,
            request.url.raw_path.decode().partition("?")[0],
            request.url.query.decode(),
            {name.lower(): value for name, value in request.headers.items()},
            await request.aread(),
        )
        origins, host = self._simulator.world.origins, request.url.netloc.decode()
        if host == urlsplit(origins.blobs).netloc:
            reply = await self._simulator.blobs(call)
        elif host == urlsplit(origins.jwks).netloc:
            reply = await self._simulator.jwks(call)
        else:
            reply = await self._simulator.api(call)
        if reply.cut_after is not None and reply.cut_after < 0:
            message = "the simulator reset the connection"
            raise httpx.ReadError(message, request=request)
        headers = dict(reply.headers)
        length = len(reply.body) if reply.stream is None else reply.length
        if length is not None:
            headers["content-length"] = str(length)
        return httpx.Response(reply.status, headers=headers, stream=_Body(reply, self._simulator))
