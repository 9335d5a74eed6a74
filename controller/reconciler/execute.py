"""Carries out the planned action. An intent is written before its effect, and objects that exist are adopted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self, assert_never

from controller import metrics
from controller.decisions import plan, transitions
from controller.reconciler.exporting import Exporting
from controller.reconciler.job_steps import JobSteps
from controller.reconciler.order_secrets import OrderSecrets
from controller.reconciler.outcomes import Outcomes
from controller.reconciler.poll_schedule import PollSchedule
from controller.reconciler.status_store import StatusStore
from entrypackage.kubernetes import JOBS

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from controller.benchling.client import BenchlingClient
    from controller.reconciler.events import EventRecorder
    from controller.reconciler.exports_in_flight import ExportsInFlight
    from controller.settings import ControllerSettings
    from entrypackage.kubernetes import Kubernetes
    from entrypackage.resource import EntryPackage


@dataclass(frozen=True, slots=True)
class Executor:
    """Carries out actions. Its Kubernetes client is guarded: nothing is written without the Lease."""

    store: StatusStore
    exporting: Exporting
    job_steps: JobSteps
    outcomes: Outcomes
    order_secrets: OrderSecrets

    @classmethod
    def assemble(
        cls,
        kubernetes: Kubernetes,
        benchling: BenchlingClient,
        settings: ControllerSettings,
        in_flight: ExportsInFlight,
        events: EventRecorder,
        random: Random,
        monotonic: Callable[[], float],
        credential_version: Callable[[], str],
    ) -> Self:
        """Return an executor with its parts; `random` gives jitter, `monotonic` is a clock in seconds."""
        store = StatusStore(kubernetes, settings.namespace, in_flight)
        order_secrets = OrderSecrets(kubernetes, settings.namespace)
        outcomes = Outcomes(store, order_secrets, events, settings.retry, random, credential_version)
        polls = PollSchedule(store, benchling, in_flight, outcomes, random, monotonic)
        exporting = Exporting(store, benchling, events, outcomes, polls)
        job_steps = JobSteps(store, benchling, settings, events, outcomes, order_secrets, polls, monotonic)
        return cls(store, exporting, job_steps, outcomes, order_secrets)

    async def execute(self, action: plan.Step, seen: plan.Observation) -> None:
        """Carry out one action.

        Raises `ConflictError` or `StaleError` if the object changed meanwhile, another `KubernetesError` if the action
        must be tried again.
        """
        package = seen.package
        metrics.ACTIONS.labels(type(action).__name__).inc()
        match action:
            case plan.WriteStatus():
                await self.store.put(package, action.status)
            case plan.BeginAttempt():
                await self.exporting.begin(package)
            case plan.ReuseExport():
                again = transitions.begin_again_with_same_export(package, datetime.now(UTC))
                await self.store.decide(package, again)
            case plan.RenewExport():
                await self.exporting.renew(package)
            case plan.RecordTask():
                await self.exporting.record_task(package, action.task)
            case plan.PollExport():
                await self.exporting.poll(package)
            case plan.MakeOrder():
                await self.job_steps.make_order(package)
            case plan.CreateJob():
                await self.job_steps.create_job(package)
            case plan.StorePackage():
                await self.outcomes.succeed(package, action.report)
            case plan.FailAttempt():
                self.forget(package)
                await self.outcomes.fail(
                    package, action.failure, action.message, touched=action.touched, progress=action.progress
                )
            case plan.DeleteJob():
                await self._delete_job(package, action)
            case _:
                assert_never(action)

    async def poll(self, package: EntryPackage) -> bool:
        """Poll the export; return whether anything except the time of the next poll has changed."""
        return await self.exporting.poll(package)

    def forget(self, package: EntryPackage) -> None:
        """Stop counting the export of an attempt that has failed or of an object that is gone."""
        attempt = package.status.attempt
        self.exporting.forget(attempt.export.task_id if attempt is not None and attempt.export is not None else None)

    async def _delete_job(self, package: EntryPackage, action: plan.DeleteJob) -> None:
        """Delete the order Secrets before the Job: after a crash in between, the Job still shows what to delete."""
        await self.order_secrets.delete(package, action.job.attempt)
        await self.store.kubernetes.delete(JOBS, self.store.namespace, action.job.name, uid=action.job.uid)
