"""Sends a request to Benchling by all rules: breaker, rate limiter, token, deadline and retries."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from controller.benchling.breaker import Breaker, BreakerState
from controller.benchling.errors import (
    AuthFailed,
    BenchlingFailure,
    CircuitOpen,
    LimitReached,
    OutcomeUnknown,
    ProviderDown,
    Throttled,
)
from controller.benchling.priority import Priority
from controller.benchling.rate_limiter import Permit, RateLimiter
from controller.benchling.rate_window import RateWindow
from controller.benchling.retry import RetryPolicy
from controller.benchling.token import TOKEN, TOKEN_REQUEST, TokenSource, basic_authorization
from controller.benchling.wire import Operation, Repeat, Request, exchange, read_json

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    import httpx

    from controller.benchling.clock import Clock
    from controller.benchling.settings import AppCredentials, BenchlingSettings
    from controller.benchling.wire import Answer

_log = logging.getLogger(__name__)
_PROBE: Final = Request(
    Operation("probe", "GET"), "/api/v2/entries", {"pageSize": "1", "returning": "entries.id", "nextToken": ""}
)
_PROBE_SPREAD: Final = 0.2


@dataclass(frozen=True, slots=True)
class CallRecord:
    """The cost of one call, for metrics. It holds no ids and no addresses."""

    operation: str
    priority: Priority
    outcome: str
    """``ok`` or the name of the failure class."""
    tries: int
    """How often sending was tried; 0 if the call failed while it waited."""
    seconds: float
    """From the call to its return, with all waiting."""


class RequestSender:
    """Sends requests, and repeats each until it succeeds, must not be repeated or reaches its deadline."""

    def __init__(
        self,
        settings: BenchlingSettings,
        http: httpx.AsyncClient,
        clock: Clock,
        random: Random,
        observer: Callable[[CallRecord], None],
    ) -> None:
        """`http` must follow no redirects; `observer` is called once per call, however it ends."""
        self._settings = settings
        self._http = http
        self._clock = clock
        self._random = random
        self._observer = observer
        self._base_url = settings.base_url.rstrip("/")
        self._retry = RetryPolicy(max_tries=settings.max_tries)
        self._probe: asyncio.Task[None] | None = None
        self._recovered: list[Callable[[], None]] = []
        self.limiter = RateLimiter(
            clock, RateWindow(settings.requests_per_period, settings.period_seconds, settings.concurrency)
        )
        self.breaker = Breaker(settings.breaker_failures, self._breaker_changed)
        self.tokens = TokenSource(settings.credentials, self._ask_for_token, clock)

    def on_recovery(self, callback: Callable[[], None]) -> None:
        """Call `callback` each time Benchling works again after an outage."""
        self._recovered.append(callback)

    async def send(self, request: Request, priority: Priority, deadline_seconds: float | None = None) -> Any:
        """Return the JSON of the answer; raises `BenchlingFailure`. It takes hardly longer than the deadline."""
        began = self._clock.now()
        seconds = self._settings.deadlines[priority] if deadline_seconds is None else deadline_seconds
        call = _Call(request, priority, ends=began + seconds)
        outcome = "ok"
        try:
            return await self._until_done(call)
        except BenchlingFailure as failure:
            outcome = failure.failure.value
            raise
        finally:
            self._observer(CallRecord(request.operation.name, priority, outcome, call.tries, self._clock.now() - began))

    def close(self) -> None:
        """Stop the probe, the rate limiter's alarm and a token request that is under way."""
        if self._probe is not None:
            self._probe.cancel()
        self.limiter.close()
        self.tokens.close()

    async def _until_done(self, call: _Call) -> Any:
        renewed = False
        while True:
            try:
                return await self._once(call)
            except AuthFailed as failure:
                if renewed or not call.token_rejected:
                    raise
                renewed = True
                _log.info("Benchling refused the token; another is fetched", extra={"status": failure.status})
            except BenchlingFailure as failure:
                pause = self._retry.pause(
                    failure,
                    repeatable=call.request.operation.repeat is Repeat.SAFE,
                    tries=call.tries,
                    left_seconds=call.ends - self._clock.now(),
                    jitter=self._random.random(),
                )
                if pause is None:
                    raise self._final(call, failure) from None
                await self._clock.sleep(pause)

    def _final(self, call: _Call, failure: BenchlingFailure) -> BenchlingFailure:
        if failure.effect_possible and call.request.operation.repeat is Repeat.UNSAFE:
            return OutcomeUnknown(failure)
        return failure

    async def _once(self, call: _Call) -> Any:
        self._refuse_if_open()
        permit = await self._permit(call)
        try:
            self._refuse_if_open()
            call.tries += 1
            token = await self._token(call)
            left = max(1.0, call.ends - self._clock.now())
            result = await self._transmit(call.request, f"Bearer {token.get_secret_value()}", permit, left)
        finally:
            permit.unused()
        if result.answer.status == 401:
            call.token_rejected = True
            self.tokens.rejected(token)
        else:
            self.tokens.accepted(token)
        if result.failure is not None:
            raise result.failure
        return result.content

    async def _permit(self, call: _Call) -> Permit:
        left = call.ends - self._clock.now()
        try:
            async with asyncio.timeout(left):
                return await self.limiter.acquire(call.priority)
        except TimeoutError:
            raise Throttled(
                f"The rate budget left no capacity for {call.request.operation.name} within the call's deadline."
            ) from None

    async def _token(self, call: _Call) -> Any:
        try:
            async with asyncio.timeout(max(1.0, call.ends - self._clock.now())):
                return await self.tokens.current()
        except TimeoutError:
            raise ProviderDown("Benchling handed out no token within the call's deadline.") from None

    async def _ask_for_token(self, credentials: AppCredentials) -> Answer:
        """Send the token request. It is charged to the budget but does not wait, since its call has a permit."""
        permit = Permit(self.limiter, self.limiter.window.begin(self._clock.now(), Priority.READ))
        try:
            result = await self._transmit(
                TOKEN_REQUEST, basic_authorization(credentials), permit, self._settings.request_timeout_seconds
            )
        finally:
            permit.unused()
        return result.answer

    async def _transmit(self, request: Request, authorization: str, permit: Permit, left: float) -> _Result:
        """Send once, and report the result to the rate limiter and the breaker."""
        name = request.operation.name
        began = time.perf_counter()
        try:
            async with asyncio.timeout(min(left, self._settings.request_timeout_seconds)):
                answer = await exchange(
                    self._http, self._build(request, authorization), name, self._settings.max_answer_bytes
                )
        except TimeoutError:
            failure = ProviderDown(f"Benchling did not answer {name} in time.", effect_possible=True)
            self._failed(request, permit, failure)
            raise failure from None
        except BenchlingFailure as failure:
            self._failed(request, permit, failure)
            raise
        except BaseException:
            permit.ended(None, accepted=False)
            raise
        result = _understand(request, answer)
        self._judge(request, permit, result)
        _log.debug(
            "Benchling answered",
            extra={"operation": name, "status": answer.status, "seconds": round(time.perf_counter() - began, 4)},
        )
        return result

    def _failed(self, request: Request, permit: Permit, failure: BenchlingFailure) -> None:
        permit.ended(None, accepted=False)
        if failure.is_outage:
            self.breaker.failed(self._clock.now(), failure, request.path)

    def _judge(self, request: Request, permit: Permit, result: _Result) -> None:
        now, answer, failure = self._clock.now(), result.answer, result.failure
        if isinstance(failure, LimitReached):
            permit.ended(answer.rate, accepted=False)
        elif isinstance(failure, Throttled):
            if permit.throttled(answer.rate, answer.retry_after_seconds, self._random.random()):
                self.breaker.failed(now, failure, request.path, certain=True)
        else:
            permit.ended(answer.rate, accepted=True)
            if failure is not None and failure.is_outage:
                self.breaker.failed(now, failure, request.path)
            else:
                self.breaker.succeeded(now)

    def _build(self, request: Request, authorization: str) -> httpx.Request:
        headers = {"authorization": authorization, "accept": "application/json"}
        url = self._base_url + request.path
        if request.operation is TOKEN:
            return self._http.build_request("POST", url, headers=headers, data={"grant_type": "client_credentials"})
        body = None if request.body is None else dict(request.body)
        return self._http.build_request(request.operation.method, url, headers=headers, params=request.query, json=body)

    def _refuse_if_open(self) -> None:
        if self.breaker.state is not BreakerState.CLOSED:
            raise self._circuit_open()

    def _circuit_open(self) -> CircuitOpen:
        return CircuitOpen(self.breaker.reading(self._clock.now()).next_probe_seconds)

    def _breaker_changed(self, state: BreakerState) -> None:
        opened = state is BreakerState.OPEN and self._probe is None
        _log.log(logging.WARNING if opened else logging.INFO, "Circuit breaker", extra={"state": state.value})
        if opened:
            self.limiter.turn_away(self._circuit_open)
            self._probe = asyncio.create_task(self._probe_until_closed(), name="benchling-probe")
        elif state is BreakerState.CLOSED:
            for callback in self._recovered:
                callback()

    async def _probe_until_closed(self) -> None:
        while self.breaker.state is not BreakerState.CLOSED:
            pause = self._settings.probe_seconds * (1 + self._random.random() * _PROBE_SPREAD)
            self.breaker.schedule_probe(self._clock.now() + pause)
            await self._clock.sleep(pause)
            self.breaker.start_probe()
            try:
                await self._probe_once()
            except BenchlingFailure as failure:
                _log.info("Benchling is still down", extra={"reason": failure.failure.value})
            except Exception:  # noqa: BLE001 - without its probe the breaker would stay open for ever
                _log.exception("The probe failed")
        self._probe = None

    async def _probe_once(self) -> None:
        permit = await self.limiter.acquire(Priority.CLICK)
        try:
            token = await self.tokens.current()
            await self._transmit(
                _PROBE, f"Bearer {token.get_secret_value()}", permit, self._settings.request_timeout_seconds
            )
        finally:
            permit.unused()


@dataclass(frozen=True, slots=True)
class _Result:
    answer: Answer
    content: Any
    failure: BenchlingFailure | None


def _understand(request: Request, answer: Answer) -> _Result:
    try:
        return _Result(answer, read_json(answer, request.operation.name), None)
    except Throttled as failure:
        if request.operation.own_limit and (answer.rate is None or answer.rate.remaining > 0):
            return _Result(
                answer,
                None,
                LimitReached(failure.message, status=answer.status, retry_after_seconds=answer.retry_after_seconds),
            )
        return _Result(answer, None, failure)
    except BenchlingFailure as failure:
        return _Result(answer, None, failure)


@dataclass(slots=True)
class _Call:
    request: Request
    priority: Priority
    ends: float
    tries: int = 0
    token_rejected: bool = False
