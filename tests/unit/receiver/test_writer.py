"""The writer's races, against an object store that answers as the API server does (see the integration tests)."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from entrypackage.filing import Slot, Wish
from entrypackage.identity import object_name
from entrypackage.kubernetes import InvalidError, KubernetesError, NotFoundError, Object, UnreachableError
from entrypackage.trigger import Trigger
from receiver.answers import DeliveryOutcome, Refusal, Why
from receiver.writer import Writer
from tests.support.memory_cluster import Store

if TYPE_CHECKING:
    from collections.abc import Callable

START = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
ENTRY = "etr_Ab12"


def event(number: int, entry_id: str = ENTRY) -> Wish:
    moment = START + timedelta(seconds=number)
    return Wish(entry_id, Slot.EVENT, Trigger(id=f"evt_{number}", type="v2.entry.created", occurred_at=moment))


def request(number: int) -> Wish:
    moment = START + timedelta(seconds=number)
    trigger = Trigger(id=f"msg_{number}", type="v2.canvas.userInteracted", occurred_at=moment)
    return Wish(ENTRY, Slot.REQUEST, trigger)


def soon(seconds: float = 5) -> float:
    return asyncio.get_running_loop().time() + seconds


async def file(writer: Writer, wish: Wish, seconds: float = 5) -> DeliveryOutcome | Why:
    try:
        return (await writer.file(wish, soon(seconds))).outcome
    except Refusal as refusal:
        return refusal.why


async def test_the_first_trigger_creates_and_later_ones_move_the_slot() -> None:
    store = Store(object_name(ENTRY))
    writer = Writer(store, "ns")
    assert await file(writer, event(1)) is DeliveryOutcome.STORED
    assert await file(writer, event(2)) is DeliveryOutcome.STORED
    assert await file(writer, request(3)) is DeliveryOutcome.STORED
    assert store.writes == ["create", "patch", "patch"]
    assert (store.spec["event"]["id"], store.spec["request"]["id"]) == ("evt_2", "msg_3")


async def test_what_is_covered_writes_nothing() -> None:
    store = Store(object_name(ENTRY))
    writer = Writer(store, "ns")
    await file(writer, event(2))
    for again in (event(2), event(1)):
        assert await file(writer, again) is DeliveryOutcome.COVERED
    assert store.writes == ["create"]


async def test_deliveries_that_wait_share_one_write_and_the_newest_wins() -> None:
    store = Store(object_name(ENTRY))
    store.gate = asyncio.Event()
    writer = Writer(store, "ns")
    first = asyncio.create_task(file(writer, event(1)))
    await asyncio.wait_for(_until(lambda: store.in_flight == 1), 5)
    waiting = [asyncio.create_task(file(writer, event(number))) for number in (7, 9, 8)]
    waiting.append(asyncio.create_task(file(writer, request(3))))
    await asyncio.sleep(0)
    store.gate.set()
    outcomes = await asyncio.gather(first, *waiting)
    stored, covered = DeliveryOutcome.STORED, DeliveryOutcome.COVERED
    assert outcomes == [stored, covered, stored, covered, stored]
    assert store.writes == ["create", "patch"]
    assert (store.spec["event"]["id"], store.spec["request"]["id"]) == ("evt_9", "msg_3")


async def test_many_at_once_never_race_each_other() -> None:
    store = Store(object_name(ENTRY))
    writer = Writer(store, "ns")
    outcomes = await asyncio.gather(*(file(writer, event(number % 50)) for number in range(200)))
    assert set(outcomes) <= {DeliveryOutcome.STORED, DeliveryOutcome.COVERED}
    assert store.most_in_flight == 1
    assert store.spec["event"]["id"] == "evt_49"
    assert len(store.writes) <= 3


async def test_other_entries_do_not_wait() -> None:
    store = Store(object_name(ENTRY))
    store.gate = asyncio.Event()
    writer = Writer(store, "ns")
    filed = [asyncio.create_task(file(writer, event(1, f"etr_{number}"))) for number in range(20)]
    await asyncio.wait_for(_until(lambda: store.in_flight == 20), 5)
    store.gate.set()
    assert await asyncio.gather(*filed) == [DeliveryOutcome.STORED] * 20


async def test_a_lost_race_is_decided_again() -> None:
    store = Store(object_name(ENTRY))
    writer = Writer(store, "ns")
    await file(writer, event(1))
    stolen = iter([event(5), event(3)])

    def another_writer() -> None:
        if (theirs := next(stolen, None)) is not None:
            store.spec["event"] = theirs.trigger.model_dump(mode="json", by_alias=True, exclude_none=True)

    store.before_write = another_writer
    assert await file(writer, event(4)) is DeliveryOutcome.COVERED
    assert store.spec["event"]["id"] == "evt_5"


async def test_a_lost_create_becomes_a_patch_and_a_vanished_object_a_create() -> None:
    store = Store(object_name(ENTRY))
    writer = Writer(store, "ns")
    theirs = {
        "metadata": {"name": object_name(ENTRY)},
        "spec": {"entryId": ENTRY, "event": event(1).trigger.model_dump(mode="json", by_alias=True)},
    }

    def created_by_another() -> None:
        store.objects.setdefault(object_name(ENTRY), theirs)

    store.before_write = created_by_another
    assert await file(writer, event(2)) is DeliveryOutcome.STORED
    assert store.writes == ["create", "patch"]

    def vanish_once() -> None:
        store.objects.clear()
        store.before_write = lambda: None

    store.before_write = vanish_once
    assert await file(writer, event(3)) is DeliveryOutcome.STORED
    assert store.writes == ["create", "patch", "patch", "create"]
    assert store.spec["event"]["id"] == "evt_3"


@pytest.mark.parametrize(
    "error",
    [
        UnreachableError(0, "Unreachable", "none"),
        KubernetesError(429, "TooManyRequests", "slow"),
        KubernetesError(500, "InternalError", "etcd"),
        KubernetesError(503, "ServiceUnavailable", "start"),
    ],
    ids=str,
)
async def test_a_passing_failure_is_tried_again_until_the_deadline(error: KubernetesError) -> None:
    store = Store(object_name(ENTRY))
    writer = Writer(store, "ns")
    store.failures = [error] * 3
    assert await file(writer, event(1)) is DeliveryOutcome.STORED
    store.failures = [error] * 1000
    assert await file(writer, event(2), seconds=0.2) is Why.API_SERVER_UNREACHABLE


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (KubernetesError(403, "Forbidden", "no"), Why.API_SERVER_REFUSED),
        (KubernetesError(401, "Unauthorized", "no"), Why.API_SERVER_REFUSED),
        (InvalidError(422, "Invalid", 'EntryPackage "a" is invalid: spec.event: no'), Why.NOT_STORABLE),
    ],
    ids=str,
)
async def test_a_lasting_failure_is_answered_at_once(error: KubernetesError, why: Why) -> None:
    store = Store(object_name(ENTRY))
    writer = Writer(store, "ns")
    await file(writer, event(1))

    def refuse() -> None:
        raise error

    store.before_write = refuse
    assert await file(writer, event(2)) is why
    assert store.failures == []


async def test_a_namespace_or_definition_that_is_missing_is_refused() -> None:
    store = Store(object_name(ENTRY))

    def missing() -> None:
        raise NotFoundError(404, "NotFound", "the server could not find the requested resource")

    store.before_write = missing
    assert await file(Writer(store, "ns"), event(1)) is Why.API_SERVER_REFUSED


async def test_an_api_server_that_hangs_is_given_up_at_the_deadline_and_the_next_one_served() -> None:
    store = Store(object_name(ENTRY))
    store.gate = asyncio.Event()
    writer = Writer(store, "ns")
    assert await file(writer, event(1), seconds=0.05) is Why.DEADLINE
    store.gate.set()
    assert await file(writer, event(2)) is DeliveryOutcome.STORED


async def test_whoever_has_given_up_waiting_is_not_written_for() -> None:
    store = Store(object_name(ENTRY))
    store.gate = asyncio.Event()
    writer = Writer(store, "ns")
    first = asyncio.create_task(file(writer, event(1)))
    await asyncio.wait_for(_until(lambda: store.in_flight == 1), 5)
    assert await file(writer, event(2), seconds=0.02) is Why.DEADLINE
    store.gate.set()
    assert await first is DeliveryOutcome.STORED
    assert store.writes == ["create"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda found: found["metadata"].update(deletionTimestamp="2026-01-31T12:00:00Z"), Why.BEING_DELETED),
        (lambda found: found["spec"].update(entryId="etr_other"), Why.NAME_TAKEN),
        (lambda found: found["spec"].update(event={"id": "x"}), Why.UNREADABLE),
    ],
)
async def test_an_object_that_cannot_take_it_is_answered_so(change: Callable[[Object], None], why: Why) -> None:
    store = Store(object_name(ENTRY))
    writer = Writer(store, "ns")
    await file(writer, event(1))
    change(store.objects[object_name(ENTRY)])
    assert await file(writer, event(2)) is why


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - let the tasks run until it holds
        await asyncio.sleep(0)
