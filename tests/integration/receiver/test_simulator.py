"""The receiver behind the simulated Benchling, which signs, sends again, rotates its keys and misbehaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from entrypackage.identity import object_name
from entrypackage.kubernetes import ENTRY_PACKAGES, Kubernetes
from sandbox.simulator.control import TenantControl
from sandbox.simulator.server import BenchlingServer
from sandbox.simulator.settings import TenantSettings
from tests.support.receiver_process import KeyServer, RunningReceiver
from tests.support.waiting import until_holds
from tests.support.webhook_signing import Signer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def benchling() -> AsyncIterator[BenchlingServer]:
    async with BenchlingServer(TenantSettings(webhook_retries="none")) as server:
        yield server


@pytest.fixture
async def listening(
    benchling: BenchlingServer, account_file: Path, namespace: str, tmp_path: Path
) -> AsyncIterator[RunningReceiver]:
    settings = benchling.simulator.settings
    receiver = RunningReceiver(
        tmp_path / "receiver",
        account_file,
        namespace,
        KeyServer(Signer()),
        appDefinitionIds=[settings.app_definition_id],
        tenantIds=[settings.tenant_id],
        jwksUrl=str(benchling.ready()["jwks"]).replace(settings.app_definition_id, "{app_definition_id}"),
        writeDeadlineSeconds=20,
        jwksRefreshMinSeconds=0.001,
    )
    receiver.start()
    try:
        # The key server runs in this loop, so nothing may block it.
        await until_holds(lambda: receiver.logged("Keys fetched."), "the keys")
        benchling.simulator.sender.url = receiver.url
        yield receiver
    finally:
        receiver.__exit__()


async def answers(benchling: BenchlingServer) -> list[int | None]:
    """Wait until everything is sent; return the codes of all attempts since the last call."""
    sender = benchling.simulator.sender
    await sender.idle()
    codes = [attempt.status for delivery in sender.deliveries for attempt in delivery.attempts]
    sender.deliveries.clear()
    return codes


async def test_edits_clicks_and_life_cycle_arrive(
    benchling: BenchlingServer, listening: RunningReceiver, kubernetes: Kubernetes
) -> None:
    async with TenantControl(benchling.control_url) as control:
        entry = await control.create_entry()
        await control.edit_entry(entry["id"])
        canvas = await control.insert_canvas(entry["id"])
        await control.click(canvas["id"], f"update-package-{entry['id']}", force=True)
        for kind in ("install", "activate", "deactivate", "configure"):
            await control.tell_app(kind)
    assert set(await answers(benchling)) == {200}
    found = await kubernetes.get(ENTRY_PACKAGES, listening.namespace, object_name(entry["id"]))
    assert found["spec"]["event"]["type"] == "v2.entry.updated.fields"
    assert found["spec"]["request"]["type"] == "v2.canvas.userInteracted"
    assert canvas["id"] in found["spec"]["request"]["message"]


async def test_keys_rotate_without_a_lost_delivery(benchling: BenchlingServer, listening: RunningReceiver) -> None:
    async with TenantControl(benchling.control_url) as control:
        entry = await control.create_entry()
        assert await answers(benchling) == [200]
        await control.rotate_keys(keep_old=False)
        await control.edit_entry(entry["id"])
        assert await answers(benchling) == [200]
        await control.rotate_keys()
        await control.set_fault("webhook_two_signatures", times=1)
        await control.edit_entry(entry["id"])
        assert await answers(benchling) == [200]
    await until_holds(
        lambda: [line["outcome"] for line in listening.lines if "outcome" in line] == ["stored"] * 3,
        "three stored events",
    )


FAULTS: dict[str, list[int | None]] = {
    "webhook_duplicate": [200, 200],
    "webhook_replay": [200, 200],
    "webhook_members_extra": [200],
    "webhook_two_signatures": [200],
    "webhook_reset": [None],
    "webhook_old": [401],
    "webhook_future": [401],
    "webhook_no_signature": [401],
    "webhook_bad_signature": [401],
    "webhook_wrong_key": [401],
    "webhook_not_der": [401],
    "webhook_malformed": [401],
    "webhook_bad_base64": [401],
    "webhook_unknown_type": [422],
    "webhook_members_missing": [400],
    "webhook_big": [413],
}


async def test_each_misbehaviour_has_its_answer(
    benchling: BenchlingServer, listening: RunningReceiver, kubernetes: Kubernetes
) -> None:
    found: dict[str, list[int | None]] = {}
    kept = set()
    async with TenantControl(benchling.control_url) as control:
        for fault, codes in FAULTS.items():
            await control.set_fault(fault, times=1)
            entry = await control.create_entry()
            found[fault] = await answers(benchling)
            if codes[0] in {200, None}:
                kept.add(object_name(entry["id"]))
    assert found == FAULTS
    # The one that hung up before it was answered is kept as well.
    listed = await kubernetes.list_all(ENTRY_PACKAGES, listening.namespace)
    assert {item["metadata"]["name"] for item in listed} == kept
