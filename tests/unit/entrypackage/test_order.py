"""Order and report: what goes in comes out, proven by a digest, within what Kubernetes keeps."""

from __future__ import annotations

import base64
import gzip
import json
import random
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from entrypackage.failures import EXIT_CODES, POLICIES, Failure, FailureClass
from entrypackage.order import (
    REPORT_BYTES,
    Archive,
    Destination,
    Order,
    Owner,
    PackedPackage,
    Report,
    decode_order,
    encode_order,
    parse_order,
    parse_report,
)
from entrypackage.trigger import Taken, Trigger

URL = "https://bucket.s3.amazonaws.com/export.zip?X-Amz-Signature=deadbeef"


def order(**changes: Any) -> Order:
    facts: dict[str, Any] = {
        "owner": Owner(namespace="lab", name="etr-1-aaaaaa", uid="uid-1"),
        "attempt": 1,
        "trigger": Trigger(id="evt_1", type="v2.entry.created", occurred_at=datetime(2026, 1, 31, tzinfo=UTC)),
        "taken": Taken(event_id="evt_1"),
        "entry": {"id": "etr_1", "name": "Ünïcode 日本"},
        "benchling_base_url": "https://tenant.benchling.com",
        "archive": Archive(url=SecretStr(URL)),
        "destination": Destination(bucket="b", prefix="benchling", display_id="EXP1", queue_url="https://sqs/q"),
    }
    return Order(**facts | changes)


def test_an_order_comes_back_as_it_was_with_its_secret() -> None:
    encoded = encode_order(order())
    back = decode_order(encoded.parts, encoded.digest)
    assert back == order()
    assert back.archive.url.get_secret_value() == URL


def test_the_archives_url_does_not_print() -> None:
    assert "deadbeef" not in repr(order())
    assert "deadbeef" not in str(order().archive)


def test_the_same_order_gives_the_same_bytes() -> None:
    one, two = encode_order(order(entry={"a": 1, "b": 2})), encode_order(order(entry={"b": 2, "a": 1}))
    assert one == two
    assert one.digest != encode_order(order(attempt=2)).digest


def test_a_large_order_is_split_and_joined() -> None:
    noise = base64.b64encode(random.Random(1).randbytes(200_000)).decode()
    encoded = encode_order(order(entry={"noise": noise}), part_bytes=50_000)
    assert len(encoded.parts) > 2
    assert all(len(part) <= 50_000 for part in encoded.parts)
    assert decode_order(encoded.parts, encoded.digest).entry["noise"] == noise


@pytest.mark.parametrize("spoil", ["missing", "swapped", "empty", "changed", "digest", "garbage", "trailing"])
def test_a_spoilt_order_is_refused(spoil: str) -> None:
    noise = base64.b64encode(random.Random(1).randbytes(50_000)).decode()
    encoded = encode_order(order(entry={"noise": noise}), part_bytes=20_000)
    parts, digest = list(encoded.parts), encoded.digest
    match spoil:
        case "missing":
            parts = parts[:-1]
        case "swapped":
            parts = [*parts[1:], parts[0]]
        case "empty":
            parts = []
        case "changed":
            parts[1] = bytes([parts[1][0] ^ 1]) + parts[1][1:]
        case "digest":
            digest = "0" * 64
        case "garbage":
            parts = [b"no gzip"]
        case _:
            parts = [*parts, gzip.compress(b"more")]
    with pytest.raises(Failure) as caught:
        decode_order(parts, digest)
    assert caught.value.failure is FailureClass.ORDER_INVALID
    assert caught.value.policy.exit_code == 31


def test_an_order_of_another_release_names_the_members_and_no_values() -> None:
    plain = json.loads(order().to_json())
    plain["formatVersion"] = 2
    plain["archive"] = {"url": {"secret": "deadbeef"}}
    with pytest.raises(Failure) as caught:
        parse_order(json.dumps(plain).encode())
    assert "formatVersion" in caught.value.message
    assert "deadbeef" not in str(caught.value)
    with pytest.raises(Failure, match="its root"):
        parse_order(b"[]")


@pytest.mark.parametrize("changes", [{"prefix": "/a"}, {"prefix": "a/"}, {"prefix": ""}, {"display_id": "a/b"}])
def test_a_destination_that_would_leave_its_place_is_refused(changes: dict[str, str]) -> None:
    facts = {"bucket": "b", "prefix": "p", "display_id": "EXP1", "queue_url": "q"}
    with pytest.raises(ValidationError):
        Destination(**facts | changes)


def test_names_of_a_destination() -> None:
    destination = order().destination
    assert destination.package_name == "benchling/EXP1"
    assert destination.uri == "s3://b/benchling/EXP1/"
    assert destination.inventory_key == "benchling/.entrypackage/EXP1.json"
    assert not destination.inventory_key.startswith(destination.key_prefix)


TEXT = st.text(max_size=3000)


@given(
    message=TEXT,
    missing=st.lists(TEXT, max_size=20),
    notices=st.lists(TEXT, max_size=20),
    seconds=st.dictionaries(st.text(max_size=400), st.floats(0, 1e9), max_size=20),
    uri=TEXT,
    failure=st.none() | st.sampled_from(FailureClass),
)
@settings(max_examples=150, deadline=None)
def test_a_report_always_fits_and_is_json(
    message: str,
    missing: list[str],
    notices: list[str],
    seconds: dict[str, float],
    uri: str,
    failure: FailureClass | None,
) -> None:
    package = PackedPackage(uri=uri, files=1, bytes=2, manifest_checksum="c")
    report = Report(
        order_digest="d" * 64,
        failure=failure,
        message=message,
        missing=missing,
        missing_count=len(missing),
        notices=notices,
        seconds=seconds,
        package=package,
        touched=True,
    )
    written = report.to_bytes()
    assert len(written) <= REPORT_BYTES
    back = parse_report(written.decode())
    assert back is not None
    assert (back.failure, back.touched, back.order_digest) == (failure, True, "d" * 64)
    if len(report.model_dump_json(by_alias=True, exclude_none=True).encode()) <= REPORT_BYTES:
        assert back == report


def test_a_report_of_success_stays_one_however_long_its_lists() -> None:
    package = PackedPackage(uri="s3://b/" + "k" * 1024, files=1, bytes=2, manifest_checksum="c" * 64)
    report = Report(
        order_digest="d" * 64, package=package, missing_count=9000, missing=["x" * 30] * 9000, notices=["n" * 3000] * 3
    )
    back = parse_report(report.to_bytes().decode())
    assert back is not None
    assert back.succeeded
    assert back.package == package
    assert back.missing_count == 9000


@pytest.mark.parametrize(
    "report",
    [
        Report(message="abc", package=PackedPackage(uri="u" * 5000, files=1, bytes=1, manifest_checksum="c")),
        Report(message="x" * 65, seconds={"s" * 5000: 1.0}),
        Report(message="日" * 100_000, order_digest="d" * 5000),
        Report(notices=["n"], missing=["m" * 5000], message=""),
        Report(failure=FailureClass.INTERNAL, message="\x00" * 60, seconds={"s" * 4000: 1.0}),
    ],
    ids=range(5),
)
def test_shortening_ends_whatever_is_too_long(report: Report) -> None:
    written = report.to_bytes()
    assert len(written) <= REPORT_BYTES
    assert parse_report(written.decode()) is not None


@pytest.mark.parametrize("message", ["", "Killed", "null", "[]", '{"failure":"NoSuch"}', "{" * 5000])
def test_what_is_no_report_is_none(message: str) -> None:
    assert parse_report(message) is None


def test_exit_codes_are_distinct_and_listed() -> None:
    codes = [policy.exit_code for policy in POLICIES.values() if policy.exit_code is not None]
    assert len(codes) == len(set(codes)) == len(EXIT_CODES)
    assert set(POLICIES) == set(FailureClass)
    assert 0 not in EXIT_CODES
