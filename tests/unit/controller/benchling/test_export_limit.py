"""The export limit: learnt from refusals, climbing again, and fair to those that wait."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from controller.benchling.clock import LoopClock
from controller.benchling.errors import (
    Throttled,
)
from controller.benchling.export_limit import ExportSlots
from tests.support.virtual_time import run_virtual


def test_the_export_limit_is_learnt_and_climbs_again() -> None:
    """Refused at 5; nothing beyond is tried for two minutes; then the limit has risen and all of it is found."""

    async def scenario() -> None:
        slots = ExportSlots(LoopClock(), 10, Random(1).random)
        for number in range(5):
            await slots.take(1.0)
            slots.started(f"t{number}")
        await slots.take(1.0)
        slots.refused(None)
        assert slots.numbers.limit == 5
        with pytest.raises(Throttled):
            await slots.take(30.0)
        assert slots.free == 0
        slots.ended("t0")
        assert slots.free == 1
        await slots.take(1.0)
        slots.started("t5")
        await asyncio.sleep(200.0)
        for number in range(20):
            await slots.take(1.0)
            slots.started(f"u{number}")
        assert slots.numbers.limit == 25

    run_virtual(scenario())


def test_a_refusal_while_nothing_runs_waits_ever_longer() -> None:
    async def scenario() -> None:
        slots = ExportSlots(LoopClock(), 10, Random(1).random)
        began, tries = asyncio.get_running_loop().time(), 0
        while asyncio.get_running_loop().time() - began < 600:
            await slots.take(600.0)
            slots.refused(None)
            tries += 1
        assert tries < 25

    run_virtual(scenario())


def test_a_cancelled_caller_leaves_no_slot_taken() -> None:
    async def scenario() -> None:
        slots = ExportSlots(LoopClock(), 1, Random(1).random)
        await slots.take(1.0)
        waiting = asyncio.create_task(slots.take(100.0))
        await asyncio.sleep(1.0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        slots.unused()
        assert slots.numbers.running == 0
        assert slots.numbers.waiting == 0
        assert slots.free == 1

    run_virtual(scenario())


def test_exports_of_a_former_leader_count_and_forgotten_ones_do_not() -> None:
    async def scenario() -> None:
        slots = ExportSlots(LoopClock(), 2, Random(1).random)
        slots.seen_running("old-1")
        slots.seen_running("old-2")
        assert slots.free == 1  # one beyond the limit may be tried, since no refusal is known
        await asyncio.sleep(1900.0)
        await slots.take(1.0)
        assert slots.numbers.running == 1

    run_virtual(scenario())
