"""The tenant through its in-process transport: time, URLs, faults, canvases, leaks."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import httpx
import pytest

from sandbox.simulator.clock import Clock
from sandbox.simulator.faults import Rule
from sandbox.simulator.inprocess import InProcess
from sandbox.simulator.settings import LEAK_MARK, TenantSettings
from sandbox.simulator.simulator import Simulator

API = "http://benchling.invalid/api/v2"


class Setup:
    """A simulator whose clocks stand still, and an authenticated client of it."""

    def __init__(self, **settings: Any) -> None:
        self.real = 0.0
        clock = Clock(scale=0.0, start=1_800_000_000.0, monotonic=lambda: self.real)
        self.simulator = Simulator(TenantSettings(**settings), clock=clock)
        self.world = self.simulator.world
        self.http = httpx.AsyncClient(transport=InProcess(self.simulator))
        self.headers: dict[str, str] = {}

    async def login(self) -> None:
        settings = self.simulator.settings
        form = {"grant_type": "client_credentials"}
        answer = await self.http.post(f"{API}/token", data=form, auth=(settings.client_id, settings.client_secret))
        self.headers = {"authorization": f"Bearer {answer.json()['access_token']}"}

    async def call(self, method: str, path: str, **members: Any) -> httpx.Response:
        return await self.http.request(method, API + path, headers=self.headers, **members)

    def fault(self, name: str, **members: Any) -> None:
        self.world.faults.set(Rule(name, **members))

    async def exported(self, entry_id: str) -> str:
        """The download URL of a finished export."""
        task = (await self.call("POST", "/exports", json={"id": entry_id})).json()["taskId"]
        self.simulator.clock.advance(10)
        body = (await self.call("GET", f"/tasks/{task}")).json()
        return str(body["response"]["downloadURL"])


@pytest.fixture
async def setup() -> Setup:
    made = Setup()
    await made.login()
    return made


async def test_token_life_is_real_time_and_revocable(setup: Setup) -> None:
    entry = setup.world.create_entry()
    setup.real += 899
    assert (await setup.call("GET", f"/entries/{entry.id}")).status_code == 200
    setup.real += 2
    assert (await setup.call("GET", f"/entries/{entry.id}")).status_code == 401
    await setup.login()
    setup.fault("token_revoked", times=1)
    assert (await setup.call("GET", f"/entries/{entry.id}")).status_code == 401
    await setup.login()
    assert (await setup.call("GET", f"/entries/{entry.id}")).status_code == 200


async def test_credentials_as_form_fields_and_wrong_ones(setup: Setup) -> None:
    settings = setup.simulator.settings
    form = {"grant_type": "client_credentials", "client_id": settings.client_id}
    good = await setup.http.post(f"{API}/token", data={**form, "client_secret": settings.client_secret})
    assert good.json()["expires_in"] == 900
    bad = await setup.http.post(f"{API}/token", data={**form, "client_secret": "x"})
    assert (bad.status_code, bad.json()["error"]["type"]) == (401, "invalid_client")
    other = {**form, "grant_type": "password", "client_secret": settings.client_secret}
    refused = await setup.http.post(f"{API}/token", data=other)
    assert (refused.status_code, refused.json()["error"]["type"]) == (400, "unsupported_grant_type")


async def test_three_headers_and_the_end_of_a_window(setup: Setup) -> None:
    entry = setup.world.create_entry()
    answers = [await setup.call("GET", f"/entries/{entry.id}") for _ in range(301)]
    assert [answer.status_code for answer in answers] == [200] * 300 + [429]
    first, last = answers[0].headers, answers[-1].headers
    assert (first["x-rate-limit-limit"], first["x-rate-limit-remaining"]) == ("300", "299")
    assert last["x-rate-limit-remaining"] == "0"
    assert "retry-after" not in last
    setup.real += int(last["x-rate-limit-reset"])
    assert (await setup.call("GET", f"/entries/{entry.id}")).status_code == 200


async def test_a_task_runs_ends_and_is_forgotten(setup: Setup) -> None:
    entry = setup.world.create_entry(export_seconds=100.0)
    answer = await setup.call("POST", "/exports", json={"id": entry.id})
    path = f"/tasks/{answer.json()['taskId']}"
    assert answer.status_code == 202
    assert (await setup.call("GET", path)).json() == {"status": "RUNNING"}
    setup.simulator.clock.advance(100)
    assert (await setup.call("GET", path)).json()["status"] == "SUCCEEDED"
    setup.simulator.clock.advance(1799)
    assert (await setup.call("GET", path)).status_code == 200
    setup.simulator.clock.advance(1)
    gone = await setup.call("GET", path)
    assert (gone.status_code, gone.json()["error"]["invalidId"]) == (404, path.removeprefix("/tasks/"))


async def test_too_many_exports_at_once(setup: Setup) -> None:
    limited = Setup(export_limit=2)
    await limited.login()
    entry = limited.world.create_entry()
    codes = [(await limited.call("POST", "/exports", json={"id": entry.id})) for _ in range(3)]
    assert [answer.status_code for answer in codes] == [202, 202, 429]
    assert int(codes[2].headers["x-rate-limit-remaining"]) > 0
    limited.simulator.clock.advance(2)
    assert (await limited.call("POST", "/exports", json={"id": entry.id})).status_code == 202


async def test_presigned_urls(setup: Setup) -> None:
    entry = setup.world.create_entry(attachments=(("raw.bin", 200_000, False),))
    url = await setup.exported(entry.id)
    whole = await setup.http.get(url)
    assert zipfile.ZipFile(io.BytesIO(whole.content)).testzip() is None
    assert LEAK_MARK in url
    both = await setup.http.get(url, headers=setup.headers)
    assert both.status_code == 400
    assert b"Only one auth mechanism allowed" in both.content
    assert (await setup.http.head(url)).status_code == 403
    assert (await setup.http.get(url.replace("X-Amz-Expires=86400", "X-Amz-Expires=99999"))).status_code == 403
    setup.simulator.clock.advance(86_400)
    late = await setup.http.get(url)
    assert late.status_code == 403
    assert b"<Code>AccessDenied</Code><Message>Request has expired</Message>" in late.content


async def test_a_url_ends_with_the_session_that_signed_it() -> None:
    short = Setup(session_life=600.0)
    await short.login()
    url = await short.exported(short.world.create_entry().id)
    short.simulator.clock.advance(601)
    late = await short.http.get(url)
    assert late.status_code == 400
    assert b"ExpiredToken" in late.content


async def test_ranges(setup: Setup) -> None:
    entry = setup.world.create_entry(attachments=(("raw.bin", 200_000, False),))
    url = await setup.exported(entry.id)
    whole = (await setup.http.get(url)).content

    async def ranged(**headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await setup.http.get(url, headers=named)

    middle = await ranged(range="bytes=100-299")
    assert (middle.status_code, middle.content) == (206, whole[100:300])
    assert middle.headers["content-range"] == f"bytes 100-299/{len(whole)}"
    assert (await ranged(range="bytes=-50")).content == whole[-50:]
    assert (await ranged(range=f"bytes={len(whole) - 5}-")).content == whole[-5:]
    assert (await ranged(range=f"bytes={len(whole)}-")).status_code == 416
    assert (await ranged(range="bytes=0-9", if_range='"other"')).status_code == 200
    assert (await ranged(range="bytes=0-9", if_range=middle.headers["etag"])).status_code == 206
    assert (await ranged(range="bytes=0-9", if_match='"other"')).status_code == 412
    assert (await ranged(range="bytes=0-1,5-6")).status_code == 200


async def test_documents_differ_in_every_export(setup: Setup) -> None:
    entry = setup.world.create_entry(attachments=(("raw.bin", 1000, False),))
    archives = [
        zipfile.ZipFile(io.BytesIO((await setup.http.get(await setup.exported(entry.id))).content)) for _ in range(2)
    ]
    names = [archive.namelist() for archive in archives]
    assert names[0] == names[1] == [f"{entry.display_id}.pdf", "raw.bin"]
    documents = [archive.read(names[0][0]) for archive in archives]
    assert documents[0] != documents[1]
    assert documents[0].startswith(b"%PDF-1.4")
    assert archives[0].read("raw.bin") == archives[1].read("raw.bin")


async def test_an_export_shows_the_entry_as_it_was_when_it_began(setup: Setup) -> None:
    entry = setup.world.create_entry(fields={"Batch": "first"})
    task = (await setup.call("POST", "/exports", json={"id": entry.id})).json()["taskId"]
    setup.world.edit_fields(entry, {"Batch": "second"})
    setup.simulator.clock.advance(10)
    url = (await setup.call("GET", f"/tasks/{task}")).json()["response"]["downloadURL"]
    archive = zipfile.ZipFile(io.BytesIO((await setup.http.get(url)).content))
    document = archive.read(f"{entry.display_id}.pdf")
    assert b"Batch: first" in document
    assert b"second" not in document


async def test_effects_of_cut_connections(setup: Setup) -> None:
    entry = setup.world.create_entry()
    for fault, started in (("api_cut_before", 0), ("api_cut_after", 1)):
        setup.fault(fault, times=1, operation="exportItem")
        with pytest.raises(httpx.ReadError):
            await setup.call("POST", "/exports", json={"id": entry.id})
        assert setup.world.exports.started[entry.id] == started
    setup.fault("api_502_after", times=1, operation="exportItem")
    assert (await setup.call("POST", "/exports", json={"id": entry.id})).status_code == 502
    assert setup.world.exports.started[entry.id] == 2


@pytest.mark.parametrize(
    ("fault", "status", "kind"),
    [
        ("api_500", 500, "application/json"), ("api_503_html", 503, "text/html; charset=utf-8"),
        ("api_200_html", 200, "text/html; charset=utf-8"), ("api_404_html", 404, "text/html; charset=utf-8"),
        ("api_wrong_type", 200, "text/plain"), ("downtime", 503, "text/html; charset=utf-8"),
        ("api_429_hidden", 429, "application/json"), ("api_429_window", 429, "application/json"),
    ],
)  # fmt: skip
async def test_answers_that_go_wrong(setup: Setup, fault: str, status: int, kind: str) -> None:
    entry = setup.world.create_entry()
    setup.fault(fault, times=1)
    answer = await setup.call("GET", f"/entries/{entry.id}")
    assert (answer.status_code, answer.headers["content-type"]) == (status, kind)
    assert setup.world.faults.counts[fault] == 1
    if fault == "api_429_hidden":
        assert int(answer.headers["x-rate-limit-remaining"]) > 0
    if fault == "api_429_window":
        assert answer.headers["x-rate-limit-remaining"] == "0"


async def test_archives_that_go_wrong(setup: Setup) -> None:
    entry = setup.world.create_entry(attachments=(("raw.bin", 200_000, False), ("b.csv", 9000, True)))
    url = await setup.exported(entry.id)
    good = (await setup.http.get(url)).content
    setup.fault("archive_cut", times=1, options={"bytes": 1000})
    with pytest.raises(httpx.ReadError):
        await setup.http.get(url)
    setup.fault("archive_changed", times=1)
    changed = await setup.http.get(url, headers={"range": "bytes=0-99"})
    assert changed.headers["etag"] != (await setup.http.get(url)).headers["etag"]
    setup.fault("archive_corrupt", times=1)
    corrupt = (await setup.http.get(url)).content
    assert sum(a != b for a, b in zip(good, corrupt, strict=True)) == 1
    setup.fault("archive_no_ranges", times=1)
    assert (await setup.http.get(url, headers={"range": "bytes=0-9"})).status_code == 200
    setup.fault("url_expired", times=1)
    assert (await setup.http.get(url)).status_code == 403
    setup.fault("archive_missing", times=1, subject=entry.id)
    left = zipfile.ZipFile(io.BytesIO((await setup.http.get(await setup.exported(entry.id))).content)).namelist()
    assert left == [f"{entry.display_id}.pdf", "b.csv"]
    setup.fault("archive_gallery", times=1, options={"name": "zip-slip"})
    hostile = zipfile.ZipFile(io.BytesIO((await setup.http.get(await setup.exported(entry.id))).content))
    assert "../outside.txt" in hostile.namelist()
    setup.fault("archive_truncated", times=1)
    short = await setup.http.get(await setup.exported(entry.id))
    assert int(short.headers["content-length"]) == len(short.content) < len(good)


async def test_a_url_that_serves_so_many_bytes(setup: Setup) -> None:
    entry = setup.world.create_entry(attachments=(("raw.bin", 200_000, False),))
    url = await setup.exported(entry.id)
    setup.fault("url_spent", options={"bytes": 50_000})
    assert (await setup.http.get(url, headers={"range": "bytes=0-39999"})).status_code == 206
    with pytest.raises(httpx.ReadError):
        await setup.http.get(url, headers={"range": "bytes=40000-99999"})
    refused = await setup.http.get(url, headers={"range": "bytes=0-9"})
    assert refused.status_code == 403
    assert "Request has expired" in refused.text
    task = next(task for task in setup.world.exports.tasks.values() if task.entry_id == entry.id)
    fresh = setup.world.blobs.sign(task.path, url.partition("/blobstore")[0], 60)
    assert (await setup.http.get(fresh, headers={"range": "bytes=0-9"})).status_code == 206


async def test_body_edits_move_modified_at_and_tell_nobody(setup: Setup) -> None:
    entry = setup.world.create_entry()
    sent, before = setup.world.outbox.count, entry.modified_at
    setup.world.edit_body(entry, "a note")
    assert entry.modified_at > before
    assert (setup.world.outbox.count, len(setup.world.feed.events)) == (sent, 1)
    setup.world.edit_fields(entry, {"Batch": "x"})
    assert (setup.world.outbox.count, len(setup.world.feed.events)) == (sent + 1, 2)


@pytest.mark.parametrize("moves", [True, False])
async def test_a_canvas_write_moves_its_entry_by_switch(moves: bool) -> None:
    setup = Setup(canvas_moves_entry=moves)
    await setup.login()
    entry = setup.world.create_entry()
    canvas = setup.world.insert_canvas(entry)
    before = entry.modified_at
    answer = await setup.call("PATCH", f"/app-canvases/{canvas.id}", json={"enabled": True})
    assert answer.status_code == 200
    assert (entry.modified_at > before) is moves


async def test_a_click_disables_the_canvas_until_the_app_answers(setup: Setup) -> None:
    canvas = setup.world.insert_canvas(setup.world.create_entry())
    section = {"type": "SECTION", "id": "row", "children": [{"type": "BUTTON", "id": "go", "text": "Go"}]}
    path = f"/app-canvases/{canvas.id}"
    assert (await setup.call("PATCH", path, json={"blocks": [section]})).status_code == 200
    setup.world.click(canvas, "go")
    assert (await setup.call("GET", path)).json()["enabled"] is False
    with pytest.raises(LookupError, match="disabled"):
        setup.world.click(canvas, "go")
    await setup.call("PATCH", path, json={"enabled": True, "data": None})
    assert [write.by for write in canvas.writes] == ["app_simulator", "ui", "app_simulator"]
    assert canvas.writes[-1].enabled_after


@pytest.mark.parametrize(
    "blocks",
    [
        [{"type": "BUTTON", "id": "a", "text": "x"}, {"type": "BUTTON", "id": "a", "text": "y"}],
        [{"type": "BUTTON", "text": "no id"}],
        [{"type": "MARKDOWN", "value": "x", "colour": "red"}],
        [{"type": "HOLOGRAM", "id": "a"}],
        [{"type": "SECTION", "children": [{"type": "SECTION", "children": []}]}],
        [{"type": "TEXT_INPUT", "id": "a", "value": None, "label": "x" * 51}],
        [{"type": "MARKDOWN", "value": None}],
        [{"type": "SEARCH_INPUT", "id": "a", "value": None, "itemType": {}}],
        [{"type": "TABLE", "id": "a", "name": "t", "source": {"type": []}}],
    ],
)
async def test_blocks_that_are_refused(setup: Setup, blocks: list[dict[str, Any]]) -> None:
    canvas = setup.world.insert_canvas(setup.world.create_entry())
    answer = await setup.call("PATCH", f"/app-canvases/{canvas.id}", json={"blocks": blocks})
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    assert canvas.blocks == []


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/exports", {"id": "ENTRY"}),
        ("PATCH", "/entries/ENTRY", {"name": "x"}),
        ("POST", "/app-canvases", {"appId": "APP", "featureId": "f", "resourceId": "ENTRY", "blocks": []}),
        ("PATCH", "/app-canvases/CANVAS", {"enabled": True}),
        ("POST", "/app-canvases:archive", {"canvasIds": ["CANVAS"], "reason": "Other"}),
        ("POST", "/app-sessions", {"appId": "APP", "name": "a session", "timeoutSeconds": 5}),
        ("PATCH", "/app-sessions/SESSION", {"timeoutSeconds": 90}),
    ],
)
async def test_write_bodies_are_closed(setup: Setup, method: str, path: str, body: dict[str, Any]) -> None:
    entry = setup.world.create_entry()
    session = {"appId": "app_simulator", "name": "a session", "timeoutSeconds": 60}
    known = {
        "ENTRY": entry.id,
        "CANVAS": setup.world.insert_canvas(entry).id,
        "SESSION": (await setup.call("POST", "/app-sessions", json=session)).json()["id"],
        "APP": "app_simulator",
    }

    def filled(value: Any) -> Any:
        return [filled(item) for item in value] if isinstance(value, list) else known.get(value, value)

    whole = {name: value if isinstance(value, bool | int) else filled(value) for name, value in body.items()}
    for name, identifier in known.items():
        path = path.replace(name, identifier)
    more = await setup.call(method, path, json={**whole, "surprise": 1})
    assert (more.status_code, "surprise" in more.text) == (400, True)
    assert (await setup.call(method, path, content=json.dumps(whole))).status_code == 400, "no content type"
    assert (await setup.call(method, path, json=whole)).status_code < 300


async def test_every_answer_tells_the_budget_but_a_gateways(setup: Setup) -> None:
    names = {"x-rate-limit-limit", "x-rate-limit-remaining", "x-rate-limit-reset"}
    for path in ("/entries/etr_nothere", "/nowhere", "/events"):
        assert names <= (await setup.call("GET", path)).headers.keys()
    assert names <= (await setup.http.get(f"{API}/events")).headers.keys(), "401"
    setup.fault("api_503_html", times=1)
    assert not names & (await setup.call("GET", "/events")).headers.keys()
    setup.fault("rate_headers_missing", times=1)
    assert not names & (await setup.call("GET", "/events")).headers.keys()


async def test_events_are_kept_two_weeks_and_resumed_by_id(setup: Setup) -> None:
    old = setup.world.create_entry()
    setup.simulator.clock.advance(10 * 86_400)
    new = setup.world.create_entry()
    events = (await setup.call("GET", "/events")).json()["events"]
    assert [event["entry"]["id"] for event in events] == [old.id, new.id]
    after = (await setup.call("GET", f"/events?startingAfter={events[0]['id']}")).json()
    assert [event["id"] for event in after["events"]] == [events[1]["id"]]
    assert after["nextToken"] == ""
    polled = (await setup.call("GET", "/events?poll=true")).json()["nextToken"]
    assert (await setup.call("GET", f"/events?poll=true&nextToken={polled}")).json()["events"] == []
    setup.world.edit_fields(new, {"Batch": "x"})
    assert len((await setup.call("GET", f"/events?poll=true&nextToken={polled}")).json()["events"]) == 1
    setup.simulator.clock.advance(5 * 86_400)
    assert (await setup.call("GET", f"/events?startingAfter={events[0]['id']}")).status_code == 400


async def test_the_sweep_of_entries(setup: Setup) -> None:
    entries = []
    for number in range(5):
        entries.append(setup.world.create_entry(name=f"e{number}"))
        setup.simulator.clock.advance(10)
    setup.world.edit_body(entries[2], "later")
    setup.world.archive(entries[4])
    query = "/entries?sort=modifiedAt:asc&pageSize=2&nextToken="
    first = (await setup.call("GET", query)).json()
    second = (await setup.call("GET", query + first["nextToken"])).json()
    assert [row["name"] for row in first["entries"] + second["entries"]] == ["e0", "e1", "e3", "e2"]
    assert second["nextToken"] == ""
    since = "2027-01-15T08:00:45Z"
    filtered = await setup.call("GET", "/entries", params={"modifiedAt": f"> {since} AND < 2027-01-15T08:05:00Z"})
    assert [row["name"] for row in filtered.json()["entries"]] == ["e2"]


async def test_the_log_knows_callers_and_no_secrets(setup: Setup) -> None:
    entry = setup.world.create_entry()
    url = await setup.exported(entry.id)
    await setup.http.get(url)
    lines = setup.simulator.journal.dump()
    assert {line["caller"] for line in lines if line["operation"] == "getTask"} == {"app_simulator"}
    assert LEAK_MARK not in str(lines)
    assert [line["subject"] for line in lines if line["operation"] == "archive"] == [entry.id]


async def test_the_same_seed_gives_the_same_tenant() -> None:
    def ids() -> list[str]:
        world = Setup(seed=5).world
        return [world.create_entry().id for _ in range(3)]

    assert ids() == ids()
