"""Servers for measurements, each a process of its own: archives by ranges with sendfile, and a line with a delay.

``python -m tests.performance.serving files FOLDER`` and ``… delay HOST PORT MILLISECONDS`` print their port and serve
until they are ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import sys
import threading
from pathlib import Path


def serve_files(folder: Path) -> None:
    """Serve a folder's files by GET with ranges; reads nothing into this process."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    print(listener.getsockname()[1], flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_converse, args=(connection, folder), daemon=True).start()


def _converse(connection: socket.socket, folder: Path) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection, contextlib.suppress(OSError):
        held = b""
        while True:
            while b"\r\n\r\n" not in held:
                piece = connection.recv(65536)
                if not piece:
                    return
                held += piece
            head, _, held = held.partition(b"\r\n\r\n")
            _answer(connection, folder, head.decode("latin-1"))


def _answer(connection: socket.socket, folder: Path, head: str) -> None:
    request, *lines = head.split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    with (folder / Path(request.split()[1].partition("?")[0]).name).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        start, end = 0, size
        if wanted := headers.get("range"):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, end = (
                (int(first), min(size, int(last) + 1) if last else size) if first else (max(0, size - int(last)), size)
            )
        status = "206 Partial Content" if wanted else "200 OK"
        extra = f"Content-Range: bytes {start}-{end - 1}/{size}\r\n" if wanted else ""
        connection.sendall(
            f'HTTP/1.1 {status}\r\nETag: "fixed"\r\nContent-Length: {end - start}\r\n{extra}\r\n'.encode("latin-1")
        )
        while start < end:
            start += os.sendfile(connection.fileno(), file.fileno(), start, min(end - start, 1 << 20))


class _Late(asyncio.Protocol):
    """One end of a connection whose bytes reach the other end a while later."""

    def __init__(self, seconds: float, handshake_seconds: float = 0.0) -> None:
        self.loop = asyncio.get_running_loop()
        self.seconds = seconds
        self.ready_at = self.loop.time() + handshake_seconds
        """Earlier a real line would not have been connected."""
        self.other: asyncio.Transport | None = None
        self.held: list[bytes] | None = []
        """What came before the other end was there."""
        self.ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.own = transport

    def meet(self, other: asyncio.Transport) -> None:
        """Send on what came so far, and from now on at once."""
        self.other = other
        held, self.held = self.held or [], None
        for data in held:
            self._send(data)
        if self.ended:
            self._end()

    def data_received(self, data: bytes) -> None:
        if self.held is not None:
            self.held.append(data)
        else:
            self._send(data)

    def _send(self, data: bytes) -> None:
        assert self.other is not None
        self.loop.call_at(max(self.loop.time(), self.ready_at) + self.seconds, self.other.write, data)

    def connection_lost(self, _exc: Exception | None) -> None:
        self.ended = True
        if self.other is not None:
            self._end()

    def _end(self) -> None:
        assert self.other is not None
        self.loop.call_at(max(self.loop.time(), self.ready_at) + self.seconds, self.other.close)


async def serve_delay(host: str, port: int, seconds: float) -> None:
    """Forward connections, each direction `seconds` late, their beginning a round trip later."""
    loop = asyncio.get_running_loop()
    meeting = set()

    async def join(near: _Late) -> None:
        _, far = await loop.create_connection(lambda: _Late(seconds), host, port)
        far.meet(near.own)
        near.meet(far.own)

    class Near(_Late):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            task = loop.create_task(join(self))
            meeting.add(task)
            task.add_done_callback(meeting.discard)

    server = await loop.create_server(lambda: Near(seconds, 2 * seconds), "127.0.0.1", 0, backlog=256)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


_UPLOADS = itertools.count(1)


class _Discard(asyncio.Protocol):
    """An S3 that keeps nothing: says yes to every put, and that nothing is there; the inventory's ETag is constant."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.held = b""
        self.left = 0
        self.answer = b""

    def data_received(self, data: bytes) -> None:
        if self.left:
            taken = min(self.left, len(data))
            self.left -= taken
            data = data[taken:]
            if self.left:
                return
            self._send()
        self.held += data
        while b"\r\n\r\n" in self.held and not self.left:
            head, _, self.held = self.held.partition(b"\r\n\r\n")
            self._begin(head)

    def _begin(self, head: bytes) -> None:
        length = next(
            (int(r.split(b":")[1]) for r in head.split(b"\r\n") if r.lower().startswith(b"content-length")), 0
        )
        self.answer = self._answer(head)
        self.left = length - min(length, len(self.held))
        self.held = self.held[length:]
        if not self.left:
            self._send()

    def _answer(self, head: bytes) -> bytes:
        method, target, _ = head.split(b"\r\n")[0].split(b" ")
        if method == b"GET" and b"?" in target:
            return _http(b"200 OK", b"<Result></Result>")
        if method == b"GET":
            return _http(b"404 Not Found", b"")
        if method == b"POST" and b"uploads" in target:
            return _http(b"200 OK", b"<R><UploadId>%d</UploadId></R>" % next(_UPLOADS))
        return _http(b"200 OK", b"")

    def _send(self) -> None:
        assert isinstance(self.transport, asyncio.Transport)
        self.transport.write(self.answer)


def _http(status: bytes, body: bytes) -> bytes:
    return b'HTTP/1.1 %s\r\nETag: "one"\r\nContent-Length: %d\r\n\r\n%s' % (status, len(body), body)


async def serve_discard() -> None:
    """Take everything and keep nothing."""
    server = await asyncio.get_running_loop().create_server(_Discard, "127.0.0.1", 0, backlog=256)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    if sys.argv[1] == "files":
        serve_files(Path(sys.argv[2]))
    elif sys.argv[1] == "discard":
        asyncio.run(serve_discard())
    else:
        asyncio.run(serve_delay(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]) / 1000))
