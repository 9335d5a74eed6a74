"""What is put, skipped, removed and announced, as tables of situations."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from entrypackage.failures import Failure, FailureClass
from packager.decisions.inventory import (
    ClaimMark,
    Inventory,
    InventoryKey,
    Proven,
    Standing,
)
from packager.decisions.objects import ListedObject, ObjectFacts
from packager.decisions.plan import (
    Missing,
    check_claim,
    claimed_inventory,
    find_missing,
    interpret_objects,
    known_good,
    plan_transfer,
    publish,
    skip_candidates,
    withdrawn,
)
from packager.decisions.policy import METADATA_FILES
from tests.support.archives import content_of, make_zip

if TYPE_CHECKING:
    from packager.decisions.policy import File

MARK = ClaimMark("digest", "pod", "owner", 3)
FILES = content_of(make_zip({"a.txt": b"a", "b.txt": b"bb"})).files
A, B = FILES
P, N, S = Standing.PUBLISHED, Standing.NEW, Standing.STALE


def described(owner: str = "etr_1", **more: object) -> bytes:
    return json.dumps({"entry_id": owner, **more}).encode()


def test_an_empty_destination_is_free() -> None:
    previous = interpret_objects("etr_1", None, None, {}, "p/E/")

    assert (previous.known, dict(previous.inventory.keys), previous.canvas_id) == (True, {}, None)


@pytest.mark.parametrize(
    ("inventory", "document"),
    [
        (Inventory("etr_2").to_json(), None),
        (None, described("etr_2")),
        (Inventory("etr_1").to_json(), described("etr_2")),
    ],
)
def test_a_foreign_package_is_taken(inventory: bytes | None, document: bytes | None) -> None:
    with pytest.raises(Failure) as caught:
        interpret_objects("etr_1", inventory, document, {}, "p/E/")

    assert caught.value.failure is FailureClass.DESTINATION_TAKEN


def test_an_old_package_is_adopted_only_within_its_prefix() -> None:
    rows = {"a.txt": {"s3_key": "p/E/a.txt"}, "evil": {"s3_key": "p/other/x"}, "gone.txt": {"s3_key": "p/E/gone.txt"}}
    existing = {"a.txt": ListedObject(1, "e"), "entry.json": ListedObject(2, "e"), "mine.txt": ListedObject(3, "e")}

    previous = interpret_objects("etr_1", None, described(files=rows, canvas_id="cnvs_1"), existing, "p/E/")

    assert set(previous.inventory.keys) == {"a.txt", "entry.json"}
    assert previous.canvas_id == "cnvs_1"


@pytest.mark.parametrize("document", [b"{", b"[]", described(""), b"{}"])
def test_an_unreadable_document_makes_the_package_unknown(document: bytes) -> None:
    previous = interpret_objects("etr_1", None, document, {"a.txt": ListedObject(1, "e")}, "p/E/")

    assert not previous.known
    assert previous.notices


@pytest.mark.parametrize("document", [b"{", b"[]", b"\xff", b"null"])
def test_a_good_inventory_does_not_make_an_unreadable_document_known(document: bytes) -> None:
    keys = {"a.txt": InventoryKey(1, A.member.crc32, P)}
    raw = Inventory("etr_1", keys=keys, canvas_id="cnvs_1").to_json()

    previous = interpret_objects("etr_1", raw, document, {"a.txt": ListedObject(1, "e")}, "p/E/")

    assert not previous.known
    assert len(previous.notices) == 1
    assert previous.inventory.keys == keys
    assert previous.canvas_id == "cnvs_1"
    assert skip_candidates(FILES, previous, {"a.txt": ListedObject(1, "e")}) == []


@pytest.mark.parametrize(
    ("noted", "document", "canvas"),
    [
        ("cnvs_1", None, "cnvs_1"),
        ("cnvs_1", described(), "cnvs_1"),
        ("cnvs_1", described(canvas_id="cnvs_2"), "cnvs_2"),
        (None, described(canvas_id="cnvs_2"), "cnvs_2"),
        (None, described(canvas_id=7), None),
    ],
)
def test_the_canvas_is_known_from_either(noted: str | None, document: bytes | None, canvas: str | None) -> None:
    previous = interpret_objects("etr_1", Inventory("etr_1", canvas_id=noted).to_json(), document, {}, "p/E/")

    assert (previous.known, previous.canvas_id) == (True, canvas)
    assert claimed_inventory(previous, MARK, FILES, {}).canvas_id == canvas


@pytest.mark.parametrize(
    ("noted", "listed", "candidate"),
    [
        (InventoryKey(1, A.member.crc32, P), ListedObject(1, "e"), True),
        (InventoryKey(1, A.member.crc32, N), ListedObject(1, "e"), True),
        (InventoryKey(1, A.member.crc32 ^ 1, P), ListedObject(1, "e"), False),
        (InventoryKey(None, None, P), ListedObject(1, "e"), False),
        (InventoryKey(1, A.member.crc32, P), ListedObject(2, "e"), False),
        (InventoryKey(1, A.member.crc32, P), None, False),
        (None, ListedObject(1, "e"), False),
    ],
)
def test_skipping_needs_inventory_and_listing(
    noted: InventoryKey | None, listed: ListedObject | None, candidate: bool
) -> None:
    previous = interpret_objects(
        "etr_1", Inventory("etr_1", keys={"a.txt": noted} if noted else {}).to_json(), None, {}, "p/E/"
    )

    found = skip_candidates(FILES, previous, {"a.txt": listed} if listed else {})

    assert [file.name for file in found] == (["a.txt"] if candidate else [])


@pytest.mark.parametrize(
    ("facts", "where"),
    [
        (ObjectFacts(1, A.member.crc32, "e"), "skipped"),
        (ObjectFacts(1, None, "e"), "replaced"),
        (ObjectFacts(1, A.member.crc32 ^ 1, "e"), "replaced"),
        (ObjectFacts(1, A.member.crc32, "e", "other settings"), "replaced"),
        (None, "replaced"),
    ],
)
def test_the_head_has_the_last_word(facts: ObjectFacts | None, where: str) -> None:
    plan = plan_transfer(FILES, {"a.txt": ListedObject(1, "e")}, {"a.txt": facts}, "")

    assert [file.name for file in getattr(plan, where)] == ["a.txt"]
    assert [file.name for file in plan.new] == ["b.txt"]


def claimed_over(keys: dict[str, InventoryKey], existing: dict[str, ListedObject]) -> Inventory:
    previous = interpret_objects("etr_1", Inventory("etr_1", keys=keys).to_json(), None, existing, "p/E/")
    return claimed_inventory(previous, MARK, FILES, existing)


def test_a_claim_lists_old_and_new_keys() -> None:
    claimed = claimed_over(
        {"old.txt": InventoryKey(9, 9, P), "a.txt": InventoryKey(5, 5, P)}, {"b.txt": ListedObject(7, "e")}
    )

    rows = {name: entry for name, entry in claimed.keys.items() if name not in METADATA_FILES}
    assert rows == {
        "old.txt": InventoryKey(9, 9, P),
        "a.txt": InventoryKey(1, A.member.crc32, P),
        "b.txt": InventoryKey(2, B.member.crc32, P),
    }
    assert claimed.claim == MARK
    assert not claimed.settled


def test_a_refusal_removes_only_what_is_new() -> None:
    previous = interpret_objects(
        "etr_1", Inventory("etr_1", keys={"a.txt": InventoryKey(5, 5, P)}).to_json(), None, {}, "p/E/"
    )
    claimed = claimed_inventory(previous, MARK, FILES, {})

    inventory, removed = withdrawn(previous, claimed, keep_listed=False)

    assert inventory.keys == {"a.txt": InventoryKey(5, 5, P)}
    assert set(removed) == {"b.txt", *METADATA_FILES}

    listed, removed = withdrawn(previous, claimed, keep_listed=True)

    assert set(listed.keys) == {"a.txt", *removed}
    assert {listed.keys[name].standing for name in removed} == {N}


@pytest.mark.parametrize(
    ("known", "may_delete", "deletes", "kept"),
    [
        (True, True, ["old.txt", "stale.txt", "tried.txt"], {}),
        (True, False, ["tried.txt"], {"old.txt": S, "stale.txt": S}),
        (False, True, ["tried.txt"], {"old.txt": S, "stale.txt": S}),
    ],
)
def test_deletes(known: bool, may_delete: bool, deletes: list[str], kept: dict[str, Standing]) -> None:
    keys = {
        "old.txt": InventoryKey(1, 1, P),
        "tried.txt": InventoryKey(1, 1, N),
        "stale.txt": InventoryKey(1, 1, S),
        "vanished.txt": InventoryKey(1, 1, P),
    }
    existing = {name: ListedObject(1, "e") for name in ("old.txt", "stale.txt", "tried.txt")}
    claimed = claimed_over(keys, existing)
    package = {
        "a.txt": InventoryKey(1, 1, P),
        "b.txt": InventoryKey(2, 2, P),
        **{name: InventoryKey(1, 1, P) for name in METADATA_FILES},
    }

    published = publish(claimed, package, existing, known=known, may_delete=may_delete)

    assert [name for name in published.deletes if name != "vanished.txt"] == deletes
    assert {n: e.standing for n, e in published.inventory.keys.items() if n not in package and n in kept} == kept
    assert published.kept_back == len(kept)


def test_an_older_attempt_gives_way() -> None:
    later = Inventory("etr_1", ClaimMark("d", "other", "owner", 4))

    with pytest.raises(Failure, match="Attempt 4"):
        check_claim(later, MARK)
    check_claim(Inventory("etr_1", ClaimMark("d", "other", "another-owner", 4)), MARK)
    check_claim(Inventory("etr_1", ClaimMark("d", "other", "owner", 2)), MARK)


def entry_with(*ids: str) -> dict[str, object]:
    return {"days": [{"notes": [{"type": "external_file", "externalFileId": identity} for identity in ids]}]}


@pytest.mark.parametrize(
    ("files", "ids", "sizes", "missing"),
    [
        ({"E.pdf": b"", "a": b"1"}, ["x"], {}, Missing()),
        ({"E.pdf": b"", "a": b"1"}, ["x", "x"], {}, Missing()),
        ({"E.pdf": b""}, ["x"], {}, Missing(1, ("x",))),
        ({"E.pdf": b"", "a": b"1"}, ["x", "y"], {}, Missing(1, ())),
        ({"E.pdf": b"", "a": b"1"}, ["x", "y"], {"x": 1, "y": 2}, Missing(1, ("y",))),
        ({"E.pdf": b"", "a": b"1", "b": b"2", "c": b"3"}, ["x"], {}, Missing()),
    ],
)
def test_missing_attachments(files: dict[str, bytes], ids: list[str], sizes: dict[str, int], missing: Missing) -> None:
    assert find_missing(entry_with(*ids), content_of(make_zip(files)).files, sizes) == missing


def test_a_proof_holds_for_the_same_archive_and_the_same_content() -> None:
    def row(file: File, crc: int | None = None) -> InventoryKey:
        return InventoryKey(file.member.size, file.member.crc32 if crc is None else crc, P)

    proven = Proven('"one" 7', frozenset({"a.txt", "b.txt", "gone.txt"}))
    inventory = Inventory("etr_1", MARK, {"a.txt": row(A), "b.txt": row(B, crc=1)}, proven=proven)

    assert known_good(FILES, inventory, '"one" 7') == {"a.txt"}
    assert known_good(FILES, inventory, '"two" 7') == set()
    assert known_good(FILES, inventory, None) == set()
    assert known_good(FILES, replace(inventory, proven=None), None) == set()


def test_no_proof_outlives_its_use() -> None:
    proven = Proven('"one" 7', frozenset({"a.txt"}))
    previous = interpret_objects("etr_1", Inventory("etr_1", MARK, {}, proven=proven).to_json(), None, {}, "p/E/")
    claimed = claimed_inventory(previous, MARK, FILES, {})

    assert claimed.proven == proven
    assert publish(claimed, {}, {}, known=True, may_delete=True).inventory.proven is None
    assert withdrawn(previous, claimed, keep_listed=False)[0].proven is None
