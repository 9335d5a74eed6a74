"""Deliveries over real HTTP to a receiver in its own process, kept by a real API server."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from entrypackage.filing import Patch, Slot, Wish, decide
from entrypackage.identity import object_name
from entrypackage.kubernetes import ENTRY_PACKAGES, InvalidError, Kubernetes, NotFoundError
from entrypackage.trigger import Trigger
from receiver.writer import _PATCH_TEST_FAILED
from tests.support.receiver_process import Gate, KeyServer, RunningReceiver, kubeconfig_through
from tests.support.waiting import until_holds
from tests.support.webhook_signing import Signer, body_of, click_message, entry_message

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from sandbox.controlplane import Address

START = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


def edit(entry: str, number: int, **changes: Any) -> dict[str, Any]:
    moment = (START + timedelta(seconds=number)).isoformat()
    return entry_message(**{"id": f"evt_{number}", "createdAt": moment, "resourceId": entry, **changes})


async def read(kubernetes: Kubernetes, namespace: str, entry: str) -> dict[str, Any]:
    return await kubernetes.get(ENTRY_PACKAGES, namespace, object_name(entry))


def version(found: dict[str, Any]) -> tuple[int, str]:
    return found["metadata"]["generation"], found["metadata"]["resourceVersion"]


async def test_the_first_event_makes_the_object(receiver: RunningReceiver, kubernetes: Kubernetes, entry: str) -> None:
    response = await receiver.send(edit(entry, 1), path="/prod/event")
    assert (response.status_code, response.json()) == (200, {"status": "stored"})
    found = await read(kubernetes, receiver.namespace, entry)
    assert found["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "entrypackage-operator"}
    assert found["metadata"]["annotations"] == {"benchling.quilt.bio/entry-id": entry}
    assert found["spec"].pop("event") == {
        "id": "evt_1",
        "type": "v2.entry.updated.fields",
        "occurredAt": "2026-01-31T12:00:01Z",
        "message": json.dumps(edit(entry, 1), sort_keys=True, separators=(",", ":")),
    }
    assert found["spec"] == {"entryId": entry, "suspend": False}


async def test_re_sent_and_older_events_change_nothing_generation_included(
    receiver: RunningReceiver, kubernetes: Kubernetes, entry: str
) -> None:
    await receiver.send(edit(entry, 1))
    await receiver.send(edit(entry, 5))
    before = version(await read(kubernetes, receiver.namespace, entry))
    assert before[0] == 2
    for message in (edit(entry, 5), edit(entry, 1), edit(entry, 4), edit(entry, 5, id="evt_twin")):
        response = await receiver.send(message)
        assert (response.status_code, response.json()["status"]) == (200, "covered")
    found = await read(kubernetes, receiver.namespace, entry)
    assert version(found) == before
    assert found["spec"]["event"]["id"] == "evt_5"


async def test_a_click_is_a_request_beside_the_event(
    receiver: RunningReceiver, kubernetes: Kubernetes, entry: str
) -> None:
    await receiver.send(edit(entry, 1))
    click = click_message(f"update-package-{entry}")
    for outcome in ("stored", "covered"):
        response = await receiver.send(click, path="/canvas", webhook_id="msg_click")
        assert response.json()["status"] == outcome
    spec = (await read(kubernetes, receiver.namespace, entry))["spec"]
    assert spec["event"]["id"] == "evt_1"
    assert (spec["request"]["id"], spec["request"]["userId"]) == ("msg_click", "ent_1")


async def test_status_and_label_writes_are_no_conflict(
    receiver: RunningReceiver, kubernetes: Kubernetes, entry: str
) -> None:
    await receiver.send(edit(entry, 0))
    stop = asyncio.Event()

    async def write_status() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            found = await read(kubernetes, receiver.namespace, entry)
            found["status"] = {"attempts": number}
            try:
                await kubernetes.replace_status(ENTRY_PACKAGES, receiver.namespace, object_name(entry), found)
            except Exception:  # noqa: BLE001 - a conflict with the receiver is fine here
                continue

    writing = asyncio.create_task(write_status())
    for number in range(1, 21):
        assert (await receiver.send(edit(entry, number))).json()["status"] == "stored"
    stop.set()
    await writing
    assert (await read(kubernetes, receiver.namespace, entry))["spec"]["event"]["id"] == "evt_20"


async def test_two_replicas_and_many_events_end_with_the_newest(
    account_file: Path, keys: KeyServer, kubernetes: Kubernetes, namespace: str, entry: str, tmp_path: Path
) -> None:
    first = RunningReceiver(tmp_path / "first", account_file, namespace, keys)
    second = RunningReceiver(tmp_path / "second", account_file, namespace, keys)
    with first, second:
        async with first.client(), second.client():
            replicas = [first, second]
            answers = await asyncio.gather(*(replicas[number % 2].send(edit(entry, number)) for number in range(60)))
    assert {answer.status_code for answer in answers} == {200}
    found = await read(kubernetes, namespace, entry)
    assert found["spec"]["event"]["id"] == "evt_59"
    # What waited was written together.
    assert found["metadata"]["generation"] < 30


async def test_an_object_that_is_being_deleted_takes_nothing(
    receiver: RunningReceiver, kubernetes: Kubernetes, entry: str
) -> None:
    await receiver.send(edit(entry, 1))
    held = {"metadata": {"finalizers": ["example.com/held"]}}
    read_before = await kubernetes.merge_patch(ENTRY_PACKAGES, receiver.namespace, object_name(entry), held)
    await kubernetes.delete(ENTRY_PACKAGES, receiver.namespace, object_name(entry))
    response = await receiver.send(edit(entry, 2))
    assert (response.status_code, response.json()["reason"]) == (503, "BeingDeleted")

    # A write that was decided before the deletion fails as well, and in the way that the writer knows.
    later = Trigger(id="evt_3", type="v2.entry.created", occurred_at=START + timedelta(hours=1))
    decision = decide([Wish(entry, Slot.EVENT, later)], read_before)
    assert isinstance(decision, Patch)
    with pytest.raises(InvalidError) as caught:
        await kubernetes.json_patch(ENTRY_PACKAGES, receiver.namespace, object_name(entry), decision.operations)
    assert caught.value.message.startswith(_PATCH_TEST_FAILED)

    await kubernetes.merge_patch(
        ENTRY_PACKAGES, receiver.namespace, object_name(entry), {"metadata": {"finalizers": None}}
    )
    assert (await receiver.send(edit(entry, 2))).json()["status"] == "stored"
    assert (await read(kubernetes, receiver.namespace, entry))["metadata"]["generation"] == 1


async def test_without_the_api_server_503_in_time_and_the_re_send_gets_through(
    account: dict[str, Any],
    control_plane: Address,
    kubernetes: Kubernetes,
    keys: KeyServer,
    namespace: str,
    entry: str,
    tmp_path: Path,
) -> None:
    async with Gate(control_plane.server) as gate:
        path = kubeconfig_through(account, tmp_path, gate.port)
        with RunningReceiver(tmp_path / "receiver", path, namespace, keys) as receiver:
            async with receiver.client():
                await outages(receiver, gate, entry)
    assert (await read(kubernetes, namespace, entry))["spec"]["event"]["id"] == "evt_3"


async def outages(receiver: RunningReceiver, gate: Gate, entry: str) -> None:
    assert (await receiver.send(edit(entry, 1))).status_code == 200
    await gate.shut()
    await expect_503_in_time(receiver, edit(entry, 2), {"ApiServerUnreachable", "Deadline"})
    assert (await receiver.http.get("/livez")).status_code == 200
    assert (await receiver.http.get("/readyz")).status_code == 200
    await gate.open()
    assert (await receiver.send(edit(entry, 2))).status_code == 200
    gate.stick()
    await expect_503_in_time(receiver, edit(entry, 3), {"Deadline", "ApiServerUnreachable"})
    await gate.open()
    assert (await receiver.send(edit(entry, 3))).status_code == 200


async def expect_503_in_time(receiver: RunningReceiver, message: dict[str, Any], reasons: set[str]) -> None:
    started = time.monotonic()
    response = await receiver.send(message)
    assert response.status_code == 503
    assert response.json()["reason"] in reasons
    assert time.monotonic() - started < 3


async def test_a_receiver_without_rights_says_so(
    account_file: Path, keys: KeyServer, api: httpx.AsyncClient, namespace: str, entry: str, tmp_path: Path
) -> None:
    binding = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings/receiver"
    (await api.delete(binding)).raise_for_status()
    with RunningReceiver(tmp_path / "receiver", account_file, namespace, keys) as receiver:
        async with receiver.client():
            response = await receiver.send(edit(entry, 0))
            # The API server's authorizer hears of the deletion through a watch.
            for number in range(1, 500):
                if response.status_code != 200:
                    break
                response = await receiver.send(edit(entry, number))
    assert (response.status_code, response.json()["reason"]) == (503, "ApiServerRefused")
    refused = [line for line in receiver.lines if line["message"].startswith("The API server refused the write")]
    assert "forbidden" in refused[0]["message"]


async def test_bad_input_makes_no_object_and_leaves_a_line(
    receiver: RunningReceiver, kubernetes: Kubernetes, entry: str
) -> None:
    body, signer = body_of(edit(entry, 1)), receiver.signer
    earlier = len(refusals(receiver))
    signed = signer.headers(body)
    not_json = b"{"
    unknown = body_of(edit(entry, 1, type="v2.request.created"))
    cases = [
        ("POST", "/event", body, {}, 401, "Unsigned"),
        ("POST", "/event", body + b" ", signed, 401, "BadSignature"),
        ("POST", "/event", body, signer.headers(body, timestamp=str(int(time.time()) - 400)), 401, "BadTimestamp"),
        ("POST", "/event", body, Signer().headers(body), 401, "BadSignature"),
        ("POST", "/event", not_json, signer.headers(not_json), 400, "NotJson"),
        ("POST", "/event", unknown, signer.headers(unknown), 422, "UnknownType"),
        ("GET", "/event", b"", {}, 405, "MethodNotAllowed"),
    ]
    for method, path, content, headers, code, reason in cases:
        response = await receiver.http.request(method, path, content=content, headers=headers)
        assert (response.status_code, response.json()["reason"]) == (code, reason)
    response = await receiver.http.post("/a/b/c", content=body, headers=signed)
    assert response.status_code == 404
    with pytest.raises(NotFoundError):
        await read(kubernetes, receiver.namespace, entry)
    await until_holds(lambda: len(refusals(receiver)) == earlier + len(cases), "a line for each refusal")
    assert refusals(receiver)[earlier:] == [case[5] for case in cases]


def refusals(receiver: RunningReceiver) -> list[str]:
    return [line["reason"] for line in receiver.lines if "reason" in line]


async def test_an_endless_body_is_cut_off_with_an_answer(receiver: RunningReceiver, entry: str) -> None:
    async def endless() -> Any:
        for _ in range(64):
            yield b" " * 65536

    response = await receiver.http.post("/", content=endless(), headers=receiver.signer.headers(b""))
    assert (response.status_code, response.json()["reason"]) == (413, "BodyTooLarge")
    announced = b" " * (4 * 1024**2)
    response = await receiver.http.post("/", content=announced, headers=receiver.signer.headers(b""))
    assert (response.status_code, response.json()["reason"]) == (413, "BodyTooLarge")
    assert (await receiver.send(edit(entry, 1))).status_code == 200


async def test_two_hundred_deliveries_are_all_kept(
    receiver: RunningReceiver, kubernetes: Kubernetes, entry: str, record_property: Any
) -> None:
    slots = asyncio.Semaphore(16)
    seconds: list[float] = []

    async def deliver(number: int) -> int:
        async with slots:
            started = time.monotonic()
            response = await receiver.send(edit(f"{entry}_{number % 100}", number))
            seconds.append(time.monotonic() - started)
            return response.status_code

    earlier = len(receiver.lines)
    assert set(await asyncio.gather(*(deliver(number) for number in range(200)))) == {200}
    await until_holds(lambda: len(receiver.lines) == earlier + 200, "200 lines")
    inside = sorted(line["ms"] for line in receiver.lines[earlier:])
    outside = sorted(1000 * taken for taken in seconds)
    for side, times in (("receiver", inside), ("sender", outside)):
        record_property(f"ack_{side}_p99_ms", round(times[197]))
        print(f"200 deliveries, 16 at a time, seen by the {side}: p50 {times[99]:.0f} ms, p99 {times[197]:.0f} ms")
    events = [await read(kubernetes, receiver.namespace, f"{entry}_{number}") for number in range(100)]
    assert [found["spec"]["event"]["id"] for found in events] == [f"evt_{number + 100}" for number in range(100)]
