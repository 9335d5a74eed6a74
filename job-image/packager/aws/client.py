"""Signed requests to AWS: credentials, signature, retries, and what an error of AWS means for an attempt."""

from __future__ import annotations

import asyncio
import logging
import re
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Final, Protocol

from awscrt.auth import (
    AwsCredentialsProvider,
    AwsSignatureType,
    AwsSignedBodyHeaderType,
    AwsSigningAlgorithm,
    AwsSigningConfig,
    aws_sign_request,
)
from awscrt.http import HttpHeaders, HttpRequest

from entrypackage.failures import Failure, FailureClass
from packager.archive.format import quoted
from packager.http1 import Address, Client, ConnectionBroken
from packager.retrying import Retrying

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


log = logging.getLogger("packager.aws.client")

UNSIGNED_BODY: Final = "UNSIGNED-PAYLOAD"
"""Bodies to S3 are verified by their CRC-32, which S3 computes anew, so hashing them for the signature is saved."""

_RESPONSE_BYTES: Final = 16 * 1024 * 1024
_TRANSIENT_CODES: Final = frozenset(
    {
        "InternalError", "SlowDown", "ServiceUnavailable", "RequestTimeout", "RequestTimeoutException", "Throttling",
        "ThrottlingException", "RequestThrottled", "OperationAborted", "ConditionalRequestConflict", "BadDigest",
        "IncompleteBody", "TooManyRequestsException", "503 SlowDown", "RequestTimeTooSkewed", "RequestExpired",
        "KMS.ThrottlingException", "IDPCommunicationError",
    }
)  # fmt: skip
"""Each try is signed anew, so one that was too long on its way, or whose clock was wrong, may go well the next time."""

_STALE_CREDENTIALS: Final = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})
_GONE_UPLOAD: Final = frozenset({"NoSuchUpload", "InvalidPart"})
_ELSEWHERE: Final = frozenset(
    {"PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
)
_UNEXPLAINED: Final = "Error"
"""The code of an answer that has none, as none to a HEAD has."""
_ERROR_DOCUMENT: Final = re.compile(rb"\s*(?:<\?xml[^>]*\?>\s*)?<Error[\s>]")
"""AWS keeps a long request alive with blanks, hence those before it."""


class Superseded(Failure):
    """Another packager holds the claim."""

    def __init__(self) -> None:
        super().__init__(FailureClass.SUPERSEDED, "Another packager has claimed this package since.")


class StaleClaim(Exception):  # noqa: N818 - it is a state, settled by checking the claim
    """The last check of the claim is too old for a mutating request; check it and ask again."""


class AwsError(Exception):
    """AWS refused a request; `code` is AWS's own word for the reason."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str]) -> None:
        """`message` may be empty, `headers` are by lower-case name."""
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers

    @property
    def transient(self) -> bool:
        """Whether the same request may go well a moment later."""
        return self.status in {429, 500, 502, 503, 504} or self.code in _TRANSIENT_CODES

    @property
    def unexplained(self) -> bool:
        """Whether AWS gave no reason for refusing."""
        return self.code == _UNEXPLAINED


@dataclass(frozen=True, slots=True)
class AwsResponse:
    """A successful answer, read whole."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class AwsRequest:
    """One request; `body` may be sent several times."""

    method: str
    address: Address
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Sequence[bytes | bytearray | memoryview] = ()
    body_hash: str = UNSIGNED_BODY
    response_bytes: int = _RESPONSE_BYTES
    """The longest answer that is read."""

    def may_have_been_stale(self, error: AwsError) -> bool:
        """Whether it was refused for credentials that had expired, which an answer to HEAD has no body to say."""
        silent = self.method == "HEAD" and error.status == 400 and error.unexplained
        return silent or error.code in _STALE_CREDENTIALS


class AwsCredentials(Protocol):
    """Credentials to sign requests with, renewed where they expire."""

    async def provider(self) -> AwsCredentialsProvider | None:
        """Return credentials that are valid for some minutes more; None: sign nothing. Raises `Failure`."""
        ...

    def forget(self, provider: AwsCredentialsProvider | None, /) -> bool:
        """Use these no longer, because AWS called them expired; return whether there are others, or will be.

        Newer ones are kept: a request that was signed before a renewal may be refused after it.
        """
        ...


class Aws:
    """Sends signed requests to one service in one region."""

    def __init__(
        self,
        client: Client,
        credentials: AwsCredentials,
        *,
        service: str,
        region: str,
        retrying: Retrying | None = None,
        random: Random | None = None,
    ) -> None:
        """Share the HTTP client and the credentials with the process's other services."""
        self.region = region
        self._client = client
        self._credentials = credentials
        self._service = service
        self._retrying = retrying or Retrying()
        self._random = random or Random()  # noqa: S311 - jitter, not a secret

    async def send(self, request: AwsRequest, fence: Fence | None = None) -> AwsResponse:
        """Send until it succeeds, is refused for good (`AwsError`) or the tries are used up.

        With a fence, nothing is sent unless the claim was checked a moment ago. Raises `ConnectionBroken` if the last
        try got no answer.
        """
        failures = 0
        while True:
            provider = await self._credentials.provider()
            try:
                return await self._once(request, provider, fence)
            except StaleClaim:
                continue
            except ConnectionBroken as error:
                problem: Exception = error
            except AwsError as error:
                renewed = request.may_have_been_stale(error) and self._credentials.forget(provider)
                if not (renewed or error.transient):
                    if fence is not None:
                        # What the winner of the claim did, such as aborting our uploads, may explain the error.
                        await fence.confirm()
                    raise
                problem = error
            failures += 1
            if failures >= self._retrying.tries:
                raise problem
            delay = self._retrying.backoff.delay_seconds(failures, self._random.random())
            log.debug("request is tried again", extra={"failures": failures, "problem": str(problem)[:200]})
            await asyncio.sleep(delay)

    async def _once(
        self, request: AwsRequest, provider: AwsCredentialsProvider | None, fence: Fence | None
    ) -> AwsResponse:
        address = request.address
        if fence is not None:
            await fence.refresh()
        headers = self._signed(request, address, provider)
        writing = _Writing(fence)
        try:
            response = await self._client.request(
                request.method,
                address,
                headers,
                request.body,
                before_write=writing.begin,
                before_last=fence.refresh if fence else None,
            )
            body = await response.read(request.response_bytes)
        except BaseException:
            writing.cut_off()
            raise
        if 200 <= response.status < 300 and not (request.method == "POST" and _ERROR_DOCUMENT.match(body)):
            return AwsResponse(response.status, response.headers, body)
        raise _error(response.status, response.headers, body)

    def _signed(self, request: AwsRequest, address: Address, provider: AwsCredentialsProvider | None) -> dict[str, str]:
        if provider is None:
            return dict(request.headers)
        headers = HttpHeaders([("host", address.authority), *request.headers.items()])
        unsigned = HttpRequest(request.method, address.target, headers)
        config = AwsSigningConfig(
            algorithm=AwsSigningAlgorithm.V4,
            signature_type=AwsSignatureType.HTTP_REQUEST_HEADERS,
            credentials_provider=provider,
            region=self.region,
            service=self._service,
            use_double_uri_encode=False,
            should_normalize_uri_path=False,
            signed_body_value=request.body_hash,
            signed_body_header_type=AwsSignedBodyHeaderType.X_AMZ_CONTENT_SHA_256,
        )
        aws_sign_request(unsigned, config).result()
        return dict(iter(unsigned.headers))


class Fence:
    """Keeps a packager that lost its claim from writing; this base allows everything, `packager.claim.Claim` checks."""

    async def refresh(self) -> None:
        """Check the claim if its last check is getting old; raises `Superseded` if it is lost."""

    async def confirm(self) -> None:
        """Check the claim now; raises `Superseded` if it is lost."""

    def test(self) -> None:
        """Raise `StaleClaim` if the last check is too old to write now."""

    def cut_off(self) -> None:
        """Record that a write was sent and its response will not be read: it may be carried out a moment later."""


class _Writing:
    """One try of a request that may be behind a fence."""

    def __init__(self, fence: Fence | None) -> None:
        self._fence = fence
        self._begun = False

    def begin(self) -> None:
        if self._fence is not None:
            self._fence.test()
        self._begun = True

    def cut_off(self) -> None:
        if self._fence is not None and self._begun:
            self._fence.cut_off()


def failure_of(error: Exception, what: str) -> Failure:
    """Return what an error of S3 or SQS means for the attempt; `what` was tried, as in "storing a file"."""
    if isinstance(error, AwsError):
        said = f"AWS answered {error.status} {error.code} to {what}"
        if error.transient:
            return Failure(FailureClass.DESTINATION_DOWN, f"{said}, and went on doing so.")
        if error.status == 200 or error.code in _GONE_UPLOAD:
            # S3 changed its mind, or a lifecycle rule or a person ended the upload: another attempt begins a new one.
            return Failure(FailureClass.DESTINATION_DOWN, f"{said}{_why(error)}")
        if error.status in {301, 307} or error.code in _ELSEWHERE:
            region = error.headers.get("x-amz-bucket-region")
            said += f", because the bucket is in {region}" if region else ""
        return Failure(FailureClass.DESTINATION_DENIED, f"{said}{_why(error)}")
    return Failure(FailureClass.DESTINATION_DOWN, f"No answer to {what}: {error}")


def check_address(what: str, url: str | None) -> None:
    """Raise `Failure` (`OrderInvalid`) unless requests can be sent to `url`, or there is none."""
    if not url:
        return
    try:
        Address.parse(url)
    except ValueError:
        raise Failure(
            FailureClass.ORDER_INVALID, f"{what} must be like https://host or http://host:9000, but is {quoted(url)}."
        ) from None


def _why(error: AwsError) -> str:
    return f": {error.message[:300]}" if error.message else "."  # an answer to HEAD has no body to say why


def _error(status: int, headers: Mapping[str, str], body: bytes) -> AwsError:
    text = body[:4096].decode("utf-8", "replace")
    code = _first(r"<Code>([^<]*)</Code>", text) or _first(r'"__type"\s*:\s*"(?:[^"#]*#)?([^"]*)"', text)
    message = _first(r"<Message>([^<]*)</Message>", text) or _first(r'"[mM]essage"\s*:\s*"([^"]*)"', text)
    fallback = {403: "AccessDenied", 404: "NotFound", 412: "PreconditionFailed"}.get(status, _UNEXPLAINED)
    return AwsError(status, code or fallback, message or "", headers)


def _first(pattern: str, text: str) -> str | None:
    found = re.search(pattern, text)
    return found.group(1) if found else None
