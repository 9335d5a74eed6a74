"""What can go wrong with a call to Benchling.

BenchlingFailure             every one of them; carries its class of the failure table
├── Throttled                Benchling (429) or our own budget wants us to wait
│   └── LimitReached         a 429 about this operation alone: Benchling's export limit
├── ProviderDown             no answer, an answer of 5xx, or one that is not the API's (HTML, cut JSON, a redirect)
│   └── CircuitOpen          not sent, because Benchling has been down and is being probed
├── AuthFailed               the credentials or the token are refused
├── NotFound                 403, 404, 410: the app cannot see it
├── Rejected                 another 4xx: the request is wrong
│   └── SessionClosed        the app session has ended and takes no more
├── AnswerUnreadable         JSON, but not of the shape that this release knows, or larger than allowed
└── OutcomeUnknown           sent, and nobody can say whether it took effect
    └── ExportOutcomeUnknown the same for an export: it may run without us knowing its id

Messages are sentences for a person; they never hold a token, a secret or a presigned URL.
"""

from __future__ import annotations

from entrypackage.failures import Failure, FailureClass


class BenchlingFailure(Failure):
    """A call to Benchling did not give what was asked."""

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
        """Take what is known; `effect_possible` says that the request may have done its work nevertheless."""
        super().__init__(failure, message)
        self.status = status
        self.retry_after_seconds = retry_after_seconds
        """How long to wait at least, where that is known."""
        self.effect_possible = effect_possible
        self.is_outage = is_outage
        """Whether it speaks against Benchling as a whole, so that the breaker counts it."""


class Throttled(BenchlingFailure):
    """Too much was asked; it was not done."""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        retry_after_seconds: float | None = None,
        is_outage: bool = False,
    ) -> None:
        """Take a sentence and the wait."""
        super().__init__(
            FailureClass.THROTTLED,
            message,
            status=status,
            retry_after_seconds=retry_after_seconds,
            is_outage=is_outage,
        )


class LimitReached(Throttled):
    """Benchling takes no more of this kind now, though the budget is not spent."""


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
        """Take a sentence and whether the request may have been carried out."""
        super().__init__(
            FailureClass.PROVIDER_DOWN,
            message,
            status=status,
            retry_after_seconds=retry_after_seconds,
            effect_possible=effect_possible,
            is_outage=is_outage,
        )


class CircuitOpen(ProviderDown):
    """Nothing was sent: Benchling is down and is asked only now and then."""

    def __init__(self, retry_after_seconds: float) -> None:
        """Take the time until it is asked again."""
        super().__init__(
            "Benchling is not answering; it is asked now and then, and work goes on when it does.",
            retry_after_seconds=retry_after_seconds,
            is_outage=False,
        )


class AuthFailed(BenchlingFailure):
    """Credentials or token are refused."""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        """Take a sentence and how long no token is asked for."""
        super().__init__(
            FailureClass.AUTH_FAILED,
            message,
            status=status,
            retry_after_seconds=retry_after_seconds,
        )


class NotFound(BenchlingFailure):
    """It is not there, or the app may not see it; Benchling does not tell which."""

    def __init__(self, message: str, *, status: int, invalid_ids: tuple[str, ...] = ()) -> None:
        """Take a sentence and the ids that Benchling names."""
        super().__init__(FailureClass.NOT_FOUND, message, status=status)
        self.invalid_ids = invalid_ids


class Rejected(BenchlingFailure):
    """Benchling refused the request as wrong."""

    def __init__(self, message: str, *, status: int, invalid_ids: tuple[str, ...] = ()) -> None:
        """Take a sentence and the ids that Benchling names."""
        super().__init__(FailureClass.PROVIDER_REJECTED, message, status=status)
        self.invalid_ids = invalid_ids


class SessionClosed(Rejected):
    """The app session has ended."""


class AnswerUnreadable(BenchlingFailure):
    """The answer is not what this release can read."""

    def __init__(self, message: str, *, status: int | None = None, effect_possible: bool = False) -> None:
        """Take a sentence that names what is missing, not its value."""
        super().__init__(
            FailureClass.ANSWER_UNREADABLE,
            message,
            status=status,
            effect_possible=effect_possible,
        )


class OutcomeUnknown(BenchlingFailure):
    """A request that must not be repeated blindly was sent, and its answer is missing or useless."""

    def __init__(self, cause: BenchlingFailure) -> None:
        """Take what happened instead of an answer; its class is kept."""
        super().__init__(
            cause.failure,
            f"{cause.message} The request may have taken effect.",
            status=cause.status,
            retry_after_seconds=cause.retry_after_seconds,
            effect_possible=True,
        )


class ExportOutcomeUnknown(OutcomeUnknown):
    """An export may have been started whose task id nobody knows: an orphan, to be counted."""
