"""The package's bytes: file names, headings and JSON keys are a contract with those who search in them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from packager.decisions.metadata import PackageFacts, render
from packager.decisions.plan import Missing
from tests.support.archives import content_of, make_zip
from tests.support.orders import ENTRY, MESSAGE, order

if TYPE_CHECKING:
    from entrypackage.order import Order

KEYS = {
    "entry.json": [
        "package_name", "entry_id", "display_id", "name", "web_url", "creator", "authors", "created_at", "modified_at",
        "export_timestamp", "benchling_base_url", "webhook_data", "files", "canvas_id", "links",
    ],
    "entry_data.json": [*ENTRY, "display_id", "web_url", "created_at", "modified_at"],
    "links.json": ["schema_version", "entities", "links", "results_tables"],
    "input.json": ["source", "export_url", "processing_timestamp", "package_metadata"],
}  # fmt: skip

HEADINGS = [
    "# EXP1 - Titration", "## Overview", "## Entry Information", "## Export Information", "## Files Included",
    "## Metadata Files", "## Usage",
]  # fmt: skip


def files(the_order: Order, **changes: Any) -> dict[str, bytes]:
    """Render the package of one PDF and one attachment."""
    content = content_of(make_zip({"EXP1.pdf": b"%PDF", "data/a.csv": b"a,b\n"}))
    facts = PackageFacts(**{"files": content.files, "missing": Missing(), "canvas_id": "cnvs_1", **changes})
    return {name: b"".join(body) for name, body in render(the_order, facts).items()}


def test_the_five_files_and_entry_json_last() -> None:
    names = list(files(order()))

    assert sorted(names) == ["README.md", "entry.json", "entry_data.json", "input.json", "links.json"]
    assert names[-1] == "entry.json"


@pytest.mark.parametrize(("name", "keys"), KEYS.items())
def test_json_keys(name: str, keys: list[str]) -> None:
    body = files(order())[name]

    assert list(json.loads(body)) == keys
    assert body.startswith(b'{\n  "')


def test_readme_headings() -> None:
    text = files(order())["README.md"].decode()

    assert re.findall(r"^#+ .*$", text, re.MULTILINE) == HEADINGS
    assert "[View in Benchling](https://example.benchling.com/f/etr_Xy12-titration/edit)" in text
    for label in ("Display ID", "Entry ID", "Name", "Creator", "Authors", "Created", "Modified"):
        assert f"- **{label}**: " in text
    for label in ("Export Timestamp", "Benchling Base URL", "Total Files"):
        assert f"- **{label}**: " in text
    assert "- `data/a.csv` (4 bytes)" in text
    for name in ("README.md", "entry.json", "entry_data.json", "input.json", "links.json"):
        assert text.count(f"- `{name}`: ") == 1


def test_entry_json_values() -> None:
    document = json.loads(files(order())["entry.json"])

    assert document["package_name"] == "benchling/EXP1"
    assert document["creator"] == "Ada Lovelace <ada@ent_a>"
    assert document["authors"] == ["Ada Lovelace <ada@ent_a>"]
    assert document["export_timestamp"] == "2026-02-03T04:05:07Z"
    assert document["webhook_data"] == MESSAGE
    assert document["files"] == {
        "EXP1.pdf": {"s3_key": "benchling/EXP1/EXP1.pdf", "size": 4},
        "data/a.csv": {"s3_key": "benchling/EXP1/data/a.csv", "size": 4},
    }
    assert document["canvas_id"] == "cnvs_1"
    assert document["links"] == [
        {"type": "dna_sequence", "id": "seq_1", "name": "pUC19", "slug": "puc19"},
        {"type": "user", "id": "ent_a", "name": None, "slug": None},
    ]


def test_canvas_id_is_absent_when_unknown() -> None:
    assert "canvas_id" not in json.loads(files(order(), canvas_id=None)["entry.json"])


def test_input_json_has_no_signature() -> None:
    document = json.loads(files(order())["input.json"])

    assert document == {
        "source": "benchling_webhook",
        "export_url": "https://storage.example.com/a/export.zip",
        "processing_timestamp": "2026-02-03T04:05:07Z",
        "package_metadata": {"name": "benchling/EXP1", "registry": "lab-data", "total_files": 2},
    }


def test_links_json_values() -> None:
    document = json.loads(files(order())["links.json"])

    assert document == {
        "schema_version": 2,
        "entities": [
            {"id": "seq_1", "type": "dna_sequence", "web_url": "https://e/1", "source": "note_link"},
            {"id": "bfi_9", "type": "custom_entity_link", "web_url": None, "source": "entity_field"},
        ],
        "links": [{"id": "seq_1", "type": "dna_sequence", "web_url": "https://e/1"}],
        "results_tables": [{"assay_result_schema_id": "assaysch_1", "api_id": "tbl_1", "name": "Yields"}],
    }


@pytest.mark.parametrize("count", [0, 1, 499, 500, 501, 1200])
def test_entry_json_in_pieces_is_what_json_writes_at_once(count: int) -> None:
    trap = '{"a": {"files": {}}, "b": "\\n  \\"files\\": {}", "files": {}}'
    names = [f'd{n}/"x" 𝄞 {n}.txt' for n in range(count)]
    content = content_of(make_zip(dict.fromkeys(names, b"1")))
    the_order = order()
    body = files(
        the_order.model_copy(update={"trigger": the_order.trigger.model_copy(update={"message": trap})}),
        files=content.files,
    )["entry.json"]

    document = json.loads(body)
    assert list(document["files"]) == names
    assert document["webhook_data"] == json.loads(trap)
    assert body == (json.dumps(document, ensure_ascii=False, indent=2) + "\n").encode()
