"""The key ring: Benchling's current keys, always at hand, so that no delivery waits for the key server.

A task fetches each app's keys when they reach their time to live. While the key server is down or answers nonsense,
the keys that are there stay in use. A signature that fits none of them asks for one fetch ahead of time, because the
keys may just have been rotated; all who ask share it, and the next one is some time away, because anyone can ask.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from entrypackage.backoff import from_half
from receiver.jwks import KeysError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric import ec

log = logging.getLogger(__name__)

FetchKeys = Callable[[str], Awaitable[list["ec.EllipticCurvePublicKey"]]]
"""Returns the keys of an app definition, at least one, or raises `KeysError`."""

_RETRY_SECONDS: Final = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Pauses after failed fetches in a row."""

_random = random.SystemRandom()


@dataclass(slots=True)
class _AppKeys:
    """The keys of one app and how it went the last time that they were asked for."""

    app_definition_id: str
    keys: list[ec.EllipticCurvePublicKey] = field(default_factory=list)
    fetched_at: float | None = None
    """When these keys came, by the monotonic clock."""
    failures: int = 0
    """Failed fetches in a row."""
    due_at: float = float("-inf")
    """When they are to be fetched again."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class KeyRing:
    """Keeps the keys of the configured apps. `run` keeps them fresh; nothing else needs to be awaited to use them."""

    def __init__(
        self,
        fetch: FetchKeys,
        app_definition_ids: Sequence[str],
        *,
        ttl_seconds: float,
        timeout_seconds: float,
        refresh_min_seconds: float,
        on_fetch: Callable[[bool], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Fetch with `fetch`; after each one `on_fetch` is called with whether it gave keys."""
        self._fetch = fetch
        self._apps = [_AppKeys(app_id) for app_id in dict.fromkeys(app_definition_ids)]
        self._ttl = ttl_seconds
        self._timeout = timeout_seconds
        self._refresh_min = refresh_min_seconds
        self._on_fetch = on_fetch
        self._clock = clock
        self._refresh: asyncio.Task[None] | None = None
        self._refreshed_at: float | None = None

    @property
    def keys(self) -> list[ec.EllipticCurvePublicKey]:
        """All keys that a delivery may be signed with."""
        return [key for app in self._apps for key in app.keys]

    @property
    def loaded(self) -> bool:
        """Whether there is a key at all."""
        return any(app.keys for app in self._apps)

    @property
    def certain(self) -> bool:
        """Whether every app's last fetch succeeded, so that a signature that fits no key is a wrong one."""
        return all(app.keys and app.failures == 0 for app in self._apps)

    @property
    def age_seconds(self) -> float:
        """The age of the oldest keys in use; infinite while an app has none."""
        now = self._clock()
        return max(now - app.fetched_at if app.fetched_at is not None else float("inf") for app in self._apps)

    async def run(self) -> None:
        """Keep the keys of all apps fresh until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for app in self._apps:
                tasks.create_task(self._keep_fresh(app))

    async def refresh(self) -> bool:
        """Fetch all keys ahead of time, unless that was done just now; return whether a fetch was made or shared."""
        if self._refresh is None or self._refresh.done():
            now = self._clock()
            if self._refreshed_at is not None and now - self._refreshed_at < self._refresh_min:
                return False
            self._refreshed_at = now
            self._refresh = asyncio.create_task(self._fetch_all())
        # One caller's deadline must not end the fetch of the others.
        await asyncio.shield(self._refresh)
        return True

    async def _fetch_all(self) -> None:
        await asyncio.gather(*(self._fetch_app(app) for app in self._apps))

    async def _keep_fresh(self, app: _AppKeys) -> None:
        while True:
            wait = app.due_at - self._clock()
            if wait <= 0:
                await self._fetch_app(app)
            else:
                await asyncio.sleep(wait)

    async def _fetch_app(self, app: _AppKeys) -> None:
        async with app.lock:
            try:
                async with asyncio.timeout(self._timeout):
                    keys = await self._fetch(app.app_definition_id)
            except KeysError as error:
                self._keep_old(app, str(error))
            except TimeoutError:
                self._keep_old(app, f"the key server did not answer within {self._timeout:g} s")
            except Exception:  # whatever a hostile key server brings about, the old keys stay and it is tried again
                log.exception("A defect while fetching keys.")
                self._keep_old(app, "the receiver failed")
            else:
                now = self._clock()
                # Replicas that started together should not ask together for ever.
                app.due_at = now + self._ttl * _random.uniform(0.9, 1.0)
                app.keys, app.fetched_at, app.failures = keys, now, 0
                self._on_fetch(True)
                log.info("Keys fetched.", extra={"appDefinitionId": app.app_definition_id, "keys": len(keys)})

    def _keep_old(self, app: _AppKeys, why: str) -> None:
        pause = _RETRY_SECONDS[min(app.failures, len(_RETRY_SECONDS) - 1)]
        app.failures += 1
        app.due_at = self._clock() + from_half(pause, _random.random())
        self._on_fetch(False)
        facts = {"appDefinitionId": app.app_definition_id, "keysInUse": len(app.keys)}
        log.warning("Keys not fetched: %s.", why, extra=facts)
