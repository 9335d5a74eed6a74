"""What can go wrong with a call to Benchling.

BenchlingFailure             every one of them; carries its class of the failure table
├── Throttled                Benchling (429) or our own rate limiter demands a wait
│   └── LimitReached         a 429 about this operation alone: Benchling's export limit
├── ProviderDown             no answer, an answer of 5xx, or one that is not the API's (HTML, cut JSON, a redirect)
│   └── CircuitOpen          not sent, because Benchling was down and is being probed
├── AuthFailed               the credentials or the token are refused
├── NotFound                 403, 404, 410: the app cannot see it
├── Rejected                 another 4xx: the request is wrong
│   └── SessionClosed        the app session has ended and takes no more
├── AnswerUnreadable         JSON, but not of the shape that this release knows, or larger than allowed
└── OutcomeUnknown           sent, and it is unknown whether it took effect
    └── ExportOutcomeUnknown the same for an export: it may run under an unknown id

Messages are sentences for a person; they never hold a token, a secret or a presigned URL.
"""

from __future__ import annotations

from entrypackage.failures import Failure, FailureClass


class BenchlingFailure(Failure):
    """A call to Benchling failed."""

    def __init__(
        self,
        failure: FailureClass,
        message: str,
        *,
        status: int | None = None,
        retry_after_seconds: float | None = None,
        effect_possible: bool = False,
        is_outage: bool = False,
    ) -> None:
        """`effect_possible` says that the request may have taken effect although the call failed."""
        super().__init__(failure, message)
        self.status = status
        self.retry_after_seconds = retry_after_seconds
        """The shortest wait before a retry; None if Benchling named none."""
        self.effect_possible = effect_possible
        self.is_outage = is_outage
        """Whether Benchling as a whole may be down, so that the breaker counts it."""


class Throttled(BenchlingFailure):
    """Too many requests: this one was not carried out."""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        retry_after_seconds: float | None = None,
        is_outage: bool = False,
    ) -> None:
        super().__init__(
            FailureClass.THROTTLED,
            message,
            status=status,
            retry_after_seconds=retry_after_seconds,
            is_outage=is_outage,
        )


class LimitReached(Throttled):
    """Benchling accepts no more requests of this kind now, although the rate budget is not spent."""


class ProviderDown(BenchlingFailure):
    """Benchling or the way to it is broken."""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        retry_after_seconds: float | None = None,
        effect_possible: bool = False,
        is_outage: bool = True,
    ) -> None:
        super().__init__(
            FailureClass.PROVIDER_DOWN,
            message,
            status=status,
            retry_after_seconds=retry_after_seconds,
            effect_possible=effect_possible,
            is_outage=is_outage,
        )


class CircuitOpen(ProviderDown):
    """The breaker is open, so nothing was sent."""

    def __init__(self, retry_after_seconds: float) -> None:
        super().__init__(
            "Benchling is not answering; it is asked now and then, and work goes on when it does.",
            retry_after_seconds=retry_after_seconds,
            is_outage=False,
        )


class AuthFailed(BenchlingFailure):
    """Benchling refused the credentials or the token."""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(
            FailureClass.AUTH_FAILED,
            message,
            status=status,
            retry_after_seconds=retry_after_seconds,
        )


class NotFound(BenchlingFailure):
    """The object does not exist or the app may not see it; Benchling does not say which."""

    def __init__(self, message: str, *, status: int, invalid_ids: tuple[str, ...] = ()) -> None:
        super().__init__(FailureClass.NOT_FOUND, message, status=status)
        self.invalid_ids = invalid_ids


class Rejected(BenchlingFailure):
    """Benchling refused the request as wrong."""

    def __init__(self, message: str, *, status: int, invalid_ids: tuple[str, ...] = ()) -> None:
        super().__init__(FailureClass.PROVIDER_REJECTED, message, status=status)
        self.invalid_ids = invalid_ids


class SessionClosed(Rejected):
    """The app session has ended."""


class AnswerUnreadable(BenchlingFailure):
    """This release cannot read the answer."""

    def __init__(self, message: str, *, status: int | None = None, effect_possible: bool = False) -> None:
        super().__init__(
            FailureClass.ANSWER_UNREADABLE,
            message,
            status=status,
            effect_possible=effect_possible,
        )


class OutcomeUnknown(BenchlingFailure):
    """A request that must not be sent twice was sent, and no usable answer came."""

    def __init__(self, cause: BenchlingFailure) -> None:
        """`cause` is what came instead of an answer; its failure class is kept."""
        super().__init__(
            cause.failure,
            f"{cause.message} The request may have taken effect.",
            status=cause.status,
            retry_after_seconds=cause.retry_after_seconds,
            effect_possible=True,
        )


class ExportOutcomeUnknown(OutcomeUnknown):
    """An export may have been started whose task id is unknown: an orphan."""
