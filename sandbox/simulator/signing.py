"""Webhook signatures (ES256 over id, time stamp and raw body) and the key server's answer."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

if TYPE_CHECKING:
    from random import Random

    from sandbox.simulator.wire import Json

_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def _b64url(number: int, length: int) -> str:
    return base64.urlsafe_b64encode(number.to_bytes(length, "big")).rstrip(b"=").decode()


@dataclass(frozen=True)
class Key:
    """One signing key."""

    id: str
    private: ec.EllipticCurvePrivateKey

    def public_jwk(self, *, optional_members: bool) -> Json:
        """The key as the key server lists it."""
        numbers = self.private.public_key().public_numbers()
        jwk: Json = {"kty": "EC", "crv": "P-256", "x": _b64url(numbers.x, 32), "y": _b64url(numbers.y, 32)}
        return {**jwk, "kid": self.id, "use": "sig", "alg": "ES256"} if optional_members else jwk

    def sign(self, message_id: str, timestamp: str, body: bytes) -> tuple[str, str]:
        """The two entries of a signature header: raw r || s as `v1b`, DER as `v1bder`."""
        der = self.private.sign(f"{message_id}.{timestamp}.".encode() + body, ec.ECDSA(SHA256()))
        r, s = decode_dss_signature(der)
        raw = r.to_bytes(32, "big") + s.to_bytes(32, "big")
        return f"v1b,{base64.b64encode(raw).decode()}", f"v1bder,{base64.b64encode(der).decode()}"


@dataclass
class KeyRing:
    """The keys of the app definition: one that signs, and older ones that are still listed."""

    dice: Random
    keys: list[Key] = field(default_factory=list)
    foreign: Key = field(init=False)
    """A key that the key server never lists."""
    _made: int = 0

    def __post_init__(self) -> None:
        self.foreign = self._make()
        self.keys.append(self._make())

    def _make(self) -> Key:
        self._made += 1
        digest = hashlib.sha256(self.dice.randbytes(32)).digest()
        secret = int.from_bytes(digest, "big") % (_P256_ORDER - 1) + 1
        return Key(f"key-{self._made}", ec.derive_private_key(secret, ec.SECP256R1()))

    @property
    def current(self) -> Key:
        """The key that signs."""
        return self.keys[-1]

    def rotate(self, *, keep_old: bool = True) -> str:
        """A new key signs from now on; its id. The old one stays listed, or is withdrawn at once."""
        new = self._make()
        self.keys = [*self.keys[-1:], new] if keep_old else [new]
        return new.id

    def listing(self, *, optional_members: bool) -> Json:
        """The key server's document, newest key first."""
        return {"keys": [key.public_jwk(optional_members=optional_members) for key in reversed(self.keys)]}


RSA_JWK: Json = {"kty": "RSA", "kid": "rsa", "use": "sig", "alg": "RS256", "e": "AQAB", "n": "vG9uZ" + "A" * 337 + "w"}
OCT_JWK: Json = {"kty": "oct", "kid": "oct", "alg": "HS256", "k": "c2ltdWxhdGVk"}
"""Keys of kinds that sign no webhook."""
