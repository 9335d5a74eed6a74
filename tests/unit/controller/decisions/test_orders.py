"""What goes into an order from the settings: all that is set about the destination, and nothing else."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from controller.benchling.models import Entry
from controller.decisions.orders import build_order, entry_checksum, is_usable_display_id
from controller.settings import ControllerSettings, DestinationSettings
from entrypackage.order import Destination
from tests.support.situations import ENTRY, event, package, with_attempt, working

SETTINGS = ControllerSettings.model_validate(
    {
        "namespace": "lab",
        "benchling": {"baseUrl": "https://example.benchling.com/"},
        "destination": {
            "bucket": "bucket",
            "prefix": "lab/eln",
            "queueUrl": "https://sqs.example/q",
            "region": "eu-west-1",
            "kmsKeyId": "key",
            "tags": {"team": "lab"},
            "deleteUnversioned": True,
        },
        "packager": {"image": "packager:1", "serviceAccount": "packager"},
    }
)


def entry(**changes: object) -> Entry:
    raw = {"id": ENTRY, "displayId": "EXP1", "name": "Growth", "modifiedAt": "2026-05-04T11:00:00Z", **changes}
    return Entry.model_validate({**raw, "raw": raw})


def test_the_destination_is_as_set() -> None:
    given = package(with_attempt(working()), event=event())

    order = build_order(given, entry(), [], {"file": 7}, SecretStr("https://archive/x?y"), SETTINGS)

    assert order.destination == Destination(
        bucket="bucket",
        prefix="lab/eln",
        display_id="EXP1",
        queue_url="https://sqs.example/q",
        region="eu-west-1",
        kms_key_id="key",
        tags={"team": "lab"},
        delete_unversioned=True,
    )
    assert order.benchling_base_url == "https://example.benchling.com"
    assert order.external_file_sizes == {"file": 7}


def test_every_setting_of_the_destination_reaches_the_order() -> None:
    assert set(DestinationSettings.model_fields) | {"display_id"} == set(Destination.model_fields)


def test_the_checksum_of_an_entry_leaves_out_when_it_was_modified() -> None:
    assert entry_checksum(entry()) == entry_checksum(entry(modifiedAt="2026-05-05T00:00:00Z"))
    assert entry_checksum(entry()) != entry_checksum(entry(name="Decay"))


@pytest.mark.parametrize(
    ("text", "usable"),
    [
        ("EXP1", True),
        ("", False),
        ("a/b", False),
        ("..", False),
        (".entrypackage", False),
        ("a\nb", False),
        ("Ä 1", True),
    ],
)
def test_which_display_ids_can_name_a_package(text: str, usable: bool) -> None:
    assert is_usable_display_id(text) is usable
