"""Five packages under version control: whatever changes their bytes shows in a diff.

``python -m tests.unit.packager.decisions.test_metadata_golden`` writes them anew.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from packager.decisions.metadata import PackageFacts, manifest_checksum, render
from packager.decisions.plan import find_missing
from tests.support.archives import content_of, make_zip
from tests.support.orders import ENTRY, order

FOLDER = Path(__file__).parent / "golden"

NOTE_TYPES = (
    "text", "code", "list_bullet", "list_number", "list_checkbox", "table", "text_box", "external_file", "app_canvas",
    "assay_run", "lookup_table", "results_table", "registration_table", "plate_creation_table", "box_creation_table",
    "mixture_prep_table", "inventory_container_table", "inventory_plate_table", "note_linked_chart",
)  # fmt: skip
LINK_TYPES = (
    "link", "user", "request", "entry", "stage_entry", "protocol", "workflow", "custom_entity", "aa_sequence",
    "dna_sequence", "batch", "box", "container", "location", "plate", "insights_dashboard", "folder", "sql_dashboard",
)  # fmt: skip


def plain() -> dict[str, Any]:
    """Return an entry without anything special."""
    return {**ENTRY, "fields": {}, "days": []}


def all_notes() -> dict[str, Any]:
    """Return an entry with a note of every type and a link of every type."""
    notes: list[dict[str, Any]] = [
        {"type": kind, "indentation": 0, "text": f"a {kind}", "links": []} for kind in NOTE_TYPES
    ]
    for note in notes:
        if note["type"] == "external_file":
            note["externalFileId"] = "exf_1"
        if note["type"] == "app_canvas":
            note |= {"appId": "app_1", "canvasId": "cnvs_9", "featureId": "feat_1"}
        if note["type"] == "results_table":
            note |= {"assayResultSchemaId": "assaysch_1", "apiId": "tbl_1", "name": "Yields"}
    notes[0]["links"] = [
        {"type": kind, "webURL": f"https://example.com/{kind}", **({} if kind == "link" else {"id": f"id_{kind}"})}
        for kind in LINK_TYPES
    ]
    return {**ENTRY, "days": [{"date": "2026-01-02", "title": None, "notes": notes}]}


def foreign() -> dict[str, Any]:
    """Return an entry whose texts are neither ASCII nor harmless in Markdown."""
    person = {"id": "ent_z", "name": "Žofie *Bold* 王", "handle": "zofie"}
    return {
        **plain(),
        "name": "Größe [x](http://evil) `code` | <b> # 実験\n二",
        "creator": person,
        "authors": [person, person],
    }


def no_schema() -> dict[str, Any]:
    """Return an entry as bare as the API allows."""
    return {**plain(), "schema": None, "creator": None, "authors": [], "fields": {}, "days": None}


CASES: dict[str, tuple[dict[str, Any], dict[str, bytes]]] = {
    "plain": (plain(), {"EXP1.pdf": b"%PDF", "data/a.csv": b"a,b\n"}),
    "all-notes": (all_notes(), {"EXP1.pdf": b"%PDF", "entry.json": b"{}"}),
    "foreign": (foreign(), {"EXP1.pdf": b"%PDF", "bilder/größe `x`.png": b"png", "実験.txt": b"1"}),
    "no-schema": (no_schema(), {}),
    "thousands": (plain(), {f"raw/{number:05}.csv": b"%d\n" % number for number in range(2500)}),
}


def package(name: str) -> dict[str, bytes]:
    """Render one case; of long files only the beginning and a sum, to keep the repository small."""
    entry, files = CASES[name]
    the_order = order(entry=entry)
    content = content_of(make_zip(files))
    facts = PackageFacts(content.files, find_missing(entry, content.files, {}), None, content.notices)
    rendered = {file: b"".join(body) for file, body in render(the_order, facts).items()}
    rendered["manifest-checksum.txt"] = (manifest_checksum(the_order, facts) + "\n").encode()
    return {
        file: body
        if len(body) < 40_000
        else body[:4000] + b"\n... " + hashlib.sha256(body).hexdigest().encode() + b"\n"
        for file, body in rendered.items()
    }


@pytest.mark.parametrize("name", CASES)
def test_the_package_is_as_it_was(name: str) -> None:
    kept = {path.name: path.read_bytes() for path in (FOLDER / name).iterdir()}

    assert package(name) == kept


@pytest.mark.parametrize("name", CASES)
def test_the_same_order_gives_the_same_bytes(name: str) -> None:
    assert package(name) == package(name)


def test_the_manifest_leaves_trigger_and_times_out() -> None:
    entry, files = CASES["plain"]
    content = content_of(make_zip(files))
    facts = PackageFacts(content.files, find_missing(entry, content.files, {}), None)
    first, other = order(entry=entry), order(entry={**entry, "modifiedAt": "2027-01-01T00:00:00+00:00"})
    trigger = first.trigger.model_copy(update={"id": "evt_2", "message": json.dumps({"type": "other"})})

    assert manifest_checksum(first, facts) == manifest_checksum(other.model_copy(update={"trigger": trigger}), facts)
    assert manifest_checksum(first, facts) != manifest_checksum(order(entry={**entry, "name": "Other"}), facts)
    assert manifest_checksum(first, facts) != manifest_checksum(
        first, PackageFacts(content.files[:1], facts.missing, None)
    )


def test_a_hostile_name_cannot_leave_its_place_in_the_readme() -> None:
    text = package("foreign")["README.md"].decode()

    assert text.startswith("# EXP1 - Größe \\[x\\]")
    assert "[x](http" not in text
    assert "<b>" not in text
    assert text.count("\n## ") == 6


def write() -> None:
    """Write the packages anew."""
    for name in CASES:
        folder = FOLDER / name
        folder.mkdir(parents=True, exist_ok=True)
        for file, body in package(name).items():
            (folder / file).write_bytes(body)


if __name__ == "__main__":
    write()
