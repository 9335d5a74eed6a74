"""What becomes of each message, and who may send it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from entrypackage.filing import Slot, Wish
from entrypackage.messages import parse_envelope
from receiver.answers import Accepted, DeliveryOutcome, Refusal, Why, code_of
from receiver.intake import check_tenant, entry_of, intake
from receiver.sources import client_address, is_allowed
from tests.support.webhook_signing import body_of, click_message, entry_message

SENT_AT = datetime(2026, 1, 31, 12, 0, 1, tzinfo=UTC)


def take(message: dict[str, Any]) -> Wish | Accepted:
    return intake(parse_envelope(body_of(message)), webhook_id="msg_1", sent_at=SENT_AT)


@pytest.mark.parametrize(
    "kind", ["v2.entry.created", "v2.entry.updated.fields", "v2.entry.updated.reviewRecord", "v3.entry.created"]
)
def test_entry_messages_become_events_by_benchlings_clock(kind: str) -> None:
    wish = take(entry_message(type=kind))
    assert isinstance(wish, Wish)
    assert (wish.entry_id, wish.slot, wish.trigger.id, wish.trigger.type) == ("etr_Ab12", Slot.EVENT, "evt_1", kind)
    assert wish.trigger.occurred_at == datetime(2026, 1, 31, 12, 0, 0, 500_000, tzinfo=UTC)
    assert json.loads(wish.trigger.message or "") == entry_message(type=kind)


@pytest.mark.parametrize("button", ["update-package-etr_Ab12", "update-package-etr_Ab12-p2-s15"])
def test_an_update_click_becomes_a_request_under_the_deliverys_id_and_time(button: str) -> None:
    wish = take(click_message(button))
    assert isinstance(wish, Wish)
    assert (wish.entry_id, wish.slot) == ("etr_Ab12", Slot.REQUEST)
    trigger = wish.trigger
    assert (trigger.id, trigger.type) == ("msg_1", "v2.canvas.userInteracted")
    assert (trigger.occurred_at, trigger.user_id) == (SENT_AT, "ent_1")
    assert json.loads(trigger.message or "")["canvasId"] == "cnvs_1"


def test_a_canvas_in_an_entry_asks_for_its_package() -> None:
    wish = take({"type": "v2.canvas.initialized", "featureId": "feat_1", "resourceId": "etr_Ab12", "userId": "ent_1"})
    assert isinstance(wish, Wish)
    assert (wish.entry_id, wish.slot, wish.trigger.id) == ("etr_Ab12", Slot.REQUEST, "msg_1")


@pytest.mark.parametrize(
    ("message", "outcome"),
    [
        (click_message("browse-files-etr_Ab12-p0-s15"), DeliveryOutcome.NOT_YET_SERVED),
        (click_message("update-package-"), DeliveryOutcome.NOT_YET_SERVED),
        (click_message("update-package-seq_1"), DeliveryOutcome.NOT_YET_SERVED),
        (click_message("update-package-../etr_1"), DeliveryOutcome.NOT_YET_SERVED),
        (click_message("my_button_id"), DeliveryOutcome.NOT_YET_SERVED),
        ({"type": "v2.canvas.initialized", "featureId": "f", "resourceId": "bfi_1"}, DeliveryOutcome.NOT_YET_SERVED),
        ({"type": "v2.canvas.created", "canvasId": "cnvs_1"}, DeliveryOutcome.NOT_YET_SERVED),
        ({"type": "v2-beta.canvas.created", "canvasId": "cnvs_1"}, DeliveryOutcome.NOT_YET_SERVED),
        ({"type": "v2.app.installed"}, DeliveryOutcome.ACKNOWLEDGED),
        ({"type": "v2.app.activateRequested"}, DeliveryOutcome.ACKNOWLEDGED),
        ({"type": "v2.app.deactivated"}, DeliveryOutcome.ACKNOWLEDGED),
        ({"type": "v2-beta.app.configuration.updated"}, DeliveryOutcome.ACKNOWLEDGED),
    ],
    ids=str,
)
def test_messages_without_a_trigger_are_answered_at_once(message: dict[str, Any], outcome: DeliveryOutcome) -> None:
    answer = take(message)
    assert isinstance(answer, Accepted)
    assert answer.outcome is outcome


@pytest.mark.parametrize("kind", ["v2.assayRun.created", "v4.entry.created", "x", "V2.ENTRY.CREATED"])
def test_an_unknown_type_is_refused(kind: str) -> None:
    with pytest.raises(Refusal) as caught:
        take(entry_message(type=kind))
    assert (caught.value.why, caught.value.code) == (Why.UNKNOWN_TYPE, 422)


def test_only_configured_tenants_are_served() -> None:
    delivered = parse_envelope(body_of(entry_message()))
    check_tenant(delivered, [])
    check_tenant(delivered, ["ten_2", "ten_1"])
    with pytest.raises(Refusal) as caught:
        check_tenant(delivered, ["ten_2"])
    assert caught.value.code == 403


def test_the_log_names_the_entry_where_there_is_one() -> None:
    event, click = parse_envelope(body_of(entry_message())), parse_envelope(body_of(click_message()))
    assert entry_of(event, None) == "etr_Ab12"
    assert entry_of(click, None) is None
    assert entry_of(click, take(click_message())) == "etr_Ab12"


def test_every_reason_has_a_code() -> None:
    assert {code_of(why) for why in Why} == {400, 401, 403, 404, 405, 408, 413, 422, 503}
    assert code_of(Why.DEADLINE) == code_of(Why.BEING_DELETED) == 503


@pytest.mark.parametrize(
    ("forwarded", "hops", "expected"),
    [
        ([], 0, "192.0.2.9"),
        (["203.0.113.5"], 0, "192.0.2.9"),
        (["203.0.113.5"], 1, "203.0.113.5"),
        (["198.51.100.66, 203.0.113.5"], 1, "203.0.113.5"),
        (["198.51.100.66", "203.0.113.5"], 1, "203.0.113.5"),
        (["198.51.100.66, 203.0.113.5, 10.0.0.1"], 2, "203.0.113.5"),
        (["203.0.113.5:4711"], 1, "203.0.113.5"),
        (["[2001:db8::1]:4711"], 1, "2001:db8::1"),
        (["2001:db8::1"], 1, "2001:db8::1"),
        (["::ffff:203.0.113.5"], 1, "203.0.113.5"),
        ([], 1, None),
        (["203.0.113.5"], 2, None),
        (["unknown"], 1, None),
        ([""], 1, None),
        (["203.0.113.5,"], 1, None),
    ],
)
def test_the_client_is_whom_the_outermost_trusted_proxy_saw(
    forwarded: list[str], hops: int, expected: str | None
) -> None:
    address = client_address("192.0.2.9", forwarded, hops)
    assert address == (ip_address(expected) if expected else None)


def test_the_allow_list() -> None:
    networks = [ip_network("203.0.113.0/24"), ip_network("2001:db8::/32")]
    assert is_allowed(ip_address("203.0.113.5"), networks)
    assert is_allowed(ip_address("2001:db8::1"), networks)
    assert not is_allowed(ip_address("203.0.114.5"), networks)
    assert not is_allowed(None, networks)
    assert is_allowed(None, [])
