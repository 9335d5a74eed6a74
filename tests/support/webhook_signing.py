"""Deliveries as Benchling signs them, for tests: a key pair, its JWKS, and signed headers."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

APP_DEFINITION = "appdef_Trusted1"

Headers = dict[str, str]


def base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


class Signer:
    """One key pair of an app."""

    def __init__(self) -> None:
        self.private = ec.generate_private_key(ec.SECP256R1())
        self.public = self.private.public_key()

    @property
    def jwk(self) -> dict[str, str]:
        numbers = self.public.public_numbers()
        return {
            "kty": "EC",
            "crv": "P-256",
            "x": base64url(numbers.x.to_bytes(32, "big")),
            "y": base64url(numbers.y.to_bytes(32, "big")),
            "kid": "key-1",
            "use": "sig",
            "alg": "ES256",
        }

    def jwks(self, *others: dict[str, Any]) -> bytes:
        return json.dumps({"keys": [*others, self.jwk]}).encode()

    def headers(self, body: bytes, *, webhook_id: str = "msg_1", timestamp: str | None = None) -> Headers:
        """Sign as Benchling does: the raw form first, which nobody reads, then DER."""
        moment = timestamp if timestamp is not None else str(int(time.time()))
        der = self.private.sign(f"{webhook_id}.{moment}.".encode() + body, ec.ECDSA(hashes.SHA256()))
        r, s = decode_dss_signature(der)
        raw = base64.b64encode(r.to_bytes(32, "big") + s.to_bytes(32, "big")).decode()
        return {
            "webhook-id": webhook_id,
            "webhook-timestamp": moment,
            "webhook-signature": f"v1b,{raw} v1bder,{base64.b64encode(der).decode()}",
        }


def raw_headers(headers: Headers) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]


def entry_message(**changes: Any) -> dict[str, Any]:
    return {
        "type": "v2.entry.updated.fields",
        "id": "evt_1",
        "createdAt": "2026-01-31T12:00:00.500000+00:00",
        "resourceId": "etr_Ab12",
        "schema": {"id": "ts_1"},
        "updates": ["fields.Batch"],
        "deprecated": False,
        **changes,
    }


def click_message(button: str = "update-package-etr_Ab12", **changes: Any) -> dict[str, Any]:
    return {
        "type": "v2.canvas.userInteracted",
        "buttonId": button,
        "canvasId": "cnvs_1",
        "featureId": "feat_1",
        "userId": "ent_1",
        "deprecated": False,
        **changes,
    }


def envelope(message: object, **changes: Any) -> dict[str, Any]:
    return {
        "version": "0",
        "baseURL": "https://tenant.benchling.com",
        "tenantId": "ten_1",
        "app": {"id": "app_1"},
        "appDefinition": {"id": APP_DEFINITION, "versionNumber": "0.1.0"},
        "channel": "events",
        "message": message,
        **changes,
    }


def body_of(message: object, **changes: Any) -> bytes:
    return json.dumps(envelope(message, **changes)).encode()
