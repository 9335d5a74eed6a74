"""Writing the inventory and reading it back."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packager.decisions.inventory import (
    ClaimMark,
    Inventory,
    InventoryDamagedError,
    InventoryKey,
    Notified,
    Proven,
    Standing,
    parse_inventory,
)

MARK = ClaimMark("digest", "pod", "owner", 3)

names = st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=20)
entries = st.builds(
    InventoryKey,
    st.none() | st.integers(0, 1 << 50),
    st.none() | st.integers(0, (1 << 32) - 1),
    st.sampled_from(Standing),
)


@given(st.dictionaries(names, entries), st.booleans(), st.lists(names), st.none() | st.just(MARK))
def test_an_inventory_survives_writing_and_reading(
    keys: dict[str, InventoryKey],
    settled: bool,
    missing: list[str],
    claim: ClaimMark | None,
) -> None:
    inventory = Inventory(
        "etr_1", claim, keys, tuple(missing), len(missing), Notified("sum", None, "click", "id"),
        canvas_id="cnvs_1", proven=Proven('"etag" 7', frozenset(missing)), settled=settled,
    )  # fmt: skip

    assert parse_inventory(inventory.to_json()) == inventory


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b"nonsense", b'{"format_version": 2}', b"\xff"])
def test_what_is_no_inventory_is_damaged(raw: bytes) -> None:
    with pytest.raises(InventoryDamagedError):
        parse_inventory(raw)


def test_an_inventory_of_an_older_release_knows_no_canvas() -> None:
    document = json.loads(Inventory("etr_1", canvas_id="cnvs_1").to_json())
    del document["canvas_id"]

    assert parse_inventory(json.dumps(document).encode()) == Inventory("etr_1")
