"""A line between the packager and S3 or SQS on which every request can be met with a fault."""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from types import TracebackType


class Fault(Protocol):
    """Decides what becomes of a request; called before it is forwarded and after it was answered."""

    def before(self, number: int, head: bytes) -> bytes | None:
        """Return an answer to give instead of forwarding, empty to break the connection, None to forward."""
        ...

    def after(self, number: int, head: bytes) -> bool:
        """Return whether the answer is passed on."""
        ...


class NoFault:
    """Forwards everything."""

    def before(self, number: int, head: bytes) -> bytes | None:
        """Forward."""
        return None

    def after(self, number: int, head: bytes) -> bool:
        """Pass on."""
        return True


@dataclass
class Line:
    """Forwards HTTP requests to S3 and to SQS, one at a time per connection, and counts them together."""

    target: str
    """S3's address."""
    fault: Fault = field(default_factory=NoFault)
    sqs: str = ""
    """SQS's address, if it is another."""
    heads: list[bytes] = field(default_factory=list)
    """Of all requests that arrived."""
    carried_out: list[bytes] = field(default_factory=list)
    """Heads of those that a server answered, whether or not the answer was passed on."""

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()

    @property
    def url(self) -> str:
        """The address to use instead of the server's."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as sockets:
            sockets.enter_context(client)
            servers: dict[str, socket.socket] = {}
            held = b""
            while True:
                head, held = _head(client, held)
                if not head:
                    return
                with self._lock:
                    self.heads.append(head)
                    number = len(self.heads)
                instead = self.fault.before(number, head)
                if instead is not None:
                    if instead:
                        _forward_body(client, None, held, _length(head))
                        client.sendall(instead)
                    return
                target = self.sqs if self.sqs and is_message(head) else self.target
                if target not in servers:
                    servers[target] = sockets.enter_context(_connect(target))
                server = servers[target]
                server.sendall(head)
                held = _forward_body(client, server, held, _length(head))
                answer, rest = _head(server, b"")
                body = _answer_body(server, rest, answer, head)
                with self._lock:
                    self.carried_out.append(head)
                if b"\r\nconnection: close\r\n" in answer.lower():
                    servers.pop(target).close()
                if not self.fault.after(number, head):
                    return
                client.sendall(answer + body)


def is_message(head: bytes) -> bool:
    """Return whether a request is one to SQS."""
    return b"\r\nx-amz-target: amazonsqs." in head.lower()


def _connect(target: str) -> socket.socket:
    host, _, port = target.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)))


def _head(source: socket.socket, held: bytes) -> tuple[bytes, bytes]:
    while b"\r\n\r\n" not in held:
        piece = source.recv(65536)
        if not piece:
            return b"", b""
        held += piece
    head, _, rest = held.partition(b"\r\n\r\n")
    return head + b"\r\n\r\n", rest


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return 0


def _forward_body(source: socket.socket, target: socket.socket | None, held: bytes, length: int) -> bytes:
    body, rest = held[:length], held[length:]
    while True:
        if target is not None and body:
            target.sendall(body)
        length -= len(body)
        if length <= 0:
            return rest
        body = source.recv(min(length, 65536))
        if not body:
            raise OSError("the client ended")


def _answer_body(server: socket.socket, rest: bytes, answer: bytes, request: bytes) -> bytes:
    if request.startswith(b"HEAD") or answer.split(b" ")[1] in {b"204", b"304"}:
        return rest
    if b"chunked" in answer.lower():
        while not rest.endswith(b"0\r\n\r\n"):
            rest += server.recv(65536)
        return rest
    while len(rest) < _length(answer):
        piece = server.recv(65536)
        if not piece:
            raise OSError("the server ended")
        rest += piece
    return rest


def plain_answer(status: int, code: str) -> bytes:
    """Return an error as S3 writes it."""
    body = f"<Error><Code>{code}</Code><Message>as told</Message></Error>".encode()
    return f"HTTP/1.1 {status} Error\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body
