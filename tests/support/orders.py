"""An order for the packager that uses everything that an order can say."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from pydantic import SecretStr

from entrypackage.order import Archive, Destination, NamedLink, Order, Owner
from entrypackage.trigger import Taken, Trigger

MESSAGE = {"type": "v2.entry.updated.fields", "id": "evt_1", "resourceId": "etr_Xy12", "updates": ["fields.Project"]}

ENTRY: dict[str, Any] = {
    "id": "etr_Xy12",
    "displayId": "EXP1",
    "name": "Titration",
    "webURL": "https://example.benchling.com/f/etr_Xy12-titration/edit",
    "createdAt": "2026-01-02T03:04:05+00:00",
    "modifiedAt": "2026-02-03T04:05:06.789+00:00",
    "creator": {"id": "ent_a", "name": "Ada Lovelace", "handle": "ada"},
    "authors": [{"id": "ent_a", "name": "Ada Lovelace", "handle": "ada"}],
    "schema": None,
    "fields": {"Sample": {"value": "bfi_9", "type": "custom_entity_link", "isMulti": False}},
    "days": [
        {
            "date": "2026-01-02",
            "notes": [
                {
                    "type": "text",
                    "text": "see",
                    "links": [{"id": "seq_1", "type": "dna_sequence", "webURL": "https://e/1"}],
                },
                {"type": "results_table", "assayResultSchemaId": "assaysch_1", "apiId": "tbl_1", "name": "Yields"},
                {"type": "app_canvas", "appId": "app_1", "canvasId": "cnvs_1"},
            ],
        }
    ],
}


def order(**changes: Any) -> Order:
    """Return an order that uses everything."""
    fields: dict[str, Any] = {
        "owner": Owner(namespace="lab", name="etr-xy12-abcdef", uid="uid-1"),
        "attempt": 1,
        "trigger": Trigger(
            id="evt_1",
            type="v2.entry.updated.fields",
            occurred_at=datetime(2026, 2, 3, 4, 5, 7, tzinfo=UTC),
            message=json.dumps(MESSAGE),
        ),
        "taken": Taken(event_id="evt_1"),
        "entry": ENTRY,
        "benchling_base_url": "https://example.benchling.com",
        "archive": Archive(url=SecretStr("https://storage.example.com/a/export.zip?X-Amz-Signature=secret#part")),
        "destination": Destination(
            bucket="lab-data",
            prefix="benchling",
            display_id="EXP1",
            queue_url="https://sqs.us-east-1.amazonaws.com/1/q",
        ),
        "links": [
            NamedLink(type="dna_sequence", id="seq_1", name="pUC19", slug="puc19"),
            NamedLink(type="dna_sequence", id="seq_1", name="pUC19", slug="puc19"),
            NamedLink(type="user", id="ent_a"),
        ],
    }
    return Order(**{**fields, **changes})
