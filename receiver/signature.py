"""Whether a delivery is Benchling's: its three headers, its age and its ES256 signature over the raw bytes.

The scheme: ``webhook-signature`` is a list, separated by blanks, of ``<version>,<base64>``; entries whose version
contains ``der`` hold an ASN.1 ECDSA signature (P-256, SHA-256) of ``<webhook-id>.<webhook-timestamp>.<body>``. No key
id is sent, so every key is tried.
"""

from __future__ import annotations

import base64
import binascii
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from receiver.answers import Refusal, Why

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ID_HEADER: Final = "webhook-id"
TIMESTAMP_HEADER: Final = "webhook-timestamp"
SIGNATURE_HEADER: Final = "webhook-signature"

MAX_SIGNATURES: Final = 8
"""DER signatures that are looked at; two coexist while a key is rotated."""

_MAX_ID_CHARS: Final = 128
_MAX_SIGNATURE_CHARS: Final = 200
"""A DER signature of P-256 has at most 72 bytes, 96 characters of base64."""
_ALGORITHM: Final = ec.ECDSA(hashes.SHA256())


@dataclass(frozen=True, slots=True)
class Signed:
    """What a delivery's headers claim."""

    webhook_id: str
    """The same in every re-send."""
    timestamp: str
    """As sent, because it is signed that way."""
    sent_at: datetime
    """When this attempt to deliver was made, by Benchling's clock."""
    signatures: tuple[bytes, ...]

    def matches(self, body: bytes, keys: Iterable[ec.EllipticCurvePublicKey]) -> bool:
        """Whether any of the signatures was made over this delivery with any of the keys."""
        signed = f"{self.webhook_id}.{self.timestamp}.".encode() + body
        return any(_fits(key, signature, signed) for key in keys for signature in self.signatures)


def _fits(key: ec.EllipticCurvePublicKey, signature: bytes, signed: bytes) -> bool:
    try:
        key.verify(signature, signed, _ALGORITHM)
    except InvalidSignature:
        return False
    return True


def read_headers(headers: Sequence[tuple[bytes, bytes]], *, now: float, tolerance_seconds: float) -> Signed:
    """Read the headers and check the age; `now` is in seconds since 1970. Raises `Refusal` (401)."""
    webhook_id = _one(headers, ID_HEADER)
    timestamp = _one(headers, TIMESTAMP_HEADER)
    listed = _one(headers, SIGNATURE_HEADER)
    if not 0 < len(webhook_id) <= _MAX_ID_CHARS or not webhook_id.isprintable() or " " in webhook_id:
        raise Refusal(Why.BAD_HEADERS, f"The header {ID_HEADER} is not an id.")
    sent_at = _read_timestamp(timestamp, now, tolerance_seconds)
    return Signed(webhook_id, timestamp, sent_at, _read_signatures(listed))


def webhook_id_for_log(headers: Sequence[tuple[bytes, bytes]]) -> str:
    """Return what the sender calls the delivery, printable and short, whoever the sender is."""
    values = [value for name, value in headers if name == ID_HEADER.encode()]
    text = values[0].decode("ascii", "replace")[:_MAX_ID_CHARS] if values else ""
    return "".join(char if char.isprintable() else "?" for char in text)


def _one(headers: Sequence[tuple[bytes, bytes]], name: str) -> str:
    values = [value for key, value in headers if key == name.encode()]
    if not values:
        raise Refusal(Why.UNSIGNED, f"The header {name} is missing.")
    if len(values) > 1:
        raise Refusal(Why.BAD_HEADERS, f"The header {name} is there more than once.")
    try:
        return values[0].decode("ascii")
    except UnicodeDecodeError:
        raise Refusal(Why.BAD_HEADERS, f"The header {name} is not ASCII.") from None


def _read_timestamp(text: str, now: float, tolerance_seconds: float) -> datetime:
    try:
        seconds = float(text) if len(text) <= 32 else math.nan
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise Refusal(Why.BAD_TIMESTAMP, f"The header {TIMESTAMP_HEADER} is not a number of seconds.")
    if abs(seconds - now) > tolerance_seconds:
        age = "old" if seconds < now else "far in the future"
        raise Refusal(Why.BAD_TIMESTAMP, f"The delivery's timestamp is too {age}.")
    return datetime.fromtimestamp(seconds, UTC)


def _read_signatures(listed: str) -> tuple[bytes, ...]:
    found: list[bytes] = []
    for item in listed.split():
        version, comma, encoded = item.partition(",")
        if not comma:
            raise Refusal(Why.BAD_HEADERS, f"The header {SIGNATURE_HEADER} is not a list of version,signature.")
        if "der" not in version:
            continue
        if len(found) == MAX_SIGNATURES or len(encoded) > _MAX_SIGNATURE_CHARS:
            raise Refusal(Why.BAD_HEADERS, f"The header {SIGNATURE_HEADER} is too long.")
        try:
            found.append(base64.b64decode(encoded, validate=True))
        except (binascii.Error, ValueError):
            raise Refusal(Why.BAD_HEADERS, f"The header {SIGNATURE_HEADER} holds bad base64.") from None
    if not found:
        raise Refusal(Why.BAD_HEADERS, f"The header {SIGNATURE_HEADER} holds no DER signature.")
    return tuple(found)
