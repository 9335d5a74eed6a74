"""The table of verbs: what tests, the demo and a person can ask of a running simulator.

A verb is a function on the simulator. Its signature is the order, checked by the server (`control_api`), typed in the
client (`control`) and read from the command line (`cli`); `VERBS` adds words, help and how a person sees the answer.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from sandbox.simulator.clock import iso
from sandbox.simulator.command import Said, Verb, attachment_of, verb_of
from sandbox.simulator.faults import FAULTS, Rule, check_options
from sandbox.simulator.gallery import GALLERY
from sandbox.simulator.gallery import gallery as gallery_archive
from sandbox.simulator.notebook import LINK_TYPES, Entry
from sandbox.simulator.settings import RETRY_PROFILES
from sandbox.simulator.wire import Json

if TYPE_CHECKING:
    from collections.abc import Callable

    from sandbox.simulator.canvases import Canvas
    from sandbox.simulator.simulator import Simulator

LIFECYCLE_TYPES = {
    "install": "v2.app.installed",
    "activate": "v2.app.activateRequested",
    "deactivate": "v2.app.deactivated",
    "configure": "v2-beta.app.configuration.updated",
}

Count = Annotated[int, Field(ge=1, le=20_000)]
Seconds = Annotated[float, Field(ge=0)]
Fields = Annotated[dict[str, Any] | None, Said(flag="--field")]
_FILE: Json = {"type": attachment_of, "metavar": "NAME:SIZE[:deflated]"}
Attachments = Annotated[list[Json] | None, Said(flag="--attach", settings=_FILE)]
EntryId = Annotated[str, Said("id or display id")]
CanvasId = Annotated[str, Said("its id, or its entry's")]


class VerbRefused(Exception):  # noqa: N818 - a person's mistake
    """An order that can't be carried out; the message says what is wrong with it."""


class File(BaseModel):
    """A file to attach: its text, or so many bytes, incompressible or (`deflated`) not."""

    model_config = ConfigDict(extra="forbid")
    name: str = "data.bin"
    size: int = Field(default=1000, ge=0)
    deflated: bool = False
    content: str | None = None

    @property
    def payload(self) -> bytes | None:
        """The bytes of `content`."""
        return None if self.content is None else self.content.encode()


def _known(word: str, table: object, what: str) -> None:
    """Refuse a word that is not in a table."""
    names = list(table) if isinstance(table, dict | tuple) else []
    if word not in names:
        message = f"{what} {word!r}; known: {', '.join(names)}"
        raise VerbRefused(message)


# -- entries --------------------------------------------------------------------------------------------------


def _entry(simulator: Simulator, entry: Entry) -> Json:
    whole = entry.whole(simulator.world.origins.api)
    return {name: whole[name] for name in ("id", "displayId", "name", "webURL", "createdAt", "modifiedAt")} | {
        "attachments": [{"id": file.id, "name": file.name, "size": file.size} for file in entry.attachments.values()],
        "canvases": [canvas.id for canvas in simulator.world.canvases.values() if canvas.resource_id == entry.id],
        "exports": simulator.world.exports.started[entry.id],
        "archived": entry.archive_reason is not None,
    }


def _attach(simulator: Simulator, entry: Entry, file: File) -> None:
    payload = file.payload
    size = file.size if payload is None else len(payload)
    simulator.world.notebook.attach(entry, file.name, size, deflated=file.deflated, payload=payload)


def create_entries(
    simulator: Simulator,
    count: Count = 1,
    name: str = "Simulated experiment",
    *,
    text: Annotated[str | None, Said("a note in the entry")] = None,
    fields: Fields = None,
    attachments: Attachments = None,
    links: Annotated[
        list[str] | None, Said("mention an object, e.g. dna_sequence", "--link", settings={"metavar": "TYPE"})
    ] = None,
    canvas: Annotated[bool, Said("with the app's canvas in it")] = False,
    silent: Annotated[bool, Said("neither webhook nor event")] = False,
    schemaless: Annotated[bool, Said("without a schema")] = False,
    display_id: str | None = None,
    export_seconds: Annotated[Seconds | None, Said("how long its exports run")] = None,
) -> list[Json]:
    """Entries alike: `{id, displayId, name, modifiedAt, attachments, canvases, exports, ...}` of each.

    `attachments`: `{name, size, deflated}` or `{name, content}`. `silent`: no webhook, no event.
    """
    files = [File.model_validate(file) for file in attachments or ()]
    for kind in links or ():
        _known(kind, LINK_TYPES, "there is no link type")
    members: dict[str, Any] = {"schema": None} if schemaless else {}
    made = []
    for number in range(count):
        entry = simulator.world.create_entry(
            name=name if count == 1 else f"{name} {number + 1}", text=text, links=tuple(links or ()), fields=fields,
            attachments=tuple((f.name, f.size, f.deflated) for f in files if f.content is None), canvas=canvas,
            silent=silent, export_seconds=export_seconds, display_id=display_id if count == 1 else None, **members,
        )  # fmt: skip
        for file in files:
            if file.content is not None:
                _attach(simulator, entry, file)
        made.append(_entry(simulator, entry))
    return made


def entries(simulator: Simulator) -> list[Json]:
    """All entries."""
    return [_entry(simulator, entry) for entry in simulator.world.notebook.entries.values()]


def entry(simulator: Simulator, entry: EntryId) -> Json:
    """One entry."""
    return _entry(simulator, simulator.world.entry(entry))


def edit_entry(
    simulator: Simulator,
    entry: EntryId,
    *,
    kind: Annotated[str, Said("fields, body, rename, review, archive, unarchive, delete, nothing")] = "fields",
    count: Count = 1,
    fields: Fields = None,
    text: str | None = None,
    name: str | None = None,
    display_id: str | None = None,
    export_seconds: Seconds | None = None,
) -> Json:
    """Change an entry `count` times: fields and review send webhooks and events, the other kinds neither."""
    world, found = simulator.world, simulator.world.entry(entry)
    actions: dict[str, Callable[[int], None]] = {
        "fields": lambda n: world.edit_fields(found, fields or {"Batch": f"B-{len(found.fields)}-{n}"}),
        "body": lambda n: world.edit_body(found, text or f"One more note, {n}."),
        "rename": lambda _: world.rename(found, name, display_id),
        "review": lambda _: world.review(found, text or "NEEDS_REVIEW"),
        "archive": lambda _: world.archive(found),
        "unarchive": lambda _: world.archive(found, None),
        "delete": lambda _: setattr(found, "deleted", True),
        "nothing": lambda _: None,
    }
    _known(kind, actions, "an entry can't be edited by")
    if export_seconds is not None:
        found.export_seconds = export_seconds
    for number in range(count):
        actions[kind](number + 1)
    return _entry(simulator, found)


def attach_files(
    simulator: Simulator,
    entry: EntryId,
    files: Annotated[list[Json], Said(settings=_FILE)],
    *,
    replace: Annotated[bool, Said("new bytes under the same name")] = False,
) -> Json:
    """Attach files (or `replace` the bytes of those of these names): no webhook."""
    found = simulator.world.entry(entry)
    for file in [File.model_validate(one) for one in files]:
        same = [known for known in found.attachments.values() if known.name == file.name]
        if replace and same:
            simulator.world.notebook.replace_attachment(found, same[0], file.size)
        else:
            _attach(simulator, found, file)
        found.touch(simulator.clock.now())
    return _entry(simulator, found)


def link(
    simulator: Simulator,
    entry: EntryId,
    kind: Annotated[str, Said("for example dna_sequence, user, entry, link")],
    name: str | None = None,
) -> str | None:
    """Mention a new object of a link type; its id."""
    _known(kind, LINK_TYPES, "there is no link type")
    return simulator.world.link(simulator.world.entry(entry), kind, name)


def burst(
    simulator: Simulator,
    events: Annotated[int, Field(ge=1, le=50_000), Said(flag="--events")] = 1000,
    entries: Count = 100,
    seconds: Annotated[Seconds, Said("over which they are spread")] = 20.0,
) -> Json:
    """Begin field edits, spread over entries and over so many real seconds."""
    world, clock = simulator.world, simulator.clock
    edited = [entry for entry in world.notebook.entries.values() if not entry.deleted][:entries]
    while len(edited) < entries:
        edited.append(world.create_entry(name=f"Burst {len(edited) + 1}", silent=True))

    async def edit_all() -> None:
        started = clock.real()
        for number in range(events):
            due = started + seconds * number / events
            if due > clock.real():
                await clock.sleep(due - clock.real())
            world.edit_fields(edited[number % len(edited)], {"Batch": f"burst-{number}"})

    simulator.sender.start(edit_all())
    return {"events": events, "entries": len(edited)}


# -- canvases and the app -------------------------------------------------------------------------------------


def _canvas(canvas: Canvas) -> Json:
    buttons = {name: block.get("enabled", True) is not False for name, block in canvas.buttons().items()}
    return {**canvas.whole(), "buttons": buttons, "writes": len(canvas.writes)}


def insert_canvas(
    simulator: Simulator, entry: EntryId, *, initialized: Annotated[bool, Said("ask the app to make it")] = False
) -> Json:
    """A canvas in an entry: v2.canvas.created, or (`initialized`) v2.canvas.initialized without a canvas."""
    found = simulator.world.entry(entry)
    if initialized:
        simulator.world.initialize_canvas(found)
        return {}
    return _canvas(simulator.world.insert_canvas(found))


def canvases(simulator: Simulator) -> list[Json]:
    """All canvases with their buttons."""
    return [_canvas(canvas) for canvas in simulator.world.canvases.values()]


def canvas(simulator: Simulator, canvas: CanvasId) -> Json:
    """One canvas with `buttons` and the `history` of its writes."""
    found = simulator.world.canvas(canvas)
    return {**_canvas(found), "history": found.history()}


def click(
    simulator: Simulator,
    canvas: CanvasId,
    button: str,
    *,
    count: Annotated[int, Field(ge=1, le=1000), Said("2: a double click")] = 1,
    force: Annotated[bool, Said("also what isn't there or is disabled")] = False,
) -> Json:
    """Click a button of a canvas."""
    found = simulator.world.canvas(canvas)
    for number in range(count):
        # The second click of a double click leaves before the UI has disabled the canvas.
        simulator.world.click(found, button, force=force or number > 0)
    return _canvas(found)


def tell_app(simulator: Simulator, kind: Annotated[str, Said(", ".join(LIFECYCLE_TYPES))]) -> Json:
    """Send an app life cycle message."""
    _known(kind, LIFECYCLE_TYPES, "the app can't")
    simulator.world.lifecycle(LIFECYCLE_TYPES[kind])
    return {"type": LIFECYCLE_TYPES[kind]}


# -- faults, clock, limits ------------------------------------------------------------------------------------


def set_fault(
    simulator: Simulator,
    name: str,
    options: Annotated[
        dict[str, Any] | None, Said(positional=True, settings={"nargs": "*", "metavar": "OPTION=VALUE"})
    ] = None,
    *,
    times: Annotated[int | None, Field(ge=1), Said("so many times, then no more")] = None,
    seconds: Annotated[float | None, Field(gt=0), Said("for so many seconds")] = None,
    subject: Annotated[str | None, Said("only for this entry (or canvas, task, linked object)")] = None,
    operation: Annotated[str | None, Said("only for this operation, e.g. exportItem, or webhook type")] = None,
    chance: Annotated[float, Field(ge=0, le=1)] = 1.0,
) -> Json:
    """Set a switch; `seconds` are real ones."""
    given, world = options or {}, simulator.world
    check_options(name, given)
    if name == "archive_gallery":
        gallery_archive(str(given.get("name", "zip-slip")))
    if subject is not None and subject not in world.canvases:
        named = [entry.id for entry in world.notebook.entries.values() if subject == entry.display_id]
        subject = named[0] if named else subject
    until = None if seconds is None else simulator.clock.real() + seconds
    rule = Rule(name, times, until, subject, operation, chance, given)
    world.faults.set(rule)
    return {**asdict(rule), "seconds": seconds}


def faults(simulator: Simulator) -> Json:
    """`{known: {name: description}, set: [...], counts: {name: n}}`."""
    board = simulator.world.faults
    return {"known": FAULTS, "set": [asdict(rule) for rule in board.listed()], "counts": dict(board.counts)}


def clear_faults(simulator: Simulator, name: Annotated[str | None, Said(positional=True)] = None) -> int:
    """Switch one fault off, or all; how many settings there were."""
    cleared = simulator.world.faults.clear(name)
    if name in (None, "webhook_reorder"):
        simulator.sender.release()
    return cleared


def gallery(_simulator: Simulator) -> dict[str, str]:
    """The hostile archives: name -> what is wrong with it."""
    return {name: text for name, (text, _build) in GALLERY.items()}


def clock(
    simulator: Simulator,
    *,
    seconds: Annotated[Seconds, Said("forward by so many")] = 0.0,
    scale: Annotated[Seconds | None, Said("tenant seconds per real one; 0 stops the clock")] = None,
) -> Json:
    """Move tenant time, or only read it: `{tenant, real, scale}`."""
    hands = simulator.clock
    hands.advance(seconds)
    if scale is not None:
        hands.rescale(scale)
    return {"tenant": hands.now(), "real": hands.real(), "scale": hands.scale}


def spend_tenant(simulator: Simulator, calls: Annotated[int, Field(ge=1)]) -> Json:
    """Let other apps use up calls of the hidden tenant budget of the current window."""
    now, budget = simulator.clock.real(), simulator.world.budgets.tenant
    budget.spend(now, min(calls, budget.remaining(now)))
    return {"tenantRemaining": budget.remaining(now)}


# -- webhooks, tokens, keys -----------------------------------------------------------------------------------


def route_webhooks(
    simulator: Simulator,
    url: Annotated[str | None, Said(flag="--url")] = None,
    *,
    stable: Annotated[
        bool | None,
        Said(
            flag="--routing",
            read=lambda routing: None if routing is None else routing == "stable",
            settings={"choices": ("suffixed", "stable")},
        ),
    ] = None,
    retries: Annotated[str | None, Said(settings={"choices": tuple(RETRY_PROFILES)})] = None,
) -> Json:
    """Where deliveries go, by STABLE or SUFFIXED routing, and the retry profile."""
    sender = simulator.sender
    if retries is not None:
        _known(retries, RETRY_PROFILES, "there is no retry profile")
    sender.url = sender.url if url is None else url
    sender.stable_url = sender.stable_url if stable is None else stable
    sender.profile = retries or sender.profile
    return {"url": sender.url, "stable": sender.stable_url, "retries": sender.profile}


def webhooks(
    simulator: Simulator,
    *,
    type: str | None = None,  # noqa: A002
    subject: str | None = None,
    last: Annotated[int, Field(ge=0), Said("so many of the newest; 0: all", default=30)] = 0,
) -> list[Json]:
    """Deliveries, oldest first: `{webhook_id, created, type, subject, entry, state, attempts, message}`."""
    world = simulator.world

    def entry_of(subject: str | None) -> str | None:
        canvas = world.canvases.get(subject or "")
        found = world.notebook.entries.get((canvas.resource_id if canvas else subject) or "")
        return None if found is None else found.display_id

    found = [
        {**delivery.shown(), "entry": entry_of(delivery.subject)}
        for delivery in list(simulator.sender.deliveries)
        if type in (None, delivery.type) and subject in (None, delivery.subject)
    ]
    return found[-last:]


def release_webhooks(simulator: Simulator) -> int:
    """Send what reordering holds back; how many."""
    return simulator.sender.release()


def rotate_keys(
    simulator: Simulator,
    *,
    keep_old: Annotated[bool, Said(flag="--withdraw-old", settings={"action": "store_false"})] = True,
) -> str:
    """Sign with another key; the old one stays listed or not. The new key's id."""
    return simulator.world.keys.rotate(keep_old=keep_old)


def revoke_tokens(simulator: Simulator) -> int:
    """Revoke all access tokens; how many were alive."""
    return simulator.world.revoke_tokens()


def change_secret(simulator: Simulator, secret: Annotated[str, Field(min_length=1)]) -> None:
    """Give the app another client secret; its tokens live on."""
    simulator.world.change_secret(secret)


# -- what happened --------------------------------------------------------------------------------------------


def requests(
    simulator: Simulator,
    *,
    operation: str | None = None,
    caller: str | None = None,
    last: Annotated[int, Field(ge=0), Said("so many of the newest; 0: all", default=50)] = 0,
) -> list[Json]:
    """The request log, oldest first: who (app, number of the token, user agent) asked what, and the answer."""
    return simulator.journal.dump(operation=operation, caller=caller)[-last:]


def counters(simulator: Simulator) -> Json:
    """All counters: requests, faults, exports, tokens, webhooks with their ACK times."""
    world, sender = simulator.world, simulator.sender
    return {
        "requests": dict(simulator.journal.counts),
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


# -- for people -----------------------------------------------------------------------------------------------


def _entry_row(entry: Json) -> str:
    size = sum(file["size"] for file in entry["attachments"])
    files = f"{len(entry['attachments'])} files, {size} bytes"
    names = f"{entry['id']}  {entry['displayId']}  {entry['modifiedAt'][:19]}"
    return f"{names}  exports {entry['exports']}  {files}  {entry['name']}"


def _canvas_row(canvas: Json) -> str:
    buttons = ", ".join(name for name, enabled in canvas["buttons"].items() if enabled)
    state = "enabled" if canvas["enabled"] else "waiting for the app"
    return f"{canvas['id']}  in {canvas['resourceId']}  {state}  buttons: {buttons or 'none'}"


def _request_row(line: Json) -> str:
    who = f"{line['caller']}#{line['token']}  {line['method']} {line['path']}"
    taken = f"{line['seconds'] * 1000:.0f} ms  {line['fault'] or ''}  {line['user_agent'][:40]}"
    return f"{line['at']:9.3f}  {line['status']}  {who}  {taken}"


def _webhook_row(delivery: Json) -> str:
    tries = ", ".join(
        f"{attempt['status'] or attempt['problem']} in {attempt['seconds'] * 1000:.0f} ms"
        for attempt in delivery["attempts"]
    )
    about = delivery["entry"] or delivery["subject"] or "the app"
    return (
        f"{delivery['created'][:19]}  {about}  {delivery['webhook_id']}  {delivery['type']}  {delivery['state']}"
        f"  {tries}"
    )


def _rows(row: Callable[[Json], str], none: str) -> Callable[[list[Json]], str]:
    return lambda answer: "\n".join(map(row, answer)) or none


def _set_line(rule: Json) -> str:
    limits = [f"{rule['times']} times"] if rule["times"] else []
    limits += [f"for {rule['seconds']:g} s"] if rule["seconds"] else []
    return f"set {rule['name']}: {', '.join(limits) or 'until cleared'}"


def _fault_table(found: Json) -> str:
    active = {rule["name"] for rule in found["set"]}
    rows = [
        f"{'*' if name in active else ' '} {name:26} {found['counts'].get(name, 0):6}  {text}"
        for name, text in found["known"].items()
    ]
    return "\n".join(["  NAME                        STRUCK  WHAT IT DOES (* set now)", *rows])


def _clock_line(clock: Json) -> str:
    pace = "stopped" if not clock["scale"] else f"{clock['scale']:g} s for each real second"
    return f"{iso(clock['tenant'])[:19]}Z in the tenant ({pace}); {clock['real']:.1f} s since the start"


_NO_ENTRIES = "no entries; make one with: entry create"
_NO_CANVASES = "no canvases; put one into an entry with: canvas insert ENTRY"

VERBS = {
    verb.run: verb
    for verb in (
        verb_of("entry create", create_entries, "make entries (each sends v2.entry.created)", _rows(_entry_row, "")),
        verb_of("entry list", entries, "all entries", _rows(_entry_row, _NO_ENTRIES)),
        verb_of("entry show", entry, "one entry", None),
        verb_of("entry edit", edit_entry, "change an entry; only `fields` and `review` send webhooks", _entry_row),
        verb_of("entry attach", attach_files, "attach files (no webhook)", _entry_row),
        verb_of("entry link", link, "mention an object (no webhook)", str),
        verb_of("canvas insert", insert_canvas, "put the app's canvas into an entry",
                lambda made: str(made.get("id", "told the app to make one"))),
        verb_of("canvas list", canvases, "all canvases and what can be clicked", _rows(_canvas_row, _NO_CANVASES)),
        verb_of("canvas show", canvas, "one canvas with the history of its writes", None),
        verb_of("click", click, "click a button of a canvas", lambda clicked: f"clicked on {clicked['id']}"),
        verb_of("fault set", set_fault, "set a switch; `fault list` shows all", _set_line),
        verb_of("fault list", faults, "all faults, which are set, how often each struck", _fault_table),
        verb_of("fault clear", clear_faults, "switch one fault off, or all", lambda n: f"cleared {n} settings"),
        verb_of("gallery", gallery, "the hostile archives for: fault set archive_gallery name=...",
                lambda known: "\n".join(f"{name:24} {text}" for name, text in known.items())),
        verb_of("counters", counters, "requests, exports, faults, webhooks and their ACK times", None),
        verb_of("requests", requests, "who asked for what", _rows(_request_row, "no requests yet")),
        verb_of("webhooks", webhooks, "the newest deliveries and their tries", _rows(_webhook_row, "no webhooks yet")),
        verb_of("release", release_webhooks, "send the webhooks that reordering holds back",
                lambda n: f"released {n} webhooks"),
        verb_of("route", route_webhooks, "where webhooks go", None),
        verb_of("clock", clock, "show tenant time, or move it", _clock_line),
        verb_of("burst", burst, "many field edits at once", None),
        verb_of("load", spend_tenant, "calls that other apps take out of the tenant's budget", None),
        verb_of("app", tell_app, "send an app life cycle message", None),
        verb_of("rotate-keys", rotate_keys, "sign webhooks with a new key", lambda key: f"signing with {key}"),
        verb_of("revoke-tokens", revoke_tokens, "revoke all access tokens", lambda n: f"revoked {n} tokens"),
        verb_of("secret", change_secret, "give the app another client secret", lambda _: "changed"),
    )
}  # fmt: skip
"""By their functions, in the order of the command line's help."""
BY_PATH: dict[str, Verb] = {verb.path: verb for verb in VERBS.values()}
