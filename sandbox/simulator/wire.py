"""HTTP without a framework: what an edge takes and gives, so that sockets and in-process clients share the edges."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Json = dict[str, Any]
"""A JSON object on its way in or out of the simulated API."""


@dataclass(frozen=True)
class Call:
    """One request. Header names are lower case; the query is undecoded."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def parameters(self) -> dict[str, str]:
        """The query's parameters; of a repeated one the last value."""
        return dict(parse_qsl(self.query, keep_blank_values=True))

    @property
    def is_json(self) -> bool:
        """Whether the body claims to be JSON."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"


@dataclass
class Reply:
    """One answer. `cut_after`: reset the connection after so many body bytes (-1: before the status line)."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    stream: Iterator[bytes] | None = None
    length: int | None = None
    """Content-Length of a stream; None: chunked."""
    cut_after: int | None = None
    pause_each_piece: float = 0.0
    """Real seconds between the pieces of a stream."""


class Refusal(Exception):  # noqa: N818 - an answer, not a defect
    """An answer that ends the request early."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


def json_reply(body: object, status: int = 200) -> Reply:
    """An answer with a JSON body."""
    return Reply(status, json.dumps(body).encode(), {"content-type": "application/json"})


def html_reply(status: int, title: str) -> Reply:
    """What a gateway in front of the API answers."""
    page = f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"
    return Reply(status, page.encode(), {"content-type": "text/html; charset=utf-8"})


def error(status: int, kind: str, message: str, **members: Any) -> Reply:
    """An answer with Benchling's error envelope."""
    return json_reply({"error": {"type": kind, "message": message, "userMessage": message, **members}}, status)


def bad_request(message: str, **members: Any) -> Refusal:
    """400 with the documented type."""
    return Refusal(error(400, "invalid_request_error", message, **members))


def unknown_ids(identifiers: list[str]) -> Refusal:
    """400 of a listing or bulk read: the ids stand beside the error, not in it."""
    reply = error(400, "invalid_request_error", f"Unknown ids: {', '.join(identifiers)}")
    reply.body = json.dumps({**json.loads(reply.body), "invalidIds": identifiers}).encode()
    return Refusal(reply)


def not_found(identifier: str) -> Refusal:
    """404 with the id that isn't there."""
    return Refusal(error(404, "invalid_request_error", f"Could not find item {identifier}", invalidId=identifier))


def forbidden(message: str, identifier: str | None = None) -> Refusal:
    """403, naming the id if there is one."""
    extra = {} if identifier is None else {"invalidId": identifier}
    return Refusal(error(403, "permission_denied", message, **extra))


def xml_error(status: int, code: str, message: str, **members: str) -> Reply:
    """An object store's error document."""
    extra = "".join(f"<{name}>{value}</{name}>" for name, value in members.items())
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>{message}</Message>{extra}"
        "<RequestId>SIMULATED</RequestId><HostId>simulated</HostId></Error>"
    )
    return Reply(status, text.encode(), {"content-type": "application/xml"})


def json_object(call: Call) -> Json:
    """The request's body as a JSON object, or 400."""
    if not call.is_json:
        raise bad_request("Content-Type must be application/json")
    try:
        body = json.loads(call.body)
    except (ValueError, RecursionError):
        raise bad_request("Request body is not valid JSON") from None
    if not isinstance(body, dict):
        raise bad_request("Request body must be a JSON object")
    return body


def returning(whole: Json, wanted: str | None) -> Json:
    """The members that `?returning=a,b` (in listings `listing.a`) asks for, and no others."""
    if not wanted:
        return whole
    names = {name for path in wanted.split(",") for name in path.strip().split(".")[:2]}
    return {name: value for name, value in whole.items() if name in names}
