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


@dataclass
class Origin:
    """One archive behind a presigned-looking address, and what it does wrong."""

    body: Body = b""
    etag: str = '"one"'
    ranges: bool = True
    lengths: bool = True
    expire_after_bytes: int | None = None
    """Answer 403 once this many bytes were sent."""
    cut_every_bytes: int | None = None
    """Break an answer's connection after this many bytes."""
    fail_next: list[int] = field(default_factory=list)
    """Statuses of the next answers."""
    on_request: Callable[[int], None] | None = None
    sent: int = 0
    requests: int = 0
    seen_headers: list[dict[str, str]] = field(default_factory=list)

    def __enter__(self) -> Self:
        origin = self

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

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass

    def do_GET(self) -> None:
        origin = self.served
        origin.requests += 1
        origin.seen_headers.append({name.lower(): value for name, value in self.headers.items()})
        if origin.on_request is not None:
            origin.on_request(origin.requests)
        if origin.fail_next:
            self._plain(origin.fail_next.pop(0))
            return
        if origin.expire_after_bytes is not None and origin.sent >= origin.expire_after_bytes:
            self._plain(403, b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>")
            return
        span = self._span(len(origin.body)) if origin.ranges else None
        condition = self.headers.get("If-Range")
        if span is not None and not origin.body:
            self._plain(416)
        elif span is None or (condition and condition != origin.etag):
            self._send(200, 0, len(origin.body))
        else:
            self._send(206, *span)

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
        cut = origin.cut_every_bytes
        stop = min(end, start + cut) if cut else end
        for at in range(start, stop, 65536):
            piece = origin.body[at : min(at + 65536, stop)]
            self.wfile.write(piece)
            origin.sent += len(piece)
        if stop < end:
            self.close_connection = True
            self.connection.shutdown(2)
