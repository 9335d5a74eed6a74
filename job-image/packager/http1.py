"""A small HTTP/1.1 client for bulk transfer, with bounded memory and nothing between a test and a write.

It owns connections, their reuse and their timeouts. It follows no redirect, retries nothing and knows no AWS.
Why it is not a library: docs/decisions/0010-transport.md.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping, Sequence

SLICE_BYTES: Final = 256 * 1024
"""A body is written in slices of this size, so that no second copy of it piles up in the transport."""

_QUEUE_BYTES: Final = 128 * 1024
_NOT_IN_URL: Final = re.compile(r"[^\x21-\x7e]")
_HEAD_BYTES: Final = 64 * 1024
_CONNECT_SECONDS: Final = 15.0
_IDLE_REUSE_SECONDS: Final = 4.0  # S3 closes idle connections after about 5 s; a younger one is most likely alive


class ConnectionBroken(Exception):  # noqa: N818 - it says what happened to the connection
    """The connection failed, stalled or ended early, or the answer was no HTTP. Never holds an address's query."""


@dataclass(frozen=True, slots=True)
class Address:
    """An http or https address, split once."""

    secure: bool
    host: str
    port: int
    target: str
    """Path and query as sent."""

    @classmethod
    def parse(cls, url: str) -> Self:
        """Split an absolute URL; raises `ValueError` without repeating it, because it may hold a signature."""
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("The address is not an absolute http or https URL.")
        if _NOT_IN_URL.search(url):
            raise ValueError("The address holds characters that a URL cannot hold.")
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        secure = parts.scheme == "https"
        return cls(secure, parts.hostname, parts.port or (443 if secure else 80), target)

    @property
    def origin(self) -> str:
        """Scheme, host and port: safe to log."""
        return f"{'https' if self.secure else 'http'}://{self.authority}"

    @property
    def authority(self) -> str:
        """The Host header's value."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"


class _Wire(asyncio.Protocol):
    """One connection's bytes: received chunks queue up uncopied, and the peer is slowed down when they pile up."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.chunks: deque[bytes] = deque()
        self.queued = 0
        self.ended = False
        self.idle_since = 0.0
        self._waiter: asyncio.Future[None] | None = None
        self._reading_paused = False
        self._writing_paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.set_write_buffer_limits(high=SLICE_BYTES // 2)

    def data_received(self, data: bytes) -> None:
        self.chunks.append(data)
        self.queued += len(data)
        if self.queued > _QUEUE_BYTES and not self._reading_paused and self.transport is not None:
            self._reading_paused = True
            self.transport.pause_reading()
        self._wake()

    def connection_lost(self, _exc: Exception | None) -> None:
        self.ended = True
        self._wake()

    def eof_received(self) -> None:
        self.ended = True
        self._wake()

    def pause_writing(self) -> None:
        self._writing_paused = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        waiter = self._waiter = loop.create_future()
        timer = loop.call_later(seconds, _expire, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiter = None

    def push_back(self, data: bytes) -> None:
        if data:
            self.chunks.appendleft(data)
            self.queued += len(data)

    async def receive(self, seconds: float) -> bytes:
        """Return the next bytes, or nothing at the end of the stream."""
        while not self.chunks:
            if self.ended:
                return b""
            await self._wait(seconds)
        data = self.chunks.popleft()
        self.queued -= len(data)
        if self._reading_paused and self.queued <= _QUEUE_BYTES // 2 and self.transport is not None:
            self._reading_paused = False
            if not self.transport.is_closing():
                self.transport.resume_reading()
        return data

    async def drained(self, seconds: float) -> None:
        """Wait until the transport takes more, the peer answers or the connection ends."""
        while self._writing_paused and not self.ended and not self.chunks:
            await self._wait(seconds)

    @property
    def usable(self) -> bool:
        return not (self.ended or self.chunks or self.transport is None or self.transport.is_closing())

    def abort(self) -> None:
        self.ended = True
        if self.transport is not None:
            self.transport.abort()


def _expire(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_exception(ConnectionBroken("The other side was silent for too long."))


@dataclass(slots=True)
class HttpResponse:
    """A response's head, and its body while it arrives."""

    status: int
    headers: dict[str, str]
    """By lower-case name."""
    _pool: _Pool
    _wire: _Wire
    _left: int | None
    """Body bytes to come; None: until the connection ends, or chunked."""
    _chunked: bool
    _reusable: bool
    _idle_seconds: float
    _done: bool = False
    _pushed: bytes = b""

    async def piece(self) -> bytes:
        """Return the next bytes of the body, nothing at its end; raises `ConnectionBroken` if it ends early."""
        if self._pushed:
            pushed, self._pushed = self._pushed, b""
            return pushed
        if self._done:
            return b""
        if self._chunked and not self._left:
            self._left = await self._next_chunk(first=self._left is None)
        if self._left == 0:
            self._finish()
            return b""
        piece = await self._wire.receive(self._idle_seconds)
        if not piece:
            if self._left is None:
                self._finish()
                return b""
            raise ConnectionBroken("The connection ended in the middle of an answer.")
        if self._left is not None:
            if len(piece) > self._left:
                self._wire.push_back(piece[self._left :])
                piece = piece[: self._left]
            self._left -= len(piece)
            if self._left == 0 and not self._chunked:
                self._finish()
        return piece

    async def _next_chunk(self, *, first: bool) -> int:
        """Return the next chunk's length, having read what stands before it; 0 at the end."""
        if not first and await _line(self._wire, self._idle_seconds):
            raise ConnectionBroken("The answer's chunks are malformed.")
        line = await _line(self._wire, self._idle_seconds)
        try:
            length = int(line.split(b";")[0].strip(), 16)
        except ValueError:
            raise ConnectionBroken("The answer's chunks are malformed.") from None
        if length == 0:
            while await _line(self._wire, self._idle_seconds):
                pass
        return length

    async def read(self, limit: int) -> bytes:
        """Return the whole body; raises `ConnectionBroken` if it is longer than `limit` bytes."""
        pieces = []
        total = 0
        while piece := await self.piece():
            total += len(piece)
            if total > limit:
                self.close()
                raise ConnectionBroken(f"The answer is longer than {limit} bytes.")
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def unread(self, piece: bytes) -> None:
        """Put bytes back; the next `piece` returns them."""
        self._pushed = piece

    def _finish(self) -> None:
        if not self._done:
            self._done = True
            self._pool.release(self._wire, reusable=self._reusable)

    def close(self) -> None:
        """Drop the response; its connection is reused only if the body was read."""
        if not self._done:
            self._done = True
            self._pool.release(self._wire, reusable=False)


async def _line(wire: _Wire, seconds: float) -> bytes:
    gathered = b""
    while b"\r\n" not in gathered:
        piece = await wire.receive(seconds)
        if not piece or len(gathered) > _HEAD_BYTES:
            raise ConnectionBroken("The connection ended in the middle of an answer.")
        gathered += piece
    line, _, rest = gathered.partition(b"\r\n")
    wire.push_back(rest)
    return line


@dataclass(slots=True)
class _Pool:
    """The connections to one origin."""

    idle: list[_Wire] = field(default_factory=list)

    def release(self, wire: _Wire, *, reusable: bool) -> None:
        if reusable and wire.usable:
            wire.idle_since = asyncio.get_running_loop().time()
            self.idle.append(wire)
        else:
            wire.abort()

    def take(self) -> _Wire | None:
        oldest = asyncio.get_running_loop().time() - _IDLE_REUSE_SECONDS
        while self.idle:
            wire = self.idle.pop()
            if wire.usable and wire.idle_since >= oldest:
                return wire
            wire.abort()
        return None


class Client:
    """Sends requests; one per process. The caller decides how many run at once."""

    def __init__(self, *, idle_seconds: float = 60.0) -> None:
        """Break a connection that moves nothing for `idle_seconds`."""
        self._pools: dict[tuple[bool, str, int], _Pool] = {}
        self._idle_seconds = idle_seconds
        self._tls: ssl.SSLContext | None = None

    async def request(
        self,
        method: str,
        address: Address,
        headers: Mapping[str, str],
        body: Sequence[bytes | bytearray | memoryview] = (),
        *,
        before_write: Callable[[], None] | None = None,
        before_last: Callable[[], object] | None = None,
    ) -> HttpResponse:
        """Send a request and return the head of its answer.

        `before_write` is called directly before the first byte is handed to the socket, with no await between; what it
        raises leaves nothing sent. `before_last` (may return an awaitable) is called before the last slice of a body
        of several slices; what it raises leaves the request incomplete, which no server acts upon.
        """
        pool = self._pools.setdefault((address.secure, address.host, address.port), _Pool())
        head = _head(method, address, headers, body)
        wire = pool.take() or await self._connect(address)
        if before_write is not None:
            try:
                before_write()
            except BaseException:
                pool.release(wire, reusable=True)
                raise
        try:
            complete = await self._send(wire, head, body, before_last)
            status, answered = await self._read_head(wire)
        except BaseException:
            wire.abort()
            raise
        return self._response(method, pool, wire, status, answered, complete=complete)

    async def _connect(self, address: Address) -> _Wire:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                _, wire = await loop.create_connection(
                    _Wire, address.host, address.port, ssl=self._context() if address.secure else None
                )
        except TimeoutError:
            raise ConnectionBroken(f"{address.origin} did not take a connection in time.") from None
        except OSError as error:
            raise ConnectionBroken(f"{address.origin} cannot be connected: {error.strerror or error}.") from None
        return wire

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            import ssl

            self._tls = ssl.create_default_context()
        return self._tls

    async def _send(
        self,
        wire: _Wire,
        head: bytes,
        body: Sequence[bytes | bytearray | memoryview],
        before_last: Callable[[], object] | None,
    ) -> bool:
        """Write the request, its beginning before any await; False if the peer answered before it had all of it."""
        assert wire.transport is not None
        slices = _slices(body)
        first = slices.pop(0) if slices else b""
        if len(first) <= 64 * 1024:
            wire.transport.write(b"".join((head, first)))
        else:
            wire.transport.write(head)
            wire.transport.write(first)
        for number, piece in enumerate(slices, 1):
            await wire.drained(self._idle_seconds)
            if wire.chunks:
                return False
            if wire.ended:
                raise ConnectionBroken("The connection ended while a request was being sent.")
            if number == len(slices) and before_last is not None:
                waiting = before_last()
                if asyncio.iscoroutine(waiting):
                    await waiting
            wire.transport.write(piece)
        return True

    async def _read_head(self, wire: _Wire) -> tuple[int, dict[str, str]]:
        gathered = b""
        while True:
            end = gathered.find(b"\r\n\r\n")
            if end < 0:
                piece = await wire.receive(self._idle_seconds)
                if not piece or len(gathered) > _HEAD_BYTES:
                    raise ConnectionBroken("The connection ended before an answer came.")
                gathered += piece
                continue
            status, headers = _parse_head(gathered[:end])
            gathered = gathered[end + 4 :]
            if status >= 200:
                wire.push_back(gathered)
                return status, headers

    def _response(
        self, method: str, pool: _Pool, wire: _Wire, status: int, headers: dict[str, str], *, complete: bool
    ) -> HttpResponse:
        chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        length = headers.get("content-length")
        left: int | None
        if method == "HEAD" or status in {204, 304}:
            left, chunked = 0, False
        elif chunked or length is None:
            left = None
        elif length.isascii() and length.isdigit():
            left = int(length)
        else:
            wire.abort()
            raise ConnectionBroken("The answer's length is no number.")
        reusable = complete and headers.get("connection", "").lower() != "close" and (left is not None or chunked)
        response = HttpResponse(status, headers, pool, wire, left, chunked, reusable, self._idle_seconds)
        if left == 0:
            response._finish()  # noqa: SLF001 - a response without a body needs no reading
        return response

    def close(self) -> None:
        """Drop the idle connections."""
        for pool in self._pools.values():
            while pool.idle:
                pool.idle.pop().abort()


def _head(
    method: str, address: Address, headers: Mapping[str, str], body: Sequence[bytes | bytearray | memoryview]
) -> bytes:
    length = sum(len(piece) for piece in body)
    lines = [f"{method} {address.target} HTTP/1.1"]
    if "host" not in headers:
        lines.append(f"host: {address.authority}")
    lines.extend(f"{name}: {value}" for name, value in headers.items())
    if length or method in {"PUT", "POST"}:
        lines.append(f"content-length: {length}")
    text = "\r\n".join(lines)
    if text.count("\r\n") != len(lines) - 1 or "\0" in text:
        raise ValueError("A header holds a line break.")
    return (text + "\r\n\r\n").encode("utf-8")


def _slices(body: Sequence[bytes | bytearray | memoryview]) -> list[bytes | bytearray | memoryview]:
    slices: list[bytes | bytearray | memoryview] = []
    for piece in body:
        if len(piece) <= SLICE_BYTES:
            slices.append(piece)
        else:
            view = memoryview(piece)
            slices.extend(view[at : at + SLICE_BYTES] for at in range(0, len(view), SLICE_BYTES))
    return slices


def _parse_head(raw: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = raw.decode("latin-1").split("\r\n")
    parts = first.split(" ", 2)
    if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not (len(parts[1]) == 3 and parts[1].isdigit()):
        raise ConnectionBroken("The answer is not HTTP.")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return int(parts[1]), headers
