"""The product's edges through the real chart: what comes in at the ingress, what is on S3, on the bill and nowhere."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import time
import zipfile
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx
import pytest
from aiohttp import web

from entrypackage.order import Order, decode_order
from sandbox.fargate.bill import Ledger
from sandbox.simulator.settings import LEAK_MARK
from tests.support.scene import ORDER, PACKAGER, condition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sandbox.fargate.bill import BillLine
    from tests.support.scene import Json, Scene

pytestmark = pytest.mark.asyncio(loop_scope="session")

HOP_BY_HOP = {"host", "content-length", "connection", "accept-encoding", "transfer-encoding"}


@dataclass(frozen=True)
class Delivery:
    """One webhook as Benchling sent it."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Tap:
    """Stands between Benchling and the ingress, keeps what passes, and holds it back if told to."""

    target: str
    client: httpx.AsyncClient
    passes: bool = True
    seen: list[Delivery] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
        delivery = Delivery(request.path, headers, await request.read())
        self.seen.append(delivery)
        status = (await self.send(delivery)).status_code if self.passes else 200
        return web.Response(status=status)

    async def send(self, delivery: Delivery, **changes: str | None) -> httpx.Response:
        """Send a delivery to the ingress, with headers replaced, or left out where they are None."""
        headers = {name.lower(): value for name, value in delivery.headers.items()}
        for name, value in changes.items():
            headers.pop(name.replace("_", "-"), None)
            if value is not None:
                headers[name.replace("_", "-")] = value
        return await self.client.post(self.target + delivery.path, content=delivery.body, headers=headers)


@asynccontextmanager
async def tapped(scene: Scene) -> AsyncIterator[Tap]:
    """Lead Benchling's webhooks through a tap."""
    target = scene.sandbox.webhook_url
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        tap = Tap(target, client)
        application = web.Application(client_max_size=32 * 1024 * 1024)
        application.router.add_route("*", "/{path:.*}", tap.answer)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            await scene.benchling.route_webhooks(f"http://127.0.0.1:{runner.addresses[0][1]}", retries="none")
            yield tap
        finally:
            await scene.benchling.route_webhooks(target, retries="svix")
            await runner.cleanup()


async def _next(scene: Scene, tap: Tap, count: int) -> Delivery:
    async def come() -> Delivery | None:
        return tap.seen[count - 1] if len(tap.seen) >= count else None

    found: Delivery = await scene.until(f"delivery {count}", come)
    return found


async def test_what_comes_again_or_late_changes_nothing(scene: Scene) -> None:
    """The same webhook sent again, by its id or byte for byte, and an older event: nobody can tell afterwards."""
    async with tapped(scene) as tap:
        tap.passes = False
        entry = await scene.benchling.create_entry()
        older = await _next(scene, tap, 1)
        tap.passes = True
        await scene.benchling.edit_entry(entry["id"])
        newer = await _next(scene, tap, 2)
        await scene.packaged(entry, event=await scene.newest_event(entry))
        await scene.nothing_left(entry)
        before = await scene.package(entry)

        answers = [await tap.send(delivery) for delivery in (newer, older, newer)]

        assert [answer.status_code for answer in answers] == [200, 200, 200]
    # Seen by the controller as well: a later object has been packaged since.
    await scene.packaged(await scene.benchling.create_entry())
    assert await scene.package(entry) == before
    assert await scene.exports(entry) == 1


async def test_what_is_not_benchlings_is_refused(scene: Scene) -> None:
    """Each with its own code and a line in the log; none leaves an object."""
    objects = await scene.kubectl("get", "epkg", "-o", "name")
    async with tapped(scene) as tap:
        tap.passes = False
        await scene.benchling.create_entry("never packaged")
        good = await _next(scene, tap, 1)
        tampered = Delivery(good.path, good.headers, good.body.replace(b"entry.created", b"entry.creates"))
        no_json = Delivery(good.path, good.headers, b"{")
        old = str(int(good.headers["webhook-timestamp"]) - 3600)
        answers = {
            "unsigned": await tap.send(good, webhook_signature=None),
            "malformed": await tap.send(good, webhook_signature="nonsense"),
            "tampered": await tap.send(tampered),
            "not JSON": await tap.send(no_json),
            "old": await tap.send(good, webhook_timestamp=old),
            "another id": await tap.send(good, webhook_id="msg_another"),
            "too large": await tap.send(Delivery(good.path, good.headers, b"x" * 1_100_000)),
            "no such path": await tap.client.post(
                f"{tap.target}/stage/event/more", content=good.body, headers=good.headers
            ),
            "wrong method": await tap.client.get(f"{tap.target}/event"),
        }
    assert {name: answer.status_code for name, answer in answers.items()} == {
        "unsigned": 401,
        "malformed": 401,
        "tampered": 401,
        "not JSON": 401,
        "old": 401,
        "another id": 401,
        "too large": 413,
        "no such path": 404,
        "wrong method": 405,
    }
    assert await scene.kubectl("get", "epkg", "-o", "name") == objects
    reasons = {answer.json()["reason"] for name, answer in answers.items() if name != "no such path"}

    async def logged() -> bool:
        log = await scene.kubectl("logs", "-l", "app.kubernetes.io/component=receiver", "--tail=-1")
        return all(f'"reason": "{reason}"' in log for reason in reasons)

    await scene.until(f"a line for each of {sorted(reasons)}", logged)


@pytest.mark.parametrize(
    ("fault", "status"),
    [("webhook_unknown_type", 422), ("webhook_old", 401), ("webhook_wrong_key", 401)],
)
async def test_what_benchling_should_not_send_is_refused(scene: Scene, fault: str, status: int) -> None:
    """Signed, but by a key that is not listed, not from now, or of a type that nobody knows."""
    async with tapped(scene):
        await scene.benchling.set_fault(fault, times=1)
        entry = await scene.benchling.create_entry()

        async def answered() -> int | None:
            sent = await scene.benchling.webhooks(subject=entry["id"])
            return sent[0]["attempts"][0]["status"] if sent and sent[0]["attempts"] else None

        assert await scene.until("the answer", answered) == status
    assert await scene.package(entry) is None


async def test_the_package_holds_the_archive_byte_for_byte(scene: Scene) -> None:
    """Every member of the very archive that the order names, whether stored or deflated."""
    files: list[Json] = [
        {"name": "stored.bin", "size": 700_000},
        {"name": "deflated.csv", "size": 900_000, "deflated": True},
        {"name": "mit Umläuten & Leerzeichen.txt", "content": "grün"},
        {"name": "empty.txt", "size": 0},
    ]
    async with scene.no_packager_starts():
        entry = await scene.benchling.create_entry(attachments=files)
        order: Order = await scene.until("the order", lambda: _order(scene, entry))
    url = order.archive.url.get_secret_value()
    assert LEAK_MARK in url, "or the search for leaks would find nothing anywhere"
    await scene.packaged(entry)

    async with httpx.AsyncClient(trust_env=False) as client:
        archive = zipfile.ZipFile(io.BytesIO((await client.get(url)).raise_for_status().content))
    members = {name: archive.read(name) for name in archive.namelist()}
    stored = await scene.objects(entry)
    assert len(members) == len(files) + 1
    assert {name: stored.get(name) for name in members} == members
    described = json.loads(stored["entry.json"])["files"]
    assert {name: described[name]["size"] for name in members} == {name: len(body) for name, body in members.items()}


async def _order(scene: Scene, entry: Json) -> Order | None:
    found = json.loads(await scene.kubectl("get", "secrets", "-l", ORDER, "-o", "json"))["items"]
    for secret in found:
        parts = [base64.b64decode(value) for value in secret["data"].values()]
        digest = await _digest(scene, entry)
        if digest and digest.startswith(secret["metadata"]["labels"]["benchling.quilt.bio/order"]):
            return decode_order(parts, digest)
    return None


async def _digest(scene: Scene, entry: Json) -> str:
    package = await scene.package(entry)
    attempt = (package or {}).get("status", {}).get("attempt") or {}
    return str(attempt.get("orderDigest") or "")


async def test_everything_is_gone_and_on_the_bill(scene: Scene) -> None:
    """After the retention no Job, pod, node or order is left; each packager has its line, closed soon after its end."""
    entry = await scene.benchling.create_entry()
    package = await scene.packaged(entry)
    await scene.nothing_left(entry)
    assert not (await scene.kubectl("get", "pods", "-l", PACKAGER, "-o", "name")).strip()

    job = f"epkg-{package['metadata']['uid'].replace('-', '')[:16]}"

    async def billed() -> list[BillLine]:
        lines = Ledger(scene.sandbox.folder / "fargate").lines(time.time())
        return [line for line in lines if line.pod.startswith(job) and not line.open]

    lines: list[BillLine] = await scene.until("the bill", billed)
    assert len(lines) == 1
    assert lines[0].exit_reason == "Completed"
    assert lines[0].dollars > 0
    assert sum(lines[0].peak_rss_bytes.values()) < 128 * 1024 * 1024


async def test_a_name_that_is_not_the_entrys_is_stalled(scene: Scene) -> None:
    """Made by hand under another name: it says what to do, and makes no export."""
    entry = await scene.benchling.create_entry(silent=True)
    body = {
        "apiVersion": "benchling.quilt.bio/v1alpha1",
        "kind": "EntryPackage",
        "metadata": {"name": "mine"},
        "spec": {
            "entryId": entry["id"],
            "request": {"id": "1", "type": "manual", "occurredAt": "2026-01-01T00:00:00Z"},
        },
    }
    await scene.sandbox.kubectl("apply", "-f", "-", stdin=json.dumps(body))
    try:

        async def stalled() -> Json | None:
            found: Json = json.loads(await scene.kubectl("get", "epkg", "mine", "-o", "json"))
            return found if condition(found, "Stalled")["status"] == "True" else None

        found: Json = await scene.until("the Stalled condition", stalled)
    finally:
        await scene.kubectl("delete", "epkg", "mine")
    assert condition(found, "Ready")["reason"] == "NameMismatch"
    assert await scene.exports(entry) == 0


async def test_no_version_of_any_object_holds_a_secret(scene: Scene) -> None:
    """Whatever the tests of this run have had written, old versions and inventories included."""
    client, bucket = scene.sandbox.aws.s3_client(), scene.sandbox.aws.bucket

    def search() -> tuple[int, list[str]]:
        count, leaks = 0, []
        for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket):
            for version in page.get("Versions", []):
                if version["Size"] > 2_000_000:
                    continue
                answer = client.get_object(Bucket=bucket, Key=version["Key"], VersionId=version["VersionId"])
                count += 1
                if LEAK_MARK.encode() in answer["Body"].read() or LEAK_MARK in json.dumps(answer["Metadata"]):
                    leaks.append(version["Key"])
        return count, leaks

    entry = await scene.benchling.create_entry()
    await scene.packaged(entry)
    count, leaks = await asyncio.to_thread(search)
    assert count > 5
    assert leaks == []
