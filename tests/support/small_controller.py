"""What a controller does with the client, in small: attempts that wait, fail and come back as the table says."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from controller.benchling.errors import BenchlingFailure
from controller.benchling.models import TaskGone, TaskSucceeded
from controller.benchling.priority import Priority
from controller.decisions.polling import next_poll_delay, polls_per_second, stretch_for

if TYPE_CHECKING:
    from random import Random

    from controller.benchling.client import BenchlingClient


@dataclass
class Attempts:
    """Runs many attempts through one client: read the entry, export it, poll, read it again."""

    client: BenchlingClient
    rng: Random
    finished: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    retried_at: list[float] = field(default_factory=list)
    """When an attempt came back after a failure."""
    _ages: dict[str, float] = field(default_factory=dict)
    _stretch: tuple[float, float] = (float("-inf"), 1.0)
    _recovered: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.client.on_recovery(self._wake)

    async def run(self, entry_id: str) -> None:
        """Do one attempt to its end, however long it takes."""
        task: str | None = None
        failed = 0
        while True:
            try:
                task = task or await self._start(entry_id)
                failed = 0
                if await self._wait(task):
                    break
                task = None
            except BenchlingFailure as failure:
                failed += 1
                self.failures[failure.failure.value] += 1
                await self._back_off(failure, failed)
        self.finished += 1

    async def _start(self, entry_id: str) -> str:
        await self.client.get_entry(entry_id, priority=Priority.EXPORT)
        task = await self.client.start_export(entry_id, deadline=7200.0)
        self._ages[task] = self._now()
        return task

    async def _wait(self, task: str) -> bool:
        while True:
            age = self._now() - self._ages.setdefault(task, self._now())
            await asyncio.sleep(next_poll_delay(age, self.rng.random(), self._stretched()))
            seen = await self.client.get_task(task)
            if isinstance(seen, TaskSucceeded):
                await self.client.get_entry(task, priority=Priority.READ)
            if isinstance(seen, TaskSucceeded | TaskGone):
                del self._ages[task]
                return isinstance(seen, TaskSucceeded)

    def _stretched(self) -> float:
        """Return the factor by which polls are stretched, worked out once a second."""
        now = self._now()
        if now - self._stretch[0] >= 1.0:
            budget = self.client.numbers.rate
            allowed = polls_per_second(budget.limit, budget.period_seconds)
            self._stretch = (now, stretch_for((now - began for began in self._ages.values()), allowed))
        return self._stretch[1]

    async def _back_off(self, failure: BenchlingFailure, failed: int) -> None:
        """Wait as the table says; the end of an outage brings it forward, spread over ten seconds."""
        ceiling = failure.policy.backoff.ceiling_seconds(failed)
        pause = max(failure.retry_after_seconds or 0.0, ceiling * self.rng.uniform(0.5, 1.0))
        try:
            async with asyncio.timeout(pause):
                await self._recovered.wait()
            await asyncio.sleep(self.rng.uniform(0.0, 10.0))
        except TimeoutError:
            pass
        self.retried_at.append(self._now())

    def _wake(self) -> None:
        self._recovered.set()
        self._recovered = asyncio.Event()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
