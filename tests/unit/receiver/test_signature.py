"""Signatures, with Benchling's own SDK as the oracle."""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING

import pytest
from benchling_sdk.apps.helpers.webhook_helpers import verify
from hypothesis import given, settings
from hypothesis import strategies as st
from jwcrypto.jwk import JWKSet  # type: ignore[import-untyped]

from receiver.answers import Refusal, Why
from receiver.signature import MAX_SIGNATURES, read_headers, webhook_id_for_log
from tests.support.webhook_signing import APP_DEFINITION, Headers, Signer, body_of, entry_message, raw_headers

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

SIGNER = Signer()
STRANGER = Signer()
NOW = 1_700_000_000.0
BODY = body_of(entry_message())


def accepts(headers: Headers, body: bytes, keys: list[ec.EllipticCurvePublicKey] | None = None) -> bool:
    try:
        signed = read_headers(raw_headers(headers), now=time.time(), tolerance_seconds=300)
    except Refusal:
        return False
    return signed.matches(body, keys if keys is not None else [SIGNER.public])


def sdk_accepts(headers: Headers, body: bytes, jwks: bytes | None = None) -> bool:
    keys = JWKSet.from_json((jwks or SIGNER.jwks()).decode())
    try:
        verify(APP_DEFINITION, body.decode(), headers, jwk_function=lambda _: keys)
    except Exception:  # noqa: BLE001 - the SDK lets many kinds of errors out
        return False
    return True


def refused(headers: Headers, now: float = NOW) -> Why:
    with pytest.raises(Refusal) as caught:
        read_headers(raw_headers(headers), now=now, tolerance_seconds=300)
    assert caught.value.code == 401
    return caught.value.why


@given(body=st.text(max_size=300).map(str.encode), webhook_id=st.from_regex(r"[!-~]{1,128}", fullmatch=True))
@settings(max_examples=60, deadline=None)
def test_what_is_signed_is_accepted_here_and_by_the_sdk(body: bytes, webhook_id: str) -> None:
    headers = SIGNER.headers(body, webhook_id=webhook_id)
    assert accepts(headers, body)
    assert sdk_accepts(headers, body)


def test_bytes_that_are_no_text_can_be_signed_too() -> None:
    assert accepts(SIGNER.headers(b"\xff\x00"), b"\xff\x00")


@given(position=st.integers(0, len(BODY) - 1), flipped=st.integers(1, 127))
@settings(max_examples=60, deadline=None)
def test_a_changed_byte_is_refused_here_and_by_the_sdk(position: int, flipped: int) -> None:
    body = bytearray(BODY)
    body[position] ^= flipped
    headers = SIGNER.headers(BODY)
    assert not accepts(headers, bytes(body))
    assert not sdk_accepts(headers, bytes(body))


@given(
    changes=st.dictionaries(
        st.sampled_from(["webhook-id", "webhook-timestamp", "webhook-signature"]),
        st.text(st.characters(codec="latin-1"), max_size=60),
        min_size=1,
    )
)
@settings(max_examples=200, deadline=None)
def test_what_is_accepted_here_the_sdk_accepts_as_well(changes: Headers) -> None:
    headers = {**SIGNER.headers(BODY), **changes}
    if accepts(headers, BODY):
        assert sdk_accepts(headers, BODY)


def test_another_apps_key_does_not_do() -> None:
    headers = STRANGER.headers(BODY)
    assert not accepts(headers, BODY)
    assert not sdk_accepts(headers, BODY)


def test_during_a_rotation_any_key_and_any_signature_may_fit() -> None:
    ours, theirs = SIGNER.headers(BODY), STRANGER.headers(BODY)
    both = {**ours, "webhook-signature": f"{theirs['webhook-signature']} {ours['webhook-signature']}"}
    assert accepts(both, BODY, [STRANGER.public, SIGNER.public])
    assert accepts(both, BODY, [SIGNER.public])
    assert sdk_accepts(both, BODY)


@pytest.mark.parametrize(
    ("timestamp", "accepted"),
    [
        (str(int(NOW)), True),
        (f"{NOW}", True),
        (str(int(NOW) - 299), True),
        (str(int(NOW) + 299), True),
        (str(int(NOW) - 301), False),
        (str(int(NOW) + 301), False),
        ("nan", False),
        ("inf", False),
        ("-inf", False),
        ("1e999", False),
        ("2026-01-31T12:00:00Z", False),
        ("", False),
        ("9" * 5000, False),
        ("soon", False),
    ],
)
def test_a_timestamp_is_a_number_of_seconds_close_to_now(timestamp: str, accepted: bool) -> None:
    headers = SIGNER.headers(BODY, timestamp=timestamp)
    if accepted:
        assert read_headers(raw_headers(headers), now=NOW, tolerance_seconds=300).matches(BODY, [SIGNER.public])
    else:
        assert refused(headers) is Why.BAD_TIMESTAMP


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_missing_header_is_unsigned(name: str) -> None:
    headers = SIGNER.headers(BODY, timestamp=str(NOW))
    del headers[name]
    assert refused(headers) is Why.UNSIGNED


def test_a_header_that_comes_twice_is_refused() -> None:
    headers = raw_headers(SIGNER.headers(BODY, timestamp=str(NOW)))
    with pytest.raises(Refusal) as caught:
        read_headers([*headers, headers[0]], now=NOW, tolerance_seconds=300)
    assert caught.value.why is Why.BAD_HEADERS


@pytest.mark.parametrize(
    "signature",
    [
        "",
        " ",
        "v1bder",
        "garbage",
        "v1b,AAAA",
        "v1bder,####",
        "v1bder,AAA",
        "v1bder,ÿÿÿÿ",
        "v1bder," + "A" * 1000,
        " ".join(["v1bder,AAAA"] * (MAX_SIGNATURES + 1)),
    ],
)
def test_a_signature_header_that_is_none_is_refused(signature: str) -> None:
    headers = {**SIGNER.headers(BODY, timestamp=str(NOW)), "webhook-signature": signature}
    assert refused(headers) is Why.BAD_HEADERS


@given(garbage=st.binary(max_size=120))
@settings(max_examples=100, deadline=None)
def test_garbage_in_place_of_der_never_matches_and_never_raises(garbage: bytes) -> None:
    encoded = base64.b64encode(garbage).decode()
    headers = {**SIGNER.headers(BODY), "webhook-signature": f"v1bder,{encoded}"}
    assert not accepts(headers, BODY)


@pytest.mark.parametrize("webhook_id", ["", "a b", "x" * 129, "tab\there", "ünïcode"])
def test_an_id_that_is_none_is_refused(webhook_id: str) -> None:
    headers = {**SIGNER.headers(BODY, timestamp=str(NOW)), "webhook-id": webhook_id}
    assert refused(headers) is Why.BAD_HEADERS


def test_what_goes_into_the_log_is_short_and_printable() -> None:
    shown = webhook_id_for_log([(b"webhook-id", b"a\nb\xff" + b"x" * 500)])
    assert len(shown) == 128
    assert shown.isprintable()
    assert webhook_id_for_log([]) == ""
