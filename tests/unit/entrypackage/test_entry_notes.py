"""Walking an entry's notes, whatever their shape."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrypackage import entry_notes

ENTRY: dict[str, Any] = {
    "days": [
        {
            "notes": [
                {"type": "text", "text": "a", "links": [{"id": "box_1", "type": "box", "webURL": "https://x"}, "no"]},
                {"type": "external_file", "externalFileId": "file_b"},
                {"type": "app_canvas", "canvasId": "cnvs_1"},
                "no note",
            ]
        },
        {"notes": None},
        "no day",
        {
            "notes": [
                {"type": "external_file", "externalFileId": "file_a", "links": [{"id": "box_1"}]},
                {"type": "external_file", "externalFileId": "file_b"},
                {"type": "external_file", "externalFileId": ""},
                {"type": "external_file", "externalFileId": 7},
                {"type": "text", "externalFileId": "file_c", "canvasId": "cnvs_3"},
                {"type": "app_canvas", "canvasId": "cnvs_2"},
            ]
        },
    ]
}


def test_notes_of_all_days_in_order() -> None:
    assert [note["type"] for note in entry_notes.notes(ENTRY)][:4] == [
        "text",
        "external_file",
        "app_canvas",
        "external_file",
    ]


def test_ids_come_once_and_in_order() -> None:
    assert entry_notes.external_file_ids(ENTRY) == ["file_b", "file_a"]
    assert entry_notes.canvas_ids(ENTRY) == ["cnvs_1", "cnvs_2"]


def test_links_come_as_they_are() -> None:
    assert list(entry_notes.links(ENTRY)) == [
        {"id": "box_1", "type": "box", "webURL": "https://x"},
        {"id": "box_1"},
    ]


@pytest.mark.parametrize("entry", [{}, {"days": None}, {"days": {}}, {"days": [{"notes": {}}]}, {"days": [[], 1]}])
def test_other_shapes_hold_no_notes(entry: dict[str, Any]) -> None:
    assert entry_notes.notes(entry) == []
    assert list(entry_notes.links(entry)) == []


_JSON = st.recursive(
    st.none() | st.text(max_size=3) | st.integers(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["days", "notes", "links", "type", "canvasId"]), inner, max_size=4)
    ),
)


@given(days=_JSON)
def test_nothing_makes_it_fail(days: object) -> None:
    entry = {"days": days}
    assert all(isinstance(canvas, str) for canvas in entry_notes.canvas_ids(entry))
    assert all(isinstance(link, dict) for link in entry_notes.links(entry))
