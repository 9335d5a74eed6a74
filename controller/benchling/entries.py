"""Calls that read the notebook: entries, their files, folders, events and the names of linked objects."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from controller.benchling.api_calls import ApiCalls, quoted
from controller.benchling.errors import AnswerUnreadable, NotFound, Rejected
from controller.benchling.models import (
    Entry,
    EntryPage,
    EventPage,
    ExternalFile,
    Folder,
    member,
    members,
    next_token,
    read_entry,
    read_event,
    read_wire,
)
from controller.benchling.priority import Priority
from controller.benchling.wire import Operation, Request
from entrypackage.model import render_time
from entrypackage.order import NamedLink

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from controller.benchling.links import LinkRef
    from controller.benchling.names import Names

OVERLAP: Final = timedelta(seconds=5)
"""How far a listing by time overlaps what it has read, because rows may be written late."""

GET_ENTRY: Final = Operation("entries.get", "GET")
BULK_ENTRIES: Final = Operation("entries.bulk", "GET")
LIST_ENTRIES: Final = Operation("entries.list", "GET")
GET_FILE: Final = Operation("files.get", "GET")
LIST_EVENTS: Final = Operation("events.list", "GET")
GET_FOLDER: Final = Operation("folders.get", "GET")
LIST_FOLDERS: Final = Operation("folders.list", "GET")


class EntryCalls(ApiCalls):
    """Reads entries, files, folders, events and names."""

    _names: Names

    async def get_entry(
        self, entry_id: str, *, priority: Priority = Priority.READ, deadline: float | None = None
    ) -> Entry:
        """Return an entry; raises `NotFound` if the app cannot see it."""
        answer = await self._get(GET_ENTRY, f"/entries/{quoted(entry_id)}", priority=priority, deadline=deadline)
        return read_entry(member(answer, "entry", GET_ENTRY.name), GET_ENTRY.name)

    async def bulk_get_entries(
        self,
        entry_ids: Sequence[str],
        *,
        returning: Sequence[str] = (),
        priority: Priority = Priority.READ,
        deadline: float | None = None,
    ) -> list[Entry]:
        """Return the entries that the app can see of those ids, in any order.

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
        """Return the size and the short-lived address of an attachment; raises `NotFound`."""
        path = f"/entries/{quoted(entry_id)}/external-files/{quoted(file_id)}"
        answer = await self._get(GET_FILE, path, priority=priority, deadline=deadline)
        return read_wire(ExternalFile, member(answer, "externalFile", GET_FILE.name), GET_FILE.name)

    async def list_entries(
        self,
        modified_after: datetime,
        *,
        returning: Sequence[str] = (),
        archived_too: bool = False,
        priority: Priority = Priority.SWEEP,
        deadline: float | None = None,
    ) -> AsyncIterator[EntryPage]:
        """Yield the entries changed after a time, in pages, oldest change first; each page has its own `deadline`.

        It starts `OVERLAP` early and continues from the newest change of each page, not from a page number, because
        entries that are edited meanwhile move to the end and would shift the pages. An entry comes twice only if its
        `modified_at` differs.
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

        Begin with the id of the last event or, if there is none, with a time (Benchling keeps two weeks); continue with
        `page_token`. Raises `Rejected` or `NotFound` if the id is too old.
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

    async def get_folder(
        self, folder_id: str, *, priority: Priority = Priority.READ, deadline: float | None = None
    ) -> Folder:
        """Return a folder; raises `NotFound`."""
        answer = await self._get(GET_FOLDER, f"/folders/{quoted(folder_id)}", priority=priority, deadline=deadline)
        return read_wire(Folder, answer, GET_FOLDER.name)

    async def list_folders(
        self, *, project_id: str, priority: Priority = Priority.SWEEP, deadline: float | None = None
    ) -> list[Folder]:
        """Return the folders of a project."""
        query = {"projectId": project_id}
        rows = await self._all_pages(LIST_FOLDERS, "/folders", query, "folders", priority=priority, deadline=deadline)
        return [read_wire(Folder, row, LIST_FOLDERS.name) for row in rows]

    async def link_names(
        self,
        refs: Sequence[LinkRef],
        *,
        cap: int = 500,
        priority: Priority = Priority.READ,
        deadline: float | None = None,
    ) -> list[NamedLink]:
        """Return the links with their names, in the given order; at most `cap` names that are not cached are looked up.

        A link has no name if Benchling answers 403 or 404, if its type has no names, or beyond `cap`. Raises the
        failure of an outage. `deadline` is that of each request.
        """

        async def ask(request: Request) -> Any:
            return await self._sender.send(request, priority, deadline)

        names = await self._names.of(refs, cap, ask)
        return [NamedLink(type=ref.type, id=ref.id, name=names[ref.type, ref.id], slug=ref.slug) for ref in refs]

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
        """Ask again without the ids that Benchling named as bad; if it named none, ask for each half."""
        good = [entry_id for entry_id in batch if entry_id not in bad]
        if len(batch) == 1 or not good:
            return []
        if len(good) < len(batch):
            return await self._bulk_entries(good, returning, priority, deadline)
        half = len(batch) // 2
        first = await self._bulk_entries(batch[:half], returning, priority, deadline)
        return first + await self._bulk_entries(batch[half:], returning, priority, deadline)


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
