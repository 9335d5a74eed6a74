"""Writes the status. A decision is written over the version it is based on; a result is retried until it is written."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from controller.decisions.conditions import summarize
from controller.reconciler.observe import parse_package
from entrypackage.backoff import Backoff
from entrypackage.kubernetes import (
    ENTRY_PACKAGES,
    ConflictError,
    KubernetesError,
    NotFoundError,
    UnreachableError,
)
from entrypackage.resource import API_VERSION, KIND

if TYPE_CHECKING:
    from collections.abc import Callable

    from controller.reconciler.exports_in_flight import ExportsInFlight, TrackedExport
    from entrypackage.kubernetes import Kubernetes
    from entrypackage.resource import Attempt, EntryPackage, Status

_UNREACHABLE: Final = Backoff(base_seconds=0.1, cap_seconds=5.0)
"""Without jitter: the one leader is the only one that writes the status."""


class StaleError(Exception):
    """A result belongs to an attempt that is no longer the current one, so it is dropped."""


@dataclass(frozen=True, slots=True)
class StatusStore:
    """Writes the status of EntryPackages in one namespace."""

    kubernetes: Kubernetes
    namespace: str
    in_flight: ExportsInFlight

    def tracked(self, package: EntryPackage) -> TrackedExport:
        """Return the leader's memory of the object's attempt."""
        attempt = package.status.attempt
        return self.in_flight.tracked(
            package.metadata.name, package.metadata.uid, attempt.number if attempt is not None else 0
        )

    async def put(self, package: EntryPackage, status: Status) -> EntryPackage:
        """Write a complete status over the version that `package` was read at, and return the object as written.

        Raises `ConflictError` if the object has another version.
        """
        metadata = package.metadata
        body = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {
                "name": metadata.name,
                "namespace": metadata.namespace,
                "uid": metadata.uid,
                "resourceVersion": metadata.resource_version,
            },
            "spec": package.spec.model_dump(mode="json", by_alias=True, exclude_none=True),
            "status": status.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True),
        }
        answer = await self.kubernetes.replace_status(ENTRY_PACKAGES, self.namespace, metadata.name, body)
        written = parse_package(answer)
        self.in_flight.record_write(metadata.name, written.metadata.resource_version)
        return written

    async def decide(self, package: EntryPackage, status: Status) -> EntryPackage:
        """Write a status with the conditions that follow from it; a `ConflictError` gives the decision up."""
        return await self.put(package, summarize(package.model_copy(update={"status": status}), datetime.now(UTC)))

    async def record(self, package: EntryPackage, change: Callable[[Status], Status]) -> EntryPackage:
        """Write a result, again after each conflict or outage, as long as attempt and intent are the same.

        Raises `StaleError` when they are not.
        """
        current, failures = package, 0
        while True:
            try:
                return await self.decide(current, change(current.status))
            except ConflictError:
                current = await self._same(package)
            except KubernetesError as error:
                if not error.may_pass:
                    raise
                failures += 1
                await asyncio.sleep(_UNREACHABLE.ceiling_seconds(failures))
                with contextlib.suppress(UnreachableError):
                    current = await self._same(package)

    async def _same(self, package: EntryPackage) -> EntryPackage:
        """Return the object read anew; raises `StaleError` unless uid, attempt, intent and outcome are the same."""
        try:
            body = await self.kubernetes.get(ENTRY_PACKAGES, self.namespace, package.metadata.name)
        except NotFoundError:
            raise StaleError(f"{package.metadata.name} is gone") from None
        current = parse_package(body)
        if _identity(current) != _identity(package):
            raise StaleError(f"attempt {package.status.attempts} of {package.metadata.name} is over")
        return current


def _identity(package: EntryPackage) -> tuple[object, ...]:
    attempt = package.status.attempt
    intent = attempt.export.intent_time if attempt is not None and attempt.export is not None else None
    failure = attempt.failure if attempt is not None else None
    return (package.metadata.uid, attempt.number if attempt is not None else None, intent, failure)


def current_attempt(package: EntryPackage) -> Attempt:
    """Return the attempt in progress; raises ValueError if there is none."""
    if package.status.attempt is None:
        raise ValueError("there is no attempt")
    return package.status.attempt
