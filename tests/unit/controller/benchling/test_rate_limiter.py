"""Waiting for the budget: order, cancelling, turning away."""

from __future__ import annotations

import asyncio

import pytest

from controller.benchling.clock import LoopClock
from controller.benchling.errors import CircuitOpen
from controller.benchling.priority import Priority
from controller.benchling.rate_limiter import Permit, RateLimiter
from controller.benchling.rate_window import RateWindow
from tests.support.virtual_time import run_virtual


def warm(limit: int = 30, concurrency: int = 4) -> RateLimiter:
    """Return a budget that has heard an answer already."""
    limiter = RateLimiter(LoopClock(), RateWindow(limit, 30.0, concurrency))
    limiter.window.accepted(LoopClock().now())
    return limiter


def test_callers_of_a_class_are_served_in_their_order() -> None:
    async def scenario() -> None:
        limiter = warm()
        served: list[int] = []

        async def caller(number: int) -> None:
            permit = await limiter.acquire(Priority.READ)
            served.append(number)
            permit.ended(None, accepted=True)

        await asyncio.gather(*(caller(number) for number in range(60)))
        assert served == list(range(60))
        assert sum(limiter.waiting.values()) == 0

    run_virtual(scenario())


def test_a_cancelled_caller_costs_nothing() -> None:
    """Cancelled while it waits, or in the very moment in which it is given its permit."""

    async def scenario() -> None:
        limiter = warm(concurrency=3)
        holder = await limiter.acquire(Priority.READ)
        waiting = asyncio.create_task(limiter.acquire(Priority.READ))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(0)
        assert limiter.waiting[Priority.READ] == 0
        granted = asyncio.create_task(limiter.acquire(Priority.READ))
        await asyncio.sleep(0)
        holder.ended(None, accepted=True)
        granted.cancel()
        with pytest.raises(asyncio.CancelledError):
            await granted
        assert limiter.window.in_flight == 0
        assert limiter.numbers().used == 1

    run_virtual(scenario())


def test_a_permit_tells_its_end_once() -> None:
    async def scenario() -> None:
        limiter = warm()
        permit = await limiter.acquire(Priority.READ)
        permit.ended(None, accepted=True)
        permit.unused()
        assert not permit.throttled(None, None, 0.5)
        assert limiter.window.in_flight == 0
        assert limiter.numbers().used == 1

    run_virtual(scenario())


def test_concurrency_is_bounded_and_two_places_are_kept_for_clicks() -> None:
    async def scenario() -> None:
        limiter = warm(limit=300, concurrency=8)
        reads = [asyncio.create_task(limiter.acquire(Priority.READ)) for _ in range(20)]
        await asyncio.sleep(0)
        assert limiter.window.in_flight == 6
        clicks = [await limiter.acquire(Priority.CLICK) for _ in range(2)]
        assert limiter.window.in_flight == 8
        assert all(isinstance(permit, Permit) for permit in clicks)
        for task in reads:
            task.cancel()
        await asyncio.gather(*reads, return_exceptions=True)

    run_virtual(scenario())


def test_turning_away_wakes_all_who_wait() -> None:
    async def scenario() -> None:
        limiter = warm(concurrency=3)
        held = await limiter.acquire(Priority.READ)
        waiting = [asyncio.create_task(limiter.acquire(priority)) for priority in Priority if priority != "click"]
        await asyncio.sleep(0)
        limiter.turn_away(lambda: CircuitOpen(30.0))
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(result, CircuitOpen) for result in results)
        held.ended(None, accepted=True)
        assert limiter.window.in_flight == 0

    run_virtual(scenario())
