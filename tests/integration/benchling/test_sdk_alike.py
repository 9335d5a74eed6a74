"""Our client and Benchling's SDK, given the same scripted answers: the same values, and never a worse error.

Where the SDK is known to end in something else than its own error, the table says so: that is what ours must not do.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from benchling_sdk.auth.api_key_auth import ApiKeyAuth
from benchling_sdk.benchling import Benchling
from benchling_sdk.errors import BenchlingError
from benchling_sdk.helpers.retry_helpers import RetryStrategy
from benchling_sdk.models import AppCanvasUpdate, ExportItemRequest

from controller.benchling.client import BenchlingClient
from controller.benchling.errors import BenchlingFailure
from controller.benchling.models import CanvasChange, TaskFailed, TaskRunning, TaskSucceeded
from tests.support.scripted_benchling import BASE_URL, entry, gateway_page, problem, settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

JSON = {"content-type": "application/json"}
ENTRY = {
    **entry("etr_1"),
    "apiURL": f"{BASE_URL}/api/v2/entries/etr_1",
    "folderId": "lib_1",
    "creator": {"id": "ent_1", "name": "Ada", "handle": "ada"},
    "authors": [{"id": "ent_1", "name": "Ada", "handle": "ada"}],
    "assignedReviewers": [],
    "schema": None,
    "customFields": {},
    "entryTemplateId": None,
    "reviewRecord": None,
    "archiveRecord": None,
    "unknownMember": {"tolerated": True},
}
CANVAS = {
    "id": "cnvs_1",
    "app": {"id": "app_1"},
    "featureId": "f",
    "resourceId": "etr_1",
    "enabled": True,
    "data": None,
    "sessionId": None,
    "blocks": [{"type": "BUTTON", "id": "update", "text": "Update", "enabled": True}],
    "archiveRecord": None,
}


def sdk(handler: Callable[[httpx.Request], httpx.Response]) -> Benchling:
    """Return the SDK on scripted answers, without its retries."""
    return Benchling(
        url=BASE_URL,
        auth_method=ApiKeyAuth("key"),
        httpx_client=httpx.Client(transport=httpx.MockTransport(handler)),
        retry_strategy=RetryStrategy(max_tries=1),
    )


def ours(handler: Callable[[httpx.Request], httpx.Response], call: Callable[[BenchlingClient], Awaitable[Any]]) -> Any:
    """Return what our client makes of the same answers."""

    def with_token(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/v2/token":
            return httpx.Response(200, json={"access_token": "t", "token_type": "Bearer", "expires_in": 900})
        return handler(request)

    async def run() -> Any:
        transport = httpx.MockTransport(with_token)
        async with BenchlingClient(settings(max_tries=1), transport=transport, rng=Random(1)) as client:
            return await call(client)

    return asyncio.run(run())


@dataclass(frozen=True)
class Operation:
    """One question, asked through both."""

    sdk: Callable[[Benchling], Any]
    ours: Callable[[BenchlingClient], Awaitable[Any]]
    good: tuple[int, Any]
    sdk_facts: Callable[[Any], Any]
    our_facts: Callable[[Any], Any]


def _task_facts(task: object) -> Any:
    match task:
        case TaskSucceeded():
            return ("SUCCEEDED", task.url.get_secret_value())
        case TaskFailed():
            return ("FAILED", task.message)
        case TaskRunning():
            return ("RUNNING", None)
        case _:
            raise AssertionError(task)


def _sdk_task_facts(task: Any) -> Any:
    extra = {"SUCCEEDED": lambda: task.response.additional_properties["downloadURL"], "FAILED": lambda: task.message}
    return (task.status.value, extra.get(task.status.value, lambda: None)())


def _entry_facts(found: Any) -> Any:
    creator = None if found.creator is None else (found.creator.id, found.creator.name, found.creator.handle)
    return (found.id, found.display_id, found.name, found.modified_at, found.folder_id, creator)


def _canvas_facts(found: Any) -> Any:
    return (found.id, found.feature_id, found.resource_id, found.enabled)


TASK_URL = "https://s3.invalid/a.zip?X-Amz-Signature=s"
OPERATIONS: dict[str, Operation] = {
    "entry": Operation(
        lambda b: b.entries.get_entry_by_id("etr_1"),
        lambda c: c.get_entry("etr_1"),
        (200, {"entry": ENTRY}),
        _entry_facts,
        _entry_facts,
    ),
    "entries": Operation(
        lambda b: b.entries.bulk_get_entries(["etr_1"]),
        lambda c: c.bulk_get_entries(["etr_1"]),
        (200, {"entries": [ENTRY]}),
        lambda found: [_entry_facts(item) for item in found],
        lambda found: [_entry_facts(item) for item in found],
    ),
    "export": Operation(
        lambda b: b.exports.export(ExportItemRequest(id="etr_1")),
        lambda c: c.start_export("etr_1", deadline=0.5),
        (202, {"taskId": "8e0a"}),
        lambda found: found.task_id,
        str,
    ),
    "task running": Operation(
        lambda b: b.tasks.get_by_id("t"), lambda c: c.get_task("t"), (200, {"status": "RUNNING"}),
        _sdk_task_facts, _task_facts,
    ),
    "task done": Operation(
        lambda b: b.tasks.get_by_id("t"),
        lambda c: c.get_task("t"),
        (200, {"status": "SUCCEEDED", "response": {"downloadURL": TASK_URL}}),
        _sdk_task_facts,
        _task_facts,
    ),
    "task failed": Operation(
        lambda b: b.tasks.get_by_id("t"), lambda c: c.get_task("t"),
        (200, {"status": "FAILED", "message": "boom", "errors": {}}), _sdk_task_facts, _task_facts,
    ),
    "file": Operation(
        lambda b: b.entries.get_external_file("etr_1", "f"),
        lambda c: c.external_file("etr_1", "f"),
        (200, {"externalFile": {"id": "f", "downloadURL": TASK_URL, "expiresAt": 1, "size": 5}}),
        lambda found: (found.id, found.download_url, found.expires_at, found.size),
        lambda found: (found.id, found.url.get_secret_value(), found.expires_at, found.size),
    ),
    "canvas": Operation(
        lambda b: b.apps.get_canvas_by_id("cnvs_1"), lambda c: c.get_canvas("cnvs_1"), (200, CANVAS),
        _canvas_facts, _canvas_facts,
    ),
    "canvas patch": Operation(
        lambda b: b.apps.update_canvas("cnvs_1", AppCanvasUpdate(enabled=True)),
        lambda c: c.patch_canvas("cnvs_1", CanvasChange(enabled=True)),
        (200, CANVAS),
        _canvas_facts,
        _canvas_facts,
    ),
    "app": Operation(
        lambda b: b.apps.get_by_id("app_1"),
        lambda c: c.get_app("app_1"),
        (200, {"id": "app_1", "name": "Packages", "apiURL": BASE_URL, "archiveRecord": None}),
        lambda found: (found.id, found.name),
        lambda found: (found.id, found.name),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATIONS)
def test_good_answers_give_the_same_values_and_requests(name: str) -> None:
    operation = OPERATIONS[name]
    sent: list[tuple[str, str, Any]] = []

    def handler(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content) if request.content else None
        sent.append((request.method, request.url.path, body))
        return httpx.Response(operation.good[0], json=operation.good[1])

    theirs = operation.sdk_facts(operation.sdk(sdk(handler)))
    mine = operation.our_facts(ours(handler, operation.ours))
    assert mine == theirs
    assert sent[0] == sent[1]


WRONG: dict[str, Callable[[], httpx.Response]] = {
    "400": lambda: problem(400, "invalid_request_error", "Bad"),
    "401": lambda: problem(401, "authentication_error", "Failed to authenticate"),
    "403": lambda: problem(403, "forbidden", "No"),
    "404": lambda: problem(404, "invalid_request_error", "None", invalidId="etr_1"),
    "429": lambda: problem(429, "invalid_request_error", "Rate limit exceeded."),
    "500": lambda: problem(500, "api_error", "Oops"),
    "503 html": lambda: gateway_page(503),
    "404 html": lambda: gateway_page(404),
    "200 html": lambda: gateway_page(200),
    "302": lambda: httpx.Response(302, headers={"location": "https://sso.invalid/"}),
    "cut json": lambda: httpx.Response(200, content=b'{"entry": {"id', headers=JSON),
    "500 bytes": lambda: httpx.Response(500, content=b"\xff\xfe\x00", headers=JSON),
    "no members": lambda: httpx.Response(200, json={}),
}


LEFT_OUT = {("entries", "400"), ("entries", "403"), ("entries", "404")}
"""A bulk read leaves out what the app cannot see: of the one entry that is refused here nothing remains."""
WAITED_IN_VAIN = ("export", "429")
"""An export waits for room under Benchling's limit; the deadline ends that, not an answer with a status."""


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        (name, wrong)
        for name in OPERATIONS
        for wrong in WRONG
        if not (name.startswith("task") and wrong == "404")  # a task that is gone is a value for us, not an error
    ],
)
def test_wrong_answers_are_errors_of_the_same_status_or_better(name: str, wrong: str) -> None:
    """Where the SDK gives its own error, the status is the same; where it breaks, ours is typed all the same."""
    operation = OPERATIONS[name]
    theirs = _sdk_error(operation, WRONG[wrong])
    try:
        ours(lambda _request: WRONG[wrong](), operation.ours)
        mine: BenchlingFailure | None = None
    except BenchlingFailure as failure:
        mine = failure
    if (name, wrong) in LEFT_OUT:
        assert isinstance(theirs, BenchlingError)
        assert mine is None
        return
    assert mine is not None
    if isinstance(theirs, BenchlingError):
        assert mine.status == (None if (name, wrong) == WAITED_IN_VAIN else theirs.status_code)
    elif theirs is None:
        assert wrong == "no members"


def _sdk_error(operation: Operation, answer: Callable[[], httpx.Response]) -> Exception | None:
    try:
        operation.sdk_facts(operation.sdk(sdk(lambda _request: answer())))
    except Exception as error:  # noqa: BLE001 - whatever it is
        return error
    return None


def test_how_often_the_sdk_ends_in_something_else_than_its_own_error() -> None:
    """The figure behind the decision for a client of our own."""
    kinds: dict[str, int] = {}
    for operation in OPERATIONS.values():
        for answer in WRONG.values():
            error = _sdk_error(operation, answer)
            kinds[type(error).__name__] = kinds.get(type(error).__name__, 0) + 1
    print(f"\nSDK on {len(OPERATIONS) * len(WRONG)} wrong answers: {kinds}")
    assert sum(count for kind, count in kinds.items() if kind not in {"BenchlingError", "NoneType"}) > 0
