"""Notebook entries: what they are made of, how they change, and how the API shows them."""

from __future__ import annotations

import mimetypes
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sandbox.simulator.clock import iso
from sandbox.simulator.directory import KINDS, UNREADABLE_PREFIXES, Directory, Person, slug_of

if TYPE_CHECKING:
    from sandbox.simulator.identifiers import Identifiers
    from sandbox.simulator.wire import Json

TICK = 1e-6
"""The API's time stamps have microseconds: the least by which modifiedAt can move."""


@dataclass(frozen=True)
class Attachment:
    """A file in an entry; its bytes follow from its id, version and size."""

    id: str
    name: str
    size: int
    deflated: bool = False
    version: int = 1
    payload: bytes | None = None

    @property
    def seed(self) -> str:
        """What determines the bytes."""
        return f"{self.id}/{self.version}"


@dataclass
class Entry:
    """One notebook entry."""

    id: str
    display_id: str
    name: str
    creator: Person
    authors: list[Person]
    created_at: float
    modified_at: float
    folder_id: str
    schema: Json | None
    fields: dict[str, Any] = field(default_factory=dict)
    days: list[Json] = field(default_factory=list)
    attachments: dict[str, Attachment] = field(default_factory=dict)
    archive_reason: str | None = None
    review_status: str = "IN_PROGRESS"
    export_seconds: float | None = None
    deleted: bool = False

    def notes(self) -> list[Json]:
        """The notes of the last day, to append to."""
        last: list[Json] = self.days[-1]["notes"]
        return last

    def touch(self, now: float) -> None:
        """Move modifiedAt: always forward, also when the clock stands still."""
        self.modified_at = max(now, self.modified_at + TICK)

    def whole(self, tenant_url: str) -> Json:
        """The entry as the API gives it."""
        archived = None if self.archive_reason is None else {"reason": self.archive_reason}
        return {
            "id": self.id,
            "displayId": self.display_id,
            "name": self.name,
            "apiURL": f"{tenant_url}/api/v2/entries/{self.id}",
            "webURL": f"{tenant_url}/simulator/f/{self.folder_id}-folder/{self.id}-{slug_of(self.name)}/edit",
            "folderId": self.folder_id,
            "creator": self.creator.summary(),
            "authors": [person.summary() for person in self.authors],
            "assignedReviewers": [],
            "createdAt": iso(self.created_at),
            "modifiedAt": iso(self.modified_at),
            "schema": self.schema,
            "fields": {name: field_value(value) for name, value in self.fields.items()},
            "customFields": {},
            "days": self.days,
            "entryTemplateId": None,
            "reviewRecord": {"comment": "", "status": self.review_status},
            "archiveRecord": archived,
        }


def field_value(value: Any) -> Json:
    """A field as the API shows it."""
    multi = isinstance(value, list)
    kind = {bool: "boolean", int: "integer", float: "float"}.get(type(value), "text")
    text = None if value is None else ", ".join(map(str, value)) if multi else str(value)
    return {"value": value, "displayValue": text, "textValue": text, "isMulti": multi, "type": kind}


def text_note(text: str, links: list[Json] | None = None, kind: str = "text") -> Json:
    """A note of one of the simple types."""
    return {"type": kind, "indentation": 0, "text": text, "links": links or []}


class Notebook:
    """All entries of the tenant."""

    def __init__(self, ids: Identifiers, directory: Directory) -> None:
        self._ids = ids
        self._directory = directory
        self.entries: dict[str, Entry] = {}
        self._number = 0

    def create(self, now: float, *, name: str, author: Person, folder_id: str, **members: Any) -> Entry:
        """A new entry with an empty day; `members` are Entry's own."""
        self._number += 1
        display_id = members.pop("display_id", None) or f"EXP26{self._number:06d}"
        entry = Entry(
            id=self._ids.next("etr"), display_id=display_id, name=name, creator=author, authors=[author],
            created_at=now, modified_at=now, folder_id=folder_id, **members,
        )  # fmt: skip
        entry.days.append({"date": iso(now)[:10], "title": None, "notes": []})
        self.entries[entry.id] = entry
        return entry

    def find(self, identifier: str) -> Entry | None:
        """The entry with this id; None also for a deleted one."""
        entry = self.entries.get(identifier)
        return None if entry is None or entry.deleted else entry

    def attach(self, entry: Entry, name: str, size: int, **members: Any) -> Attachment:
        """Put a file into the entry; its modifiedAt is the caller's business."""
        attachment = Attachment(self._ids.next("fil"), name, size, **members)
        entry.attachments[attachment.id] = attachment
        caption = text_note(name, kind="external_file")
        entry.notes().append({**caption, "externalFileId": attachment.id})
        return attachment

    def replace_attachment(self, entry: Entry, attachment: Attachment, size: int | None = None) -> Attachment:
        """New bytes under the same file id."""
        changed = replace(attachment, version=attachment.version + 1, size=attachment.size if size is None else size)
        entry.attachments[attachment.id] = changed
        return changed

    def link(self, entry: Entry, kind: str, now: float, name: str | None = None) -> str | None:
        """A note that mentions a new object of this link type; its id (None for a hyperlink)."""
        if kind == "link":
            target: Json = {"type": "link", "webURL": "https://example.com/protocol"}
            entry.notes().append(text_note("see the protocol", [target]))
            return None
        if kind == "entry":
            identifier = next((other for other in self.entries if other != entry.id), entry.id)
        elif kind in UNREADABLE_PREFIXES:
            identifier = self._ids.next(UNREADABLE_PREFIXES[kind])
        elif kind == "user":
            label = name or "Mentioned Person"
            identifier = self._directory.add_person(self._ids, label, "mentioned").id
        else:
            identifier = self._directory.add(self._ids, kind, name or f"{kind} of {entry.display_id}", now).id
        url = self._directory.web_url(kind, identifier)
        entry.notes().append(text_note(f"uses {kind}", [{"id": identifier, "type": kind, "webURL": url}]))
        return identifier

    def show_canvas(self, entry: Entry, app_id: str, canvas_id: str, feature_id: str) -> None:
        """A note in which the app's canvas appears."""
        entry.notes().append(
            {
                "type": "app_canvas",
                "indentation": 0,
                "appId": app_id,
                "canvasId": canvas_id,
                "featureId": feature_id,
            }
        )


LINK_TYPES = ("link", "entry", *(kind for kind in KINDS if kind != "project"), *UNREADABLE_PREFIXES)
"""Every type of link that the contract names, as far as an entry can carry it."""


def file_type(name: str) -> str:
    """The media type of an attachment, by its name."""
    return mimetypes.guess_type(name)[0] or "application/octet-stream"
