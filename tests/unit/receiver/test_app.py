"""The HTTP surface: paths, methods, every refusal, and what the log and the metrics say."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrypackage.identity import object_name
from receiver.app import Receiver, is_delivery_path
from receiver.jwks import KeysError
from receiver.keys import KeyRing
from receiver.metrics import Metrics
from receiver.settings import ReceiverSettings
from receiver.writer import Writer
from tests.support.memory_cluster import Store
from tests.support.webhook_signing import (
    APP_DEFINITION,
    Headers,
    Signer,
    body_of,
    click_message,
    entry_message,
    envelope,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cryptography.hazmat.primitives.asymmetric import ec

SIGNER = Signer()
EVENT = body_of(entry_message())


class Surface:
    """A receiver without a socket, and what stands behind it."""

    def __init__(self, **changes: Any) -> None:
        chosen = {
            "appDefinitionIds": [APP_DEFINITION],
            "namespace": "ns",
            "trustedProxyHops": 0,
            "writeDeadlineSeconds": 1,
            "jwksTimeoutSeconds": 1,
        }
        self.published: list[ec.EllipticCurvePublicKey] = [SIGNER.public]
        self.store = Store(object_name("etr_Ab12"))
        self.metrics = Metrics()
        parsed = ReceiverSettings.model_validate(chosen | changes)
        self.keys = KeyRing(self._fetch, [APP_DEFINITION], ttl_seconds=60, timeout_seconds=1, refresh_min_seconds=60)
        self.receiver = Receiver(parsed, self.keys, Writer(self.store, "ns"), self.metrics)
        # A real server turns what an application raises into 500; here it should be seen.
        transport = httpx.ASGITransport(self.receiver.application(), raise_app_exceptions=True)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://receiver")

    async def _fetch(self, _: str) -> list[ec.EllipticCurvePublicKey]:
        if not self.published:
            raise KeysError("the key server is down")
        return self.published

    async def send(self, body: bytes = EVENT, path: str = "/event", headers: Headers | None = None) -> httpx.Response:
        return await self.http.post(path, content=body, headers=SIGNER.headers(body) if headers is None else headers)

    def count(self, series: str) -> float:
        lines = self.metrics.exposition().decode().splitlines()
        return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(series + " "))


@pytest.fixture
async def surface() -> AsyncIterator[Surface]:
    made = Surface()
    async with made.http:
        yield made


def reason(response: httpx.Response) -> tuple[int, str]:
    content = response.json()
    assert set(content) == {"error", "reason"}
    assert content["error"].endswith(".")
    return response.status_code, content["reason"]


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/event",
        "/canvas",
        "/lifecycle",
        "/prod/",
        "/prod",
        "/prod/event",
        "/v1-x/canvas",
        "/prod/lifecycle",
        "/event/",
    ],
)
async def test_a_delivery_is_taken_on_every_path_form_whatever_its_type(surface: Surface, path: str) -> None:
    response = await surface.send(path=path)
    assert (response.status_code, response.json()) == (200, {"status": "stored"})
    assert surface.store.spec["event"]["id"] == "evt_1"


@pytest.mark.parametrize("path", ["/a/b", "/prod/event/x", "/prod/livez", "/a.b", "/prod//event", "/%2e%2e/x"])
async def test_any_other_path_is_not_found(surface: Surface, path: str) -> None:
    response = await surface.send(path=path)
    assert reason(response) == (404, "NotFound")
    assert not surface.store.writes


def test_stages_are_one_plain_segment() -> None:
    assert is_delivery_path("")
    assert not is_delivery_path("/" + "a" * 129)
    assert not is_delivery_path("/prod\n/event")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"])
async def test_another_method_is_not_allowed(surface: Surface, method: str) -> None:
    response = await surface.http.request(method, "/event")
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"
    if method != "HEAD":
        assert reason(response) == (405, "MethodNotAllowed")


@pytest.mark.parametrize("page", ["/livez", "/readyz", "/metrics"])
async def test_pages_are_read_with_get(surface: Surface, page: str) -> None:
    assert reason(await surface.send(path=page)) == (405, "MethodNotAllowed")


async def test_a_delivery_is_answered_by_what_became_of_it(surface: Surface) -> None:
    assert (await surface.send()).json() == {"status": "stored"}
    again = await surface.send()
    assert (again.status_code, again.json()["status"]) == (200, "covered")
    click = body_of(click_message())
    assert (await surface.send(click, "/canvas")).json() == {"status": "stored"}
    installed = body_of({"type": "v2.app.installed", "deprecated": False})
    assert (await surface.send(installed, "/lifecycle")).json()["status"] == "acknowledged"
    assert surface.store.writes == ["create", "patch"]
    assert surface.count('webhook_requests_total{outcome="stored"}') == 2
    assert surface.count('webhook_requests_total{outcome="covered"}') == 1
    assert surface.count("webhook_request_duration_seconds_count") == 4


SIGNED_BUT_WRONG: list[tuple[bytes, int, str]] = [
    (b"", 400, "NotJson"),
    (b"null", 400, "NotJson"),
    (b"[]", 400, "NotJson"),
    (b"<html>", 400, "NotJson"),
    (b"\xff\xfe", 400, "NotJson"),
    (b'{"message":NaN}', 400, "NotJson"),
    (b"[" * 5000, 400, "NotJson"),
    (json.dumps(envelope(entry_message(id="\ud800"))).encode(), 400, "NotJson"),
    (b"{}", 400, "BadEnvelope"),
    (body_of(None), 400, "BadEnvelope"),
    (body_of("text"), 400, "BadEnvelope"),
    (body_of(entry_message(), baseURL=5), 400, "BadEnvelope"),
    (body_of({}), 400, "BadMessage"),
    (body_of({"type": 5}), 400, "BadMessage"),
    (body_of(entry_message(resourceId="")), 400, "BadMessage"),
    (body_of(entry_message(resourceId="x" * 129)), 400, "BadMessage"),
    (body_of(entry_message(createdAt="yesterday")), 400, "BadMessage"),
    (body_of(entry_message(createdAt="9999-12-31T23:59:59-14:00")), 400, "BadMessage"),
    (body_of(entry_message(createdAt=None)), 400, "BadMessage"),
    (body_of(entry_message(type="v2.assayRun.created")), 422, "UnknownType"),
]


@pytest.mark.parametrize(("body", "code", "why"), SIGNED_BUT_WRONG, ids=lambda value: str(value)[:40])
async def test_what_is_signed_but_wrong_is_refused(surface: Surface, body: bytes, code: int, why: str) -> None:
    assert reason(await surface.send(body)) == (code, why)
    assert not surface.store.writes
    assert surface.count(f'webhook_rejected_total{{why="{why}"}}') == 1


async def test_what_is_not_proven_to_be_benchlings_is_refused(surface: Surface) -> None:
    stranger = Signer().headers(EVENT)
    old = SIGNER.headers(EVENT, timestamp="1700000000")
    good = SIGNER.headers(EVENT)
    cases = [
        ({}, EVENT, "Unsigned"),
        (stranger, EVENT, "BadSignature"),
        (old, EVENT, "BadTimestamp"),
        (good, EVENT + b" ", "BadSignature"),
        (good | {"webhook-id": "msg_2"}, EVENT, "BadSignature"),
        (good | {"webhook-signature": "v1bder"}, EVENT, "BadHeaders"),
    ]
    for headers, body, why in cases:
        assert reason(await surface.send(body, headers=headers)) == (401, why)
    assert not surface.store.writes
    assert surface.count('webhook_requests_total{outcome="rejected"}') == len(cases)


@given(
    headers=st.dictionaries(
        st.sampled_from(["webhook-id", "webhook-timestamp", "webhook-signature", "content-type", "x-forwarded-for"]),
        st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40),
    ),
    body=st.binary(max_size=200),
    signed=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_nothing_from_outside_makes_it_fail(headers: Headers, body: bytes, signed: bool) -> None:
    async def act() -> None:
        surface = Surface()
        async with surface.http:
            sent = headers | SIGNER.headers(body) if signed else headers
            response = await surface.send(body, headers=sent)
            assert 400 <= response.status_code < 500
            assert not surface.store.writes
            assert surface.count('webhook_rejected_total{why="Internal"}') == 0

    asyncio.run(act())


async def test_a_long_body_is_refused_announced_or_not(surface: Surface) -> None:
    limit = 1024**2
    body = b" " * (limit + 1)
    assert reason(await surface.send(body)) == (413, "BodyTooLarge")
    given_up = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal given_up
        while True:
            given_up += 1
            yield b" " * 65536

    response = await surface.http.post("/event", content=endless(), headers=SIGNER.headers(b""))
    assert reason(response) == (413, "BodyTooLarge")
    assert given_up * 65536 < 10 * limit
    huge = SIGNER.headers(b"") | {"content-length": "9" * 4000}
    assert reason(await surface.http.post("/event", content=b"", headers=huge)) == (413, "BodyTooLarge")


async def test_a_body_that_does_not_come_is_not_waited_for(surface: Surface) -> None:
    slow = Surface(writeDeadlineSeconds=0.05, jwksTimeoutSeconds=0.05)

    async def stuck() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    async with slow.http:
        response = await slow.http.post("/event", content=stuck(), headers=SIGNER.headers(b"{"))
    assert reason(response) == (408, "BodyTooSlow")


async def test_only_allowed_sources_get_in() -> None:
    surface = Surface(allowedSources=["203.0.113.0/24"], trustedProxyHops=1)
    async with surface.http:
        headers = SIGNER.headers(EVENT)
        assert reason(await surface.send(headers=headers)) == (403, "SourceNotAllowed")
        spoofed = headers | {"x-forwarded-for": "203.0.113.5, 198.51.100.66"}
        assert reason(await surface.send(headers=spoofed)) == (403, "SourceNotAllowed")
        allowed = headers | {"x-forwarded-for": "198.51.100.66, 203.0.113.5"}
        assert (await surface.send(headers=allowed)).status_code == 200


async def test_only_allowed_tenants_get_in() -> None:
    surface = Surface(tenantIds=["ten_other"])
    async with surface.http:
        assert reason(await surface.send()) == (403, "TenantNotAllowed")


async def test_rotated_keys_are_fetched_on_the_first_delivery_that_they_sign(surface: Surface) -> None:
    surface.published = [Signer().public]
    await surface.keys.refresh()
    late = Surface()
    late.published = surface.published
    running = asyncio.create_task(late.keys.run())
    await _until_loaded(late)
    running.cancel()
    late.published = [SIGNER.public]
    async with late.http:
        assert (await late.send()).status_code == 200


async def test_without_the_key_server_nothing_is_called_forged(surface: Surface) -> None:
    surface.published = []
    response = await surface.send()
    assert reason(response) == (503, "KeysUnavailable")
    assert response.headers["retry-after"] == "5"
    assert surface.count('webhook_requests_total{outcome="unavailable"}') == 1


async def test_deliveries_beyond_the_limit_are_answered_at_once() -> None:
    surface = Surface(maxDeliveries=2)
    await surface.keys.refresh()
    surface.store.gate = asyncio.Event()
    async with surface.http:
        bodies = [body_of(entry_message(resourceId=f"etr_{number}")) for number in range(3)]
        held = [asyncio.create_task(surface.send(body)) for body in bodies[:2]]
        async with asyncio.timeout(5):
            while surface.store.in_flight < 2:  # noqa: ASYNC110 - let the tasks run
                await asyncio.sleep(0)
        assert reason(await surface.send(bodies[2])) == (503, "Overloaded")
        surface.store.gate.set()
        assert [response.status_code for response in await asyncio.gather(*held)] == [200, 200]


async def test_bodies_that_nobody_has_signed_cannot_fill_the_memory() -> None:
    large = 15 * 1024**2
    surface = Surface(maxBodyBytes=16 * 1024**2, writeDeadlineSeconds=20)
    await surface.keys.refresh()
    released, waiting = asyncio.Event(), asyncio.Semaphore(0)

    async def slowly() -> AsyncIterator[bytes]:
        yield bytes(large)
        waiting.release()
        await released.wait()

    async with surface.http, asyncio.timeout(15):
        held = [
            asyncio.create_task(surface.http.post("/", content=slowly(), headers=SIGNER.headers(b""))) for _ in range(2)
        ]
        await waiting.acquire()
        await waiting.acquire()

        assert reason(await surface.send(bytes(large), headers=SIGNER.headers(b""))) == (503, "Overloaded")

        assert (await surface.send()).status_code == 200
        released.set()
        assert {response.status_code for response in await asyncio.gather(*held)} == {401}
        assert reason(await surface.send(bytes(large), headers=SIGNER.headers(b""))) == (401, "BadSignature")


async def test_a_defect_is_503_and_does_not_show(surface: Surface) -> None:
    def explode() -> None:
        raise RuntimeError("the inside")

    surface.store.before_write = explode
    response = await surface.send()
    assert reason(response) == (503, "Internal")
    assert "inside" not in response.text


async def test_readiness_is_about_keys_and_stopping_liveness_about_nothing(surface: Surface) -> None:
    assert (await surface.http.get("/livez")).status_code == 200
    assert (await surface.http.get("/readyz")).status_code == 503
    await surface.keys.refresh()
    assert (await surface.http.get("/readyz")).json() == {"status": "ready"}
    surface.receiver.draining = True
    assert (await surface.http.get("/readyz")).status_code == 503
    assert (await surface.http.get("/livez")).status_code == 200
    response = await surface.send()
    assert (response.status_code, response.headers["connection"]) == (200, "close")


async def test_metrics_are_for_the_inside() -> None:
    surface = Surface(trustedProxyHops=1)
    async with surface.http:
        assert "receiver_build_info" in (await surface.http.get("/metrics")).text
        through = await surface.http.get("/metrics", headers={"x-forwarded-for": "203.0.113.5"})
        assert reason(through) == (404, "NotFound")


async def test_the_log_has_a_line_for_each_delivery_and_no_secret(
    surface: Surface, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    headers = SIGNER.headers(EVENT)
    await surface.send(headers=headers)
    await surface.send(EVENT + b" ", headers=headers)
    lines = [vars(record) for record in caplog.records if record.name == "receiver.app"]
    assert [line["outcome"] for line in lines] == ["stored", "rejected"]
    first, second = lines
    assert (first["webhookId"], first["entryId"], first["type"]) == ("msg_1", "etr_Ab12", "v2.entry.updated.fields")
    assert first["code"] == 200
    assert first["ms"] >= 0
    assert (second["reason"], second["code"]) == ("BadSignature", 401)
    signature = headers["webhook-signature"].rpartition(",")[2]
    assert signature not in str(lines)
    assert "fields.Batch" not in str(lines)


async def test_deprecated_messages_are_counted(surface: Surface) -> None:
    await surface.send(body_of(entry_message(deprecated=True)))
    assert surface.count("webhook_deprecated_total") == 1


async def _until_loaded(surface: Surface) -> None:
    async with asyncio.timeout(5):
        while not surface.keys.loaded:  # noqa: ASYNC110 - let the tasks run
            await asyncio.sleep(0)
