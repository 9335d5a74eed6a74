"""The client under load at Benchling's limits, in virtual time."""

from __future__ import annotations

import asyncio
from random import Random

from controller.benchling.client import BenchlingClient
from controller.benchling.priority import Priority
from tests.support.scripted_benchling import ScriptedBenchling, in_window, settings
from tests.support.small_controller import Attempts
from tests.support.virtual_time import run_virtual

EXPORTS = 200
EXPORT_LIMIT = 5
EXPORT_SECONDS = 20.0
READS = 4500
SWEEPS = 800


async def _flood(client: BenchlingClient, priority: Priority, calls: int, together: int) -> None:
    left = iter(range(calls))

    async def worker() -> None:
        for number in left:
            await client.get_entry(f"etr_{priority}{number}", priority=priority, deadline=7200.0)

    async with asyncio.TaskGroup() as group:
        for _ in range(together):
            group.create_task(worker())


def test_200_exports_at_the_limit() -> None:
    """None is lost, Benchling never has to refuse a rate, and the wall time is near what the budget allows.

    It takes long because every step of all that virtual time is carried out.
    """

    async def scenario() -> None:
        server = ScriptedBenchling(export_limit=EXPORT_LIMIT, export_seconds=EXPORT_SECONDS)
        async with BenchlingClient(settings(), transport=server, rng=Random(1)) as client:
            attempts = Attempts(client, Random(2))
            began = asyncio.get_running_loop().time()
            async with asyncio.TaskGroup() as group:
                for number in range(EXPORTS):
                    group.create_task(attempts.run(f"etr_{number}"))
                group.create_task(_flood(client, Priority.READ, READS, 100))
                group.create_task(_flood(client, Priority.SWEEP, SWEEPS, 20))
            seconds = asyncio.get_running_loop().time() - began
        requests = len(server.log)
        by_budget = requests / server.limit * server.period
        by_exports = EXPORTS / EXPORT_LIMIT * EXPORT_SECONDS
        least = max(by_budget, by_exports)
        rate_refused = [item for item in server.log if item.status == 429 and item.path != "/api/v2/exports"]
        export_refused = [item.at - began for item in server.log if item.status == 429 and item not in rate_refused]
        print(
            f"\n200 exports, bucket 300/30 s, export limit 5: {requests} requests in {seconds:.0f} s;"
            f" the budget's arithmetic {by_budget:.0f} s, the export limit's {by_exports:.0f} s,"
            f" ratio {seconds / least:.3f}"
        )
        print(f"429 for rate: {len(rate_refused)}; for exports at {[round(at) for at in export_refused]} s")
        for name, priority in (("READ", Priority.READ), ("SWEEP", Priority.SWEEP)):
            marks = [item.at - began for item in server.log if f"etr_{priority}" in item.path]
            per_minute = [sum(1 for at in marks if 60 * i <= at < 60 * (i + 1)) for i in range(6)]
            print(f"{name} served per minute while exports ran: {per_minute}, last at {max(marks):.0f} s")
            assert min(per_minute[: int(max(marks) // 60)]) > 0
        assert attempts.finished == EXPORTS
        assert len(server.exports) == EXPORTS
        assert not rate_refused
        assert [at for at in export_refused if at > server.period][3:] == []
        assert in_window([item.at for item in server.log], server.period) <= server.limit
        assert seconds <= 1.2 * least

    run_virtual(scenario())


def test_polls_never_take_more_than_half_of_the_budget() -> None:
    """Four hundred exports in flight leave room for other work.

    It takes long because each of them is polled to its end in virtual time.
    """

    async def scenario() -> None:
        server = ScriptedBenchling(export_seconds=900.0)
        async with BenchlingClient(settings(first_export_limit=400), transport=server, rng=Random(1)) as client:
            attempts = Attempts(client, Random(2))
            async with asyncio.TaskGroup() as group:
                for number in range(400):
                    group.create_task(attempts.run(f"etr_{number}"))
        polls = [item.at for item in server.log if item.path.startswith("/api/v2/tasks/")]
        most = in_window(polls, server.period)
        print(f"\n400 exports of 900 s: {len(polls)} polls, at most {most} in any 30 s")
        assert attempts.finished == 400
        assert most <= server.limit / 2
        assert server.count("/", status=429) == 0

    run_virtual(scenario())


def test_a_fresh_leader_takes_over_a_spent_window() -> None:
    """The former leader spent 290 of 300; the new one is never refused."""

    async def scenario() -> None:
        server = ScriptedBenchling()
        now = asyncio.get_running_loop().time()
        server.foreign[int(now // server.period)] = 290
        async with BenchlingClient(settings(), transport=server, rng=Random(1)) as client:
            await _flood(client, Priority.READ, 600, 100)
        refused = server.count("/", status=429)
        print(f"\na fresh leader in a window with 10 left: {refused} refusals in {len(server.log)} requests")
        assert refused == 0

    run_virtual(scenario())


def test_a_hidden_tenant_limit_is_survived() -> None:
    """Headers promise 300 per 30 s, the tenant gives 120: few refusals, and nothing is lost."""

    async def scenario() -> None:
        server = ScriptedBenchling(tenant_limit=120)
        async with BenchlingClient(settings(), transport=server, rng=Random(1)) as client:
            began = asyncio.get_running_loop().time()
            await _flood(client, Priority.READ, 1200, 200)
            seconds = asyncio.get_running_loop().time() - began
        refused = server.count("/", status=429)
        print(f"\nhidden limit of 120: {refused} refusals, {seconds:.0f} s for {1200 / 120 * 30:.0f} s of arithmetic")
        assert refused <= 0.06 * len(server.log)

    run_virtual(scenario())


def test_a_lowered_limit_is_followed() -> None:
    """Support lowers the limit to 60 in the middle: the client slows down without being refused much."""

    async def scenario() -> None:
        server = ScriptedBenchling()
        async with BenchlingClient(settings(), transport=server, rng=Random(1)) as client:
            flood = asyncio.create_task(_flood(client, Priority.READ, 500, 100))
            await asyncio.sleep(31.0)
            server.limit = 60
            await flood
        refused = server.count("/", status=429)
        print(f"\nlimit lowered from 300 to 60: {refused} refusals in {len(server.log)} requests")
        assert refused <= 3

    run_virtual(scenario())
