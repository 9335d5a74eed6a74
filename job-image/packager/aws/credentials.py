"""The credentials of the packager: of the pod's role by its web identity token, or of another assumed with it."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from awscrt.auth import AwsCredentialsProvider

from entrypackage.clock import boot_seconds
from entrypackage.failures import Failure, FailureClass
from packager.aws.client import Aws, AwsError, AwsRequest, failure_of
from packager.http1 import Address, ConnectionBroken
from packager.retrying import Retrying

if TYPE_CHECKING:
    from collections.abc import Mapping

    from packager.aws.client import AwsCredentials
    from packager.http1 import Client

_RENEW_SECONDS: Final = 300.0
_AGAIN_SECONDS: Final = 30.0
_LAST_SECONDS: Final = 15.0
"""A session that ends so soon is not used for another request."""

_RENEWAL_SECONDS: Final = 15.0
"""How long a renewal may take while the session before it is still good; there is time for another one."""

_PATIENT: Final = Retrying()
_BRIEF: Final = Retrying(tries=3)

log = logging.getLogger("packager.aws.credentials")


class NoCredentials:
    """For the one request that needs none: assuming a role by a web identity."""

    async def provider(self) -> None:
        """Return None: nothing is signed."""

    def forget(self, _provider: AwsCredentialsProvider | None, /) -> bool:
        """Return False: there are no others."""
        return False


class FixedCredentials:
    """Credentials that stay as they are, or that the AWS runtime keeps fresh by itself."""

    def __init__(self, provider: AwsCredentialsProvider) -> None:
        self._provider = provider

    async def provider(self) -> AwsCredentialsProvider:
        return self._provider

    def forget(self, _provider: AwsCredentialsProvider | None, /) -> bool:
        """Return False: there are no others."""
        return False


@dataclass(frozen=True, slots=True)
class _Session:
    provider: AwsCredentialsProvider
    renew_at: float
    ends_at: float

    @property
    def good(self) -> bool:
        """Whether a request that is sent now can be signed with it."""
        return boot_seconds() < self.ends_at - _LAST_SECONDS


class RoleCredentials:
    """A role's session: by web identity (IRSA) without a base, or assumed with another's credentials."""

    def __init__(
        self, client: Client, endpoint: str, region: str, form: Mapping[str, str], *,
        base: AwsCredentials | None = None, token_file: Path | None = None, renewal_seconds: float = _RENEWAL_SECONDS,
    ) -> None:  # fmt: skip
        """Ask `endpoint` (STS) with `form`; the token file is read anew each time, because it rotates."""
        self._client = client
        self._base = base or NoCredentials()
        self._endpoint = endpoint
        self._region = region
        self._form = form
        self._token_file = token_file
        self._renewal_seconds = renewal_seconds
        self._session: _Session | None = None
        self._lock = asyncio.Lock()

    async def provider(self) -> AwsCredentialsProvider:
        """Return the session's credentials, renewed five minutes before they end.

        One request waits for the renewal; the others go on with what is still good, however long STS takes.
        """
        session = self._session
        if session is not None and (boot_seconds() < session.renew_at or (self._lock.locked() and session.good)):
            return session.provider
        async with self._lock:
            session = self._session
            if session is None or boot_seconds() >= session.renew_at:
                session = self._session = await self._renewed(session)
            return session.provider

    def forget(self, provider: AwsCredentialsProvider | None, /) -> bool:
        """Get a new session next time, unless there is another than this already."""
        if self._session is not None and self._session.provider is provider:
            self._session = None
        return True

    async def _renewed(self, session: _Session | None) -> _Session:
        """Get a session; while the old one is still good, a failure to get another is no reason to stop."""
        if session is None or not session.good:
            return await self._ask(_PATIENT)
        try:
            async with asyncio.timeout(self._renewal_seconds):
                return await self._ask(_BRIEF)
        except (Failure, TimeoutError) as error:
            if self._session is not session or not session.good:  # it was refused meanwhile, or has ended
                return await self._ask(_PATIENT)
            why = error.message if isinstance(error, Failure) else "STS took too long."
            log.warning("the role's session could not be renewed yet", extra={"why": why})
            return replace(session, renew_at=boot_seconds() + _AGAIN_SECONDS)

    async def _ask(self, retrying: Retrying) -> _Session:
        form = dict(self._form)
        if self._token_file is not None:
            try:
                form["WebIdentityToken"] = self._token_file.read_text().strip()
            except OSError as error:
                raise Failure(
                    FailureClass.DESTINATION_DENIED, f"The web identity token cannot be read: {error.strerror}."
                ) from None
        body = urlencode(form).encode()
        headers = {"content-type": "application/x-www-form-urlencoded"}
        digest = hashlib.sha256(body).hexdigest()
        sts = Aws(self._client, self._base, service="sts", region=self._region, retrying=retrying)
        try:
            response = await sts.send(AwsRequest("POST", Address.parse(self._endpoint), headers, [body], digest))
        except (AwsError, ConnectionBroken) as error:
            raise failure_of(error, "taking on the role") from None
        return _session_of(response.body.decode("utf-8", "replace"))


def _tag(name: str, text: str) -> str | None:
    found = re.search(rf"<{name}>([^<]*)</{name}>", text)
    return found.group(1).strip() if found else None


def _session_of(text: str) -> _Session:
    key, secret, token, ends = (_tag(n, text) for n in ("AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration"))
    if not (key and secret and token and ends):
        raise Failure(FailureClass.DESTINATION_DENIED, "STS answered without credentials.")
    left = (datetime.fromisoformat(ends) - datetime.now(UTC)).total_seconds()
    provider = AwsCredentialsProvider.new_static(key, secret, token)
    now = boot_seconds()
    return _Session(provider, now + max(left - _RENEW_SECONDS, left / 2, 1.0), now + left)


def find_credentials(
    client: Client, environment: Mapping[str, str], region: str, *, role_arn: str | None, session_name: str
) -> AwsCredentials:
    """Choose as AWS's own tools do: keys in the environment, web identity, a profile; then assume `role_arn` if given.

    There is no falling back from `role_arn` to the pod's own rights, which might write into the wrong account.
    """
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    endpoint = environment.get("AWS_ENDPOINT_URL_STS") or environment.get("AWS_ENDPOINT_URL")
    endpoint = endpoint or f"https://sts.{region}.{domain}/"
    session_name = re.sub(r"[^\w+=,.@-]", "-", session_name)[:64]
    base = _own(client, environment, endpoint, region, session_name)
    if role_arn is None:
        return base
    form = {
        "Action": "AssumeRole", "Version": "2011-06-15", "RoleArn": role_arn,
        "RoleSessionName": session_name, "DurationSeconds": "3600",
    }  # fmt: skip
    return RoleCredentials(client, endpoint, region, form, base=base)


def _own(
    client: Client, environment: Mapping[str, str], endpoint: str, region: str, session_name: str
) -> AwsCredentials:
    key, secret = environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY")
    if key and secret:
        token = environment.get("AWS_SESSION_TOKEN") or None
        return FixedCredentials(AwsCredentialsProvider.new_static(key, secret, token))
    role, token_file = environment.get("AWS_ROLE_ARN"), environment.get("AWS_WEB_IDENTITY_TOKEN_FILE")
    if role and token_file:
        form = {
            "Action": "AssumeRoleWithWebIdentity", "Version": "2011-06-15", "RoleArn": role,
            "RoleSessionName": session_name, "DurationSeconds": "3600",
        }  # fmt: skip
        return RoleCredentials(client, endpoint, region, form, token_file=Path(token_file))
    config = Path(environment.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")).expanduser()
    if environment.get("AWS_PROFILE") or config.exists():
        return FixedCredentials(AwsCredentialsProvider.new_profile(profile_name=environment.get("AWS_PROFILE")))
    raise Failure(
        FailureClass.DESTINATION_DENIED,
        "No AWS credentials: the pod's ServiceAccount needs the annotation eks.amazonaws.com/role-arn; "
        "by hand, set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
    )
