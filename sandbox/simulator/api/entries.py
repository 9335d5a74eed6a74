"""/entries, their external files, and /events."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

from sandbox.simulator.api.listing import identifiers, offset_of, ordered, page, page_size, time_filter
from sandbox.simulator.archives import attachment_file
from sandbox.simulator.blobstore import Blob
from sandbox.simulator.clock import parse_iso
from sandbox.simulator.notebook import Attachment, Entry, file_type, text_note
from sandbox.simulator.wire import (
    Json,
    Reply,
    bad_request,
    forbidden,
    json_object,
    json_reply,
    not_found,
    returning,
    unknown_ids,
)

if TYPE_CHECKING:
    from sandbox.simulator.api.routing import Request
    from sandbox.simulator.events import Event
    from sandbox.simulator.world import World

_UPDATE = {"name", "folderId", "schemaId", "fields", "authorIds"}
_ARCHIVED = {"NOT_ARCHIVED", "ANY_ARCHIVED", "ANY_ARCHIVED_OR_NOT_ARCHIVED"}


def readable(world: World, identifier: str, operation: str) -> Entry:
    """The entry, unless it is gone or closed to the app. Raises Refusal (404, 403)."""
    now = world.clock.real()
    if world.faults.take("entry_404", now, subject=identifier, operation=operation):
        raise not_found(identifier)
    if world.faults.take("entry_403", now, subject=identifier, operation=operation):
        raise forbidden("You do not have permission to read this entry", identifier)
    entry = world.notebook.find(identifier)
    if entry is None:
        raise not_found(identifier)
    return entry


def shown(world: World, entry: Entry, operation: str) -> Json:
    """The entry's JSON, spoilt by the faults that are set for it."""
    now = world.clock.real()

    def struck(name: str) -> bool:
        return world.faults.take(name, now, subject=entry.id, operation=operation) is not None

    if struck("entry_moves"):
        entry.touch(world.clock.now())
    whole = entry.whole(world.origins.api)
    if struck("entry_null_schema"):
        whole["schema"] = None
    added: list[Json] = []
    if struck("entry_5000_notes"):
        added += [text_note(f"note {number}") for number in range(5000)]
    if struck("entry_unknown_types"):
        strange = {"id": "xyz_12345678", "type": "quantum_sample", "webURL": None}
        added.append({"type": "hologram", "indentation": 0, "text": "?", "links": [strange], "spin": 0.5})
    if struck("entry_non_ascii"):
        whole["name"] = "Größe ≥ 5 µm — 実験 🧪 \u202e/../"
        added.append(text_note("naïve café 細胞 Ω≈ç√∫ \u0000 \U0001f9ec"))
    if added:
        whole["days"] = copy.deepcopy(whole["days"])
        whole["days"][-1]["notes"] += added
    return whole


def get_entry(request: Request) -> Reply:
    """GET /entries/{entry_id}"""
    entry = readable(request.world, request.at["entry_id"], "getEntry")
    whole = shown(request.world, entry, "getEntry")
    return json_reply({"entry": returning(whole, request.parameters.get("returning"))})


def update_entry(request: Request) -> Reply:
    """PATCH /entries/{entry_id}: a closed body."""
    world = request.world
    entry = readable(world, request.at["entry_id"], "updateEntry")
    body = json_object(request.call)
    if unknown := body.keys() - _UPDATE:
        raise bad_request(f"Unknown member: {', '.join(sorted(unknown))}")
    for name in ("name", "folderId", "schemaId", "authorIds"):
        if name in body and not isinstance(body[name], str):
            raise bad_request(f"{name} must be a string")
    fields = body.get("fields", {})
    good = isinstance(fields, dict) and all(_is_field(field) for field in fields.values())
    if not good:
        raise bad_request("fields must map names to objects with a value")
    if "name" in body:
        world.rename(entry, body["name"])
    if "folderId" in body:
        entry.folder_id = body["folderId"]
    if fields:
        world.edit_fields(entry, {name: value["value"] for name, value in fields.items()})
    return json_reply(shown(world, entry, "updateEntry"))


def _is_field(field: Any) -> bool:
    """Whether a written field has a value of one of the documented types."""
    if not isinstance(field, dict) or "value" not in field:
        return False
    value = field["value"]
    return not isinstance(value, list) or all(isinstance(item, str) for item in value)


def list_entries(request: Request) -> Reply:
    """GET /entries"""
    world, given = request.world, request.parameters
    entries = [entry for entry in world.notebook.entries.values() if not entry.deleted]
    wanted = identifiers(given, "ids")
    if wanted is not None:
        known = {entry.id for entry in entries}
        if invalid := [identifier for identifier in wanted if identifier not in known]:
            raise unknown_ids(invalid)
        entries = [entry for entry in entries if entry.id in set(wanted)]
    fits = time_filter(given.get("modifiedAt"))
    entries = [entry for entry in entries if fits(entry.modified_at) and _selected(entry, given)]
    keys: dict[str, Any] = {
        "modifiedAt": lambda entry: (entry.modified_at, entry.id),
        "createdAt": lambda entry: (entry.created_at, entry.id),
        "name": lambda entry: (entry.name, entry.id),
    }
    sort = given.get("sort", "modifiedAt:desc")
    entries = ordered(entries, sort, keys, descending=not sort.startswith("name"))
    body = page(
        world, "listEntries", "entries", entries,
        lambda entry: returning(shown(world, entry, "listEntries"), given.get("returning")), given,
    )  # fmt: skip
    return json_reply(body)


def _selected(entry: Entry, given: dict[str, str]) -> bool:
    """Whether the entry passes the filters other than ids and modifiedAt."""
    reason = given.get("archiveReason", "NOT_ARCHIVED")
    if reason == "NOT_ARCHIVED" and entry.archive_reason is not None:
        return False
    if reason == "ANY_ARCHIVED" and entry.archive_reason is None:
        return False
    if reason not in _ARCHIVED and entry.archive_reason != reason:
        return False
    names = identifiers(given, "names.anyOf") or identifiers(given, "names.anyOf.caseSensitive")
    schema_id = None if entry.schema is None else entry.schema["id"]
    tests: list[tuple[list[str] | None, set[Any]]] = [
        (identifiers(given, "displayIds"), {entry.display_id}),
        (identifiers(given, "creatorIds"), {entry.creator.id}),
        (identifiers(given, "authorIds.anyOf"), {author.id for author in entry.authors}),
        (identifiers(given, "schemaId"), {schema_id}),
        (identifiers(given, "reviewStatus"), {entry.review_status}),
        (names, {entry.name}),
    ]
    return all(wanted is None or has & set(wanted) for wanted, has in tests)


def bulk_get_entries(request: Request) -> Reply:
    """GET /entries:bulk-get by ids or display ids."""
    world, given = request.world, request.parameters
    ids, display_ids = identifiers(given, "entryIds"), identifiers(given, "displayIds")
    wanted = ids if ids is not None else display_ids
    if wanted is None or (ids is not None and display_ids is not None):
        raise bad_request("Exactly one of entryIds and displayIds is required")
    maximum = world.settings.bulk_maximum
    if maximum and len(wanted) > maximum:
        raise bad_request(f"At most {maximum} ids are allowed")
    by_display = {entry.display_id: entry for entry in world.notebook.entries.values()}
    found: list[Entry] = []
    invalid: list[str] = []
    for identifier in wanted:
        entry = world.notebook.find(identifier) if ids is not None else by_display.get(identifier)
        if entry is None:
            invalid.append(identifier)
        else:
            found.append(entry)
    if invalid:
        raise unknown_ids(invalid)
    fields = given.get("returning")
    shown_entries = [returning(shown(world, entry, "bulkGetEntries"), fields) for entry in found]
    return json_reply({"entries": shown_entries})


def external_file(request: Request) -> Reply:
    """GET /entries/{entry_id}/external-files/{external_file_id}: a short-lived URL."""
    world = request.world
    entry = readable(world, request.at["entry_id"], "getExternalFileMetadata")
    attachment = entry.attachments.get(request.at["external_file_id"])
    if attachment is None:
        raise not_found(request.at["external_file_id"])
    path = f"/files/{attachment.id}/{attachment.version}"
    world.blobs.put(Blob(path, attachment.name, file_type(attachment.name), entry.id, _builder(attachment)))
    life = world.settings.file_url_life
    body = {
        "id": attachment.id,
        "downloadURL": world.blobs.sign(path, world.origins.blobs, life),
        "expiresAt": math.floor(world.clock.now() + life),
        "size": attachment.size,
    }
    return json_reply({"externalFile": body})


def _builder(attachment: Attachment) -> Any:
    return lambda _change: attachment_file(attachment)


def list_events(request: Request) -> Reply:
    """GET /events: processing order, resumed by id or token."""
    world, given = request.world, request.parameters
    now, size = world.clock.now(), page_size(given)
    if world.faults.take("events_gap", world.clock.real(), operation="listEvents"):
        world.feed.lose(now - world.settings.event_retention)
    if "startingAfter" in given and "createdAt.gte" in given:
        raise bad_request("Only one of startingAfter and createdAt.gte is allowed")
    events = _events_from(request, now)
    wanted = identifiers(given, "eventTypes")
    events = [event for event in events if wanted is None or event.type in wanted]
    if world.faults.take("events_unordered", world.clock.real(), operation="listEvents"):
        events = [*events[1::2], *events[::2]]
    shown_events = events[:size]
    body: Json = {"events": [event.whole() for event in shown_events], "nextToken": ""}
    polling = given.get("poll", "").lower() == "true"
    if len(events) > size or polling:
        last = shown_events[-1].id if shown_events else _position(request, now)
        body["nextToken"] = f"after:{last}"
        return json_reply(body)
    if world.faults.take("list_token_null", world.clock.real(), operation="listEvents"):
        body["nextToken"] = None
    if world.faults.take("list_token_missing", world.clock.real(), operation="listEvents"):
        del body["nextToken"]
    return json_reply(body)


def _position(request: Request, now: float) -> str:
    """The newest event that a poll without results stands behind; empty if there is none."""
    token = request.parameters.get("nextToken", "")
    if token.startswith("after:"):
        return token.removeprefix("after:")
    kept = request.world.feed.kept(now)
    return kept[-1].id if kept else ""


def _events_from(request: Request, now: float) -> list[Event]:
    feed, given = request.world.feed, request.parameters
    token = given.get("nextToken", "")
    if token:
        if not token.startswith("after:"):
            offset_of("invalid")
        last = token.removeprefix("after:")
        return feed.after(last, now) if last else feed.kept(now)
    if given.get("startingAfter"):
        return feed.after(given["startingAfter"], now)
    if given.get("createdAt.gte"):
        try:
            since = parse_iso(given["createdAt.gte"])
        except (ValueError, OverflowError):
            raise bad_request("createdAt.gte is not a date and time") from None
        return [event for event in feed.kept(now) if event.created_at >= since]
    return feed.kept(now)
