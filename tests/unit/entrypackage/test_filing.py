"""Filing: the table of situations, and a small API server's view of every sequence of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrypackage.filing import Create, Decision, Nothing, Patch, Refuse, Slot, Wish, decide
from entrypackage.identity import object_name
from entrypackage.trigger import Trigger

ENTRY = "etr_Ab12"
START = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


def trigger(name: str, second: float, kind: str = "v2.entry.created") -> Trigger:
    return Trigger(id=name, type=kind, occurred_at=START + timedelta(seconds=second))


def event(name: str, second: float) -> Wish:
    return Wish(ENTRY, Slot.EVENT, trigger(name, second))


def click(name: str, second: float) -> Wish:
    return Wish(ENTRY, Slot.REQUEST, trigger(name, second, "v2.canvas.userInteracted"))


def manual(name: str, second: float) -> Wish:
    return Wish(ENTRY, Slot.REQUEST, trigger(name, second, "manual"))


def found(*wishes: Wish, **metadata: Any) -> dict[str, Any]:
    slots = {wish.slot.value: wish.trigger.model_dump(mode="json", by_alias=True, exclude_none=True) for wish in wishes}
    return {"metadata": {"name": object_name(ENTRY), **metadata}, "spec": {"entryId": ENTRY, **slots}}


def written(decision: Decision) -> dict[str, str]:
    """Which trigger each slot gets."""
    match decision:
        case Create(manifest, _):
            return {slot: manifest["spec"][slot]["id"] for slot in ("event", "request") if slot in manifest["spec"]}
        case Patch(operations, _):
            return {op["path"].rpartition("/")[2]: op["value"]["id"] for op in operations if op["op"] == "add"}
        case Nothing():
            return {}
        case Refuse(reason, _):
            return {"refused": reason}


@pytest.mark.parametrize(
    ("there", "wish", "expected"),
    [
        ([], event("a", 1), {"event": "a"}),
        ([event("a", 1)], event("b", 2), {"event": "b"}),
        ([event("a", 1)], event("a", 1), {}),
        ([event("a", 1)], event("a", 9), {}),
        ([event("a", 1)], event("b", 1), {}),
        ([event("b", 2)], event("a", 1), {}),
        ([event("a", 1)], event("b", 1.000001), {"event": "b"}),
        ([click("c", 5)], event("a", 1), {"event": "a"}),
        ([event("a", 9)], click("c", 1), {"request": "c"}),
        ([click("c", 1)], click("c", 1), {}),
        ([click("c", 1)], click("c", 9), {}),
        ([click("c", 1)], click("d", 2), {"request": "d"}),
        ([click("c", 1)], click("d", 1), {"request": "d"}),
        ([click("d", 2)], click("c", 1), {}),
        ([manual("m", 9e7)], click("c", 1), {"request": "c"}),
        ([click("c", 1)], manual("m", 0), {"request": "m"}),
        ([manual("m", 9)], manual("n", 1), {"request": "n"}),
        ([manual("m", 9)], manual("m", 1), {}),
    ],
)
def test_one_wish(there: list[Wish], wish: Wish, expected: dict[str, str]) -> None:
    assert written(decide([wish], found(*there))) == expected


@pytest.mark.parametrize(
    ("wishes", "expected"),
    [
        ([event("a", 1), event("c", 3), event("b", 2)], {"event": "c"}),
        ([event("a", 3), event("b", 3)], {"event": "b"}),
        ([click("c", 2), click("d", 1)], {"request": "c"}),
        ([event("a", 1), click("c", 1)], {"event": "a", "request": "c"}),
    ],
)
def test_of_several_wishes_the_newest_of_each_slot_wins(wishes: list[Wish], expected: dict[str, str]) -> None:
    assert written(decide(wishes, None)) == expected
    assert written(decide(wishes, found())) == expected


def test_a_new_object_is_told_by_name_label_and_annotation() -> None:
    decision = decide([event("a", 1)], None)
    assert isinstance(decision, Create)
    assert decision.written == {"a"}
    assert decision.manifest == {
        "apiVersion": "benchling.quilt.bio/v1alpha1",
        "kind": "EntryPackage",
        "metadata": {
            "name": "etr-ab12-b416b3",
            "labels": {"app.kubernetes.io/managed-by": "entrypackage-operator"},
            "annotations": {"benchling.quilt.bio/entry-id": ENTRY},
        },
        "spec": {
            "entryId": ENTRY,
            "event": {"id": "a", "type": "v2.entry.created", "occurredAt": "2026-01-31T12:00:01Z"},
        },
    }


def test_a_patch_tests_what_was_read_exactly_as_it_was_read() -> None:
    there = found(event("a", 1))
    there["spec"]["event"] |= {"occurredAt": "2026-01-31T13:00:01.000+01:00", "later": "member"}
    read = dict(there["spec"]["event"])
    decision = decide([event("b", 2), click("c", 1)], there)
    assert isinstance(decision, Patch)
    assert decision.written == {"b", "c"}
    assert [(op["op"], op["path"]) for op in decision.operations] == [
        ("test", "/metadata/deletionTimestamp"),
        ("test", "/spec/event"),
        ("add", "/spec/event"),
        ("test", "/spec/request"),
        ("add", "/spec/request"),
    ]
    assert [op["value"] for op in decision.operations if op["op"] == "test"] == [None, read, None]


@pytest.mark.parametrize(
    ("there", "reason"),
    [
        (found(event("a", 1), deletionTimestamp="2026-01-31T12:00:00Z"), "BeingDeleted"),
        (found(event("a", 1)) | {"spec": {"entryId": "etr_other"}}, "NameTaken"),
        (found(event("a", 1)) | {"spec": {"entryId": ENTRY, "event": {"id": "a"}}}, "Unreadable"),
        (found(event("a", 1)) | {"spec": {"entryId": ENTRY, "request": "text"}}, "Unreadable"),
    ],
)
def test_an_object_that_cannot_take_it(there: dict[str, Any], reason: str) -> None:
    assert written(decide([event("b", 2)], there)) == {"refused": reason}


WISHES = st.builds(
    lambda make, number, second: make(f"{make.__name__}{number}", second),
    st.sampled_from([event, click]),
    st.integers(0, 9),
    st.integers(0, 5),
)


@given(st.lists(st.lists(WISHES, min_size=1, max_size=4), min_size=1, max_size=8))
def test_whatever_comes_in_whatever_order_nothing_goes_back_and_repeats_change_nothing(
    rounds: list[list[Wish]],
) -> None:
    there: dict[str, Any] | None = None
    for wishes in rounds:
        before = there and there["spec"].get("event")
        decision = decide(wishes, there)
        if isinstance(decision, Create):
            there = {"metadata": decision.manifest["metadata"], "spec": dict(decision.manifest["spec"])}
        elif isinstance(decision, Patch):
            assert there is not None
            for operation in decision.operations:
                part, member = operation["path"].split("/")[1:]
                if operation["op"] == "test":
                    assert there[part].get(member) == operation["value"]
                else:
                    there[part][member] = operation["value"]
        assert there is not None
        after = there["spec"].get("event")
        if before and after != before:
            assert after["occurredAt"] > before["occurredAt"]
        events = [wish for wish in wishes if wish.slot is Slot.EVENT]
        if events:
            assert decide(events, there) == Nothing()
