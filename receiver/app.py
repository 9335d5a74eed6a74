"""The HTTP surface: deliveries, probes and metrics.

A delivery is a POST on ``/``, ``/event``, ``/canvas`` or ``/lifecycle``, each also behind one segment (the stage that
older installations have in their address). The path says nothing else: what a delivery is about stands in its message.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from typing import TYPE_CHECKING, Final

from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from entrypackage.filing import Wish
from entrypackage.messages import Envelope, MessageError, parse_envelope
from receiver.answers import RETRY_AFTER_SECONDS, Accepted, Refusal, Why
from receiver.intake import check_tenant, entry_of, intake
from receiver.signature import Signed, read_headers, webhook_id_for_log
from receiver.sources import client_address, is_allowed

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Receive, Scope, Send

    from receiver.keys import KeyRing
    from receiver.metrics import Metrics
    from receiver.settings import ReceiverSettings
    from receiver.writer import Writer

log = logging.getLogger(__name__)

_BODIES_BYTES: Final = 32 * 1024**2
"""Bodies that may be held at once. Anyone can send some before a signature can be looked at, and memory is small."""
_DISCARD_SECONDS: Final = 0.5
_DISCARD_FACTOR: Final = 8
_PAGES: Final = ("/livez", "/readyz", "/metrics")
_STAGE: Final = r"(?:/[A-Za-z0-9_-]{1,128})?"
_DELIVERY_PATH: Final = re.compile(rf"{_STAGE}(?:/(?:event|canvas|lifecycle)?)?")


def is_delivery_path(path: str) -> bool:
    """Whether deliveries are taken on this path; a bare stage (``/prod``) is one, a dot or a third segment is not."""
    return _DELIVERY_PATH.fullmatch(path) is not None


class Receiver:
    """Everything that the endpoints share."""

    def __init__(
        self,
        settings: ReceiverSettings,
        keys: KeyRing,
        writer: Writer,
        metrics: Metrics,
        *,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Take the parts; `wall_clock` gives seconds since 1970 and is compared with the deliveries' timestamps."""
        self._settings = settings
        self._keys = keys
        self._writer = writer
        self._metrics = metrics
        self._wall_clock = wall_clock
        self._in_flight = 0
        self._bodies_bytes = 0
        self.draining = False
        """Set at SIGTERM: readiness is off and connections are closed after their answer."""
        metrics.observe_keys(keys)

    def application(self) -> Starlette:
        """Return the ASGI application."""
        return Starlette(
            routes=[
                *(
                    Route(path, page)
                    for path, page in zip(_PAGES, (self._alive, self._ready, self._show_metrics), strict=True)
                ),
                Route("/{path:path}", _Deliveries(self)),
            ],
            exception_handlers={404: _not_found},
        )

    async def _alive(self, _: Request) -> Response:
        """Answer 200 as long as the event loop turns; no other system is asked."""
        return JSONResponse({"status": "alive"})

    async def _ready(self, _: Request) -> Response:
        """Answer 200 once keys have been fetched and until SIGTERM.

        Without a key every delivery would be answered 503, so a new pod must not replace an old one that has keys.
        Later failures of the key server change nothing here, because old keys stay in use. The API server is left out:
        all replicas would leave the load balancer together, which answers Benchling nothing better than they do.
        """
        if self.draining:
            return JSONResponse({"status": "stopping"}, 503)
        if not self._keys.loaded:
            return JSONResponse({"status": "waiting for the app's public keys"}, 503)
        return JSONResponse({"status": "ready"})

    async def _show_metrics(self, request: Request) -> Response:
        """Answer requests from inside the cluster; return 404 to those that came through the ingress."""
        if self._settings.trusted_proxy_hops and "x-forwarded-for" in request.headers:
            return _not_found(request, Exception())
        return Response(self._metrics.exposition(), media_type=CONTENT_TYPE_LATEST)

    async def deliver(self, request: Request) -> Response:
        """Answer one delivery, count it and log it, whatever happens."""
        started = time.monotonic()
        deadline = asyncio.get_running_loop().time() + self._settings.write_deadline_seconds
        facts: dict[str, object] = {"webhookId": webhook_id_for_log(request.headers.raw)}
        self._in_flight += 1
        self._metrics.in_flight(self._in_flight)
        answer: Accepted | Refusal
        try:
            answer = await self._take(request, deadline, facts)
        except Refusal as refusal:
            answer = refusal
            await self._discard_body(request)
        except Exception:
            log.exception("A defect while taking a delivery.", extra=facts)
            answer = Refusal(Why.INTERNAL, "The receiver failed.")
        finally:
            self._in_flight -= 1
            self._metrics.in_flight(self._in_flight)
        seconds = time.monotonic() - started
        self._metrics.answered(answer.outcome, answer.why if isinstance(answer, Refusal) else None, seconds)
        response = _respond(answer, close=self.draining)
        _log_answer(answer, response.status_code, seconds, facts)
        return response

    async def _take(self, request: Request, deadline: float, facts: dict[str, object]) -> Accepted:
        if request.method != "POST":
            raise Refusal(Why.METHOD_NOT_ALLOWED, "Deliveries are sent with POST.")
        if self._in_flight > self._settings.max_deliveries:
            raise Refusal(Why.OVERLOADED, "Too many deliveries at the same time.")
        self._check_source(request)
        signed = read_headers(
            request.headers.raw,
            now=self._wall_clock(),
            tolerance_seconds=self._settings.timestamp_tolerance_seconds,
        )
        envelope = await self._open(request, signed, deadline)
        facts.update(type=envelope.message.type, entryId=entry_of(envelope, None))
        if envelope.message.deprecated:
            self._metrics.deprecated()
            facts["deprecated"] = True
        check_tenant(envelope, self._settings.tenant_ids)
        decided = intake(envelope, webhook_id=signed.webhook_id, sent_at=signed.sent_at)
        facts["entryId"] = entry_of(envelope, decided)
        return await self._writer.file(decided, deadline) if isinstance(decided, Wish) else decided

    def _check_source(self, request: Request) -> None:
        peer = request.client.host if request.client else None
        forwarded = request.headers.getlist("x-forwarded-for")
        address = client_address(peer, forwarded, self._settings.trusted_proxy_hops)
        if not is_allowed(address, self._settings.allowed_sources):
            raise Refusal(Why.SOURCE_NOT_ALLOWED, "Deliveries are not taken from this address.")

    async def _open(self, request: Request, signed: Signed, deadline: float) -> Envelope:
        """Return the content of a delivery that is Benchling's; raises `Refusal`."""
        received = bytearray()
        try:
            await self._read_body(request, deadline, received)
            body = bytes(received)
            await self._verify(signed, body, deadline)
            return _parse(body)
        finally:
            self._bodies_bytes -= len(received)

    async def _read_body(self, request: Request, deadline: float, received: bytearray) -> None:
        limit = self._settings.max_body_bytes
        announced = request.headers.get("content-length", "")
        # Longer digits would be a number beyond any limit; Python refuses to read them.
        if announced.isdecimal() and (len(announced) > 18 or int(announced) > limit):
            raise _too_large(limit)
        try:
            async with asyncio.timeout_at(deadline):
                async for chunk in request.stream():
                    received += chunk
                    self._bodies_bytes += len(chunk)
                    if len(received) > limit:
                        raise _too_large(limit)
                    if self._bodies_bytes > _BODIES_BYTES:
                        raise Refusal(Why.OVERLOADED, "Too much is being sent at the same time.")
        except (TimeoutError, ClientDisconnect):
            raise Refusal(Why.BODY_TOO_SLOW, "The body did not arrive in time.") from None

    async def _discard_body(self, request: Request) -> None:
        """Take in the rest of a refused body: a connection closed on a sender loses the answer on its way."""
        left = _DISCARD_FACTOR * self._settings.max_body_bytes
        with contextlib.suppress(TimeoutError, ClientDisconnect, RuntimeError):  # the last: it was read to its end
            async with asyncio.timeout(_DISCARD_SECONDS):
                async for chunk in request.stream():
                    left -= len(chunk)
                    if left < 0:
                        return

    async def _verify(self, signed: Signed, body: bytes, deadline: float) -> None:
        """Return if the signature is Benchling's; raises `Refusal`: 401, or 503 while the keys may be outdated."""
        if signed.matches(body, self._keys.keys):
            return
        try:
            async with asyncio.timeout_at(deadline):
                refreshed = await self._keys.refresh()
        except TimeoutError:
            refreshed = False
        if refreshed and signed.matches(body, self._keys.keys):
            return
        if not self._keys.certain:
            raise Refusal(Why.KEYS_UNAVAILABLE, "Benchling's public keys cannot be fetched at the moment.")
        raise Refusal(Why.BAD_SIGNATURE, "The signature does not match.")


class _Deliveries:
    """The endpoint of every path that is no page: an ASGI application, so that it sees all methods."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        if scope["path"] in _PAGES:
            response = _not_allowed(request, Exception())
        elif is_delivery_path(scope["path"]):
            response = await self._receiver.deliver(request)
        else:
            response = _not_found(request, Exception())
        await response(scope, receive, send)


def _parse(body: bytes) -> Envelope:
    try:
        return parse_envelope(body)
    except MessageError as error:
        raise Refusal(Why(error.reason), str(error)) from None


def _too_large(limit: int) -> Refusal:
    return Refusal(Why.BODY_TOO_LARGE, f"The body is longer than {limit} bytes.")


def _respond(answer: Accepted | Refusal, *, close: bool) -> Response:
    headers = {"connection": "close"} if close else {}
    if isinstance(answer, Accepted):
        content = {"status": answer.outcome.value}
        return JSONResponse(content | ({"note": answer.note} if answer.note else {}), 200, headers)
    if answer.code == 503:
        headers["retry-after"] = str(RETRY_AFTER_SECONDS)
    if answer.why is Why.METHOD_NOT_ALLOWED:
        headers["allow"] = "POST"
    return JSONResponse({"error": answer.sentence, "reason": answer.why.value}, answer.code, headers)


def _log_answer(answer: Accepted | Refusal, code: int, seconds: float, facts: dict[str, object]) -> None:
    """Write the delivery's line: ids, outcome and time; never headers, signature or body."""
    known = {key: value for key, value in facts.items() if value is not None}
    line = {**known, "outcome": answer.outcome.value, "code": code, "ms": round(seconds * 1000, 1)}
    if isinstance(answer, Refusal):
        level = logging.ERROR if answer.why is Why.INTERNAL else logging.WARNING
        log.log(level, "Delivery not taken: %s", answer.sentence, extra={**line, "reason": answer.why.value})
    else:
        log.info("Delivery %s.", answer.outcome.value.replace("_", " "), extra=line)


def _not_found(_: Request, __: Exception) -> Response:
    return JSONResponse({"error": "There is nothing here.", "reason": Why.NOT_FOUND.value}, 404)


def _not_allowed(_: Request, __: Exception) -> Response:
    content = {"error": "This page is read with GET.", "reason": Why.METHOD_NOT_ALLOWED.value}
    return JSONResponse(content, 405, {"allow": "GET"})
