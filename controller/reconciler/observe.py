"""Reads everything that a decision about one object depends on from the API server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from controller.decisions.jobs import read_job, read_pod
from controller.decisions.plan import Observation
from controller.reconciler.order_secrets import OrderSecrets
from entrypackage import identity
from entrypackage.kubernetes import ENTRY_PACKAGES, JOBS, PODS, NotFoundError
from entrypackage.resource import EntryPackage

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from controller.decisions.jobs import PodView
    from controller.reconciler.exports_in_flight import ExportsInFlight
    from controller.reconciler.recovery import Recovery
    from entrypackage.kubernetes import Kubernetes
    from entrypackage.resource import Attempt


class UnreadableObjectError(Exception):
    """An EntryPackage that this release cannot read; the message names its members."""


class Observer:
    """Observes the objects of one namespace. It uses no cache, so that no decision rests on an old version."""

    def __init__(
        self,
        kubernetes: Kubernetes,
        namespace: str,
        in_flight: ExportsInFlight,
        recovery: Recovery,
        has_capacity: Callable[[], bool],
    ) -> None:
        self._kubernetes = kubernetes
        self._namespace = namespace
        self._in_flight = in_flight
        self._recovery = recovery
        self._has_capacity = has_capacity
        self._order_secrets = OrderSecrets(kubernetes, namespace)

    async def read(self, key: str) -> EntryPackage | None:
        """Return the object, or None if it is gone; raises `UnreadableObjectError`."""
        try:
            body = await self._kubernetes.get(ENTRY_PACKAGES, self._namespace, key)
        except NotFoundError:
            return None
        return parse_package(body)

    async def observe(self, key: str, now: datetime, monotonic: float) -> Observation | None:
        """Return the observation, or None if the object is gone. `monotonic` is the present time of that clock.

        The object is read again after its Jobs: a Job is judged by a status that is not older than itself.
        """
        package = await self.read(key)
        if package is None:
            return None
        if package.status.attempts == 0:
            return Observation(package, has_capacity=self._has_capacity())
        owned = f"{identity.LABEL_OWNER}={package.metadata.uid}"
        selector = f"{owned},{identity.LABEL_COMPONENT}={identity.COMPONENT_PACKAGER}"
        jobs = tuple(read_job(job) for job in await self._kubernetes.list_all(JOBS, self._namespace, labels=selector))
        if jobs:
            package = await self.read(key)
            if package is None:
                return None
        attempt = package.status.attempt
        pods: tuple[PodView, ...] = ()
        if attempt is not None and attempt.job is not None and attempt.failure is None:
            mine = f"{selector},{identity.LABEL_ATTEMPT}={attempt.number}"
            pods = tuple(read_pod(pod) for pod in await self._kubernetes.list_all(PODS, self._namespace, labels=mine))
        tracked = self._in_flight.tracked(key, package.metadata.uid, attempt.number if attempt is not None else 0)
        return Observation(
            package=package,
            jobs=jobs,
            pods=pods,
            order_present=await self._order_present(package, attempt),
            export=tracked.export_seen(package, now, monotonic),
            holder=tracked.holder,
            held_since=tracked.held_since,
            has_capacity=self._has_capacity(),
            benchling_back=self._recovery.since,
            credential_version=self._recovery.version,
        )

    async def _order_present(self, package: EntryPackage, attempt: Attempt | None) -> bool:
        if attempt is None or attempt.order_digest is None or attempt.job is not None or attempt.failure is not None:
            return False
        return await self._order_secrets.is_complete(package, attempt)


def parse_package(body: object) -> EntryPackage:
    """Return an EntryPackage; raises `UnreadableObjectError`."""
    try:
        return EntryPackage.model_validate(body)
    except ValidationError as error:
        where = ", ".join(".".join(str(part) for part in item["loc"]) for item in error.errors()[:5])
        raise UnreadableObjectError(f"this release cannot read {where}") from None
