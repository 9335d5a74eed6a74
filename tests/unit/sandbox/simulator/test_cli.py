"""The command line: every verb of the table is there, and what a person types becomes the order that is sent."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from sandbox.simulator.cli import parser
from sandbox.simulator.control import TenantControl
from sandbox.simulator.verbs import VERBS

CASES: list[tuple[str, dict[str, Any]]] = [
    (
        'entry create --name "Growth curve" --attach plate.csv:20M:deflated --attach raw.bin:2MiB --field Batch=7',
        {
            "name": "Growth curve", "count": 1, "fields": {"Batch": 7}, "canvas": False, "silent": False,
            "schemaless": False, "attachments": [
                {"name": "plate.csv", "size": 20_000_000, "deflated": True},
                {"name": "raw.bin", "size": 2 << 20, "deflated": False},
            ],
        },
    ),
    ("entry edit E --kind body --text more", {"entry": "E", "kind": "body", "count": 1, "text": "more"}),
    (
        "entry attach E more.csv:5k --replace",
        {"entry": "E", "files": [{"name": "more.csv", "size": 5000, "deflated": False}], "replace": True},
    ),
    ("entry link E dna_sequence", {"entry": "E", "kind": "dna_sequence"}),
    ("burst --events 50 --entries 5 --seconds 3", {"events": 50, "entries": 5, "seconds": 3.0}),
    ("canvas insert E --initialized", {"entry": "E", "initialized": True}),
    ("click C go --count 2", {"canvas": "C", "button": "go", "count": 2, "force": False}),
    (
        'fault set task_failed message="No PDF." --subject E',
        {"name": "task_failed", "options": {"message": "No PDF."}, "subject": "E", "chance": 1.0},
    ),
    ("fault clear", {}),
    ("fault clear api_503", {"name": "api_503"}),
    ("rotate-keys --withdraw-old", {"keep_old": False}),
    ("rotate-keys", {"keep_old": True}),
    ("requests --operation exportItem", {"operation": "exportItem", "last": 50}),
    ("requests --last 0 --json", {"last": 0}),
    ("webhooks", {"last": 30}),
    ("route --retries aggressive --routing stable", {"retries": "aggressive", "stable": True}),
    ("clock --seconds 3700", {"seconds": 3700.0}),
    ("clock --scale 0", {"seconds": 0.0, "scale": 0.0}),
    ("app install", {"kind": "install"}),
]  # fmt: skip


@pytest.mark.parametrize(("line", "order"), CASES)
def test_a_line_becomes_an_order_that_is_valid(line: str, order: dict[str, Any]) -> None:
    given = parser().parse_args(shlex.split(line))
    verb = given.run
    assert verb.order_of(given) == order
    verb.order.model_validate(order)


def test_every_verb_is_on_the_command_line_and_in_the_client() -> None:
    for verb in VERBS.values():
        with pytest.raises(SystemExit) as ended:
            parser().parse_args([*verb.words.split(), "--help"])
        assert ended.value.code == 0
        assert callable(getattr(TenantControl, verb.run.__name__))
