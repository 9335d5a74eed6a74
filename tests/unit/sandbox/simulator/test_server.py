"""The simulator on real sockets: broken transfers, webhooks with re-sends, control, and the command line."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from aiohttp import web

from sandbox.simulator.control import ControlRefused, TenantControl
from sandbox.simulator.server import BenchlingServer, CannotServe
from sandbox.simulator.settings import TenantAddresses, TenantSettings
from tests.support.waiting import elapse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@dataclass
class Receiver:
    """A webhook receiver that answers as it is told; 200 when it isn't."""

    answers: list[int] = field(default_factory=list)
    pause: float = 0.0
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""

    async def answer(self, request: web.BaseRequest) -> web.Response:
        body = await request.content.read()
        self.got.append(({name.lower(): value for name, value in request.headers.items()}, body))
        await elapse(self.pause)
        return web.Response(status=self.answers.pop(0) if self.answers else 200)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    runner = web.ServerRunner(web.Server(made.answer, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
async def server(receiver: Receiver) -> AsyncIterator[BenchlingServer]:
    settings = TenantSettings(
        webhook_url=receiver.url, webhook_retries="aggressive", retry_scale=0.1, ack_real_seconds=0.5, export_seconds=0
    )
    async with BenchlingServer(settings) as running:
        yield running


@pytest.fixture
async def control(server: BenchlingServer) -> AsyncIterator[TenantControl]:
    async with TenantControl(server.control_url) as made:
        yield made


async def _download_url(server: BenchlingServer, entry: str) -> str:
    ready = server.ready()
    async with httpx.AsyncClient() as http:
        login = (str(ready["clientId"]), str(ready["clientSecret"]))
        token = await http.post(f"{ready['api']}/token", data={"grant_type": "client_credentials"}, auth=login)
        http.headers["authorization"] = f"Bearer {token.json()['access_token']}"
        task = (await http.post(f"{ready['api']}/exports", json={"id": entry})).json()["taskId"]
        body = (await http.get(f"{ready['api']}/tasks/{task}")).json()
    return str(body["response"]["downloadURL"])


async def _fetch(url: str) -> tuple[httpx.Headers, bytes, str | None]:
    """Headers, what came of the body, and the name of the error that ended it."""
    got = bytearray()
    async with httpx.AsyncClient() as http, http.stream("GET", url) as answer:
        try:
            async for piece in answer.aiter_raw():
                got += piece
        except httpx.TransportError as problem:
            return answer.headers, bytes(got), type(problem).__name__
        return answer.headers, bytes(got), None


async def test_archives_come_from_another_origin(server: BenchlingServer, control: TenantControl) -> None:
    entry = await control.create_entry(attachments=[{"name": "raw.bin", "size": 3_000_000}])
    url = await _download_url(server, entry["id"])
    ready = server.ready()
    assert url.startswith(str(ready["archives"]))
    assert str(ready["archives"]).partition(":")[2] != str(ready["tenant"]).partition(":")[2]
    headers, body, problem = await _fetch(url)
    assert problem is None
    assert len(body) == int(headers["content-length"]) > 3_000_000


@pytest.mark.parametrize(
    ("fault", "options", "share", "broken"),
    [
        ("archive_cut", {"bytes": 1_000_000}, (0.2, 0.4), True),
        ("archive_wrong_length", {"bytes": 5000}, (0.9, 1.0), True),
        ("archive_no_length", {}, (1.0, 1.0), False),
    ],
)
async def test_broken_transfers(
    server: BenchlingServer, control: TenantControl, fault: str, options: dict[str, Any], share: tuple[float, float],
    broken: bool,
) -> None:  # fmt: skip
    entry = await control.create_entry(attachments=[{"name": "raw.bin", "size": 3_000_000}])
    url = await _download_url(server, entry["id"])
    _headers, good, _problem = await _fetch(url)
    await control.set_fault(fault, times=1, **options)
    headers, body, problem = await _fetch(url)
    assert (problem is not None) is broken
    assert share[0] <= len(body) / len(good) <= share[1]
    assert good.startswith(body)
    assert ("content-length" in headers) is (fault != "archive_no_length")


async def test_a_reset_before_the_answer(server: BenchlingServer, control: TenantControl) -> None:
    await control.set_fault("jwks_cut", times=1)
    async with httpx.AsyncClient() as http:
        with pytest.raises(httpx.TransportError):
            await http.get(str(server.ready()["jwks"]))
        assert (await http.get(str(server.ready()["jwks"]))).status_code == 200


async def test_re_sends_keep_the_id_and_are_signed_anew(
    server: BenchlingServer, control: TenantControl, receiver: Receiver
) -> None:
    receiver.answers = [503, 302, 200]
    await control.create_entry()
    await server.simulator.sender.idle()
    assert len({headers["webhook-id"] for headers, _body in receiver.got}) == 1
    assert len({headers["webhook-signature"] for headers, _body in receiver.got}) == 3
    assert len({body for _headers, body in receiver.got}) == 1
    delivery = (await control.webhooks())[0]
    assert [attempt["status"] for attempt in delivery["attempts"]] == [503, 302, 200]
    assert delivery["state"] == "delivered"
    versions = [part.partition(",")[0] for part in receiver.got[0][0]["webhook-signature"].split(" ")]
    assert versions == ["v1b", "v1bder"]


async def test_a_late_acknowledgement_counts_as_none(
    server: BenchlingServer, control: TenantControl, receiver: Receiver
) -> None:
    receiver.pause = 5.0
    await control.route_webhooks(retries="none")
    await control.create_entry()
    await server.simulator.sender.idle()
    delivery = (await control.webhooks())[0]
    assert delivery["state"] == "failed"
    assert delivery["attempts"][0]["problem"] == "no answer within 0.5 s"


async def test_a_lost_answer_is_sent_again(server: BenchlingServer, control: TenantControl, receiver: Receiver) -> None:
    await control.set_fault("webhook_reset", times=1)
    await control.create_entry()
    await server.simulator.sender.idle()
    delivery = (await control.webhooks())[0]
    assert [attempt["problem"] for attempt in delivery["attempts"]] == ["dropped", None]
    assert len(receiver.got) == 2, "the receiver had the first one too"
    assert len({headers["webhook-id"] for headers, _body in receiver.got}) == 1


@pytest.mark.parametrize(("fault", "same_signature"), [("webhook_duplicate", False), ("webhook_replay", True)])
async def test_duplicates(
    server: BenchlingServer, control: TenantControl, receiver: Receiver, fault: str, same_signature: bool
) -> None:
    await control.set_fault(fault, times=1)
    await control.create_entry()
    await server.simulator.sender.idle()
    assert len(receiver.got) == 2
    assert len({headers["webhook-id"] for headers, _body in receiver.got}) == 1
    assert (len({headers["webhook-signature"] for headers, _body in receiver.got}) == 1) is same_signature


async def test_reordering_loses_nothing(server: BenchlingServer, control: TenantControl, receiver: Receiver) -> None:
    await control.set_fault("webhook_reorder", window=100)
    entries = await control.create_entries(20)
    assert receiver.got == []
    assert await control.release_webhooks() == 20
    await server.simulator.sender.idle()
    sent = [delivery["subject"] for delivery in await control.webhooks()]
    assert sent != [entry["id"] for entry in entries]
    assert sorted(sent) == sorted(entry["id"] for entry in entries)
    assert len(receiver.got) == 20


async def test_a_burst_is_delivered_and_measured(
    server: BenchlingServer, control: TenantControl, receiver: Receiver
) -> None:
    await control.burst(events=300, entries=10, seconds=0.3)
    await server.simulator.sender.idle()
    counters = await control.counters()
    assert len({headers["webhook-id"] for headers, _body in receiver.got}) == 300
    assert counters["webhooks"]["delivered"] == 300
    assert 0 < counters["webhooks"]["ack"]["p50"] <= counters["webhooks"]["ack"]["p99"]


async def test_mistakes_get_a_sentence(control: TenantControl) -> None:
    with pytest.raises(ControlRefused, match="did you mean api_503"):
        await control.set_fault("api503")
    with pytest.raises(ControlRefused, match="no entry 'etr_x'"):
        await control.edit_entry("etr_x")
    with pytest.raises(ControlRefused, match="did you mean zip-slip"):
        await control.set_fault("archive_gallery", name="zipslip")
    with pytest.raises(ControlRefused, match="api_503 has no option 'foo'; it has: none"):
        await control.set_fault("api_503", foo="bar")
    with pytest.raises(ControlRefused, match="archive_huge has no option 'size'; it has: bytes, deflated, name"):
        await control.set_fault("archive_huge", size=5)
    entry = await control.create_entry(canvas=True)
    with pytest.raises(ControlRefused, match="no button 'go'"):
        await control.click(entry["displayId"], "go")
    with pytest.raises(ControlRefused, match="count"):
        await control.edit_entry(entry["id"], count=0)
    with pytest.raises(ControlRefused, match=r"known: .*counters"):
        await control.ask("everything", {})


async def test_a_busy_port(server: BenchlingServer) -> None:
    port = int(str(server.ready()["tenant"]).rpartition(":")[2])
    second = BenchlingServer(addresses=TenantAddresses(port=port))
    with pytest.raises(CannotServe, match=f"port {port} on 127.0.0.1 is in use; choose another with --port"):
        await second.start()
    await second.close()


async def _run(*arguments: str) -> tuple[int | None, str, str]:
    command = [sys.executable, "-m", "sandbox.simulator", *arguments]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_the_command_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sandbox.simulator", "serve", "--folder", str(tmp_path)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    ready = json.loads(await process.stdout.readline())
    assert ready == json.loads((tmp_path / "ready.json").read_text())
    there = ("--control", ready["control"])
    code, out, _err = await _run(*there, "entry", "create", "--attach", "raw.bin:20M", "--field", "Batch=7")
    assert (code, "20000000 bytes" in out) == (0, True)
    code, _out, err = await _run(*there, "fault", "set", "archive_slo")
    assert (code, err.count("\n"), "did you mean archive_slow" in err) == (2, 1, True)
    code, _out, err = await _run(*there, "fault", "set", "api_503", "foo=bar")
    assert (code, err) == (2, "api_503 has no option 'foo'; it has: none\n")
    code, out, _err = await _run(*there, "fault", "set", "token_slow", "seconds=3", "--times", "2")
    assert (code, out) == (0, "set token_slow: 2 times\n")
    code, out, _err = await _run(*there, "clock", "--seconds", "3600", "--scale", "0")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ in the tenant \(stopped\); [\d.]+ s since the start\n", out)
    code, out, _err = await _run(*there, "webhooks")
    assert re.fullmatch(r"\d{4}-\S+T\S+  EXP26000001  msg_\w+  v2.entry.created  unaddressed  \n", out)
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == 0
    code, _out, err = await _run(*there, "counters")
    assert (code, err.count("\n"), "no simulator answers" in err) == (2, 1, True)
