"""The simulated tenant: all its state and what people do in it. No HTTP here."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

from sandbox.simulator.blobstore import BlobStore
from sandbox.simulator.canvases import Canvas
from sandbox.simulator.directory import Directory, Person
from sandbox.simulator.events import Event, EventFeed
from sandbox.simulator.exports import Exports
from sandbox.simulator.faults import Switchboard
from sandbox.simulator.identifiers import Identifiers
from sandbox.simulator.messages import Outgoing, canvas_message, entry_message, lifecycle_message
from sandbox.simulator.notebook import Attachment, Entry, Notebook, text_note
from sandbox.simulator.presign import Signer
from sandbox.simulator.rates import Budgets, Window
from sandbox.simulator.settings import LEAK_MARK, TenantSettings
from sandbox.simulator.signing import KeyRing

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.simulator.clock import Clock
    from sandbox.simulator.sessions import Session


class NoSuchThing(LookupError):  # noqa: N818 - a person's mistake
    """A person named something that the tenant doesn't have; the message says what."""


@dataclass
class Origins:
    """Where the simulator serves; set once the ports are known."""

    api: str = "http://benchling.invalid"
    blobs: str = "http://blobs.invalid"
    jwks: str = "http://apps.invalid"


@dataclass
class Token:
    """An access token that was handed out. `number` names it in logs."""

    number: int
    app_id: str
    ends: float
    revoked: bool = False


@dataclass
class App:
    """An installed app and its credentials."""

    id: str
    client_id: str
    client_secret: str


@dataclass
class Outbox:
    """Where messages go; the sender takes its place when there is one."""

    send: Callable[[Outgoing], None] = lambda _outgoing: None
    count: int = 0

    def put(self, outgoing: Outgoing) -> None:
        """Hand a message to the sender."""
        self.count += 1
        self.send(outgoing)


@dataclass
class World:
    """One tenant."""

    settings: TenantSettings
    clock: Clock
    origins: Origins = field(default_factory=Origins)

    def __post_init__(self) -> None:
        settings, dice = self.settings, Random(self.settings.seed)
        self.dice = dice
        self.ids = Identifiers(Random(dice.random()))
        self.faults = Switchboard(Random(dice.random()))
        self.keys = KeyRing(Random(dice.random()))
        self.outbox = Outbox()
        signer = Signer(str(dice.random()), settings.session_life)
        self.blobs = BlobStore(self.clock, self.faults, signer)
        self.exports = Exports(self.clock, settings, self.faults, self.ids, Random(dice.random()), self.blobs)
        self.feed = EventFeed(settings.event_retention)
        self.canvases: dict[str, Canvas] = {}
        self.sessions: dict[str, Session] = {}
        seconds = settings.rate_window_real_seconds
        self.budgets = Budgets(
            Window(settings.tenant_rate, seconds), Window(settings.key_rate, seconds), settings.app_rate, seconds
        )
        app = App(settings.app_id, settings.client_id, settings.client_secret)
        self.apps: dict[str, App] = {app.client_id: app}
        self.tokens: dict[str, Token] = {}
        self._token_dice = Random(dice.random())
        self.directory = Directory(self.origins.api)
        self.author_since = self.clock.now()
        self.author = self.directory.add_person(self.ids, "Ada Muster", "amuster")
        self.project = self.directory.add(self.ids, "project", "Simulated project", self.clock.now()).id
        self.directory.project_id = self.project
        self.folder = self.directory.add(self.ids, "folder", "Simulated folder", self.clock.now()).id
        self.notebook = Notebook(self.ids, self.directory)
        self.schema = {"id": self.ids.next("ts"), "name": "Experiment"}

    def serve_at(self, origins: Origins) -> None:
        """Say where the tenant is reached."""
        self.origins = origins
        self.directory.tenant_url = origins.api

    # -- tokens -----------------------------------------------------------------------------------------------

    def give_token(self, app: App, life: float) -> str:
        """A new access token for an app."""
        text = f"eyJ{LEAK_MARK}.{self._token_dice.randbytes(24).hex()}"
        self.tokens[text] = Token(len(self.tokens) + 1, app.id, self.clock.real() + life)
        return text

    def revoke_tokens(self) -> int:
        """Revoke all tokens; how many were alive."""
        alive = [token for token in self.tokens.values() if not token.revoked and token.ends > self.clock.real()]
        for token in alive:
            token.revoked = True
        return len(alive)

    def change_secret(self, secret: str, client_id: str | None = None) -> None:
        """Give the app another client secret; old tokens live on."""
        self.apps[client_id or self.settings.client_id].client_secret = secret

    # -- entries ----------------------------------------------------------------------------------------------

    def entry(self, identifier: str) -> Entry:
        """The entry with this id or display id. Raises NoSuchThing."""
        found = self.notebook.find(identifier)
        if found is None:
            for entry in self.notebook.entries.values():
                if entry.display_id == identifier and not entry.deleted:
                    return entry
            message = f"there is no entry {identifier!r} (`entry list` shows all)"
            raise NoSuchThing(message)
        return found

    def create_entry(
        self,
        *,
        name: str = "Simulated experiment",
        text: str | None = None,
        attachments: tuple[tuple[str, int, bool], ...] = (),
        links: tuple[str, ...] = (),
        fields: dict[str, Any] | None = None,
        author: Person | None = None,
        canvas: bool = False,
        silent: bool = False,
        **members: Any,
    ) -> Entry:
        """A scientist makes an entry: webhook and event, unless `silent`. Attachments are (name, bytes, deflated)."""
        now = self.clock.now()
        members.setdefault("schema", dict(self.schema))
        entry = self.notebook.create(
            now, name=name, author=author or self.author, folder_id=self.folder,
            fields=dict(fields or {"Batch": "B-1"}), **members,
        )  # fmt: skip
        entry.notes().append(text_note(text or f"Notes of {name}."))
        for file_name, size, deflated in attachments:
            self.notebook.attach(entry, file_name, size, deflated=deflated)
        for kind in links:
            self.notebook.link(entry, kind, now)
        if canvas:
            self.insert_canvas(entry, silent=True)
        if not silent:
            self._announce(entry, "v2.entry.created", None)
        return entry

    def edit_fields(self, entry: Entry, fields: dict[str, Any]) -> None:
        """Change schema fields: webhook and event."""
        entry.fields.update(fields)
        entry.touch(self.clock.now())
        self._announce(entry, "v2.entry.updated.fields", [f"fields.{name}" for name in fields])

    def edit_body(self, entry: Entry, text: str) -> None:
        """Write into the entry: modifiedAt moves, nobody is told."""
        entry.notes().append(text_note(text))
        entry.touch(self.clock.now())

    def attach(self, entry: Entry, name: str, size: int, **members: Any) -> Attachment:
        """Attach a file: modifiedAt moves, nobody is told."""
        attachment = self.notebook.attach(entry, name, size, **members)
        entry.touch(self.clock.now())
        return attachment

    def link(self, entry: Entry, kind: str, name: str | None = None) -> str | None:
        """Mention an object: modifiedAt moves, nobody is told."""
        identifier = self.notebook.link(entry, kind, self.clock.now(), name)
        entry.touch(self.clock.now())
        return identifier

    def rename(self, entry: Entry, name: str | None = None, display_id: str | None = None) -> None:
        """Another name or display id: modifiedAt moves, nobody is told."""
        entry.name = name or entry.name
        entry.display_id = display_id or entry.display_id
        entry.touch(self.clock.now())

    def review(self, entry: Entry, status: str) -> None:
        """The review moves on: webhook and event."""
        entry.review_status = status
        entry.touch(self.clock.now())
        self._announce(entry, "v2.entry.updated.reviewRecord", None)

    def archive(self, entry: Entry, reason: str | None = "Made in error") -> None:
        """Archive the entry (or take it back with None): nobody is told."""
        entry.archive_reason = reason
        entry.touch(self.clock.now())

    def _announce(self, entry: Entry, kind: str, updates: list[str] | None) -> None:
        """An event in the feed and a webhook."""
        if self.faults.take("webhook_lost_event", self.clock.real(), subject=entry.id, operation=kind):
            return
        event_id, now = self.ids.next("evt"), self.clock.now()
        shown = copy.deepcopy(entry.whole(self.origins.api))
        self.feed.add(Event(event_id, kind, entry.modified_at, shown, updates))
        sent_id = event_id if self.settings.same_event_ids else self.ids.next("evt")
        schema_id = None if entry.schema is None else str(entry.schema["id"])
        self.outbox.put(
            entry_message(
                kind, event_id=sent_id, created_at=max(now, entry.modified_at), entry_id=entry.id,
                schema_id=schema_id, updates=updates,
            )
        )  # fmt: skip

    # -- canvases and the app ---------------------------------------------------------------------------------

    def canvas(self, identifier: str) -> Canvas:
        """The canvas with this id, or the first one of this entry. Raises NoSuchThing."""
        if identifier in self.canvases:
            return self.canvases[identifier]
        entry = next((e for e in self.notebook.entries.values() if identifier in (e.id, e.display_id)), None)
        for canvas in self.canvases.values():
            if entry is not None and canvas.resource_id == entry.id:
                return canvas
        message = f"there is no canvas {identifier!r}, and no canvas of an entry of that id"
        raise NoSuchThing(message)

    def add_canvas(self, app_id: str, feature_id: str, resource_id: str) -> Canvas:
        """A new, empty canvas, shown in its entry."""
        now = self.clock.now()
        canvas = Canvas(self.ids.next("cnvs"), app_id, feature_id, resource_id, now, now)
        self.canvases[canvas.id] = canvas
        entry = self.notebook.find(resource_id)
        if entry is not None:
            self.notebook.show_canvas(entry, app_id, canvas.id, feature_id)
        return canvas

    def insert_canvas(self, entry: Entry, *, silent: bool = False) -> Canvas:
        """A scientist inserts the app's canvas into an entry: v2.canvas.created."""
        canvas = self.add_canvas(self.settings.app_id, self.settings.feature_id, entry.id)
        entry.touch(self.clock.now())
        if not silent:
            self._canvas_created(canvas)
        return canvas

    def _canvas_created(self, canvas: Canvas) -> None:
        members = {"canvasId": canvas.id, "featureId": canvas.feature_id, "userId": self.author.id}
        if self.faults.take("webhook_beta_twin", self.clock.real(), subject=canvas.id):
            self.outbox.put(canvas_message("v2-beta.canvas.created", subject=canvas.id, **members))
        self.outbox.put(canvas_message("v2.canvas.created", subject=canvas.id, **members))

    def initialize_canvas(self, entry: Entry) -> None:
        """A scientist asks for a canvas that the app is to create: v2.canvas.initialized (without a canvas id)."""
        members = {"featureId": self.settings.feature_id, "resourceId": entry.id, "userId": self.author.id}
        self.outbox.put(canvas_message("v2.canvas.initialized", subject=entry.id, **members))

    def click(self, canvas: Canvas, button_id: str, *, force: bool = False) -> None:
        """A scientist clicks: the UI disables the canvas until the app PATCHes it.

        Raises NoSuchThing if the canvas has no such button or it can't be clicked, unless `force`.
        """
        buttons = canvas.buttons()
        if not force:
            if not canvas.enabled:
                message = f"canvas {canvas.id} is disabled: it waits for the app"
                raise NoSuchThing(message)
            if button_id not in buttons or buttons[button_id].get("enabled") is False:
                known = ", ".join(name for name, block in buttons.items() if block.get("enabled") is not False)
                message = f"canvas {canvas.id} has no button {button_id!r} to click; it has: {known or 'none'}"
                raise NoSuchThing(message)
        canvas.change({"enabled": False}, self.clock.now(), "ui")
        self.outbox.put(
            canvas_message(
                "v2.canvas.userInteracted", subject=canvas.id, buttonId=button_id, canvasId=canvas.id,
                featureId=canvas.feature_id, userId=self.author.id,
            )
        )  # fmt: skip

    def lifecycle(self, kind: str) -> None:
        """The app is installed, activated, deactivated or configured."""
        self.outbox.put(lifecycle_message(kind))
