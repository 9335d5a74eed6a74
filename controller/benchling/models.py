"""Benchling's answers as typed values. Unknown members are ignored. Errors name members, never their values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, NewType, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from controller.benchling.errors import AnswerUnreadable
from entrypackage import entry_notes
from entrypackage.model import Model

TaskId = NewType("TaskId", str)
"""The id of an export's task; Benchling forgets it 30 minutes after the export's end."""


class PresignedURL(SecretStr):
    """An address that grants access by itself. It prints as ``***``; fetch it without an Authorization header."""


class Wire(Model):
    """A value that Benchling sent; its ``URL`` and ``Id`` members are spelled as Benchling does."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)


Text = Annotated[str, Field(min_length=1)]
Lenient = Annotated[str, BeforeValidator(lambda value: value if isinstance(value, str) else "")]
"""An optional text: empty if it is absent, null or of another type."""


class Person(Wire):
    """A user, as an entry names them."""

    id: Lenient = ""
    name: Lenient = ""
    handle: Lenient = ""


class SchemaRef(Wire):
    """The schema of an entry."""

    id: Lenient = ""
    name: Lenient = ""


class Entry(Wire):
    """A notebook entry: what the controller decides by, and the whole as the API gave it."""

    id: Text
    display_id: Lenient = ""
    name: Lenient = ""
    web_url: Annotated[Lenient, Field(alias="webURL")] = ""
    folder_id: Lenient = ""
    created_at: Lenient = ""
    modified_at: Lenient = ""
    """The time as Benchling writes it; `modified` is the parsed time."""
    creator: Person | None = None
    authors: list[Person] = []
    entry_schema: Annotated[SchemaRef | None, Field(alias="schema")] = None
    archive_record: dict[str, Any] | None = None
    raw: Annotated[dict[str, Any], Field(exclude=True, repr=False)] = {}
    """The entry exactly as the API gave it."""

    @property
    def archived(self) -> bool:
        """Whether the entry is archived."""
        return self.archive_record is not None

    @property
    def modified(self) -> datetime | None:
        """When the entry was last changed, in UTC; None if Benchling's text is not a time."""
        return read_time(self.modified_at)

    def external_file_ids(self) -> list[str]:
        """Return the ids of attached files, in the order of the notes, each once."""
        return entry_notes.external_file_ids(self.raw)

    def canvas_ids(self) -> list[str]:
        """Return the ids of the canvases in the notes, in their order, each once."""
        return entry_notes.canvas_ids(self.raw)


@dataclass(frozen=True, slots=True)
class EntryPage:
    """One page of a list of entries, in its order."""

    entries: list[Entry]


class ExternalFile(Wire):
    """A file attached to an entry, with an address that is valid for a short time."""

    id: Text
    url: Annotated[PresignedURL, Field(alias="downloadURL")]
    expires_at: int | None = None
    """Unix time in seconds."""
    size: int | None = None
    """In bytes."""


@dataclass(frozen=True, slots=True)
class TaskRunning:
    """The export is being made."""


@dataclass(frozen=True, slots=True)
class TaskSucceeded:
    """The export's archive is ready."""

    url: PresignedURL


@dataclass(frozen=True, slots=True)
class TaskFailed:
    """Benchling could not make the export."""

    message: str


@dataclass(frozen=True, slots=True)
class TaskGone:
    """Benchling knows no such task: it ended more than 30 minutes ago or never existed."""


ExportTask = TaskRunning | TaskSucceeded | TaskFailed | TaskGone


class Event(Wire):
    """An event, as Benchling's list of events has it."""

    id: Text
    event_type: Text
    created_at: Text
    deprecated: bool = False
    updates: list[str] = []
    entry: Entry | None = None
    """The entry that the event is about, if any."""
    raw: Annotated[dict[str, Any], Field(exclude=True, repr=False)] = {}


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events in the order in which Benchling processed them, which is not the order of their times."""

    events: list[Event]
    next_token: str | None


class Canvas(Wire):
    """An app canvas."""

    id: Text
    app_id: Lenient = ""
    feature_id: Lenient = ""
    resource_id: Lenient = ""
    """The entry that holds the canvas."""
    enabled: bool | None = None
    state: Annotated[Lenient, Field(alias="data")] = ""
    """The app's own text of at most 5 kB."""
    session_id: Lenient = ""
    blocks: list[dict[str, Any]] = []
    archive_record: dict[str, Any] | None = None

    @property
    def archived(self) -> bool:
        """Whether the canvas is archived."""
        return self.archive_record is not None


class CanvasChange(Model):
    """A change of a canvas: members that are not set stay as they are; an explicit None clears one."""

    blocks: list[dict[str, Any]] | None = None
    enabled: bool | None = None
    feature_id: str | None = None
    resource_id: str | None = None
    state: Annotated[str | None, Field(alias="data")] = None
    session_id: str | None = None


class SessionMessage(Model):
    """One line of an app session, cut or filled up to the 3 to 200 characters that Benchling accepts."""

    content: Annotated[str, BeforeValidator(lambda value: _fit(value, 3, 200))]
    style: Annotated[str, Field(pattern="^(NONE|INFO|SUCCESS|WARNING|ERROR)$")] = "NONE"


class Session(Wire):
    """An app session: the line of progress that a person sees beside the canvas."""

    id: Text
    status: Lenient = ""
    name: Lenient = ""


class App(Wire):
    """The Benchling app that the controller acts as."""

    id: Text
    name: Lenient = ""
    archive_record: dict[str, Any] | None = None


class Folder(Wire):
    """A folder of a project."""

    id: Text
    name: Lenient = ""
    parent_folder_id: Lenient = ""
    project_id: Lenient = ""


WireType = TypeVar("WireType", bound=Wire)


def read_wire(kind: type[WireType], value: object, name: str) -> WireType:
    """Return a value as `kind`; raises `AnswerUnreadable`, which names members, not their values."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        items = error.errors(include_input=False, include_url=False, include_context=False)
        where = ", ".join(".".join(str(part) for part in item["loc"]) or "its root" for item in items[:5])
        raise AnswerUnreadable(f"Benchling's answer to {name} cannot be read at: {where}.") from None


def read_entry(value: object, name: str) -> Entry:
    """Return one entry, with the whole answer in `raw`; raises `AnswerUnreadable`."""
    entry = read_wire(Entry, value, name)
    return entry.model_copy(update={"raw": value})


def read_event(value: object, name: str) -> Event:
    """Return one event, with the whole answer in its `raw` and its entry's; raises `AnswerUnreadable`."""
    event = read_wire(Event, value, name)
    assert isinstance(value, dict)
    entry = None if event.entry is None else event.entry.model_copy(update={"raw": value["entry"]})
    return event.model_copy(update={"raw": value, "entry": entry})


def read_canvas(value: object, name: str) -> Canvas:
    """Return one canvas, with the app's id taken from the nested object; raises `AnswerUnreadable`."""
    canvas = read_wire(Canvas, value, name)
    app = value.get("app") if isinstance(value, dict) else None
    app_id = app.get("id") if isinstance(app, dict) else None
    return canvas.model_copy(update={"app_id": app_id}) if isinstance(app_id, str) else canvas


def read_task(value: object, name: str) -> ExportTask:
    """Return the state of an export's task. An unknown status counts as running, since only two statuses end a task."""
    if not isinstance(value, dict):
        raise AnswerUnreadable(f"Benchling's answer to {name} is no JSON object.")
    match value.get("status"):
        case "SUCCEEDED":
            response = value.get("response")
            url = response.get("downloadURL") if isinstance(response, dict) else None
            if isinstance(url, str) and url.startswith(("https://", "http://")):
                return TaskSucceeded(PresignedURL(url))
            return TaskFailed("Benchling reported success but gave no address of the archive.")
        case "FAILED":
            message = value.get("message")
            return TaskFailed(message[:500] if isinstance(message, str) and message else "Benchling gave no reason.")
        case str():
            return TaskRunning()
        case _:
            raise AnswerUnreadable(f"Benchling's answer to {name} holds no status.")


def members(value: object, key: str, name: str) -> list[Any]:
    """Return the list under a key of a JSON object; raises `AnswerUnreadable` if there is none."""
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, list):
        raise AnswerUnreadable(f"Benchling's answer to {name} holds no list {key}.")
    return found


def member(value: object, key: str, name: str) -> dict[str, Any]:
    """Return the object under a key of a JSON object; raises `AnswerUnreadable` if there is none."""
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, dict):
        raise AnswerUnreadable(f"Benchling's answer to {name} holds no object {key}.")
    return found


def next_token(value: object) -> str | None:
    """Return the token of the next page; None at the end, also for a token that is empty or of another type."""
    token = value.get("nextToken") if isinstance(value, dict) else None
    return token if isinstance(token, str) and token else None


def read_time(text: str) -> datetime | None:
    """Return an RFC 3339 time in UTC, which is also assumed where no zone is given; None for any other text."""
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        return None
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _fit(value: object, least: int, most: int) -> object:
    if not isinstance(value, str):
        return value
    text = value if len(value) <= most else value[: most - 1] + "…"
    return text.ljust(least, ".")
