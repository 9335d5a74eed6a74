"""Leader election: of all controllers only the holder of the Lease acts.

A holder that could not renew the Lease in time stops before another may start, even while a call hangs. Its clock also
counts while the machine or the process is suspended.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from entrypackage.clock import boot_seconds
from entrypackage.identity import LEASE_NAME
from entrypackage.kubernetes import LEASES, AlreadyExistsError, ConflictError, KubernetesError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from controller.settings import LeaseSettings
    from entrypackage.kubernetes import Kubernetes, Object

log = logging.getLogger(__name__)

RELEASE_SECONDS: Final = 2.0


class NotLeadingError(Exception):
    """This process does not hold the Lease, so it may not change anything."""


@dataclass(slots=True)
class _Seen:
    """The version of the Lease that was seen last, and when it was first seen."""

    version: str
    since: float


class Leadership:
    """Campaigns for the Lease, and runs the leader's work while it is held."""

    def __init__(
        self,
        kubernetes: Kubernetes,
        namespace: str,
        holder: str,
        settings: LeaseSettings,
        *,
        clock: Callable[[], float] = boot_seconds,
    ) -> None:
        """`holder` must be unique to this process; `clock` returns seconds and must count suspension."""
        self._kubernetes = kubernetes
        self._namespace = namespace
        self._holder = holder
        self._settings = settings
        self._clock = clock
        self._held_until = 0.0
        self._lost = False
        self._seen = _Seen("", 0.0)

    @property
    def is_leading(self) -> bool:
        """Whether the Lease is held at present."""
        return self._clock() < self._held_until

    def check(self) -> None:
        """Raise `NotLeadingError` unless the Lease is held at present."""
        if not self.is_leading:
            # The work that asked stops at this error, so this term ends even if a late renewal succeeds.
            self._lost = True
            raise NotLeadingError("the Lease is not held")

    async def campaign(self, lead: Callable[[], Awaitable[None]]) -> None:
        """Run `lead` whenever the Lease is held, until cancelled; then release the Lease.

        `lead` is cancelled when the Lease is lost. If `lead` itself returns or raises, `campaign` does the same.
        """
        try:
            while True:
                await self._acquire()
                log.info("leading", extra={"holder": self._holder})
                if await self._lead_until_lost(lead):
                    return
                log.warning("no longer leading", extra={"holder": self._holder})
        finally:
            await self._release()

    async def _acquire(self) -> None:
        while True:
            if await self._try_to_hold(self._settings.renew_deadline_seconds):
                return
            await asyncio.sleep(self._settings.retry_seconds)

    async def _lead_until_lost(self, lead: Callable[[], Awaitable[None]]) -> bool:
        """Run `lead` until the Lease is lost; return whether `lead` ended before that."""
        self._lost = False
        work = asyncio.ensure_future(lead())
        try:
            while self.is_leading and not self._lost and not work.done():
                await asyncio.wait({work}, timeout=min(self._settings.retry_seconds, self._left()))
                if not work.done() and self.is_leading:
                    await self._try_to_hold(self._left())
            if work.done():
                work.result()
                return True
            return False
        finally:
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work

    def _left(self) -> float:
        return max(0.01, self._held_until - self._clock())

    async def _try_to_hold(self, seconds: float) -> bool:
        """Take or renew the Lease within `seconds`; return whether that succeeded."""
        asked = self._clock()
        try:
            async with asyncio.timeout(seconds):
                held = await self._take_or_renew(asked)
        except (KubernetesError, TimeoutError) as error:
            log.info("the Lease could not be written", extra={"why": type(error).__name__})
            return False
        if held:
            self._held_until = asked + self._settings.renew_deadline_seconds
        return held

    async def _take_or_renew(self, now: float) -> bool:
        try:
            lease = await self._kubernetes.get(LEASES, self._namespace, LEASE_NAME)
        except NotFoundError:
            return await self._create()
        spec = lease.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        version = lease["metadata"]["resourceVersion"]
        if version != self._seen.version:
            # The time of the answer counts: the Lease may have been renewed long after a slow request was sent.
            self._seen = _Seen(version, self._clock())
        expires = self._seen.since + float(spec.get("leaseDurationSeconds") or self._settings.duration_seconds)
        if holder not in {"", self._holder} and now < expires:
            return False
        if holder == self._holder and not self._held_until:
            # The name is that of a pod, and no two pods share a name, so the earlier process has ended.
            log.info("taking the Lease over from an earlier process of the same name")
        lease["spec"] = self._spec(spec, taken_over=holder != self._holder)
        try:
            written = await self._kubernetes.replace(LEASES, self._namespace, LEASE_NAME, lease)
        except ConflictError:
            return False
        self._seen = _Seen(written["metadata"]["resourceVersion"], now)
        return True

    async def _create(self) -> bool:
        body: Object = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": LEASE_NAME},
            "spec": self._spec({}, taken_over=True),
        }
        try:
            await self._kubernetes.create(LEASES, self._namespace, body)
        except AlreadyExistsError:
            return False
        return True

    def _spec(self, old: Object, *, taken_over: bool) -> Object:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {
            "holderIdentity": self._holder,
            "leaseDurationSeconds": max(1, round(self._settings.duration_seconds)),
            "acquireTime": now if taken_over else old.get("acquireTime") or now,
            "renewTime": now,
            "leaseTransitions": int(old.get("leaseTransitions") or 0) + (1 if taken_over and old else 0),
        }

    async def _release(self) -> None:
        """Release the Lease, so that the next holder need not wait; a failure is only logged."""
        if not self.is_leading:
            return
        self._held_until = 0.0
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                await self._give_back()
        except (KubernetesError, TimeoutError) as error:
            log.warning("the Lease was not given back", extra={"why": str(error)})

    async def _give_back(self) -> None:
        lease = await self._kubernetes.get(LEASES, self._namespace, LEASE_NAME)
        if lease["spec"].get("holderIdentity") == self._holder:
            lease["spec"]["holderIdentity"] = ""
            lease["spec"]["leaseDurationSeconds"] = 1
            await self._kubernetes.replace(LEASES, self._namespace, LEASE_NAME, lease)
            log.info("gave the Lease back", extra={"holder": self._holder})
