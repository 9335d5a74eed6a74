"""The client: every question that the product asks of Benchling, as a typed call.

All calls share one budget, one token and one breaker; all errors are `BenchlingFailure`. Addresses of archives and
files are `PresignedURL` and are never fetched here: they must not be sent the app's token.
"""

from __future__ import annotations

import http.cookiejar
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import quote

import httpx

from controller.benchling.calls import Caller, CallRecord
from controller.benchling.clock import Clock, LoopClock
from controller.benchling.errors import (
    AnswerUnreadable,
    ExportOutcomeUnknown,
    LimitReached,
    NotFound,
    OutcomeUnknown,
    Rejected,
    SessionClosed,
)
from controller.benchling.exports import ExportNumbers, ExportSlots
from controller.benchling.models import (
    App,
    Canvas,
    CanvasChange,
    Entry,
    EntryPage,
    EventPage,
    ExportTask,
    ExternalFile,
    Folder,
    Session,
    SessionMessage,
    TaskGone,
    TaskId,
    TaskRunning,
    member,
    members,
    next_token,
    read_canvas,
    read_entry,
    read_event,
    read_task,
    read_wire,
)
from controller.benchling.names import NameCache, Names
from controller.benchling.priority import Priority
from controller.benchling.settings import BenchlingSettings, credentials_in
from controller.benchling.wire import Operation, Repeat, Request
from entrypackage.model import render_time
from entrypackage.order import NamedLink

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
    from types import TracebackType

    from controller.benchling.breaker import BreakerReading
    from controller.benchling.ledger import BudgetNumbers
    from controller.benchling.links import LinkRef
    from controller.settings import BenchlingAccess

API: Final = "/api/v2"
OVERLAP: Final = timedelta(seconds=5)
"""How far a listing by time goes back over what it has read, for rows that were written late."""
_CLOSED_SESSION: Final = "session has been closed"

GET_ENTRY: Final = Operation("entries.get", "GET")
BULK_ENTRIES: Final = Operation("entries.bulk", "GET")
LIST_ENTRIES: Final = Operation("entries.list", "GET")
GET_FILE: Final = Operation("files.get", "GET")
START_EXPORT: Final = Operation("exports.start", "POST", Repeat.UNSAFE, own_limit=True)
GET_TASK: Final = Operation("tasks.get", "GET")
LIST_EVENTS: Final = Operation("events.list", "GET")
CREATE_CANVAS: Final = Operation("canvases.create", "POST", Repeat.UNSAFE)
GET_CANVAS: Final = Operation("canvases.get", "GET")
PATCH_CANVAS: Final = Operation("canvases.patch", "PATCH")
LIST_CANVASES: Final = Operation("canvases.list", "GET")
ARCHIVE_CANVASES: Final = Operation("canvases.archive", "POST")
CREATE_SESSION: Final = Operation("sessions.create", "POST", Repeat.UNSAFE)
PATCH_SESSION: Final = Operation("sessions.patch", "PATCH")
GET_APP: Final = Operation("apps.get", "GET")
GET_FOLDER: Final = Operation("folders.get", "GET")
LIST_FOLDERS: Final = Operation("folders.list", "GET")


@dataclass(frozen=True, slots=True)
class ClientNumbers:
    """The client at one moment, for metrics and status."""

    breaker: BreakerReading
    budget: BudgetNumbers
    exports: ExportNumbers
    waiting: Mapping[Priority, int]
    tokens_fetched: int
    possible_orphans: int
    """Exports whose outcome stayed unknown: each may run without anybody waiting for it."""
    names_cached: int


class BenchlingClient:
    """An asynchronous context manager; to be used on one event loop, by one task or a thousand."""

    def __init__(
        self,
        settings: BenchlingSettings,
        *,
        clock: Clock | None = None,
        dice: random.Random | None = None,
        observer: Callable[[CallRecord], None] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Take the settings; the rest is for tests, but `observer`, which is called once per finished call."""
        self.settings = settings
        self._clock = clock if clock is not None else LoopClock()
        self._dice = dice if dice is not None else random.SystemRandom()
        self._http = _http_client(settings, transport, tls)
        self._caller = Caller(
            settings, self._http, self._clock, self._dice, observer if observer is not None else _no_observer
        )
        self._exports = ExportSlots(self._clock, settings.first_export_limit, self._dice.random)
        self._names = Names(
            cache := NameCache(settings.name_cache_size, settings.name_cache_seconds, self._clock), settings.bulk_size
        )
        self._name_cache = cache
        self._orphans = 0

    @classmethod
    def from_folder(cls, access: BenchlingAccess, observer: Callable[[CallRecord], None] | None = None) -> Self:
        """Make a client for a tenant whose app credentials are the files of a mounted Secret."""
        credentials = credentials_in(access.credentials_folder)
        return cls(BenchlingSettings(base_url=access.base_url, credentials=credentials), observer=observer)

    async def __aenter__(self) -> Self:
        """Open nothing yet: the first call asks for a token."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections."""
        await self.close()

    async def close(self) -> None:
        """Stop what runs in the background and close all connections."""
        self._caller.close()
        self._exports.close()
        await self._http.aclose()

    @property
    def numbers(self) -> ClientNumbers:
        """How breaker, budget and the rest stand."""
        return ClientNumbers(
            breaker=self.breaker,
            budget=self._caller.budget.numbers,
            exports=self._exports.numbers,
            waiting=self._caller.budget.waiting,
            tokens_fetched=self._caller.tokens.fetched,
            possible_orphans=self._orphans,
            names_cached=len(self._name_cache),
        )

    @property
    def breaker(self) -> BreakerReading:
        """Whether Benchling is held to be at work, and since when."""
        return self._caller.breaker.reading(self._clock.now())

    @property
    def free_exports(self) -> int:
        """How many exports can be started now without waiting for another to end."""
        return self._exports.free

    def on_recovery(self, callback: Callable[[], None]) -> None:
        """Call back each time Benchling is found at work again after an outage; bring forward what waits, jittered."""
        self._caller.on_recovery(callback)

    async def get_entry(
        self, entry_id: str, *, priority: Priority = Priority.READ, deadline: float | None = None
    ) -> Entry:
        """Return an entry; raises `NotFound` if the app cannot see it."""
        answer = await self._get(GET_ENTRY, f"/entries/{_quoted(entry_id)}", priority=priority, deadline=deadline)
        return read_entry(member(answer, "entry", GET_ENTRY.name), GET_ENTRY.name)

    async def bulk_get_entries(
        self,
        entry_ids: Sequence[str],
        *,
        returning: Sequence[str] = (),
        priority: Priority = Priority.READ,
        deadline: float | None = None,
    ) -> list[Entry]:
        """Return entries by id, those that the app can see, in no promised order.

        `returning` names members of an entry, such as ``modifiedAt``; ``id`` is always among them.
        """
        found: list[Entry] = []
        unique = list(dict.fromkeys(entry_ids))
        for start in range(0, len(unique), self.settings.bulk_size):
            batch = unique[start : start + self.settings.bulk_size]
            found += await self._bulk_entries(batch, returning, priority, deadline)
        return found

    async def external_file(
        self, entry_id: str, file_id: str, *, priority: Priority = Priority.READ, deadline: float | None = None
    ) -> ExternalFile:
        """Return size and short-lived address of an attachment."""
        path = f"/entries/{_quoted(entry_id)}/external-files/{_quoted(file_id)}"
        answer = await self._get(GET_FILE, path, priority=priority, deadline=deadline)
        return read_wire(ExternalFile, member(answer, "externalFile", GET_FILE.name), GET_FILE.name)

    async def start_export(
        self, entry_id: str, *, priority: Priority = Priority.EXPORT, deadline: float | None = None
    ) -> TaskId:
        """Start an export and return its task.

        It is sent again only where it surely had no effect. `ExportOutcomeUnknown`: it may run, and nobody knows its
        id. `Throttled`: within the deadline there was no room under Benchling's export limit or in the budget.
        """
        patience = self.settings.deadlines[priority] if deadline is None else deadline
        ends = self._clock.now() + patience
        body = {"id": entry_id, "format": "pdf"}
        while True:
            await self._exports.take(ends - self._clock.now())
            try:
                answer = await self._caller.call(
                    Request(START_EXPORT, f"{API}/exports", body=body), priority, ends - self._clock.now()
                )
                task = _task_id(answer)
            except LimitReached as failure:
                self._exports.refused(failure.retry_after_seconds)
                continue
            except BaseException as error:
                self._exports.unused()
                if isinstance(error, OutcomeUnknown | AnswerUnreadable):
                    self._orphans += 1
                    raise ExportOutcomeUnknown(error) from None
                raise
            self._exports.started(task)
            return task

    async def get_task(
        self, task_id: str, *, priority: Priority = Priority.POLL, deadline: float | None = None
    ) -> ExportTask:
        """Return how an export stands; `TaskGone` if Benchling does not keep it any more."""
        try:
            answer = await self._get(GET_TASK, f"/tasks/{_quoted(task_id)}", priority=priority, deadline=deadline)
        except NotFound:
            self._exports.ended(task_id)
            return TaskGone()
        task = read_task(answer, GET_TASK.name)
        if isinstance(task, TaskRunning):
            self._exports.seen_running(task_id)
        else:
            self._exports.ended(task_id)
        return task

    def forget_export(self, task_id: str) -> None:
        """Stop counting an export that nobody will look at any more, such as one of a deleted EntryPackage."""
        self._exports.ended(task_id)

    async def list_entries(
        self,
        modified_after: datetime,
        *,
        returning: Sequence[str] = (),
        archived_too: bool = False,
        priority: Priority = Priority.SWEEP,
        deadline: float | None = None,
    ) -> AsyncIterator[EntryPage]:
        """Yield the entries changed after a time, oldest change first, in pages; `deadline` is each page's.

        It starts `OVERLAP` early and goes on from the newest change of each page, not from a page number, so that
        entries that are edited meanwhile (and move to the end) make it skip nothing. A row may come twice only with
        another `modified_at`.
        """
        since = modified_after.astimezone(UTC) - OVERLAP
        token: str | None = None
        seen: dict[str, str] = {}
        while True:
            query = {
                "pageSize": str(self.settings.page_size),
                "sort": "modifiedAt:asc",
                "modifiedAt": f"> {render_time(since)}",
                "nextToken": token or "",
            }
            if archived_too:
                query["archiveReason"] = "ANY_ARCHIVED_OR_NOT_ARCHIVED"
            if returning:
                query["returning"] = _selected("entries", (*returning, "id", "modifiedAt"))
            answer = await self._get(LIST_ENTRIES, "/entries", query, priority=priority, deadline=deadline)
            rows = [read_entry(row, LIST_ENTRIES.name) for row in members(answer, "entries", LIST_ENTRIES.name)]
            fresh = [row for row in rows if seen.get(row.id) != row.modified_at]
            seen.update((row.id, row.modified_at) for row in rows)
            if fresh:
                yield EntryPage(fresh)
            following = next_token(answer)
            if following is None or not rows:
                return
            since, token = _next_start(since, token, following, rows)

    async def list_events(
        self,
        *,
        starting_after: str | None = None,
        created_after: datetime | None = None,
        event_types: Iterable[str] = (),
        page_token: str | None = None,
        priority: Priority = Priority.SWEEP,
        deadline: float | None = None,
    ) -> EventPage:
        """Return one page of events in processing order, with the token of the next or None at the end.

        Begin with the last event's id, or where there is none with a time (Benchling keeps two weeks); go on with
        `page_token`. An id that is too old is `Rejected` or `NotFound`.
        """
        query = {"pageSize": str(self.settings.page_size)}
        if starting_after is not None:
            query["startingAfter"] = starting_after
        elif created_after is not None:
            query["createdAt.gte"] = render_time(created_after)
        if types := ",".join(event_types):
            query["eventTypes"] = types
        if page_token is not None:
            query["nextToken"] = page_token
        answer = await self._get(LIST_EVENTS, "/events", query, priority=priority, deadline=deadline)
        events = [read_event(row, LIST_EVENTS.name) for row in members(answer, "events", LIST_EVENTS.name)]
        following = next_token(answer)
        return EventPage(events, following if following != page_token else None)

    async def create_canvas(
        self,
        *,
        app_id: str,
        feature_id: str,
        resource_id: str,
        change: CanvasChange,
        priority: Priority = Priority.CLICK,
        deadline: float | None = None,
    ) -> Canvas:
        """Create a canvas in an entry; `OutcomeUnknown`: list the entry's canvases before trying again."""
        body = {"appId": app_id, "featureId": feature_id, "resourceId": resource_id, "blocks": [], **_changed(change)}
        request = Request(CREATE_CANVAS, f"{API}/app-canvases", body=body)
        return read_canvas(await self._caller.call(request, priority, deadline), CREATE_CANVAS.name)

    async def get_canvas(
        self, canvas_id: str, *, priority: Priority = Priority.CLICK, deadline: float | None = None
    ) -> Canvas:
        """Return a canvas; raises `NotFound` if it is gone or hidden."""
        answer = await self._get(
            GET_CANVAS, f"/app-canvases/{_quoted(canvas_id)}", priority=priority, deadline=deadline
        )
        return read_canvas(answer, GET_CANVAS.name)

    async def patch_canvas(
        self,
        canvas_id: str,
        change: CanvasChange,
        *,
        priority: Priority = Priority.CLICK,
        deadline: float | None = None,
    ) -> Canvas:
        """Change what `change` names; blocks replace the whole list, so that sending it again does no harm."""
        request = Request(PATCH_CANVAS, f"{API}/app-canvases/{_quoted(canvas_id)}", body=_changed(change))
        return read_canvas(await self._caller.call(request, priority, deadline), PATCH_CANVAS.name)

    async def list_canvases(
        self,
        *,
        resource_id: str | None = None,
        app_id: str | None = None,
        feature_id: str | None = None,
        priority: Priority = Priority.CLICK,
        deadline: float | None = None,
    ) -> list[Canvas]:
        """Return the canvases that are not archived, of an entry, an app or a feature."""
        wanted = {"resourceId": resource_id, "appId": app_id, "featureId": feature_id}
        query = {key: value for key, value in wanted.items() if value is not None}
        rows = await self._all_pages(LIST_CANVASES, "/app-canvases", query, "appCanvases", priority, deadline)
        return [read_canvas(row, LIST_CANVASES.name) for row in rows]

    async def archive_canvases(
        self, canvas_ids: Sequence[str], *, priority: Priority = Priority.CLICK, deadline: float | None = None
    ) -> None:
        """Archive canvases."""
        body = {"canvasIds": list(canvas_ids), "reason": "Other"}
        await self._caller.call(Request(ARCHIVE_CANVASES, f"{API}/app-canvases:archive", body=body), priority, deadline)

    async def create_session(
        self,
        *,
        app_id: str,
        name: str,
        timeout_seconds: int,
        messages: Sequence[SessionMessage] = (),
        priority: Priority = Priority.CLICK,
        deadline: float | None = None,
    ) -> Session:
        """Open the line of progress that a person sees; at most 30 days. The name is cut to 100 characters."""
        body = {
            "appId": app_id,
            "name": name[:100].ljust(3, "."),
            "timeoutSeconds": max(1, min(2_592_000, timeout_seconds)),
            "messages": _messages(messages),
        }
        request = Request(CREATE_SESSION, f"{API}/app-sessions", body=body)
        return read_wire(Session, await self._caller.call(request, priority, deadline), CREATE_SESSION.name)

    async def patch_session(
        self,
        session_id: str,
        *,
        status: str | None = None,
        messages: Sequence[SessionMessage] | None = None,
        priority: Priority = Priority.CLICK,
        deadline: float | None = None,
    ) -> Session:
        """Change messages (the last 10 are kept) or end the session; raises `SessionClosed` if it has ended."""
        body: dict[str, Any] = {}
        if status is not None:
            body["status"] = status
        if messages is not None:
            body["messages"] = _messages(messages)
        request = Request(PATCH_SESSION, f"{API}/app-sessions/{_quoted(session_id)}", body=body)
        try:
            return read_wire(Session, await self._caller.call(request, priority, deadline), PATCH_SESSION.name)
        except Rejected as failure:
            if _CLOSED_SESSION in failure.message.lower():
                raise SessionClosed(failure.message, status=failure.status or 400) from None
            raise

    async def get_app(self, app_id: str, *, priority: Priority = Priority.SWEEP, deadline: float | None = None) -> App:
        """Return an app."""
        answer = await self._get(GET_APP, f"/apps/{_quoted(app_id)}", priority=priority, deadline=deadline)
        return read_wire(App, answer, GET_APP.name)

    async def get_folder(
        self, folder_id: str, *, priority: Priority = Priority.READ, deadline: float | None = None
    ) -> Folder:
        """Return a folder."""
        answer = await self._get(GET_FOLDER, f"/folders/{_quoted(folder_id)}", priority=priority, deadline=deadline)
        return read_wire(Folder, answer, GET_FOLDER.name)

    async def list_folders(
        self, *, project_id: str, priority: Priority = Priority.SWEEP, deadline: float | None = None
    ) -> list[Folder]:
        """Return the folders of a project."""
        query = {"projectId": project_id}
        rows = await self._all_pages(LIST_FOLDERS, "/folders", query, "folders", priority, deadline)
        return [read_wire(Folder, row, LIST_FOLDERS.name) for row in rows]

    async def link_names(
        self,
        refs: Sequence[LinkRef],
        *,
        cap: int = 500,
        priority: Priority = Priority.READ,
        deadline: float | None = None,
    ) -> list[NamedLink]:
        """Return the links with their names, in the order given; at most `cap` that are not remembered are looked up.

        No name: refused by 403 or 404, of a type without names, or past the cap. An outage is raised. `deadline` is
        that of each request.
        """

        async def ask(request: Request) -> Any:
            return await self._caller.call(request, priority, deadline)

        names = await self._names.of(refs, cap, ask)
        return [NamedLink(type=ref.type, id=ref.id, name=names[ref.type, ref.id], slug=ref.slug) for ref in refs]

    async def _get(
        self,
        operation: Operation,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        priority: Priority,
        deadline: float | None,
    ) -> Any:
        return await self._caller.call(Request(operation, API + path, query), priority, deadline)

    async def _bulk_entries(
        self, batch: list[str], returning: Sequence[str], priority: Priority, deadline: float | None
    ) -> list[Entry]:
        query = {"entryIds": ",".join(batch)}
        if returning:
            query["returning"] = _selected("entries", (*returning, "id"))
        try:
            answer = await self._get(BULK_ENTRIES, "/entries:bulk-get", query, priority=priority, deadline=deadline)
        except (NotFound, Rejected) as failure:
            return await self._without_bad(batch, failure.invalid_ids, returning, priority, deadline)
        return [read_entry(row, BULK_ENTRIES.name) for row in members(answer, "entries", BULK_ENTRIES.name)]

    async def _without_bad(
        self,
        batch: list[str],
        bad: Sequence[str],
        returning: Sequence[str],
        priority: Priority,
        deadline: float | None,
    ) -> list[Entry]:
        """Ask again without the ids that Benchling named as bad; where it named none, for each half."""
        good = [entry_id for entry_id in batch if entry_id not in bad]
        if len(batch) == 1 or not good:
            return []
        if len(good) < len(batch):
            return await self._bulk_entries(good, returning, priority, deadline)
        half = len(batch) // 2
        first = await self._bulk_entries(batch[:half], returning, priority, deadline)
        return first + await self._bulk_entries(batch[half:], returning, priority, deadline)

    async def _all_pages(
        self,
        operation: Operation,
        path: str,
        query: Mapping[str, str],
        key: str,
        priority: Priority,
        deadline: float | None,
    ) -> list[Any]:
        rows: list[Any] = []
        token: str | None = None
        while True:
            page = {**query, "pageSize": str(self.settings.page_size)}
            if token is not None:
                page["nextToken"] = token
            answer = await self._get(operation, path, page, priority=priority, deadline=deadline)
            rows += members(answer, key, operation.name)
            following = next_token(answer)
            if following is None or following == token:
                return rows
            token = following


def _http_client(
    settings: BenchlingSettings, transport: httpx.AsyncBaseTransport | None, tls: ssl.SSLContext | None
) -> httpx.AsyncClient:
    """Make the client: no redirects, no cookies, connections kept between polls (httpx's own 5 s would drop them)."""
    no_cookies = http.cookiejar.CookieJar(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
    return httpx.AsyncClient(
        follow_redirects=False,
        cookies=no_cookies,
        transport=transport,
        verify=tls if tls is not None else True,
        headers={"user-agent": "entrypackage-operator"},
        timeout=httpx.Timeout(settings.request_timeout_seconds, connect=settings.connect_timeout_seconds),
        limits=httpx.Limits(
            max_connections=settings.concurrency + 2,
            max_keepalive_connections=settings.concurrency + 2,
            keepalive_expiry=settings.keepalive_seconds,
        ),
    )


def _no_observer(_record: CallRecord) -> None:
    pass


def _quoted(value: str) -> str:
    """Quote an id for a path; nothing in it can leave its segment."""
    if value in {"", ".", ".."}:
        raise NotFound("Benchling has no object with such an id.", status=404)
    return quote(value, safe="")


def _task_id(answer: object) -> TaskId:
    value = answer.get("taskId") if isinstance(answer, dict) else None
    if not isinstance(value, str) or not value:
        raise AnswerUnreadable(f"Benchling's answer to {START_EXPORT.name} holds no taskId.", effect_possible=True)
    return TaskId(value)


def _changed(change: CanvasChange) -> dict[str, Any]:
    return change.model_dump(mode="json", by_alias=True, exclude_unset=True)


def _messages(messages: Sequence[SessionMessage]) -> list[dict[str, Any]]:
    return [message.model_dump(mode="json") for message in messages[-10:]]


def _selected(rows: str, names: Iterable[str]) -> str:
    return ",".join(f"{rows}.{name}" for name in dict.fromkeys(names))


def _next_start(
    since: datetime, token: str | None, following: str, rows: Sequence[Entry]
) -> tuple[datetime, str | None]:
    """Return where the next page starts: the newest change less the overlap, or by token if that is no progress."""
    newest = rows[-1].modified
    if newest is not None and newest - OVERLAP > since:
        return newest - OVERLAP, None
    if following == token:
        raise AnswerUnreadable(f"Benchling's answer to {LIST_ENTRIES.name} repeats its page token.")
    return since, following
