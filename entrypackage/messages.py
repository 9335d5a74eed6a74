"""What Benchling's webhooks say: the envelope and the closed set of messages that this product understands.

The bytes are parsed once, here; everything behind works with these types. Members that are not known are ignored and
optional ones may be missing, because real deliveries differ from Benchling's published schema in both directions.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, ValidationError
from pydantic_core import from_json

from entrypackage.model import Instant, Model
from entrypackage.trigger import MESSAGE_CHARS

MAX_DEPTH: Final = 64
"""How deep the JSON of a delivery may be nested."""

UPDATES_CUT: Final = "updatesCut"
"""The member that says how many of a long message's `updates` were left out of a trigger."""


class MessageError(ValueError):
    """A delivery's body is not what Benchling sends. `reason` is one word, the text a sentence without content."""

    def __init__(self, reason: str, sentence: str) -> None:
        """Take the reason (NotJson, BadEnvelope or BadMessage) and the sentence."""
        super().__init__(sentence)
        self.reason = reason


def _normalised_url(value: str) -> str:
    """Benchling's schema shows the base URL without a scheme, its deliveries have one."""
    bare = re.sub(r"^https?://", "", value.strip(), flags=re.IGNORECASE).rstrip("/")
    if not re.fullmatch(r"[A-Za-z0-9.-]+(:\d{1,5})?", bare):
        raise ValueError("is not the address of a tenant")
    scheme = "http" if value.strip().lower().startswith("http://") else "https"
    return f"{scheme}://{bare.lower()}"


def _with_zone(value: object) -> object:
    """Read a time without a zone as UTC, as Benchling's own SDK does."""
    if not isinstance(value, str):
        raise ValueError("is not a time")  # noqa: TRY004 - pydantic turns it into the validation error
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError("is not an ISO 8601 time") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


Id = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[^\x00-\x20\x7f]+$")]
"""An id of Benchling's: case matters, no blanks, at most 128 characters."""

BaseUrl = Annotated[str, AfterValidator(_normalised_url)]
"""``https://<host>``, in lower case and without a slash at the end."""

MessageTime = Annotated[Instant, BeforeValidator(_with_zone)]


class EntryMessage(Model):
    """An entry was created, or its schema, a field or a review record changed. Edits of its text send nothing."""

    type: Literal["v2.entry.created", "v2.entry.updated.fields", "v2.entry.updated.reviewRecord", "v3.entry.created"]
    id: Id
    created_at: MessageTime
    resource_id: Id
    """The entry."""
    updates: list[str] | None = None
    deprecated: bool = False


class CanvasInitialized(Model):
    """A person inserted the app's canvas into an entry; the canvas itself is not known yet."""

    type: Literal["v2.canvas.initialized"]
    feature_id: Id
    resource_id: Id
    user_id: Id | None = None
    deprecated: bool = False


class CanvasCreated(Model):
    """A canvas was made; which entry holds it must be asked for."""

    type: Literal["v2.canvas.created", "v2-beta.canvas.created"]
    canvas_id: Id
    feature_id: Id | None = None
    user_id: Id | None = None
    deprecated: bool = False


class CanvasInteracted(Model):
    """A person clicked a button. The message has neither id nor time: the delivery's headers have them."""

    type: Literal["v2.canvas.userInteracted"]
    button_id: Annotated[str, Field(min_length=1, max_length=1024)]
    canvas_id: Id
    feature_id: Id | None = None
    user_id: Id | None = None
    deprecated: bool = False


class LifecycleMessage(Model):
    """The app was installed, is to be activated, was deactivated, or its configuration changed."""

    type: Literal[
        "v2.app.installed", "v2.app.activateRequested", "v2.app.deactivated", "v2-beta.app.configuration.updated"
    ]
    deprecated: bool = False


class UnknownMessage(Model):
    """A message of a type that this release does not serve; nothing else of it is read."""

    type: Annotated[str, Field(min_length=1, max_length=256)]
    deprecated: bool = False


Message = EntryMessage | CanvasInitialized | CanvasCreated | CanvasInteracted | LifecycleMessage | UnknownMessage

_MODELS: Final[dict[str, type[Message]]] = {
    type_name: model
    for model in (EntryMessage, CanvasInitialized, CanvasCreated, CanvasInteracted, LifecycleMessage)
    for type_name in model.model_fields["type"].annotation.__args__  # type: ignore[union-attr]
}

KNOWN_TYPES: Final = frozenset(_MODELS)
"""The message types that are understood."""


class EnvelopeApp(Model):
    """The app's installation in the tenant."""

    id: Id


class AppDefinition(Model):
    """The app, whichever tenant it is installed in; its keys sign the deliveries."""

    id: Id
    version_number: Annotated[str, Field(max_length=128)] = ""


class _Frame(Model):
    """The envelope, its message still unread."""

    version: Annotated[str, Field(max_length=16)] = "0"
    base_url: Annotated[BaseUrl, Field(alias="baseURL", max_length=512)]
    tenant_id: Id
    app: EnvelopeApp
    app_definition: AppDefinition
    channel: Annotated[str | None, Field(max_length=64)] = None


class Envelope(_Frame):
    """One delivery's body."""

    message: Message
    text: str
    """The message's canonical JSON, at most 8,192 characters: what a trigger carries."""


def parse_envelope(body: bytes) -> Envelope:
    """Read a delivery's body; raises `MessageError`, and nothing else whatever the bytes are."""
    content = _read_json(body)
    try:
        frame = _Frame.model_validate(content)
    except ValidationError as error:
        raise MessageError("BadEnvelope", f"The envelope is wrong at {_places(error)}.") from None
    raw = content.get("message")
    if not isinstance(raw, dict):
        raise MessageError("BadEnvelope", "The envelope has no message.")
    message = parse_message(raw)
    known = {name: getattr(frame, name) for name in _Frame.model_fields}
    return Envelope(**known, message=message, text=message_text(raw, message))


def parse_message(raw: dict[str, Any]) -> Message:
    """Read one message by its type; raises `MessageError` if a known type lacks what it must have."""
    kind = raw.get("type")
    model = _MODELS.get(kind, UnknownMessage) if isinstance(kind, str) else UnknownMessage
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise MessageError("BadMessage", f"The message is wrong at {_places(error)}.") from None


def message_text(raw: dict[str, Any], message: Message) -> str:
    """Return the message as canonical JSON of at most `MESSAGE_CHARS` characters.

    Of a longer one the last `updates` are left out and their number stands in `updatesCut`; if that is not enough,
    only the members that this product knows are kept.
    """
    text = _canonical(raw)
    if len(text) <= MESSAGE_CHARS:
        return text
    for kept in (raw, message.model_dump(mode="json", by_alias=True, exclude_none=True)):
        shortened = _with_fewer_updates(kept)
        if len(shortened) <= MESSAGE_CHARS:
            return shortened
    raise MessageError("BadMessage", f"The message is longer than {MESSAGE_CHARS} characters.")


def _with_fewer_updates(raw: dict[str, Any]) -> str:
    updates = raw.get("updates")
    if not isinstance(updates, list):
        return _canonical(raw)
    bare = len(_canonical({**raw, "updates": [], UPDATES_CUT: len(updates)}))
    kept = 0
    for update in updates:
        bare += len(_canonical(update)) + 1
        if bare > MESSAGE_CHARS:
            break
        kept += 1
    return _canonical({**raw, "updates": updates[:kept], UPDATES_CUT: len(updates) - kept})


def _read_json(body: bytes) -> dict[str, Any]:
    try:
        content = from_json(body, allow_inf_nan=False)
        # The strings must survive the way to the API server: lone surrogates and numbers without end would not.
        _canonical(content).encode()
    except (ValueError, RecursionError):
        raise MessageError("NotJson", "The body is not JSON.") from None
    if not isinstance(content, dict):
        raise MessageError("NotJson", "The body is JSON, but not an object.")
    if _depth_exceeds(content, MAX_DEPTH):
        raise MessageError("NotJson", f"The body's JSON is nested deeper than {MAX_DEPTH}.")
    return content


def _depth_exceeds(value: object, limit: int) -> bool:
    level: list[object] = [value]
    for _ in range(limit):
        inner = [member for node in level for member in _members(node)]
        if not inner:
            return False
        level = inner
    return True


def _members(node: object) -> list[object]:
    if isinstance(node, dict):
        return [value for value in node.values() if isinstance(value, dict | list)]
    return [value for value in node if isinstance(value, dict | list)] if isinstance(node, list) else []


def _canonical(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _places(error: ValidationError) -> str:
    names = {".".join(str(part) for part in item["loc"]) or "its root" for item in error.errors(include_input=False)}
    return ", ".join(sorted(names)[:5])
