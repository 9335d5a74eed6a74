"""Messages as Benchling sends them, as its schema shows them, and as nobody should."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrypackage.clicks import entry_of_update_button
from entrypackage.messages import (
    KNOWN_TYPES,
    UPDATES_CUT,
    CanvasCreated,
    CanvasInitialized,
    CanvasInteracted,
    EntryMessage,
    LifecycleMessage,
    MessageError,
    UnknownMessage,
    parse_envelope,
    parse_message,
)
from entrypackage.trigger import MESSAGE_CHARS

EVENT: dict[str, Any] = {
    "type": "v2.entry.updated.fields",
    "id": "evt_1",
    "createdAt": "2026-01-31T12:00:00.123456+00:00",
    "resourceId": "etr_1",
    "schema": None,
    "updates": ["fields.Batch"],
    "deprecated": False,
}


def envelope(message: object = None, **changes: Any) -> dict[str, Any]:
    return {
        "version": "0",
        "baseURL": "https://tenant.benchling.com",
        "tenantId": "ten_1",
        "app": {"id": "app_1"},
        "appDefinition": {"id": "appdef_1", "versionNumber": "0.1.0"},
        "channel": "events",
        "message": EVENT if message is None else message,
        **changes,
    }


def body(message: object = None, **changes: Any) -> bytes:
    return json.dumps(envelope(message, **changes)).encode()


def without(whole: dict[str, Any], *members: str) -> dict[str, Any]:
    return {name: value for name, value in whole.items() if name not in members}


def test_an_envelope_is_read() -> None:
    read = parse_envelope(body())
    assert (read.base_url, read.tenant_id, read.app.id) == ("https://tenant.benchling.com", "ten_1", "app_1")
    assert (read.app_definition.id, read.app_definition.version_number) == ("appdef_1", "0.1.0")
    assert isinstance(read.message, EntryMessage)
    assert read.message.created_at == datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)
    assert json.loads(read.text) == EVENT


@pytest.mark.parametrize(
    "changes",
    [
        {"targetPath": "/event"},
        {"context": None},
        {"app": {"id": "app_1", "more": [1]}},
        {"appDefinition": {"id": "appdef_1"}},
    ],
)
def test_more_or_fewer_members_than_the_schema_has_are_fine(changes: dict[str, Any]) -> None:
    assert parse_envelope(body(**changes)).tenant_id == "ten_1"
    assert parse_envelope(json.dumps(without(envelope(), "channel", "version")).encode()).channel is None


@pytest.mark.parametrize(
    ("given_url", "normalised"),
    [
        ("tenant.benchling.com", "https://tenant.benchling.com"),
        ("https://Tenant.Benchling.com/", "https://tenant.benchling.com"),
        ("HTTPS://tenant.benchling.com", "https://tenant.benchling.com"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
    ],
)
def test_the_base_url_has_one_form(given_url: str, normalised: str) -> None:
    assert parse_envelope(body(baseURL=given_url)).base_url == normalised


@pytest.mark.parametrize("url", ["", "https://", "ftp://a", "https://a/b", "https://u:p@a", "a b", None])
def test_a_base_url_that_is_none_is_refused(url: object) -> None:
    with pytest.raises(MessageError) as caught:
        parse_envelope(body(baseURL=url))
    assert (caught.value.reason, str(caught.value)) == ("BadEnvelope", "The envelope is wrong at baseURL.")


@pytest.mark.parametrize("member", ["baseURL", "tenantId", "app", "appDefinition", "message"])
def test_an_envelope_that_lacks_what_it_must_have_is_refused(member: str) -> None:
    with pytest.raises(MessageError) as caught:
        parse_envelope(json.dumps(without(envelope(), member)).encode())
    assert caught.value.reason == "BadEnvelope"


@pytest.mark.parametrize(
    ("message", "model"),
    [
        ({"type": "v2.entry.created", "id": "e", "createdAt": "2026-01-31T12:00Z", "resourceId": "r"}, EntryMessage),
        (
            {
                "type": "v3.entry.created",
                "id": "e",
                "createdAt": "2026-01-31T12:00:00",
                "resourceId": "r",
                "stability": "beta",
            },
            EntryMessage,
        ),
        ({"type": "v2.canvas.initialized", "featureId": "f", "resourceId": "r"}, CanvasInitialized),
        ({"type": "v2.canvas.initialized", "featureId": "f", "resourceId": "r", "canvasId": "c"}, CanvasInitialized),
        ({"type": "v2.canvas.created", "canvasId": "c", "excludedProperties": []}, CanvasCreated),
        ({"type": "v2-beta.canvas.created", "canvasId": "c", "userId": None, "deprecated": True}, CanvasCreated),
        ({"type": "v2.canvas.userInteracted", "canvasId": "c", "buttonId": "b"}, CanvasInteracted),
        ({"type": "v2.app.installed"}, LifecycleMessage),
        ({"type": "v9.later"}, UnknownMessage),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else "",
)
def test_messages_are_typed_and_optional_members_may_be_missing(message: dict[str, Any], model: type[object]) -> None:
    assert type(parse_message(message)) is model


def test_a_time_without_a_zone_is_utc() -> None:
    read = parse_message(EVENT | {"createdAt": "2026-01-31T12:00:00"})
    assert isinstance(read, EntryMessage)
    assert read.created_at == datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize("member", ["id", "createdAt", "resourceId"])
@pytest.mark.parametrize("value", [None, "", 5, {}, "x" * 200, "\x00", "a b"])
def test_a_known_type_needs_its_members(member: str, value: object) -> None:
    for message in (without(EVENT, member), EVENT | {member: value}):
        with pytest.raises(MessageError) as caught:
            parse_message(message)
        assert caught.value.reason == "BadMessage"
        assert member in str(caught.value)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(garbage: bytes) -> None:
    with pytest.raises(MessageError):
        parse_envelope(garbage)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
MEMBERS = ["type", "id", "createdAt", "resourceId", "updates", "canvasId", "buttonId", "featureId", "userId"]


@given(
    kind=st.sampled_from(sorted(KNOWN_TYPES)) | st.text(max_size=20),
    members=st.dictionaries(st.sampled_from(MEMBERS), JSON | st.text(), max_size=9),
)
@settings(max_examples=300, deadline=None)
def test_any_message_is_read_or_refused(kind: str, members: dict[str, Any]) -> None:
    try:
        read = parse_envelope(body(EVENT | members | {"type": kind}))
    except MessageError as error:
        assert error.reason in {"NotJson", "BadMessage"}  # noqa: PT017 - both endings are right
    else:
        assert read.message.type == kind
        assert len(read.text) <= MESSAGE_CHARS


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"nul",
        b"null",
        b"[]",
        b'"text"',
        b"\xff",
        b'{"a":NaN}',
        b'{"a":1e999}',
        b'{"a":"\\ud800"}',
        b"{" * 100_000,
        b'{"a":' + b"[" * 100 + b"]" * 100 + b"}",
        b'{"a":' + b"9" * 10_000 + b"}",
    ],
    ids=range(13),
)
def test_what_cannot_be_passed_on_is_no_json(raw: bytes) -> None:
    with pytest.raises(MessageError) as caught:
        parse_envelope(raw)
    assert caught.value.reason in {"NotJson", "BadEnvelope"}


def test_the_text_is_canonical() -> None:
    one = parse_envelope(body(EVENT)).text
    two = parse_envelope(body(dict(reversed(EVENT.items())))).text
    assert one == two
    assert parse_envelope(body(EVENT | {"name": "Größe"})).text.count("Größe") == 1


@pytest.mark.parametrize("count", [500, 5000])
def test_of_a_long_message_the_updates_are_cut_and_it_says_so(count: int) -> None:
    updates = [f"fields.Ünit {number}" for number in range(count)]
    text = parse_envelope(body(EVENT | {"updates": updates})).text
    assert MESSAGE_CHARS - 40 < len(text) <= MESSAGE_CHARS
    read = json.loads(text)
    assert read["updates"] == updates[: len(read["updates"])]
    assert read[UPDATES_CUT] == count - len(read["updates"]) > 0
    assert without(read, "updates", UPDATES_CUT) == without(EVENT, "updates")


def test_of_a_message_with_a_huge_foreign_member_the_known_ones_stay() -> None:
    read = json.loads(parse_envelope(body(EVENT | {"novelty": "x" * 10_000})).text)
    assert read["resourceId"] == "etr_1"
    assert "novelty" not in read
    read = json.loads(parse_envelope(body(EVENT | {"updates": ["x" * 10_000]})).text)
    assert (read["updates"], read[UPDATES_CUT]) == ([], 1)


def test_a_message_just_as_long_as_allowed_is_kept_whole() -> None:
    bare = len(parse_envelope(body(EVENT | {"more": ""})).text)
    message = EVENT | {"more": "x" * (MESSAGE_CHARS - bare)}
    assert json.loads(parse_envelope(body(message)).text) == message


@pytest.mark.parametrize(
    ("button", "entry_id"),
    [
        ("update-package-etr_Ab12", "etr_Ab12"),
        ("update-package-etr_Ab12-p0-s15", "etr_Ab12"),
        ("update-package-", None),
        ("update-package-etr_", None),
        ("update-package-Ab12", None),
        ("update-package-seq_1", None),
        ("update-package-etr_1/../etr_2", None),
        ("update-package-etr_1\n", None),
        ("update-package-etr_" + "x" * 125, None),
        ("xupdate-package-etr_1", None),
        ("browse-files-etr_1-p0-s15", None),
        ("", None),
    ],
)
def test_the_update_button_names_its_entry(button: str, entry_id: str | None) -> None:
    assert entry_of_update_button(button) == entry_id
