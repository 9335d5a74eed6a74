"""The app's access token: one for the whole process, fetched once however many calls wait for it."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pydantic import SecretStr

from controller.benchling.errors import AnswerUnreadable, AuthFailed
from controller.benchling.wire import Operation, Request, error_type, raise_for, read_json
from entrypackage.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from controller.benchling.clock import Clock
    from controller.benchling.settings import AppCredentials, CredentialsSource
    from controller.benchling.wire import Answer

TOKEN: Final = Operation("token", "POST")
TOKEN_REQUEST: Final = Request(TOKEN, "/api/v2/token")
_FIRST_HOLD_SECONDS: Final = 15.0
_LONGEST_HOLD_SECONDS: Final = 300.0
_AHEAD_AGAIN_SECONDS: Final = 10.0
"""The pause after a failed fetch while the old token is still valid."""
_REFUSED: Final = "Benchling refused the app's client id or secret."
_NOT_TAKEN: Final = "Benchling hands out tokens for these credentials but refuses them; is the app active?"


class AccessToken(SecretStr):
    """A bearer token; prints as ``***``."""


@dataclass(slots=True)
class _Held:
    token: AccessToken
    credentials: AppCredentials
    ahead: float
    """When the next token is fetched while this one is still in use."""
    ends: float
    accepted: bool = False


def basic_authorization(credentials: AppCredentials) -> str:
    """Return the Authorization header of the token request."""
    pair = f"{credentials.client_id}:{credentials.client_secret.get_secret_value()}"
    return "Basic " + base64.b64encode(pair.encode()).decode("ascii")


class TokenSource:
    """Fetches and renews the token.

    * It is fetched when it is first needed, and again before its end (a tenth of its life, at most 60 s, at least 1 s),
      while the old one is still in use. Callers wait only if there is no valid token.
    * However many callers wait, one request is under way. A caller that gives up does not stop it.
    * Refused credentials are read again; `AuthFailed` is raised only if they have not changed. After that no token is
      requested for a time that doubles up to 5 minutes, unless the credentials change.
    """

    def __init__(
        self,
        credentials: CredentialsSource,
        ask: Callable[[AppCredentials], Awaitable[Answer]],
        clock: Clock,
    ) -> None:
        """`credentials` reads the credentials anew; `ask` sends a token request with them."""
        self._credentials = credentials
        self._ask = ask
        self._clock = clock
        self._held: _Held | None = None
        self._fetching: asyncio.Task[AccessToken] | None = None
        self._refused: AppCredentials | None = None
        self._refusal = _REFUSED
        self._hold_seconds = 0.0
        self._hold_until = 0.0
        self._unused_in_a_row = 0
        self.fetched = 0
        """The number of token requests so far."""

    async def current(self) -> AccessToken:
        """Return a valid token; raises `AuthFailed` or the failure of the token request."""
        now = self._clock.now()
        if self._held is not None and now < self._held.ends:
            if now >= self._held.ahead and self._fetching is None and now >= self._hold_until:
                _ = self._start()
            return self._held.token
        task = self._fetching if self._fetching is not None else self._start()
        return await asyncio.shield(task)

    def accepted(self, token: AccessToken) -> None:
        """Record that the API accepted a token."""
        if self._held is not None and self._held.token is token:
            self._held.accepted = True
            self._unused_in_a_row = 0
            self._hold_seconds = 0.0

    def rejected(self, token: AccessToken) -> None:
        """Record that the API answered 401 to a token. The next caller gets a new one, unless it was renewed meanwhile.

        After two tokens in a row that were never accepted the credentials count as refused; otherwise one token after
        another would be fetched for an app that is not active.
        """
        if self._held is None or self._held.token is not token:
            return
        self._unused_in_a_row += not self._held.accepted
        if self._unused_in_a_row > 1:
            self._hold(self._held.credentials, _NOT_TAKEN)
        self._held = None

    def close(self) -> None:
        """Stop a token request that is under way."""
        if self._fetching is not None:
            self._fetching.cancel()

    def _start(self) -> asyncio.Task[AccessToken]:
        task = asyncio.create_task(self._fetch(), name="benchling-token")
        task.add_done_callback(self._ended)
        self._fetching = task
        return task

    def _ended(self, task: asyncio.Task[AccessToken]) -> None:
        self._fetching = None
        if not task.cancelled() and task.exception() is not None and self._held is not None:
            self._held.ahead = self._clock.now() + _AHEAD_AGAIN_SECONDS

    async def _fetch(self) -> AccessToken:
        credentials = self._read()
        held_back = self._hold_until - self._clock.now()
        if held_back > 0 and credentials == self._refused:
            raise AuthFailed(self._refusal, status=401, retry_after_seconds=held_back)
        answer = await self._request(credentials)
        if _refuses(answer):
            fresh = self._read()
            if fresh != credentials:
                credentials = fresh
                answer = await self._request(credentials)
        if _refuses(answer):
            self._hold(credentials, _REFUSED)
            raise AuthFailed(_REFUSED, status=answer.status, retry_after_seconds=self._hold_seconds)
        if answer.status >= 300:
            raise_for(answer, TOKEN.name)
        return self._keep(answer, credentials)

    async def _request(self, credentials: AppCredentials) -> Answer:
        self.fetched += 1
        return await self._ask(credentials)

    def _read(self) -> AppCredentials:
        try:
            return self._credentials()
        except SettingsError as error:
            raise AuthFailed(str(error)) from None

    def _hold(self, credentials: AppCredentials | None, refusal: str) -> None:
        self._hold_seconds = min(_LONGEST_HOLD_SECONDS, max(_FIRST_HOLD_SECONDS, self._hold_seconds * 2))
        self._hold_until = self._clock.now() + self._hold_seconds
        self._refused = credentials
        self._refusal = refusal

    def _keep(self, answer: Answer, credentials: AppCredentials) -> AccessToken:
        body = read_json(answer, TOKEN.name)
        value = body.get("access_token") if isinstance(body, dict) else None
        seconds = body.get("expires_in") if isinstance(body, dict) else None
        if not isinstance(value, str) or not value or not value.isascii() or not value.isprintable():
            raise AnswerUnreadable(
                "Benchling's answer to the token request holds no access_token.", status=answer.status
            )
        life = float(seconds) if isinstance(seconds, int | float) and seconds > 0 else 60.0
        now = self._clock.now()
        margin = max(1.0, min(60.0, life / 10))
        token = AccessToken(value)
        self._held = _Held(token, credentials, ahead=now + life - margin, ends=now + max(life - 1.0, life / 2))
        return token


def _refuses(answer: Answer) -> bool:
    return answer.status == 401 or (
        answer.status == 400 and error_type(answer) in {"invalid_client", "unauthorized_client", "invalid_grant"}
    )
