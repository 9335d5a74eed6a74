"""The end of attempts: a package is stored or a failure recorded, and both are announced."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from controller import metrics
from controller.decisions import transitions
from entrypackage.conditions import Reason
from entrypackage.failures import POLICIES

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from controller.benchling.errors import BenchlingFailure
    from controller.reconciler.events import EventRecorder
    from controller.reconciler.order_secrets import OrderSecrets
    from controller.reconciler.status_store import StatusStore
    from controller.settings import RetrySettings
    from entrypackage.failures import FailureClass
    from entrypackage.order import Report
    from entrypackage.resource import EntryPackage, Status

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Writes the outcomes of attempts and announces them in Events, metrics and logs."""

    store: StatusStore
    order_secrets: OrderSecrets
    events: EventRecorder
    retry: RetrySettings
    random: Random
    credential_version: Callable[[], str]

    async def succeed(self, package: EntryPackage, report: Report) -> None:
        """Store the package that a report names."""
        packed = report.package
        if packed is None:
            raise ValueError("a successful report names its package")
        package = await self.store.record(
            package, lambda status: transitions.succeed(status, report, packed, datetime.now(UTC), self.retry)
        )
        past = package.status.history[0]
        metrics.ATTEMPTS.labels(past.reason).inc()
        metrics.PACKAGED_BYTES.inc(packed.bytes)
        if past.export_seconds is not None:
            metrics.STAGE_SECONDS.labels("export").observe(past.export_seconds)
        if past.pack_seconds is not None:
            metrics.STAGE_SECONDS.labels("pack").observe(past.pack_seconds)
        log.info("packaged", extra={"entrypackage": package.metadata.name, "attempt": past.number, "uri": packed.uri})
        await self.events.post(package, past.reason, f"{packed.files} files at {packed.uri}")
        for notice in report.notices:
            await self.events.post(package, Reason.NOTICE, notice, warning=True)

    async def fail(
        self, package: EntryPackage, failure: FailureClass, message: str, *, touched: bool = False, progress: int = 0
    ) -> None:
        """End the attempt as failed. An order without a Job is deleted here, another one together with its Job."""
        package = await self.store.record(
            package, lambda status: self._failed(status, failure, message, touched=touched, progress=progress)
        )
        await self._announce_failure(package)
        attempt = package.status.attempt
        if attempt is not None and attempt.order_digest is not None and attempt.job is None:
            await self.order_secrets.delete(package, attempt.number)

    def _failed(
        self, status: Status, failure: FailureClass, message: str, *, touched: bool = False, progress: int = 0
    ) -> Status:
        spread = self.random.random()
        return transitions.fail(
            status,
            failure,
            message,
            datetime.now(UTC),
            self.retry,
            spread=spread,
            touched=touched,
            progress=progress,
            credentials=self.credential_version(),
        )

    async def _announce_failure(self, package: EntryPackage) -> None:
        attempt = package.status.attempt
        if attempt is None or attempt.failure is None:
            return
        metrics.ATTEMPTS.labels(attempt.failure.value).inc()
        log.warning(
            "attempt failed",
            extra={
                "entrypackage": package.metadata.name,
                "attempt": attempt.number,
                "reason": attempt.failure.value,
                "why": attempt.failure_message,
                "given_up": attempt.given_up,
            },
        )
        text = f"{attempt.failure_message} {POLICIES[attempt.failure].remedy}"
        await self.events.post(package, attempt.failure.value, text, warning=True)

    async def fail_unread(self, package: EntryPackage, failure: BenchlingFailure, now: datetime) -> None:
        """Begin an attempt and let it fail in one write, because the entry could not be read."""
        begun = transitions.begin(package, None, now)
        status = self._failed(begun, failure.failure, failure.message)
        await self._announce_failure(await self.store.decide(package, status))
