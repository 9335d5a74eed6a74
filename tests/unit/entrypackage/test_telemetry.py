"""Log lines: one JSON object each, bounded, and without secrets whoever logs them."""

from __future__ import annotations

import io
import json
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrypackage.telemetry import LINE_BYTES, JsonFormatter, TextFormatter, redact

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl"
PRESIGNED = "https://bucket.s3.amazonaws.com/export.zip?X-Amz-Signature=deadbeef&X-Amz-Credential=AKIA1"


def line(message: str, *arguments: object, **extra: object) -> dict[str, Any]:
    record = logging.LogRecord("test", logging.INFO, __file__, 1, message, arguments, None)
    vars(record).update(extra)
    written = JsonFormatter().format(record)
    assert "\n" not in written
    assert len(written.encode()) <= LINE_BYTES
    read: dict[str, Any] = json.loads(written)
    return read


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f"GET {PRESIGNED} failed", "deadbeef"),
        (f"('{PRESIGNED}',)", "deadbeef"),
        (f'{{"url":"{PRESIGNED}"}}', "deadbeef"),
        ("Authorization: Bearer abcdefgh12345678", "abcdefgh12345678"),
        ("authorization: basic dXNlcjpwYXNzd29yZA==", "dXNlcjpwYXNzd29yZA"),
        (f"token={JWT}", "c2lnbmF0dXJl"),
    ],
)
def test_secrets_are_hidden_and_the_rest_is_kept(text: str, secret: str) -> None:
    assert secret in text
    assert secret not in redact(text)
    assert "***" in redact(text)


def test_what_is_no_secret_stays() -> None:
    text = "The bearer of s3://bucket/key read https://tenant.benchling.com/a/b and asked: why?"
    assert redact(text) == text


def test_redaction_reaches_extras_arguments_and_tracebacks() -> None:
    read = line("fetching %s", PRESIGNED, url=PRESIGNED, nested={"headers": ["Bearer abcdefgh12345678"]})
    assert "deadbeef" not in json.dumps(read)
    assert "abcdefgh12345678" not in json.dumps(read)
    assert read["url"] == "https://bucket.s3.amazonaws.com/export.zip?***"
    error = ValueError(PRESIGNED)
    failed = line("failed", exc_info=(type(error), error, None))
    assert "ValueError" in failed["error"]
    assert "deadbeef" not in failed["error"]


@given(st.text(max_size=200), st.dictionaries(st.sampled_from(["a", "b"]), st.text() | st.floats() | st.binary()))
def test_any_record_is_one_line_of_json(message: str, extra: dict[str, object]) -> None:
    read = line(message.replace("%", "%%"), **extra)
    assert read["level"] == "info"
    assert read["logger"] == "test"


def test_a_long_line_is_cut_and_says_so() -> None:
    read = line("start " + "x" * 100_000, big="y" * 100_000)
    assert read["cut"] is True
    assert read["message"].startswith("start")
    assert line("ä" * 40_000)["cut"] is True


def test_a_terminal_gets_text() -> None:
    record = logging.LogRecord("test", logging.WARNING, __file__, 1, "It is %s", ("late",), None)
    record.entryId = "etr_1"
    shown = TextFormatter().format(record)
    assert "warning It is late entryId=etr_1" in shown


def test_levels_of_http_libraries_are_raised() -> None:
    # The root logger is the process's own: what it had is put back.
    from entrypackage.telemetry import configure_logging

    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    try:
        configure_logging("debug", stream=stream)
        logging.getLogger("httpx").info("GET https://a/b?secret=1")
        logging.getLogger("mine").debug("mine")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    lines = [json.loads(entry)["logger"] for entry in stream.getvalue().splitlines()]
    assert lines == ["mine"]
