"""One token for everybody: fetched once, renewed ahead, vended again once, and never hammered for."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from controller.benchling.client import BenchlingClient
from controller.benchling.errors import AuthFailed, BenchlingFailure
from controller.benchling.settings import AppCredentials
from entrypackage.failures import FailureClass
from entrypackage.settings import SettingsError
from tests.support.scripted_benchling import ScriptedBenchling, gateway_page, problem, settings
from tests.support.virtual_time import run_virtual

if TYPE_CHECKING:
    import httpx

TOKEN = "/api/v2/token"


def test_a_thousand_calls_with_a_cold_token_ask_for_one() -> None:
    async def scenario() -> None:
        server = ScriptedBenchling(limit=5000, tenant_limit=10_000)
        async with BenchlingClient(settings(requests_per_period=5000), transport=server, rng=Random(1)) as client:
            await asyncio.gather(*(client.get_entry(f"etr_{number}") for number in range(1000)))
            assert server.count(TOKEN) == 1
            server.revoke_all()
            await asyncio.gather(*(client.get_entry(f"etr_{number}") for number in range(1000)))
            print(
                f"\n2,000 calls, cold and then revoked: {server.count(TOKEN)} token calls,"
                f" {server.count('/', status=401)} answers of 401"
            )
            assert server.count(TOKEN) == 2
            assert server.count("/", status=401) <= 32

    run_virtual(scenario())


def test_the_token_is_renewed_ahead_while_the_old_one_serves() -> None:
    """No call ever waits for a renewal or meets an expired token."""

    async def scenario() -> None:
        server = ScriptedBenchling(token_seconds=900.0)
        async with BenchlingClient(settings(), transport=server, rng=Random(1)) as client:
            for _ in range(40):
                began = asyncio.get_running_loop().time()
                await client.get_entry("etr_1")
                waited = asyncio.get_running_loop().time() - began
                assert waited <= (0.45 if _ == 0 else 0.25)
                await asyncio.sleep(45.0)
            assert server.count(TOKEN) == 3
            assert server.count("/", status=401) == 0

    run_virtual(scenario())


def test_tokens_that_live_two_seconds_work() -> None:
    async def scenario() -> None:
        server = ScriptedBenchling(token_seconds=2.0)
        async with BenchlingClient(settings(), transport=server, rng=Random(1)) as client:
            for _ in range(10):
                await client.get_entry("etr_1")
                await asyncio.sleep(1.5)
            assert server.count("/", status=401) == 0

    run_virtual(scenario())


def test_a_wrong_secret_is_an_auth_failure_without_hammering() -> None:
    """Twenty callers for an hour: a dozen token requests, and the remedy names the Secret."""

    async def scenario() -> None:
        server = ScriptedBenchling(client_secret="another")
        async with BenchlingClient(settings(), transport=server, rng=Random(1)) as client:
            with pytest.raises(AuthFailed) as caught:
                await client.get_entry("etr_1")
            assert caught.value.failure is FailureClass.AUTH_FAILED
            assert "Secret" in caught.value.policy.remedy
            for _ in range(360):
                results = await asyncio.gather(
                    *(client.get_entry(f"etr_{number}") for number in range(20)), return_exceptions=True
                )
                assert all(isinstance(result, AuthFailed) for result in results)
                await asyncio.sleep(10.0)
            print(f"\nwrong secret, 7,200 calls in an hour: {len(server.log)} requests")
            assert server.count(TOKEN) == len(server.log)
            assert len(server.log) <= 20

    run_virtual(scenario())


def test_corrected_credentials_are_used_at_once() -> None:
    """After a refusal the files are read again for every call, so a corrected Secret ends the hold."""

    async def scenario() -> None:
        server = ScriptedBenchling(client_secret="new")
        current = AppCredentials("client", SecretStr("old"))
        async with BenchlingClient(settings(credentials=lambda: current), transport=server, rng=Random(1)) as client:
            with pytest.raises(AuthFailed):
                await client.get_entry("etr_1")
            current = AppCredentials("client", SecretStr("new"))
            assert (await client.get_entry("etr_1")).id == "etr_1"
            assert server.count(TOKEN) == 2

    run_virtual(scenario())


def test_credentials_that_changed_meanwhile_are_read_again_before_failing() -> None:
    """The Secret was rotated and the file followed between reading and asking."""

    async def scenario() -> None:
        server = ScriptedBenchling(client_secret="new")
        reads = iter(["old", "new", "new"])
        source = lambda: AppCredentials("client", SecretStr(next(reads)))  # noqa: E731
        async with BenchlingClient(settings(credentials=source), transport=server, rng=Random(1)) as client:
            assert (await client.get_entry("etr_1")).id == "etr_1"
            assert server.count(TOKEN) == 2

    run_virtual(scenario())


def test_missing_credential_files_are_an_auth_failure() -> None:
    def unreadable() -> AppCredentials:
        raise SettingsError("The file client_secret cannot be read: is the Secret there and mounted?")

    async def scenario() -> None:
        server = ScriptedBenchling()
        async with BenchlingClient(settings(credentials=unreadable), transport=server, rng=Random(1)) as client:
            with pytest.raises(AuthFailed, match="mounted"):
                await client.get_entry("etr_1")
        assert server.log == []

    run_virtual(scenario())


def test_an_app_whose_tokens_are_refused_is_not_asked_for_token_after_token() -> None:
    """Token calls succeed but every use of a token is a 401, as for a deactivated app."""

    async def scenario() -> None:
        server = ScriptedBenchling()
        server.faults.append(
            lambda request, _now: (
                None if request.url.path == TOKEN else problem(401, "authentication_error", "Failed to authenticate")
            )
        )
        async with BenchlingClient(settings(), transport=server, rng=Random(1)) as client:
            for _ in range(360):
                results = await asyncio.gather(
                    *(client.get_entry(f"etr_{number}") for number in range(20)), return_exceptions=True
                )
                assert all(isinstance(result, AuthFailed) for result in results)
                await asyncio.sleep(10.0)
            tokens = server.count(TOKEN)
            print(f"\nrefused tokens, 7,200 calls in an hour: {tokens} token calls, {len(server.log)} requests")
            assert tokens <= 20
            assert len(server.log) <= tokens * 21

    run_virtual(scenario())


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (lambda: gateway_page(503), FailureClass.PROVIDER_DOWN),
        (lambda: gateway_page(200), FailureClass.PROVIDER_DOWN),
        (lambda: problem(429, "invalid_request_error", "Rate limit exceeded."), FailureClass.THROTTLED),
        (lambda: problem(400, "unsupported_grant_type", "No"), FailureClass.PROVIDER_REJECTED),
        (lambda: problem(400, "unauthorized_client", "No"), FailureClass.AUTH_FAILED),
        (lambda: problem(200, "none", "No"), FailureClass.ANSWER_UNREADABLE),
    ],
)
def test_whatever_the_token_endpoint_answers_is_a_class_of_the_table(answer: object, expected: FailureClass) -> None:
    def only_tokens(request: httpx.Request, _now: float) -> httpx.Response | None:
        return answer() if request.url.path == TOKEN else None  # type: ignore[operator]

    async def scenario() -> None:
        server = ScriptedBenchling(faults=[only_tokens])
        async with BenchlingClient(settings(), transport=server, rng=Random(1)) as client:
            with pytest.raises(BenchlingFailure) as caught:
                await client.get_entry("etr_1", deadline=30.0)
            assert caught.value.failure is expected

    run_virtual(scenario())


def test_a_caller_that_gives_up_does_not_stop_the_others() -> None:
    async def scenario() -> None:
        server = ScriptedBenchling(latency=5.0)
        async with BenchlingClient(settings(), transport=server, rng=Random(1)) as client:
            first = asyncio.create_task(client.get_entry("etr_1"))
            await asyncio.sleep(1.0)
            second = asyncio.create_task(client.get_entry("etr_2"))
            await asyncio.sleep(1.0)
            first.cancel()
            assert (await second).id == "etr_2"
            assert server.count(TOKEN) == 1

    run_virtual(scenario())
