"""The key ring: fetched ahead of need, kept when the key server fails, refreshed once however many ask."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st
from jwcrypto.jwk import JWK  # type: ignore[import-untyped]

from receiver.jwks import MAX_BYTES, MAX_KEYS, KeysError, fetch_keys, parse_keys
from receiver.keys import KeyRing
from tests.support.webhook_signing import Signer

if TYPE_CHECKING:
    from collections.abc import Callable

ONE, TWO = Signer(), Signer()
SECOND_CURVE = ec.generate_private_key(ec.SECP384R1()).public_key()
RSA_KEY = json.loads(JWK.from_pyca(rsa.generate_private_key(65537, 2048).public_key()).export_public())
P384_KEY = json.loads(JWK.from_pyca(SECOND_CURVE).export_public())


@pytest.mark.parametrize(
    "other",
    [
        RSA_KEY,
        P384_KEY,
        {"kty": "oct", "k": "AAAA"},
        {"kty": "EC", "crv": "P-256"},
        {"kty": "EC", "crv": "P-256", "x": "A" * 43, "y": "A" * 43},
        {"kty": "EC", "crv": "P-256", "x": 5, "y": None},
        {**TWO.jwk, "use": "enc"},
        {**TWO.jwk, "alg": "ES512"},
        {**TWO.jwk, "x": "ä" * 43},
        None,
        "key",
        ["nested"],
        {},
    ],
)
def test_keys_of_other_kinds_are_passed_over(other: Any) -> None:
    keys = parse_keys(json.dumps({"keys": [other, ONE.jwk]}).encode())
    assert [key.public_numbers() for key in keys] == [ONE.public.public_numbers()]


@pytest.mark.parametrize("member", ["use", "alg", "kid"])
def test_optional_members_may_be_missing(member: str) -> None:
    assert len(parse_keys(json.dumps({"keys": [{**ONE.jwk, member: ONE.jwk[member]}]}).encode())) == 1
    bare = {name: value for name, value in ONE.jwk.items() if name != member}
    assert len(parse_keys(json.dumps({"keys": [bare]}).encode())) == 1


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"null", b"[]", b'{"keys":{}}', b'{"keys":[]}', b"\xff", b"[" * 100_000]
)
def test_a_document_that_is_no_key_set_holds_no_keys(body: bytes) -> None:
    assert parse_keys(body) == []


@given(st.binary(max_size=400) | st.recursive(st.none() | st.text(), st.lists).map(lambda v: json.dumps(v).encode()))
def test_no_document_makes_it_fail(body: bytes) -> None:
    assert parse_keys(body) == []


def test_only_so_many_keys_are_used() -> None:
    assert len(parse_keys(ONE.jwks(*[ONE.jwk] * 100))) == MAX_KEYS


def answering(content: bytes, status: int = 200) -> httpx.Response:
    return httpx.Response(status, stream=httpx.ByteStream(content))


async def fetch_from(answer: httpx.Response | Exception) -> list[ec.EllipticCurvePublicKey]:
    asked: list[str] = []

    def respond(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with httpx.AsyncClient(transport=httpx.MockTransport(respond)) as client:
        try:
            return await fetch_keys(client, "https://keys.example/{app_definition_id}/jwks", "appdef_1")
        finally:
            assert asked == ["https://keys.example/appdef_1/jwks"]


async def test_keys_are_fetched_from_the_apps_address() -> None:
    assert len(await fetch_from(answering(ONE.jwks(TWO.jwk)))) == 2


@pytest.mark.parametrize(
    "answer",
    [
        answering(b"{}", 404),
        answering(b"<html>", 503),
        httpx.Response(302, headers={"location": "https://elsewhere.example/"}),
        answering(b"<html>sign in</html>"),
        answering(b'{"keys":[]}'),
        answering(b" " * (MAX_BYTES + 1)),
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
        OSError("no route"),
    ],
    ids=repr,
)
async def test_anything_but_keys_is_an_error_of_the_key_server(answer: httpx.Response | Exception) -> None:
    with pytest.raises(KeysError):
        await fetch_from(answer)


class KeyServer:
    """Gives what it is told to; counts who asks."""

    def __init__(self, *keys: ec.EllipticCurvePublicKey) -> None:
        self.keys = list(keys)
        self.asked = 0
        self.down = False
        self.hold: asyncio.Event | None = None

    async def fetch(self, _: str) -> list[ec.EllipticCurvePublicKey]:
        self.asked += 1
        if self.hold is not None:
            await self.hold.wait()
        if self.down:
            raise KeysError("the key server is down")
        return list(self.keys)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def ring(server: KeyServer, clock: Callable[[], float], *app_ids: str, timeout: float = 5) -> KeyRing:
    return KeyRing(
        server.fetch,
        app_ids or ("appdef_1",),
        ttl_seconds=3600,
        timeout_seconds=timeout,
        refresh_min_seconds=30,
        clock=clock,
    )


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - let the tasks run until it holds
            await asyncio.sleep(0)


async def test_keys_are_there_before_anyone_asks() -> None:
    keys = ring(KeyServer(ONE.public), Clock(), "appdef_1", "appdef_2")
    assert not keys.loaded
    assert not keys.certain
    assert keys.age_seconds == float("inf")
    running = asyncio.create_task(keys.run())
    await until(lambda: keys.certain)
    assert len(keys.keys) == 2
    running.cancel()


async def test_keys_stay_in_use_when_the_key_server_is_down() -> None:
    server, clock = KeyServer(ONE.public), Clock()
    keys = ring(server, clock)
    assert await keys.refresh()
    server.down = True
    clock.now += 7200
    assert await keys.refresh()
    assert keys.keys == [ONE.public]
    assert not keys.certain
    assert keys.age_seconds == 7200


async def test_a_refresh_brings_rotated_keys_but_not_twice_within_the_interval() -> None:
    server, clock = KeyServer(ONE.public), Clock()
    keys = ring(server, clock)
    assert await keys.refresh()
    server.keys = [TWO.public]
    clock.now += 29
    assert not await keys.refresh()
    assert keys.keys == [ONE.public]
    clock.now += 2
    assert await keys.refresh()
    assert keys.keys == [TWO.public]
    assert server.asked == 2


async def test_all_who_ask_share_one_fetch() -> None:
    server = KeyServer(ONE.public)
    server.hold = asyncio.Event()
    keys = ring(server, Clock())
    asking = [asyncio.create_task(keys.refresh()) for _ in range(50)]
    await until(lambda: server.asked == 1)
    server.hold.set()
    assert all(await asyncio.gather(*asking))
    assert server.asked == 1


async def test_one_callers_end_does_not_end_the_fetch() -> None:
    server = KeyServer(ONE.public)
    server.hold = asyncio.Event()
    keys = ring(server, Clock())
    impatient = asyncio.create_task(keys.refresh())
    await until(lambda: server.asked == 1)
    impatient.cancel()
    patient = asyncio.create_task(keys.refresh())
    server.hold.set()
    assert await patient
    assert keys.keys == [ONE.public]


async def test_a_key_server_that_hangs_is_not_waited_for() -> None:
    server = KeyServer(ONE.public)
    server.hold = asyncio.Event()
    keys = ring(server, Clock(), timeout=0.01)
    assert await keys.refresh()
    assert not keys.loaded


async def test_a_defect_while_fetching_does_not_end_the_ring() -> None:
    async def explode(_: str) -> list[ec.EllipticCurvePublicKey]:
        raise RuntimeError("unforeseen")

    told: list[bool] = []
    keys = KeyRing(explode, ["a"], ttl_seconds=1, timeout_seconds=1, refresh_min_seconds=1, on_fetch=told.append)
    running = asyncio.create_task(keys.run())
    await until(lambda: told == [False])
    assert not running.done()
    running.cancel()
