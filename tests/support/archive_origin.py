"""Where archives come from in tests: an HTTP server with ranges, and the faults of real ones."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

Body = bytes | bytearray | memoryview


@dataclass(frozen=True)
class Spoilt:
    """What is wrong with one answer."""

    reset: bool = False
    """The connection breaks before a status line."""
    cut_after: int | None = None
    """The connection breaks after so many bytes of the body."""
    shift: int = 0
    """The range of an answer begins so many bytes too late, and its head says so."""


@dataclass
class Origin:
    """One archive behind a presigned-looking address, and what it does wrong."""

    body: Body = b""
    etag: str = '"one"'
    ranges: bool = True
    lengths: bool = True
    expire_after_bytes: int | None = None
    """Answer 403 once this many bytes were sent."""
    expiry_cuts: bool = False
    """Break the answers that are under way then; S3 itself lets them go on."""
    cut_every_bytes: int | None = None
    """Break an answer's connection after this many bytes."""
    fail_next: list[int] = field(default_factory=list)
    """Statuses of the next answers."""
    spoilt: dict[int, Spoilt] = field(default_factory=dict)
    """Answers that go wrong, by the number of the request."""
    on_request: Callable[[int], None] | None = None
    """Called with each request's number. Of requests that are out at once, which gets which number is chance."""
    on_range: Callable[[str], None] | None = None
    """Called with each request's `Range`, such as `bytes=0-99`; empty without one."""
    on_piece: Callable[[int, int], None] | None = None
    """Called with the request's number and the bytes sent for it, after each piece."""
    sent: int = 0
    requests: int = 0
    seen_headers: list[dict[str, str]] = field(default_factory=list)

    def __enter__(self) -> Self:
        origin = self
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"served": origin})
        self._server = _Server(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def count(self, *, requests: int = 0, sent: int = 0) -> int:
        """Count what was asked for and sent; return the number of the newest request."""
        with self._lock:
            self.requests += requests
            self.sent += sent
            return self.requests

    @property
    def expired(self) -> bool:
        """Whether the address is over."""
        return self.expire_after_bytes is not None and self.sent >= self.expire_after_bytes

    @property
    def url(self) -> str:
        """The address, with a signature that must not be seen anywhere."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/export.zip?X-Amz-Signature=topsecretsignature"


class _Server(ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients break off on purpose."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: Origin
    number = 0

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass

    def do_GET(self) -> None:
        origin = self.served
        number = self.number = origin.count(requests=1)
        origin.seen_headers.append({name.lower(): value for name, value in self.headers.items()})
        if origin.on_request is not None:
            origin.on_request(number)
        if origin.on_range is not None:
            origin.on_range(self.headers.get("Range", ""))
        if origin.fail_next:
            self._plain(origin.fail_next.pop(0))
            return
        spoilt = origin.spoilt.get(number, Spoilt())
        if spoilt.reset:
            self._break_off()
            return
        if origin.expired:
            self._plain(403, b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>")
            return
        span = self._span(len(origin.body)) if origin.ranges else None
        condition = self.headers.get("If-Range")
        if span is not None and not origin.body:
            self._plain(416)
        elif span is None or (condition and condition != origin.etag):
            self._send(200, 0, len(origin.body))
        else:
            self._send(206, min(span[0] + spoilt.shift, span[1] - 1), span[1])

    def _break_off(self) -> None:
        self.close_connection = True
        self.connection.shutdown(2)

    def _span(self, size: int) -> tuple[int, int] | None:
        header = self.headers.get("Range")
        if not header:
            return None
        first, _, last = header.removeprefix("bytes=").partition("-")
        if not first:
            return max(0, size - int(last)), size
        return int(first), min(size, int(last) + 1 if last else size)

    def _plain(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _send(self, status: int, start: int, end: int) -> None:
        origin = self.served
        self.send_response(status)
        self.send_header("ETag", origin.etag)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(origin.body)}")
        if origin.lengths:
            self.send_header("Content-Length", str(end - start))
        else:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        cut = origin.spoilt.get(self.number, Spoilt()).cut_after
        cut = origin.cut_every_bytes if cut is None else cut
        stop = end if cut is None else min(end, start + cut)
        for at in range(start, stop, 65536):
            if origin.expiry_cuts and origin.expired:
                stop = at
                break
            piece = origin.body[at : min(at + 65536, stop)]
            self.wfile.write(piece)
            origin.count(sent=len(piece))
            if origin.on_piece is not None:
                origin.on_piece(self.number, at + len(piece) - start)
        if stop < end:
            self._break_off()
