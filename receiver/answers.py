"""What the receiver answers: one closed table of outcomes, their HTTP codes and reasons.

Benchling re-sends what was not answered 2xx, so 2xx means that nothing is left to do and 503 that it should come
again; 4xx is for what would be refused again, 408 aside.

====  =======================================================================================================
200   stored; covered by what is there; acknowledged; ignored; not yet served by this release
400   NotJson, BadEnvelope, BadMessage: signed, but not what Benchling sends
401   Unsigned, BadHeaders, BadTimestamp, BadSignature: not proven to be Benchling's, or not from just now
403   SourceNotAllowed, TenantNotAllowed: not for us to take
404   NotFound: no such path
405   MethodNotAllowed
408   BodyTooSlow
413   BodyTooLarge
422   UnknownType: signed, but of a type that the app should not be subscribed to; NotStorable: the API server
      refuses the object for good
503   KeysUnavailable, ApiServerUnreachable, ApiServerRefused, Conflict, Deadline, BeingDeleted, NameTaken,
      Unreadable, Overloaded, Internal: nothing was stored as far as is known
====  =======================================================================================================

Content types are not looked at (no 415): the signature covers the bytes, and what they are not is said by 400.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class DeliveryOutcome(StrEnum):
    """What became of a delivery; the label of `webhook_requests_total`."""

    STORED = "stored"
    COVERED = "covered"
    ACKNOWLEDGED = "acknowledged"
    IGNORED = "ignored"
    NOT_YET_SERVED = "not_yet_served"
    REJECTED = "rejected"
    UNAVAILABLE = "unavailable"


class Why(StrEnum):
    """Why a delivery was not taken; the label of `webhook_rejected_total` and the `reason` of the answer."""

    NOT_JSON = "NotJson"
    BAD_ENVELOPE = "BadEnvelope"
    BAD_MESSAGE = "BadMessage"
    UNSIGNED = "Unsigned"
    BAD_HEADERS = "BadHeaders"
    BAD_TIMESTAMP = "BadTimestamp"
    BAD_SIGNATURE = "BadSignature"
    SOURCE_NOT_ALLOWED = "SourceNotAllowed"
    TENANT_NOT_ALLOWED = "TenantNotAllowed"
    NOT_FOUND = "NotFound"
    METHOD_NOT_ALLOWED = "MethodNotAllowed"
    BODY_TOO_SLOW = "BodyTooSlow"
    BODY_TOO_LARGE = "BodyTooLarge"
    UNKNOWN_TYPE = "UnknownType"
    NOT_STORABLE = "NotStorable"
    KEYS_UNAVAILABLE = "KeysUnavailable"
    API_SERVER_UNREACHABLE = "ApiServerUnreachable"
    API_SERVER_REFUSED = "ApiServerRefused"
    CONFLICT = "Conflict"
    DEADLINE = "Deadline"
    BEING_DELETED = "BeingDeleted"
    NAME_TAKEN = "NameTaken"
    UNREADABLE = "Unreadable"
    OVERLOADED = "Overloaded"
    INTERNAL = "Internal"


_CODES: Final[dict[Why, int]] = {
    Why.NOT_JSON: 400,
    Why.BAD_ENVELOPE: 400,
    Why.BAD_MESSAGE: 400,
    Why.UNSIGNED: 401,
    Why.BAD_HEADERS: 401,
    Why.BAD_TIMESTAMP: 401,
    Why.BAD_SIGNATURE: 401,
    Why.SOURCE_NOT_ALLOWED: 403,
    Why.TENANT_NOT_ALLOWED: 403,
    Why.NOT_FOUND: 404,
    Why.METHOD_NOT_ALLOWED: 405,
    Why.BODY_TOO_SLOW: 408,
    Why.BODY_TOO_LARGE: 413,
    Why.UNKNOWN_TYPE: 422,
    Why.NOT_STORABLE: 422,
}

RETRY_AFTER_SECONDS: Final = 5


def code_of(why: Why) -> int:
    """Return the HTTP code; what is not listed above is 503."""
    return _CODES.get(why, 503)


class Refusal(Exception):  # noqa: N818 - an answer, not a defect
    """A delivery is not taken. The sentence goes to whoever sent it, so it quotes nothing of the delivery."""

    def __init__(self, why: Why, sentence: str) -> None:
        """Take the reason and one sentence."""
        super().__init__(sentence)
        self.why = why
        self.sentence = sentence

    @property
    def code(self) -> int:
        """The HTTP code."""
        return code_of(self.why)

    @property
    def outcome(self) -> DeliveryOutcome:
        """Rejected for good, or unavailable for now."""
        return DeliveryOutcome.UNAVAILABLE if self.code == 503 else DeliveryOutcome.REJECTED


@dataclass(frozen=True, slots=True)
class Accepted:
    """A delivery is done with."""

    outcome: DeliveryOutcome
    note: str = ""
    """Why nothing had to be written, as one sentence."""
