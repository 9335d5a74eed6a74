"""Presigned URLs in the shape of SigV4: whoever has one may read, until it expires. All carry the leak mark."""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote, urlencode

from sandbox.simulator.settings import LEAK_MARK
from sandbox.simulator.wire import Reply, xml_error

_KEY_ID = f"ASIA{LEAK_MARK}0000"
_DATE = "%Y%m%dT%H%M%SZ"


class Signer:
    """Signs and checks URLs of one object store."""

    def __init__(self, secret: str, session_life: float) -> None:
        self._secret = secret.encode()
        self._session_life = session_life
        self.signed = 0

    def url(self, origin: str, path: str, *, now: float, life: float, filename: str) -> str:
        """A URL for GET that ends after `life` seconds of tenant time, or with the credentials' session."""
        self.signed += 1
        moment = datetime.fromtimestamp(now, UTC)
        query = {
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"{_KEY_ID}/{moment:%Y%m%d}/us-west-2/s3/aws4_request",
            "X-Amz-Date": moment.strftime(_DATE),
            "X-Amz-Expires": str(max(1, int(life))),
            "X-Amz-SignedHeaders": "host",
            "X-Amz-Security-Token": f"{LEAK_MARK}{self._mac(f'{path}{now}{self.signed}')}",
            "X-Amz-Meta-Signed-At": f"{now:.6f}",
            "X-Amz-Meta-Life": f"{life:.6f}",
            "response-content-disposition": f"attachment; filename*=UTF-8''{quote(filename)}",
        }
        signature = LEAK_MARK + self._mac(self._canonical(path, query))
        return f"{origin}{path}?{urlencode({**query, 'X-Amz-Signature': signature}, quote_via=quote)}"

    def _mac(self, text: str) -> str:
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()

    @staticmethod
    def _canonical(path: str, query: dict[str, str]) -> str:
        return path + "?" + urlencode(sorted(query.items()))

    def refuse(self, method: str, path: str, query: str, *, now: float) -> Reply | None:
        """The object store's refusal of this request, or None if the URL holds."""
        given = dict(parse_qsl(query, keep_blank_values=True))
        signature = given.pop("X-Amz-Signature", "")
        expected = LEAK_MARK + self._mac(self._canonical(path, given))
        if not signature:
            return xml_error(403, "AccessDenied", "Access Denied")
        if method != "GET" or not hmac.compare_digest(signature.encode(), expected.encode()):
            message = "The request signature we calculated does not match the signature you provided."
            return xml_error(403, "SignatureDoesNotMatch", message)
        signed_at, life = float(given["X-Amz-Meta-Signed-At"]), float(given["X-Amz-Meta-Life"])
        if now >= signed_at + life:
            return expired(now, given["X-Amz-Expires"])
        if now >= signed_at + self._session_life:
            return xml_error(400, "ExpiredToken", "The provided token has expired.")
        return None


def expired(now: float, expires: str = "86400") -> Reply:
    """The refusal of a URL whose time has passed."""
    moment = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    extra = {"X-Amz-Expires": expires, "Expires": moment, "ServerTime": moment}
    return xml_error(403, "AccessDenied", "Request has expired", **extra)
