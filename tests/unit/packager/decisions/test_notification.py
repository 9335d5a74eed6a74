"""When the message is sent, and what is in it."""

from __future__ import annotations

import json

import pytest

from packager.decisions.inventory import Notified
from packager.decisions.notification import decide_announcement, message_body
from tests.support.orders import order

ANNOUNCED = Notified("sum", "evt_1", "click_1", "msg_1")


@pytest.mark.parametrize(
    ("notified", "checksum", "click", "always", "needed"),
    [
        (None, "sum", None, False, True),
        (ANNOUNCED, "other", None, False, True),
        (ANNOUNCED, "sum", None, False, False),
        (ANNOUNCED, "sum", "click_1", True, False),
        (ANNOUNCED, "sum", "click_2", True, True),
        (ANNOUNCED, "sum", "click_2", False, False),
        (ANNOUNCED, "other", "click_1", True, True),
    ],
)
def test_a_message_is_sent_for_what_is_new_or_asked_for(
    notified: Notified | None, checksum: str, click: str | None, always: bool, needed: bool
) -> None:
    decision = decide_announcement(notified, checksum, click, always=always)

    assert decision.needed is needed
    assert decision.earlier_message_id == (None if needed else "msg_1")


def test_message_to_the_queue() -> None:
    assert json.loads(message_body(order())) == {
        "source_prefix": "s3://lab-data/benchling/EXP1/",
        "registry": "lab-data",
        "package_name": "benchling/EXP1",
        "metadata_uri": "entry.json",
        "commit_message": "Benchling v2.entry.updated.fields at 2026-02-03T04:05:07Z",
    }


def test_message_names_a_workflow_only_when_there_is_one() -> None:
    destination = order().destination.model_copy(update={"workflow": "alpha"})

    assert json.loads(message_body(order(destination=destination)))["workflow"] == "alpha"
