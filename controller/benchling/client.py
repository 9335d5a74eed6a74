"""The client: every request that the product makes to Benchling, as a typed call.

All calls share one rate limiter, one token and one breaker; all errors are `BenchlingFailure`. The addresses of
archives and files are `PresignedURL`. They are never fetched here, because they must not receive the app's token.
"""

from __future__ import annotations

import http.cookiejar
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import httpx

from controller.benchling.canvases import CanvasCalls
from controller.benchling.clock import Clock, LoopClock
from controller.benchling.entries import EntryCalls
from controller.benchling.export_limit import ExportNumbers, ExportSlots
from controller.benchling.exports import ExportCalls
from controller.benchling.names import NameCache, Names
from controller.benchling.request_sender import CallRecord, RequestSender
from controller.benchling.settings import BenchlingSettings, credentials_in

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from controller.benchling.breaker import BreakerReading
    from controller.benchling.priority import Priority
    from controller.benchling.rate_window import RateNumbers
    from controller.settings import BenchlingAccess


@dataclass(frozen=True, slots=True)
class ClientNumbers:
    """The client's counters at one moment, for metrics."""

    breaker: BreakerReading
    rate: RateNumbers
    exports: ExportNumbers
    waiting: Mapping[Priority, int]
    tokens_fetched: int
    possible_orphans: int
    """Exports whose outcome stayed unknown: each may run although nothing waits for it."""
    names_cached: int


class BenchlingClient(EntryCalls, ExportCalls, CanvasCalls):
    """All calls, as an asynchronous context manager. Any number of tasks of one event loop may use it at once."""

    def __init__(
        self,
        settings: BenchlingSettings,
        *,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        observer: Callable[[CallRecord], None] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """The arguments after `settings` are for tests, except `observer`, which is called once per finished call."""
        self._clock = clock if clock is not None else LoopClock()
        rng = rng if rng is not None else random.SystemRandom()
        self._http = _http_client(settings, transport, tls)
        sender = RequestSender(
            settings, self._http, self._clock, rng, observer if observer is not None else _no_observer
        )
        super().__init__(settings, sender)
        self._slots = ExportSlots(self._clock, settings.first_export_limit, rng.random)
        self._cache = NameCache(settings.name_cache_size, settings.name_cache_seconds, self._clock)
        self._names = Names(self._cache, settings.bulk_size)

    @classmethod
    def from_folder(cls, access: BenchlingAccess, observer: Callable[[CallRecord], None] | None = None) -> Self:
        """Return a client of a tenant; the app's credentials are the files of a mounted Secret. Raises ValueError."""
        credentials = credentials_in(access.credentials_folder)
        return cls(BenchlingSettings(base_url=access.base_url, credentials=credentials), observer=observer)

    async def __aenter__(self) -> Self:
        """Open no connection: the first call asks for a token."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the client."""
        await self.close()

    async def close(self) -> None:
        """Stop the background tasks and close all connections."""
        self._sender.close()
        self._slots.close()
        await self._http.aclose()

    @property
    def numbers(self) -> ClientNumbers:
        """The present state of breaker, rate limiter, export limit and caches."""
        return ClientNumbers(
            breaker=self.breaker,
            rate=self._sender.limiter.numbers(),
            exports=self._slots.numbers,
            waiting=self._sender.limiter.waiting,
            tokens_fetched=self._sender.tokens.fetched,
            possible_orphans=self._orphans,
            names_cached=len(self._cache),
        )

    @property
    def breaker(self) -> BreakerReading:
        """The breaker's present state, since when it has it, and why."""
        return self._sender.breaker.reading(self._clock.now())

    @property
    def free_exports(self) -> int:
        """How many exports can be started now without waiting until another ends."""
        return self._slots.free

    def on_recovery(self, callback: Callable[[], None]) -> None:
        """Call `callback` each time Benchling works again after an outage."""
        self._sender.on_recovery(callback)


def _http_client(
    settings: BenchlingSettings, transport: httpx.AsyncBaseTransport | None, tls: ssl.SSLContext | None
) -> httpx.AsyncClient:
    """Return an HTTP client without redirects and cookies, whose connections outlast the time between polls.

    httpx drops an idle connection after 5 s by default.
    """
    no_cookies = http.cookiejar.CookieJar(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
    return httpx.AsyncClient(
        follow_redirects=False,
        cookies=no_cookies,
        transport=transport,
        verify=tls if tls is not None else True,
        headers={"user-agent": "entrypackage-operator"},
        timeout=httpx.Timeout(settings.request_timeout_seconds, connect=settings.connect_timeout_seconds),
        limits=httpx.Limits(
            max_connections=settings.concurrency + 2,
            max_keepalive_connections=settings.concurrency + 2,
            keepalive_expiry=settings.keepalive_seconds,
        ),
    )


def _no_observer(_record: CallRecord) -> None:
    pass
