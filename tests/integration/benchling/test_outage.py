"""The client while Benchling is down, in virtual time."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from random import Random

import httpx
import pytest

from controller.benchling.breaker import BreakerState
from controller.benchling.client import BenchlingClient
from controller.benchling.errors import BenchlingFailure, CircuitOpen, ExportOutcomeUnknown
from controller.benchling.priority import Priority
from entrypackage.failures import FailureClass
from tests.support.scripted_benchling import ScriptedBenchling, gateway_page, problem, settings
from tests.support.small_controller import Attempts
from tests.support.virtual_time import run_virtual

ATTEMPTS = 1000
DOWN_FROM, DOWN_UNTIL = 20.0, 620.0
STORM_UNTIL = DOWN_UNTIL + 120.0


def test_an_outage_of_ten_minutes_with_1000_attempts() -> None:
    """503 pages for ten minutes, then two minutes of 429: hardly a request meanwhile, all done soon after.

    It takes long because a thousand attempts go through all of it in virtual time.
    """

    async def scenario() -> None:
        server = ScriptedBenchling(export_seconds=30.0)
        began = asyncio.get_running_loop().time()

        def trouble(_request: httpx.Request, now: float) -> httpx.Response | None:
            if DOWN_FROM <= now - began < DOWN_UNTIL:
                return gateway_page()
            if DOWN_UNTIL <= now - began < STORM_UNTIL:
                return problem(429, "invalid_request_error", "Rate limit exceeded.")
            return None

        server.faults.append(trouble)
        async with BenchlingClient(settings(first_export_limit=ATTEMPTS), transport=server, rng=Random(1)) as client:
            attempts = Attempts(client, Random(2))
            opened_at: list[float] = []
            watching = asyncio.create_task(_watch(client, began, opened_at))
            async with asyncio.TaskGroup() as group:
                for number in range(ATTEMPTS):
                    group.create_task(attempts.run(f"etr_{number}"))
            seconds = asyncio.get_running_loop().time() - began
            watching.cancel()
        moments = [item.at - began for item in server.log]
        while_open = [at for at in moments if opened_at[0] + 1.0 < at < STORM_UNTIL]
        after = [at for at in moments if at >= STORM_UNTIL]
        arithmetic = len(after) / server.limit * server.period
        back = sorted(at - began for at in attempts.retried_at if at - began > STORM_UNTIL)
        spread = back[int(len(back) * 0.95)] - back[int(len(back) * 0.05)]
        print(
            f"\noutage: breaker opened at {opened_at[0]:.1f} s; requests while open {len(while_open)} in"
            f" {STORM_UNTIL - opened_at[0]:.0f} s, closest pair"
            f" {min(b - a for a, b in pairwise(while_open)):.1f} s apart"
        )
        print(
            f"recovery: {len(after)} requests left = {arithmetic:.0f} s of budget; all done"
            f" {seconds - STORM_UNTIL:.0f} s after the end"
        )
        per_second = [sum(1 for at in after if i <= at - after[0] < i + 1) for i in range(30)]
        print(f"retries spread over {spread:.1f} s (5th to 95th of a hundred); requests per second {per_second}")
        print(
            f"failures that attempts saw: {dict(attempts.failures)}; possible orphans {client.numbers.possible_orphans}"
        )
        assert attempts.finished == ATTEMPTS
        assert all(b - a >= 29.0 for a, b in pairwise(while_open))
        assert seconds - STORM_UNTIL <= arithmetic + 60.0
        assert spread >= 5.0
        assert max(per_second) <= 45
        assert set(attempts.failures) <= {"ProviderDown", "Throttled"}

    run_virtual(scenario())


async def _watch(client: BenchlingClient, began: float, opened_at: list[float]) -> None:
    while True:
        if client.breaker.state is not BreakerState.CLOSED and not opened_at:
            opened_at.append(asyncio.get_running_loop().time() - began)
        await asyncio.sleep(0.05)


def test_an_open_breaker_fails_at_once_and_closes_after_one_probe() -> None:
    async def scenario() -> None:
        server = ScriptedBenchling()
        server.faults.append(lambda _request, now: gateway_page() if now < 1100.0 else None)
        recovered: list[float] = []
        async with BenchlingClient(settings(), transport=server, rng=Random(1)) as client:
            client.on_recovery(lambda: recovered.append(asyncio.get_running_loop().time()))
            with pytest.raises(BenchlingFailure) as caught:
                await client.get_entry("etr_1")
            assert caught.value.failure is FailureClass.PROVIDER_DOWN
            reading = client.breaker
            assert reading.state is BreakerState.OPEN
            assert 0 < reading.next_probe_seconds <= 36
            assert "503" in reading.reason
            requests = len(server.log)
            with pytest.raises(CircuitOpen) as open_now:
                await client.start_export("etr_1")
            assert len(server.log) == requests
            assert (open_now.value.retry_after_seconds or 0) > 0
            await asyncio.sleep(140.0)
            assert client.breaker.state is BreakerState.CLOSED
            assert len(recovered) == 1
            assert (await client.get_entry("etr_1")).id == "etr_1"

    run_virtual(scenario())


def test_callers_that_wait_when_the_breaker_opens_are_told_at_once() -> None:
    async def scenario() -> None:
        server = ScriptedBenchling(latency=1.0)
        async with BenchlingClient(settings(concurrency=8), transport=server, rng=Random(1)) as client:
            await client.get_entry("etr_0")
            server.faults.append(lambda _request, _now: gateway_page())
            began = asyncio.get_running_loop().time()
            results = await asyncio.gather(
                *(client.get_entry(f"etr_{number}") for number in range(200)), return_exceptions=True
            )
            assert all(isinstance(result, BenchlingFailure) for result in results)
            assert asyncio.get_running_loop().time() - began < 30.0
            assert len(server.log) < 60

    run_virtual(scenario())


@pytest.mark.parametrize("after_effect", [False, True])
def test_a_cut_connection_leaves_at_most_one_orphan_each(after_effect: bool) -> None:
    """POST /exports whose connection breaks is never sent again by the client, and each is counted."""

    async def scenario() -> None:
        server = ScriptedBenchling(export_seconds=5.0)
        cuts = 20
        broken: set[str] = set()

        def cut(request: httpx.Request, now: float) -> Exception | None:
            name = request.content.decode()
            if request.url.path != "/api/v2/exports" or name in broken or len(broken) >= cuts:
                return None
            broken.add(name)
            if after_effect:
                server.exports[f"orphan-{len(broken)}"] = now
            return httpx.RemoteProtocolError("Server disconnected without sending a response.")

        server.faults.append(cut)
        async with BenchlingClient(settings(breaker_failures=10**6), transport=server, rng=Random(1)) as client:
            results = await asyncio.gather(
                *(client.start_export(f"etr_{number}") for number in range(50)), return_exceptions=True
            )
            unknown = [result for result in results if isinstance(result, ExportOutcomeUnknown)]
            posts = server.count("/api/v2/exports")
            orphans = sum(1 for task in server.exports if task.startswith("orphan"))
            print(
                f"\ncut {'after' if after_effect else 'before'} effect: {posts} POSTs for 50, {orphans} orphans,"
                f" {client.numbers.possible_orphans} counted"
            )
            assert len(unknown) == cuts
            assert all(failure.failure is FailureClass.PROVIDER_DOWN for failure in unknown)
            assert posts == 50
            assert client.numbers.possible_orphans == cuts
            assert orphans == (cuts if after_effect else 0)
            assert client.numbers.exports.running == 50 - cuts

    run_virtual(scenario())


@pytest.mark.parametrize(
    "answer",
    [
        lambda: gateway_page(502),
        lambda: gateway_page(503),
        lambda: problem(500, "api_error", "Oops"),
        lambda: httpx.Response(200, content=b"<html>", headers={"content-type": "text/html"}),
        lambda: httpx.Response(202, content=b'{"taskId": "abc'),
        lambda: httpx.Response(202, json={"task": 1}),
    ],
)
def test_an_export_is_not_asked_for_again_after_a_useless_answer(answer: object) -> None:
    async def scenario() -> None:
        server = ScriptedBenchling()
        server.faults.append(lambda request, _now: answer() if request.url.path.endswith("/exports") else None)  # type: ignore[operator]
        async with BenchlingClient(settings(), transport=server, rng=Random(1)) as client:
            with pytest.raises(ExportOutcomeUnknown):
                await client.start_export("etr_1")
            assert server.count("/api/v2/exports") == 1
            assert client.numbers.possible_orphans == 1

    run_virtual(scenario())


def test_an_export_is_asked_for_again_where_nothing_can_have_happened() -> None:
    """A refused connection and a 429 have no effect, so the client itself tries again."""

    async def scenario() -> None:
        server = ScriptedBenchling()
        answers: list[httpx.Response | Exception] = [
            httpx.ConnectError("All connection attempts failed"),
            problem(429, "invalid_request_error", "Rate limit exceeded."),
            httpx.ConnectTimeout(""),
        ]
        server.faults.append(
            lambda request, _now: answers.pop(0) if answers and request.url.path.endswith("/exports") else None
        )
        async with BenchlingClient(settings(), transport=server, rng=Random(1)) as client:
            task = await client.start_export("etr_1", priority=Priority.CLICK)
            assert task in server.exports
            assert client.numbers.possible_orphans == 0
            assert len(server.exports) == 1

    run_virtual(scenario())
