"""Benchling's public keys as its key server publishes them (JWKS), whatever that server answers."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Any, Final

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic_core import from_json

from receiver.settings import PLACEHOLDER

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_BYTES: Final = 256 * 1024
MAX_KEYS: Final = 16
"""Keys of one app that are used; a rotation needs two."""

_ASKED: Final = {"Accept": "application/json", "Accept-Encoding": "identity"}
_COORDINATE = re.compile(r"[A-Za-z0-9_-]{43}")
"""32 bytes in base64url without padding."""


class KeysError(Exception):
    """The key server gave no usable key; the text says why and names no more than its address."""


async def fetch_keys(
    client: httpx.AsyncClient, template: str, app_definition_id: str
) -> list[ec.EllipticCurvePublicKey]:
    """Return the app's P-256 keys, at least one; raises `KeysError`. Redirects are not followed."""
    url = template.replace(PLACEHOLDER, app_definition_id)
    try:
        async with client.stream("GET", url, headers=_ASKED) as response:
            if response.status_code != 200:
                raise KeysError(f"{_place(url)} answered {response.status_code}")
            body = await _read(response)
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise KeysError(f"{_place(url)} cannot be read: {type(error).__name__}") from error
    keys = parse_keys(body)
    if not keys:
        raise KeysError(f"{_place(url)} published no P-256 signing key")
    return keys


async def _read(response: httpx.Response) -> bytes:
    received = bytearray()
    async for chunk in response.aiter_raw():
        received += chunk
        if len(received) > MAX_BYTES:
            raise KeysError(f"{_place(str(response.url))} answered more than {MAX_BYTES} bytes")
    return bytes(received)


def _place(url: str) -> str:
    return f"the key server's {url.partition('?')[0]}"


def parse_keys(body: bytes) -> list[ec.EllipticCurvePublicKey]:
    """Return the usable keys of a JWKS document: P-256, for signatures. Everything else is passed over."""
    try:
        content = from_json(body)
    except ValueError:
        return []
    listed = content.get("keys") if isinstance(content, dict) else None
    if not isinstance(listed, list):
        return []
    return list(_usable(listed))[:MAX_KEYS]


def _usable(listed: Iterable[Any]) -> Iterable[ec.EllipticCurvePublicKey]:
    for item in listed:
        if not isinstance(item, dict) or item.get("kty") != "EC" or item.get("crv") != "P-256":
            continue
        if item.get("use", "sig") != "sig" or item.get("alg", "ES256") != "ES256":
            continue
        x, y = _number(item.get("x")), _number(item.get("y"))
        if x is None or y is None:
            continue
        try:
            yield ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
        except ValueError:  # not a point of the curve
            continue


def _number(text: object) -> int | None:
    if not isinstance(text, str) or not _COORDINATE.fullmatch(text.rstrip("=")):
        return None
    try:
        return int.from_bytes(base64.urlsafe_b64decode(text.rstrip("=") + "="), "big")
    except binascii.Error:
        return None
