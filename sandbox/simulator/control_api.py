"""`/_sim/...`: what tests, the demo and a person's CLI do with a running simulator."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sandbox.simulator.api.operations import ROUTES
from sandbox.simulator.faults import FAULTS, Rule, UnknownFault
from sandbox.simulator.gallery import GALLERY, UnknownArchive, gallery
from sandbox.simulator.notebook import LINK_TYPES, Entry
from sandbox.simulator.settings import RETRY_PROFILES
from sandbox.simulator.wire import Call, Json, Reply, json_reply
from sandbox.simulator.world import NoSuchThing

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.simulator.canvases import Canvas
    from sandbox.simulator.simulator import Simulator

PREFIX = "/_sim"
LIFECYCLE_TYPES = {
    "install": "v2.app.installed",
    "activate": "v2.app.activateRequested",
    "deactivate": "v2.app.deactivated",
    "configure": "v2-beta.app.configuration.updated",
}


class _Order(BaseModel):
    model_config = ConfigDict(extra="forbid")


class AttachmentOrder(_Order):
    """A file to attach: incompressible bytes, or compressible ones that the archive deflates."""

    name: str = "data.bin"
    size: int = Field(default=1000, ge=0)
    deflated: bool = False
    content: str | None = None


class CreateOrder(_Order):
    """New entries."""

    count: int = Field(default=1, ge=1, le=20_000)
    name: str = "Simulated experiment"
    text: str | None = None
    fields: dict[str, Any] = Field(default_factory=dict)
    attachments: list[AttachmentOrder] = Field(default_factory=list)
    links: list[str] = Field(default_factory=list)
    canvas: bool = False
    silent: bool = False
    schemaless: bool = False
    display_id: str | None = None
    export_seconds: float | None = Field(default=None, ge=0)


class EditOrder(_Order):
    """Changes of an entry: `fields` makes webhooks, everything else only moves modifiedAt."""

    entry: str
    kind: str = "fields"
    count: int = Field(default=1, ge=1, le=20_000)
    fields: dict[str, Any] | None = None
    text: str | None = None
    name: str | None = None
    display_id: str | None = None
    export_seconds: float | None = Field(default=None, ge=0)


class AttachOrder(AttachmentOrder):
    """One more file in an entry, or new bytes for the one of this name."""

    entry: str
    replace: bool = False


class LinkOrder(_Order):
    """A mention of an object in an entry."""

    entry: str
    kind: str
    name: str | None = None


class CanvasOrder(_Order):
    """A canvas in an entry: made by Benchling (`created`) or to be made by the app (`initialized`)."""

    entry: str
    initialized: bool = False


class ClickOrder(_Order):
    """A click on a button of a canvas (named by its id, or by its entry)."""

    canvas: str
    button: str
    count: int = Field(default=1, ge=1, le=1000)
    force: bool = False


class FaultOrder(_Order):
    """A switch: how often, how long (real seconds), for which entry (or canvas) and operation, how likely."""

    name: str
    times: int | None = Field(default=None, ge=1)
    seconds: float | None = Field(default=None, gt=0)
    subject: str | None = None
    operation: str | None = None
    chance: float = Field(default=1.0, ge=0, le=1)
    options: dict[str, Any] = Field(default_factory=dict)


class ClockOrder(_Order):
    """Move tenant time."""

    advance: float = Field(default=0.0, ge=0)
    scale: float | None = Field(default=None, ge=0)


class WebhookOrder(_Order):
    """Where webhooks go and how they are tried again."""

    url: str | None = None
    stable: bool | None = None
    retries: str | None = None


class BurstOrder(_Order):
    """Field edits spread over entries, and over so many real seconds."""

    events: int = Field(default=1000, ge=1, le=50_000)
    entries: int = Field(default=100, ge=1, le=20_000)
    seconds: float = Field(default=20.0, ge=0)


class LoadOrder(_Order):
    """Calls that other apps take out of the hidden tenant budget of the current window."""

    calls: int = Field(ge=1)


class KeyOrder(_Order):
    """Another signing key; the old one stays listed or not."""

    keep_old: bool = True


class SecretOrder(_Order):
    """Another client secret."""

    secret: str = Field(min_length=1)


class TellOrder(_Order):
    """An app life cycle message."""

    kind: str


class _Mistake(Exception):  # noqa: N818 - a person's
    """What a person did wrong, in a sentence."""


def _entry_line(entry: Entry, simulator: Simulator) -> Json:
    whole = entry.whole(simulator.world.origins.api)
    names = ("id", "displayId", "name", "webURL", "createdAt", "modifiedAt")
    files = [{"id": file.id, "name": file.name, "size": file.size} for file in entry.attachments.values()]
    canvases = [c.id for c in simulator.world.canvases.values() if c.resource_id == entry.id]
    exports = simulator.world.exports.started[entry.id]
    return {name: whole[name] for name in names} | {
        "attachments": files,
        "canvases": canvases,
        "exports": exports,
        "archived": entry.archive_reason is not None,
    }


def _canvas_line(canvas: Canvas) -> Json:
    buttons = {name: block.get("enabled", True) is not False for name, block in canvas.buttons().items()}
    return {**canvas.whole(), "buttons": buttons, "writes": len(canvas.writes)}


class ControlApi:
    """The verbs, each a method from a checked order to JSON."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._world = simulator.world

    async def answer(self, call: Call) -> Reply:
        """The answer to a call below `/_sim`; mistakes are 400 with a sentence in `error`."""
        verb = call.path.removeprefix(PREFIX).strip("/")
        try:
            if call.method == "GET":
                return json_reply(self._read(verb, call.parameters()))
            return json_reply(self._act(verb, json.loads(call.body or b"{}")))
        except ValidationError as problem:
            first = problem.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the order"
            return json_reply({"error": f"{place}: {first['msg']}"}, 400)
        except (_Mistake, NoSuchThing, UnknownFault, UnknownArchive) as problem:
            return json_reply({"error": str(problem)}, 400)
        except ValueError:
            return json_reply({"error": "the body is not JSON"}, 400)

    def _read(self, verb: str, given: dict[str, str]) -> object:
        readers: dict[str, Callable[[dict[str, str]], object]] = {
            "entries": lambda _: [_entry_line(e, self._simulator) for e in self._world.notebook.entries.values()],
            "entry": lambda g: _entry_line(self._world.entry(g.get("id", "")), self._simulator),
            "canvases": lambda _: [_canvas_line(canvas) for canvas in self._world.canvases.values()],
            "canvas": lambda g: self._canvas_history(g.get("id", "")),
            "requests": self._requests,
            "webhooks": self._webhooks,
            "counters": lambda _: self.counters(),
            "faults": lambda _: self._faults(),
            "gallery": lambda _: {name: text for name, (text, _build) in GALLERY.items()},
            "operations": lambda _: [operation.id for operation in ROUTES.operations],
            "clock": lambda _: self._clock(),
            "tasks": lambda _: self._tasks(),
        }
        if verb not in readers:
            message = f"there is nothing to read at {verb!r}; known: {', '.join(sorted(readers))}"
            raise _Mistake(message)
        return readers[verb](given)

    def _act(self, verb: str, body: object) -> object:
        actions: dict[str, Callable[[object], object]] = {
            "entries": lambda b: self._create(CreateOrder.model_validate(b)),
            "edit": lambda b: self._edit(EditOrder.model_validate(b)),
            "attach": lambda b: self._attach(AttachOrder.model_validate(b)),
            "link": lambda b: self._link(LinkOrder.model_validate(b)),
            "canvases": lambda b: self._insert_canvas(CanvasOrder.model_validate(b)),
            "click": lambda b: self._click(ClickOrder.model_validate(b)),
            "faults": lambda b: self._set_fault(FaultOrder.model_validate(b)),
            "faults/clear": self._clear_faults,
            "clock": lambda b: self._move_clock(ClockOrder.model_validate(b)),
            "webhook": lambda b: self._route(WebhookOrder.model_validate(b)),
            "webhooks/release": lambda _: {"released": self._simulator.sender.release()},
            "burst": lambda b: self._burst(BurstOrder.model_validate(b)),
            "load": lambda b: self._load(LoadOrder.model_validate(b)),
            "keys/rotate": lambda b: self._rotate(KeyOrder.model_validate(b)),
            "tokens/revoke": lambda _: {"revoked": self._world.revoke_tokens()},
            "secret": lambda b: self._secret(SecretOrder.model_validate(b)),
            "app": lambda b: self._tell(TellOrder.model_validate(b)),
        }
        if verb not in actions:
            message = f"there is nothing to do at {verb!r}; known: {', '.join(sorted(actions))}"
            raise _Mistake(message)
        return actions[verb](body)

    # -- reading ----------------------------------------------------------------------------------------------

    def counters(self) -> Json:
        """All counters in one object."""
        world, sender = self._world, self._simulator.sender
        return {
            "requests": dict(self._simulator.journal.counts),
            "faults": dict(world.faults.counts),
            "entries": len(world.notebook.entries),
            "exports": {
                "started": sum(world.exports.started.values()),
                "running": world.exports.running(),
                "neverRead": world.exports.never_read(),
                "mostAtOnce": world.exports.most_at_once,
                "byEntry": dict(world.exports.started),
            },
            "tokens": len(world.tokens),
            "urlsSigned": world.blobs.signed,
            "events": len(world.feed.events),
            "webhooks": {"messages": world.outbox.count, **sender.states(), "ack": sender.latencies()},
        }

    def _requests(self, given: dict[str, str]) -> list[Json]:
        lines = self._simulator.journal.dump(operation=given.get("operation"), caller=given.get("caller"))
        last = int(given.get("last", "0") or 0)
        return lines[-last:] if last else lines

    def _webhooks(self, given: dict[str, str]) -> list[Json]:
        deliveries = list(self._simulator.sender.deliveries)
        kind, subject = given.get("type"), given.get("subject")
        return [
            delivery.shown()
            for delivery in deliveries
            if kind in (None, delivery.type) and subject in (None, delivery.subject)
        ]

    def _canvas_history(self, identifier: str) -> Json:
        canvas = self._world.canvas(identifier)
        return {**_canvas_line(canvas), "history": canvas.history()}

    def _faults(self) -> Json:
        return {
            "known": FAULTS,
            "set": [asdict(rule) for rule in self._world.faults.listed()],
            "counts": dict(self._world.faults.counts),
        }

    def _clock(self) -> Json:
        clock = self._simulator.clock
        return {"tenant": clock.now(), "real": clock.real(), "scale": clock.scale}

    def _tasks(self) -> list[Json]:
        now = self._simulator.clock.now()
        return [
            {"id": t.id, "entry": t.entry_id, "started": t.started, "running": now < t.ends, "path": t.path}
            for t in self._world.exports.tasks.values()
        ]

    # -- acting -----------------------------------------------------------------------------------------------

    def _create(self, order: CreateOrder) -> object:
        for kind in order.links:
            _check_link(kind)
        members: dict[str, Any] = {"schema": None} if order.schemaless else {}
        lines = []
        for number in range(order.count):
            entry = self._world.create_entry(
                name=order.name if order.count == 1 else f"{order.name} {number + 1}",
                text=order.text, links=tuple(order.links), fields=order.fields or None,
                attachments=tuple((f.name, f.size, f.deflated) for f in order.attachments if f.content is None),
                canvas=order.canvas, silent=order.silent, export_seconds=order.export_seconds,
                display_id=order.display_id if order.count == 1 else None, **members,
            )  # fmt: skip
            for file in order.attachments:
                if file.content is not None:
                    payload = file.content.encode()
                    self._world.notebook.attach(entry, file.name, len(payload), payload=payload)
            lines.append(_entry_line(entry, self._simulator))
        return lines

    def _edit(self, order: EditOrder) -> Json:
        entry = self._world.entry(order.entry)
        if order.export_seconds is not None:
            entry.export_seconds = order.export_seconds
        actions: dict[str, Callable[[int], None]] = {
            "fields": lambda n: self._world.edit_fields(entry, order.fields or {"Batch": f"B-{len(entry.fields)}-{n}"}),
            "body": lambda n: self._world.edit_body(entry, order.text or f"One more note, {n}."),
            "rename": lambda _: self._world.rename(entry, order.name, order.display_id),
            "review": lambda _: self._world.review(entry, order.text or "NEEDS_REVIEW"),
            "archive": lambda _: self._world.archive(entry),
            "unarchive": lambda _: self._world.archive(entry, None),
            "delete": lambda _: setattr(entry, "deleted", True),
            "nothing": lambda _: None,
        }
        if order.kind not in actions:
            message = f"an entry can't be edited by {order.kind!r}; known: {', '.join(actions)}"
            raise _Mistake(message)
        for number in range(order.count):
            actions[order.kind](number + 1)
        return _entry_line(entry, self._simulator)

    def _attach(self, order: AttachOrder) -> Json:
        entry = self._world.entry(order.entry)
        known = [file for file in entry.attachments.values() if file.name == order.name]
        if order.replace and known:
            self._world.notebook.replace_attachment(entry, known[0], order.size)
            entry.touch(self._simulator.clock.now())
            return _entry_line(entry, self._simulator)
        payload = None if order.content is None else order.content.encode()
        size = order.size if payload is None else len(payload)
        self._world.attach(entry, order.name, size, deflated=order.deflated, payload=payload)
        return _entry_line(entry, self._simulator)

    def _link(self, order: LinkOrder) -> Json:
        _check_link(order.kind)
        return {"id": self._world.link(self._world.entry(order.entry), order.kind, order.name)}

    def _insert_canvas(self, order: CanvasOrder) -> object:
        entry = self._world.entry(order.entry)
        if order.initialized:
            self._world.initialize_canvas(entry)
            return {}
        return _canvas_line(self._world.insert_canvas(entry))

    def _click(self, order: ClickOrder) -> Json:
        canvas = self._world.canvas(order.canvas)
        for number in range(order.count):
            # The second click of a double click leaves before the UI has disabled the canvas.
            self._world.click(canvas, order.button, force=order.force or number > 0)
        return _canvas_line(canvas)

    def _set_fault(self, order: FaultOrder) -> Json:
        if order.name == "archive_gallery":
            gallery(str(order.options.get("name", "zip-slip")))
        until = None if order.seconds is None else self._simulator.clock.real() + order.seconds
        subject = order.subject
        if subject is not None and subject not in self._world.canvases:
            found = [e.id for e in self._world.notebook.entries.values() if subject == e.display_id]
            subject = found[0] if found else subject
        rule = Rule(order.name, order.times, until, subject, order.operation, order.chance, order.options)
        self._world.faults.set(rule)
        return asdict(rule)

    def _clear_faults(self, body: object) -> Json:
        name = body.get("name") if isinstance(body, dict) else None
        cleared = self._world.faults.clear(name)
        if name in (None, "webhook_reorder"):
            self._simulator.sender.release()
        return {"cleared": cleared}

    def _move_clock(self, order: ClockOrder) -> Json:
        clock = self._simulator.clock
        clock.advance(order.advance)
        if order.scale is not None:
            clock.rescale(order.scale)
        return self._clock()

    def _route(self, order: WebhookOrder) -> Json:
        sender = self._simulator.sender
        if order.retries is not None and order.retries not in RETRY_PROFILES:
            message = f"there is no retry profile {order.retries!r}; known: {', '.join(RETRY_PROFILES)}"
            raise _Mistake(message)
        sender.url = order.url if order.url is not None else sender.url
        sender.stable_url = sender.stable_url if order.stable is None else order.stable
        sender.profile = order.retries or sender.profile
        return {"url": sender.url, "stable": sender.stable_url, "retries": sender.profile}

    def _burst(self, order: BurstOrder) -> Json:
        world = self._world
        entries = [entry for entry in world.notebook.entries.values() if not entry.deleted][: order.entries]
        while len(entries) < order.entries:
            entries.append(world.create_entry(name=f"Burst {len(entries) + 1}", silent=True))
        self._simulator.sender.start(self._edit_all(order, entries))
        return {"events": order.events, "entries": len(entries)}

    async def _edit_all(self, order: BurstOrder, entries: list[Entry]) -> None:
        clock = self._simulator.clock
        started = clock.real()
        for number in range(order.events):
            due = started + order.seconds * number / order.events
            if due > clock.real():
                await clock.sleep(due - clock.real())
            self._world.edit_fields(entries[number % len(entries)], {"Batch": f"burst-{number}"})

    def _load(self, order: LoadOrder) -> Json:
        now, tenant = self._simulator.clock.real(), self._world.budgets.tenant
        tenant.spend(now, min(order.calls, tenant.remaining(now)))
        return {"tenantRemaining": tenant.remaining(now)}

    def _rotate(self, order: KeyOrder) -> Json:
        return {"key": self._world.keys.rotate(keep_old=order.keep_old)}

    def _secret(self, order: SecretOrder) -> Json:
        self._world.change_secret(order.secret)
        return {}

    def _tell(self, order: TellOrder) -> Json:
        if order.kind not in LIFECYCLE_TYPES:
            message = f"the app can't {order.kind!r}; known: {', '.join(LIFECYCLE_TYPES)}"
            raise _Mistake(message)
        self._world.lifecycle(LIFECYCLE_TYPES[order.kind])
        return {"type": LIFECYCLE_TYPES[order.kind]}


def _check_link(kind: str) -> None:
    if kind not in LINK_TYPES:
        message = f"there is no link type {kind!r}; known: {', '.join(LINK_TYPES)}"
        raise _Mistake(message)
