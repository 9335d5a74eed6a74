"""When an export is polled next, and what a failed call to Benchling does to that time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from controller.decisions.conditions import Blocked
from controller.decisions.polling import next_poll_delay, polls_per_second, stretch_for
from controller.reconciler.status_store import current_attempt

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from controller.benchling.client import BenchlingClient
    from controller.benchling.errors import BenchlingFailure
    from controller.reconciler.exports_in_flight import ExportsInFlight
    from controller.reconciler.outcomes import Outcomes
    from controller.reconciler.status_store import StatusStore
    from entrypackage.resource import EntryPackage

OUTAGE_PAUSE_SECONDS: Final = 5.0
"""The shortest pause after a failed poll, before jitter."""


@dataclass(slots=True)
class PollSchedule:
    """Sets the time of each export's next poll, so that all polls together stay within their share of the budget."""

    store: StatusStore
    benchling: BenchlingClient
    in_flight: ExportsInFlight
    outcomes: Outcomes
    random: Random
    monotonic: Callable[[], float]
    _last_stretch: float = 1.0
    _stretched_at: float = float("-inf")

    def schedule_poll(self, package: EntryPackage) -> None:
        """Set the time of the next poll by the age of the export."""
        tracked, export = self.store.tracked(package), current_attempt(package).export
        age = (datetime.now(UTC) - export.intent_time).total_seconds() if export is not None else 0.0
        tracked.next_poll = self.monotonic() + next_poll_delay(max(0.0, age), self.random.random(), self._stretch())

    async def handle_failed_poll(self, package: EntryPackage, failure: BenchlingFailure) -> bool:
        """Keep the attempt through an outage, because the export goes on meanwhile; any other failure ends it.

        Returns whether anything except the time of the next poll has changed.
        """
        if not failure.policy.is_outage:
            await self.outcomes.fail(package, failure.failure, failure.message)
            return True
        tracked = self.store.tracked(package)
        self.schedule_poll(package)
        pause = max(failure.retry_after_seconds or 0.0, OUTAGE_PAUSE_SECONDS) * self.random.uniform(1.0, 1.5)
        tracked.next_poll = max(tracked.next_poll or 0.0, self.monotonic() + pause)
        blocked = Blocked(failure.failure, f"{failure.message} {failure.policy.remedy}")
        changed = tracked.blocked is None or tracked.blocked.reason != blocked.reason
        if changed:
            tracked.blocked = blocked
        return changed

    def _stretch(self) -> float:
        """Return the factor that keeps all polls within their share; it is computed at most once a second."""
        now = self.monotonic()
        if now - self._stretched_at >= 1.0:
            rate = self.benchling.numbers.rate
            ages = self.in_flight.export_ages(datetime.now(UTC))
            self._last_stretch = stretch_for(ages, polls_per_second(rate.limit, self.benchling.settings.period_seconds))
            self._stretched_at = now
        return self._last_stretch
