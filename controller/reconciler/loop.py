"""The loop: take a key, observe, plan and execute until nothing is left to do except wait."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from controller import metrics
from controller.decisions.plan import CAPACITY_SECONDS, Wait, plan
from controller.reconciler.observe import UnreadableObjectError
from controller.reconciler.status_store import StaleError
from controller.watch.feed import urgency_of
from controller.watch.lease import NotLeadingError
from entrypackage.kubernetes import ConflictError, KubernetesError

if TYPE_CHECKING:
    from controller.decisions.plan import Observation
    from controller.reconciler.execute import Executor
    from controller.reconciler.exports_in_flight import ExportsInFlight
    from controller.reconciler.observe import Observer
    from controller.settings import ControllerSettings
    from controller.watch.work_queue import WorkQueue

log = logging.getLogger(__name__)

STEPS: Final = 24
"""More steps in one visit than any attempt has; a visit that needs more is a defect."""
CONFLICT_SECONDS: Final = 0.2
BACKOFF_SECONDS: Final = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Until the next visit, by how many visits to the object have failed in a row."""


@dataclass(slots=True)
class Reconciler:
    """Visits the objects whose keys the queue gives, while this process leads."""

    queue: WorkQueue
    observer: Observer
    executor: Executor
    in_flight: ExportsInFlight
    settings: ControllerSettings
    _failures: dict[str, int] = field(default_factory=dict)
    _visits: set[asyncio.Future[None]] = field(default_factory=set)
    _draining: bool = False

    async def run(self) -> None:
        """Run the workers until cancelled; raises an exception group with `NotLeadingError` when the Lease is lost."""
        async with asyncio.TaskGroup() as workers:
            for _ in range(self.settings.workers):
                workers.create_task(self._work())

    async def drain(self) -> None:
        """Take no more keys, and return when no visit is under way."""
        self._draining = True
        while self._visits:
            await asyncio.wait(set(self._visits))

    async def _work(self) -> None:
        while True:
            key = await self.queue.take()
            if self._draining:
                return
            visit = asyncio.ensure_future(self._visit(key))
            self._visits.add(visit)
            try:
                await visit
            finally:
                self._visits.discard(visit)
                self.queue.done(key)
                metrics.QUEUE_DEPTH.set(len(self.queue))

    async def _visit(self, key: str) -> None:
        """Visit one object. Most failures lead to a later visit; only the loss of the Lease is raised."""
        started = time.monotonic()
        try:
            await self._reconcile(key)
            self._failures.pop(key, None)
            metrics.RECONCILES.labels("done").inc()
        except NotLeadingError:
            raise
        except (ConflictError, StaleError) as overtaken:
            metrics.RECONCILES.labels("overtaken").inc()
            log.debug("overtaken", extra={"entrypackage": key, "why": str(overtaken)})
            self.queue.add(key, delay=CONFLICT_SECONDS)
        except UnreadableObjectError as unreadable:
            metrics.RECONCILES.labels("unreadable").inc()
            log.error("not readable", extra={"entrypackage": key, "why": str(unreadable)})  # noqa: TRY400
        except KubernetesError as error:
            metrics.RECONCILES.labels("kubernetes").inc()
            log.warning("the API server refused or was away", extra={"entrypackage": key, "why": str(error)})
            self._retry_later(key)
        except Exception:
            # A defect in the handling of one object must not end the work on all others.
            metrics.RECONCILES.labels("defect").inc()
            log.exception("a defect", extra={"entrypackage": key})
            self._retry_later(key)
        finally:
            metrics.RECONCILE_SECONDS.observe(time.monotonic() - started)

    def _retry_later(self, key: str) -> None:
        count = self._failures.get(key, 0)
        self._failures[key] = count + 1
        self.queue.add(key, delay=BACKOFF_SECONDS[min(count, len(BACKOFF_SECONDS) - 1)])

    async def _reconcile(self, key: str) -> None:
        if self._waits_for_capacity(key) or await self._poll_only(key):
            return
        last = self.in_flight.polled_only(key)
        self.in_flight.invalidate(key)
        for _ in range(STEPS):
            now = datetime.now(UTC)
            seen = await self.observer.observe(key, now, time.monotonic())
            if seen is None:
                if last is not None and last.polled_package is not None:
                    self.executor.forget(last.polled_package)
                self.in_flight.forget(key)
                return
            action = plan(seen, now, self.settings.timing)
            if isinstance(action, Wait):
                self._wait(key, seen, action, now)
                return
            await self.executor.execute(action, seen)
        raise RuntimeError(f"{key} did not come to rest in {STEPS} steps")

    def _waits_for_capacity(self, key: str) -> bool:
        """Put back a key that waits only for capacity, without a request; return whether it was put back."""
        urgency = self.in_flight.urgency_waiting_for_capacity(key)
        if urgency is None or self.executor.exporting.has_capacity(self.in_flight.count_more_urgent(urgency)):
            return False
        self.queue.add(key, delay=CAPACITY_SECONDS, urgency=urgency)
        return True

    async def _poll_only(self, key: str) -> bool:
        """Poll the export if nothing else is due, without a request to the API server.

        Returns whether that sufficed; False if there is news or if more than a poll is due.
        """
        tracked = self.in_flight.polled_only(key)
        if tracked is None or tracked.polled_package is None or tracked.next_poll is None:
            return False
        attempt = tracked.polled_package.status.attempt
        if attempt is None or attempt.export is None or time.monotonic() < tracked.next_poll:
            return False
        age = (datetime.now(UTC) - attempt.export.intent_time).total_seconds()
        if age > self.settings.timing.export_deadline_seconds or await self.executor.poll(tracked.polled_package):
            return False
        self.queue.add(key, delay=max(0.0, tracked.next_poll - time.monotonic()))
        return True

    def _wait(self, key: str, seen: Observation, action: Wait, now: datetime) -> None:
        attempt = seen.package.status.attempt
        polling = (
            attempt is not None
            and attempt.failure is None
            and attempt.order_digest is None
            and seen.export.next_poll is not None
            and not seen.package.spec.suspend
        )
        if polling:
            tracked = self.in_flight.tracked(key, seen.package.metadata.uid, attempt.number if attempt else 0)
            tracked.polled_package = seen.package
        if action.for_capacity and not seen.jobs:
            self.in_flight.set_waiting_for_capacity(key, urgency_of(seen.package))
        if action.until is not None:
            delay = max(0.0, (action.until - now).total_seconds())
            self.queue.add(key, delay=delay, urgency=urgency_of(seen.package))
        metrics.EXPORTS_IN_FLIGHT.set(self.in_flight.count_polled())
