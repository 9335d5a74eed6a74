"""Whatever comes back from Benchling is a typed value or a failure of the table, never a stack trace."""

from __future__ import annotations

import ast
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import controller.benchling
from controller.benchling import errors
from controller.benchling.client import BenchlingClient
from controller.benchling.errors import (
    AnswerUnreadable,
    AuthFailed,
    BenchlingFailure,
    NotFound,
    OutcomeUnknown,
    ProviderDown,
    Rejected,
    SessionClosed,
    Throttled,
)
from controller.benchling.links import LinkRef
from controller.benchling.models import CanvasChange, TaskFailed, TaskGone, TaskRunning, TaskSucceeded
from controller.benchling.wire import read_rate_limit
from entrypackage.failures import POLICIES, FailureClass
from tests.support.scripted_benchling import ScriptedBenchling, gateway_page, problem, settings
from tests.support.virtual_time import run_virtual

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

JSON = {"content-type": "application/json"}


async def _entries(client: BenchlingClient) -> list[Any]:
    from datetime import UTC, datetime

    return [page async for page in client.list_entries(datetime(2026, 1, 1, tzinfo=UTC), deadline=40.0)]


CALLS: dict[str, Callable[[BenchlingClient], Awaitable[Any]]] = {
    "get_entry": lambda c: c.get_entry("etr_1", deadline=40.0),
    "bulk_get_entries": lambda c: c.bulk_get_entries(["etr_1", "etr_2"], returning=["modifiedAt"], deadline=40.0),
    "list_entries": _entries,
    "external_file": lambda c: c.external_file("etr_1", "file_1", deadline=40.0),
    "start_export": lambda c: c.start_export("etr_1", deadline=40.0),
    "get_task": lambda c: c.get_task("task", deadline=40.0),
    "list_events": lambda c: c.list_events(starting_after="evt_1", deadline=40.0),
    "create_canvas": lambda c: c.create_canvas(
        app_id="app_1", feature_id="f", resource_id="etr_1", change=CanvasChange(enabled=True), deadline=40.0
    ),
    "get_canvas": lambda c: c.get_canvas("cnvs_1", deadline=40.0),
    "patch_canvas": lambda c: c.patch_canvas("cnvs_1", CanvasChange(blocks=[], enabled=True), deadline=40.0),
    "list_canvases": lambda c: c.list_canvases(resource_id="etr_1", deadline=40.0),
    "archive_canvases": lambda c: c.archive_canvases(["cnvs_1"], deadline=40.0),
    "create_session": lambda c: c.create_session(app_id="app_1", name="x", timeout_seconds=60, deadline=40.0),
    "patch_session": lambda c: c.patch_session("ses_1", status="SUCCEEDED", deadline=40.0),
    "get_app": lambda c: c.get_app("app_1", deadline=40.0),
    "get_folder": lambda c: c.get_folder("lib_1", deadline=40.0),
    "list_folders": lambda c: c.list_folders(project_id="src_1", deadline=40.0),
    "link_names": lambda c: c.link_names(
        [LinkRef("box", "box_1"), LinkRef("box", "box_2"), LinkRef("entry", "etr_1")], deadline=40.0
    ),
}


def ask(call: str, answer: Callable[[], httpx.Response | Exception], **changes: Any) -> Any:
    """Return what a call gives when every request but the token's is answered so."""

    async def scenario() -> Any:
        server = ScriptedBenchling(latency=0.0)
        server.faults.append(lambda request, _now: None if request.url.path.endswith("/token") else answer())
        async with BenchlingClient(settings(**changes), transport=server, rng=Random(1)) as client:
            return await CALLS[call](client)

    return run_virtual(scenario())


@pytest.mark.parametrize(
    ("answer", "kind", "failure"),
    [
        (lambda: gateway_page(503), ProviderDown, FailureClass.PROVIDER_DOWN),
        (lambda: gateway_page(502), ProviderDown, FailureClass.PROVIDER_DOWN),
        (lambda: gateway_page(404), ProviderDown, FailureClass.PROVIDER_DOWN),
        (lambda: gateway_page(200), ProviderDown, FailureClass.PROVIDER_DOWN),
        (lambda: problem(500, "api_error", "Oops"), ProviderDown, FailureClass.PROVIDER_DOWN),
        (lambda: httpx.Response(500, content=b"\xff\xfe\x00"), ProviderDown, FailureClass.PROVIDER_DOWN),
        (lambda: httpx.Response(302, headers={"location": "https://sso/?t=LEAKMARK"}), ProviderDown, "ProviderDown"),
        (lambda: httpx.Response(200, content=b'{"entry": {"id": "et', headers=JSON), ProviderDown, "ProviderDown"),
        (lambda: httpx.Response(200, content=b"", headers=JSON), ProviderDown, FailureClass.PROVIDER_DOWN),
        (lambda: httpx.Response(200, content=b"[" * 100_000, headers=JSON), ProviderDown, "ProviderDown"),
        (lambda: httpx.Response(200, content=b'{"entry": NaN}', headers=JSON), ProviderDown, "ProviderDown"),
        (lambda: httpx.Response(200, json={"entry": None}), AnswerUnreadable, FailureClass.ANSWER_UNREADABLE),
        (lambda: httpx.Response(200, json=["entry"]), AnswerUnreadable, FailureClass.ANSWER_UNREADABLE),
        (lambda: httpx.Response(200, json={"entry": {"id": 7}}), AnswerUnreadable, FailureClass.ANSWER_UNREADABLE),
        (lambda: problem(404, "invalid_request_error", "No such"), NotFound, FailureClass.NOT_FOUND),
        (lambda: problem(403, "forbidden", "Not yours"), NotFound, FailureClass.NOT_FOUND),
        (lambda: problem(400, "invalid_request_error", "Bad"), Rejected, FailureClass.PROVIDER_REJECTED),
        (lambda: httpx.Response(413, content=b"too large"), Rejected, FailureClass.PROVIDER_REJECTED),
        (lambda: problem(401, "authentication_error", "Who?"), AuthFailed, FailureClass.AUTH_FAILED),
        (lambda: problem(429, "invalid_request_error", "Slow"), (Throttled, ProviderDown), None),
        (lambda: httpx.ConnectError("refused"), ProviderDown, FailureClass.PROVIDER_DOWN),
        (lambda: httpx.ReadTimeout("late"), ProviderDown, FailureClass.PROVIDER_DOWN),
        (lambda: httpx.RemoteProtocolError("cut"), ProviderDown, FailureClass.PROVIDER_DOWN),
        (lambda: httpx.DecodingError("bad gzip"), ProviderDown, FailureClass.PROVIDER_DOWN),
    ],
)
def test_what_each_wrong_answer_means(
    answer: Callable[[], httpx.Response | Exception], kind: type[BenchlingFailure], failure: str | None
) -> None:
    with pytest.raises(kind) as caught:
        ask("get_entry", answer)
    assert failure is None or caught.value.failure == failure
    assert "LEAKMARK" not in str(caught.value)
    assert len(str(caught.value)) < 600


STATUSES = st.sampled_from([200, 201, 202, 204, 301, 302, 400, 401, 403, 404, 409, 413, 429, 500, 502, 503, 504, 599])
WORDS = [
    "entry",
    "entries",
    "id",
    "status",
    "response",
    "downloadURL",
    "taskId",
    "nextToken",
    "error",
    "message",
    "invalidId",
    "events",
    "createdAt",
    "eventType",
    "externalFile",
    "appCanvases",
    "blocks",
    "boxes",
    "folders",
    "name",
    "modifiedAt",
    "days",
    "notes",
    "links",
]
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(WORDS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(
    call=st.sampled_from(sorted(CALLS)),
    status=STATUSES,
    body=VALUES,
    raw=st.none() | st.binary(max_size=40),
    kind=st.sampled_from(["application/json", "text/html", "text/plain", ""]),
)
@hypothesis_settings(max_examples=150, deadline=None)
def test_no_answer_gives_anything_but_a_value_or_a_failure_of_the_table(
    call: str, status: int, body: Any, raw: bytes | None, kind: str
) -> None:
    def answer() -> httpx.Response:
        if raw is not None:
            return httpx.Response(status, content=raw, headers={"content-type": kind})
        response = httpx.Response(status, json=body)
        response.headers["content-type"] = kind
        return response

    seen: BenchlingFailure | None = None
    try:
        ask(call, answer, max_tries=2)
    except BenchlingFailure as failure:
        seen = failure
    assert seen is None or (seen.failure in POLICIES and seen.policy.remedy)


def test_nothing_here_raises_outside_the_table() -> None:
    """Every raise names one of our errors, re-raises, or guards the settings and the JSON reader's hook."""
    allowed = {name for name, value in vars(errors).items() if isinstance(value, type)}
    allowed |= {"raise_for", "ValueError"}
    guards = {("settings.py", "ValueError"), ("wire.py", "ValueError")}
    folder = Path(controller.benchling.__file__).parent
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Raise) or node.exc is None:
                continue
            called = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if name in {"failure", "_final", "_circuit_open"}:
                continue
            assert name in allowed, f"{path.name}:{node.lineno} raises {name}"
            assert name != "ValueError" or (path.name, name) in guards, f"{path.name}:{node.lineno}"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"status": "RUNNING"}, TaskRunning()),
        ({"status": "QUEUED"}, TaskRunning()),
        ({"status": "FAILED", "message": "boom", "errors": []}, TaskFailed("boom")),
        ({"status": "FAILED"}, TaskFailed("Benchling gave no reason.")),
        ({"status": "SUCCEEDED"}, TaskFailed("Benchling reported success but gave no address of the archive.")),
        ({"status": "SUCCEEDED", "response": {}}, None),
        ({"status": "SUCCEEDED", "response": {"downloadURL": "file:///etc/passwd"}}, None),
    ],
)
def test_tasks(body: Any, expected: object) -> None:
    task = ask("get_task", lambda: httpx.Response(200, json=body))
    assert isinstance(task, TaskFailed) if expected is None else task == expected


def test_a_task_that_is_gone_is_no_error() -> None:
    assert ask("get_task", lambda: problem(404, "invalid_request_error", "none")) == TaskGone()


def test_an_archive_address_prints_as_stars() -> None:
    url = "https://bucket.s3.amazonaws.com/x.zip?X-Amz-Signature=LEAKMARK"
    task = ask("get_task", lambda: httpx.Response(200, json={"status": "SUCCEEDED", "response": {"downloadURL": url}}))
    assert isinstance(task, TaskSucceeded)
    assert task.url.get_secret_value() == url
    for shown in (repr(task), str(task), f"{task.url}", f"{task.url!r}"):
        assert "***" in shown
        assert "LEAKMARK" not in shown


def test_a_closed_session_has_its_own_error() -> None:
    text = "Session has been closed and cannot be updated"
    with pytest.raises(SessionClosed):
        ask("patch_session", lambda: problem(400, "invalid_request_error", text))


def test_creating_a_canvas_is_not_repeated_blindly() -> None:
    with pytest.raises(OutcomeUnknown):
        ask("create_canvas", lambda: gateway_page(504))


def test_half_a_character_does_not_get_in() -> None:
    """A lone surrogate is JSON but cannot be written; whole characters that are escaped in halves stay."""
    content = b'{"entry": {"id": "etr_1", "name": "a\\ud800b", "days": [{"title": "\\ud83d\\ude00"}]}}'
    entry = ask("get_entry", lambda: httpx.Response(200, content=content, headers=JSON))
    assert entry.name == "a?b"
    assert entry.raw["days"][0]["title"] == "\U0001f600"


def test_a_number_beyond_all_bounds_is_no_number() -> None:
    with pytest.raises(ProviderDown):
        ask("get_entry", lambda: httpx.Response(200, content=b'{"entry": {"id": "e", "x": 1e999}}', headers=JSON))


def test_an_answer_that_is_too_large_is_not_read_to_its_end() -> None:
    with pytest.raises(AnswerUnreadable, match="larger"):
        ask("get_entry", lambda: httpx.Response(200, content=b"[" + b"1," * 5000 + b"1]"), max_answer_bytes=1000)


@pytest.mark.parametrize("entry_id", ["../tasks/1", "etr_1/../../token", "a?b=c", "a#b", "%2e%2e", ""])
def test_an_id_cannot_leave_its_path_segment(entry_id: str) -> None:
    async def scenario() -> None:
        server = ScriptedBenchling(latency=0.0)
        async with BenchlingClient(settings(), transport=server, rng=Random(1)) as client:
            try:
                await client.get_entry(entry_id)
            except NotFound:
                assert entry_id == ""
        paths = [item.path for item in server.log]
        assert all(path == "/api/v2/token" or path.startswith("/api/v2/entries/") for path in paths)

    run_virtual(scenario())


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"limit": "300", "remaining": "299", "reset": "30"}, (300, 299, 30.0)),
        ({"limit": "300", "remaining": "0", "reset": "1717796808"}, None),
        ({"limit": "0", "remaining": "0", "reset": "3"}, None),
        ({"limit": "many", "remaining": "0", "reset": "3"}, None),
        ({"limit": "300", "remaining": "-1", "reset": "3"}, None),
        ({"limit": "300", "remaining": "nan", "reset": "3"}, None),
        ({"limit": "300"}, None),
        ({}, None),
    ],
)
def test_rate_headers_are_believed_only_where_they_make_sense(
    headers: dict[str, str], expected: tuple[int, int, float] | None
) -> None:
    for prefix in ("x-rate-limit-", "x-ratelimit-"):
        rate = read_rate_limit({prefix + name: value for name, value in headers.items()})
        assert (rate and (rate.limit, rate.remaining, rate.reset_seconds)) == expected
