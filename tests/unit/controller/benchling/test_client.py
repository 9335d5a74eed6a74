"""Nothing secret gets out: every secret here carries a mark, and the mark must not be seen anywhere but in requests."""

from __future__ import annotations

import io
import logging
import traceback
from random import Random
from typing import TYPE_CHECKING, Any

import httpx
from pydantic import SecretStr

from controller.benchling.client import BenchlingClient
from controller.benchling.errors import BenchlingFailure
from controller.benchling.settings import AppCredentials
from tests.support.scripted_benchling import ScriptedBenchling, problem, settings
from tests.support.virtual_time import run_virtual

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

    from controller.benchling.request_sender import CallRecord

MARK = "LEAKMARK"


def _answers() -> Iterator[httpx.Response | Exception]:
    link = f"https://sso.invalid/?token={MARK}"
    yield httpx.Response(302, headers={"location": link, "set-cookie": f"session={MARK}"})
    yield problem(400, "invalid_request_error", f"see https://x.invalid/file?X-Amz-Signature={MARK} please")
    yield problem(500, "api_error", f"token eyJhbGciOi.{MARK}.xyz broke, Bearer {MARK}abcdefgh")
    yield httpx.Response(200, content=f"<html>{MARK}</html>".encode(), headers={"content-type": "text/html"})
    yield httpx.Response(200, json={"entry": {"id": [MARK]}})
    yield httpx.Response(200, json={"externalFile": {"downloadURL": {"x": MARK}, "id": 1}})
    yield httpx.Response(
        200, json={"status": "SUCCEEDED", "response": {"downloadURL": f"https://s3.invalid/a?s={MARK}"}}
    )
    yield httpx.ConnectError(f"could not connect to https://x.invalid/?key={MARK}")
    yield httpx.ReadError(f"https://x.invalid/?key={MARK}")


def test_no_mark_in_logs_at_debug_nor_in_errors_metrics_or_values(caplog: pytest.LogCaptureFixture) -> None:
    stream = io.StringIO()
    raw = logging.StreamHandler(stream)
    root = logging.getLogger()
    root.addHandler(raw)
    caplog.set_level(logging.DEBUG)
    shown: list[str] = []
    records: list[CallRecord] = []
    tokens: set[str] = set()

    async def scenario() -> None:
        server = ScriptedBenchling(client_secret=f"{MARK}-secret")
        credentials = AppCredentials("client", SecretStr(f"{MARK}-secret"))
        client = BenchlingClient(
            settings(credentials=lambda: credentials, max_tries=2),
            transport=server,
            rng=Random(1),
            observer=records.append,
        )
        async with client:
            calls: list[Any] = [
                lambda: client.get_entry("etr_1"),
                lambda: client.external_file("etr_1", "f"),
                lambda: client.start_export("etr_1"),
                lambda: client.get_task("task-1"),
            ]
            for call in calls:
                await _show(call, shown)
            for answer in _answers():
                server.faults[:] = [_but_tokens(answer)]
                for call in calls:
                    await _show(call, shown)
            shown.append(repr(client.numbers))
            shown.append(repr(credentials))
            shown.append(repr(client.settings))
        tokens.update(item.authorization for item in server.log)

    try:
        run_virtual(scenario())
    finally:
        root.removeHandler(raw)
    assert any(MARK in token for token in tokens)
    assert len(records) >= 40
    for text in (*shown, stream.getvalue(), caplog.text, repr(records)):
        assert MARK not in text


def _but_tokens(answer: httpx.Response | Exception) -> Any:
    return lambda request, _now: None if request.url.path.endswith("/token") else answer


async def _show(call: Any, shown: list[str]) -> None:
    try:
        shown.append(repr(await call()))
    except BenchlingFailure as failure:
        shown.extend((str(failure), repr(failure), repr(failure.args), failure.message))
        shown.append("".join(traceback.format_exception(failure)))
