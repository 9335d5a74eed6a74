"""`python -m sandbox.simulator`: serve a simulator, and the verbs of a person who works in its tenant."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from sandbox.simulator.clock import Clock
from sandbox.simulator.control import ControlRefused, TenantControl
from sandbox.simulator.settings import RETRY_PROFILES, TenantAddresses, TenantSettings

if TYPE_CHECKING:
    from sandbox.simulator.wire import Json

ADDRESS_VARIABLE = "ENTRYPACKAGE_SIMULATOR"
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}


class Mistake(Exception):  # noqa: N818 - the person's
    """Something on the command line that can't be done; the message says what to do instead."""


def size_of(text: str) -> int:
    """A size that a person writes: 1000, 20M, 8GiB."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]?i?)b?", text.strip().lower())
    if match is None or match.group(2) not in _UNITS:
        message = f"{text!r} is not a size; write for example 1000, 20M or 8GiB"
        raise argparse.ArgumentTypeError(message)
    return int(float(match.group(1)) * _UNITS[match.group(2)])


def attachment_of(text: str) -> Json:
    """`NAME:SIZE`, with `:deflated` behind it for compressible bytes."""
    name, _, rest = text.partition(":")
    size, _, form = rest.partition(":")
    if not name or not size or form not in ("", "deflated"):
        message = f"{text!r} is not a file; write NAME:SIZE or NAME:SIZE:deflated"
        raise argparse.ArgumentTypeError(message)
    return {"name": name, "size": size_of(size), "deflated": form == "deflated"}


def pair_of(text: str) -> tuple[str, Any]:
    """`NAME=VALUE`; a value that is JSON is taken as such."""
    name, separator, value = text.partition("=")
    if not separator or not name:
        message = f"{text!r} is not NAME=VALUE"
        raise argparse.ArgumentTypeError(message)
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


# -- serve ----------------------------------------------------------------------------------------------------


def _add_serve(verbs: Any) -> None:
    serve = verbs.add_parser("serve", help="run a simulator until SIGTERM; prints one JSON line when it is ready")
    places, known = TenantAddresses(), TenantSettings()
    serve.add_argument("--host", default=places.host)
    serve.add_argument("--port", type=int, default=0, help="of the API; 0: a free one")
    serve.add_argument("--archive-host", default=places.archive_host, help="another origin than the API's")
    serve.add_argument("--archive-port", type=int, default=0)
    serve.add_argument("--jwks-host", default=places.jwks_host)
    serve.add_argument("--jwks-port", type=int, default=0)
    serve.add_argument("--folder", type=Path, help="for ready.json and the request log (requests.jsonl)")
    serve.add_argument("--seed", type=int, default=known.seed)
    serve.add_argument("--clock-scale", type=float, default=1.0, help="tenant seconds per real one; 0: by hand only")
    serve.add_argument("--webhook-url", help="where webhooks go (can be set later)")
    serve.add_argument("--stable-url", action="store_true", help="deliver to the bare URL, without /event and so on")
    serve.add_argument("--retries", choices=RETRY_PROFILES, default=known.webhook_retries)
    serve.add_argument("--retry-scale", type=float, default=1.0, help="factor on the pauses between retries")
    serve.add_argument("--export-seconds", type=float, default=known.export_seconds)
    serve.add_argument("--export-limit", type=int, default=0, help="exports at once; 0: no limit")
    serve.add_argument("--task-life", type=float, default=known.task_life)
    serve.add_argument("--url-life", type=float, default=known.url_life)
    serve.add_argument("--token-seconds", type=float, default=known.token_real_seconds)
    serve.add_argument("--app-rate", type=int, default=known.app_rate)
    serve.add_argument("--tenant-rate", type=int, default=known.tenant_rate)
    serve.add_argument("--rate-window", type=float, default=known.rate_window_real_seconds)
    serve.add_argument("--tenant-id", default=known.tenant_id)
    serve.add_argument("--app-id", default=known.app_id)
    serve.add_argument("--app-definition-id", default=known.app_definition_id)
    serve.add_argument("--client-id", default=known.client_id)
    serve.add_argument("--client-secret", default=known.client_secret)
    serve.add_argument("--canvas-keeps-entry", action="store_true", help="a canvas PATCH leaves modifiedAt alone")
    serve.set_defaults(run=None)


def _settings(args: argparse.Namespace) -> TenantSettings:
    return replace(
        TenantSettings(),
        seed=args.seed, tenant_id=args.tenant_id, app_id=args.app_id, app_definition_id=args.app_definition_id,
        client_id=args.client_id, client_secret=args.client_secret, token_real_seconds=args.token_seconds,
        app_rate=args.app_rate, tenant_rate=args.tenant_rate, rate_window_real_seconds=args.rate_window,
        export_seconds=args.export_seconds, export_limit=args.export_limit, task_life=args.task_life,
        url_life=args.url_life, webhook_url=args.webhook_url, webhook_stable_url=args.stable_url,
        webhook_retries=args.retries, retry_scale=args.retry_scale, canvas_moves_entry=not args.canvas_keeps_entry,
    )  # fmt: skip


async def serve(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT."""
    # Only here: the verbs of a person shall not wait for all that a server needs.
    from sandbox.simulator.server import BenchlingServer, CannotServe

    if args.folder is not None:
        args.folder.mkdir(parents=True, exist_ok=True)
    places = TenantAddresses(args.host, args.port, args.archive_host, args.archive_port, args.jwks_host, args.jwks_port)
    server = BenchlingServer(_settings(args), addresses=places, clock=Clock(scale=args.clock_scale), folder=args.folder)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    try:
        await server.start()
        server.write_ready()
        sys.stdout.write(json.dumps(server.ready()) + "\n")
        sys.stdout.flush()
        await stop.wait()
    except CannotServe as problem:
        raise Mistake(str(problem)) from None
    finally:
        await server.close()
    return 0


# -- the verbs of a person ------------------------------------------------------------------------------------

Verb = Callable[[TenantControl, argparse.Namespace], Awaitable[Any]]


def _entry_row(entry: Json) -> str:
    size = sum(file["size"] for file in entry["attachments"])
    files = f"{len(entry['attachments'])} files, {size} bytes"
    changed = entry["modifiedAt"][:19]
    names = f"{entry['id']}  {entry['displayId']}  {changed}"
    return f"{names}  exports {entry['exports']}  {files}  {entry['name']}"


async def _entry_create(control: TenantControl, args: argparse.Namespace) -> str:
    entries = await control.create_entries(
        args.count, args.name, text=args.text, fields=dict(args.field), attachments=args.attach, links=args.link,
        canvas=args.canvas, silent=args.silent, export_seconds=args.export_seconds,
    )  # fmt: skip
    return "\n".join(map(_entry_row, entries))


async def _entry_list(control: TenantControl, _args: argparse.Namespace) -> str:
    return "\n".join(map(_entry_row, await control.entries())) or "no entries; make one with: entry create"


async def _entry_edit(control: TenantControl, args: argparse.Namespace) -> str:
    changed = await control.edit_entry(
        args.entry, kind=args.kind, count=args.count, fields=dict(args.field) or None, text=args.text,
        name=args.name, display_id=args.display_id,
    )  # fmt: skip
    return _entry_row(changed)


async def _entry_attach(control: TenantControl, args: argparse.Namespace) -> str:
    changed: Json = {}
    for file in args.file:
        changed = await control.attach(args.entry, replace=args.replace, **file)
    return _entry_row(changed)


async def _entry_link(control: TenantControl, args: argparse.Namespace) -> str:
    return str(await control.link(args.entry, args.kind, args.name))


async def _canvas_insert(control: TenantControl, args: argparse.Namespace) -> str:
    made = await control.insert_canvas(args.entry, initialized=args.initialized)
    return str(made.get("id", "told the app to make one"))


async def _canvas_list(control: TenantControl, _args: argparse.Namespace) -> str:
    rows = []
    for canvas in await control.canvases():
        buttons = ", ".join(name for name, enabled in canvas["buttons"].items() if enabled)
        state = "enabled" if canvas["enabled"] else "waiting for the app"
        rows.append(f"{canvas['id']}  in {canvas['resourceId']}  {state}  buttons: {buttons or 'none'}")
    return "\n".join(rows) or "no canvases; put one into an entry with: canvas insert ENTRY"


async def _canvas_show(control: TenantControl, args: argparse.Namespace) -> Any:
    return await control.canvas(args.canvas)


async def _click(control: TenantControl, args: argparse.Namespace) -> str:
    canvas = await control.click(args.canvas, args.button, count=args.count, force=args.force)
    return f"clicked {args.button} on {canvas['id']}"


async def _fault_set(control: TenantControl, args: argparse.Namespace) -> str:
    options = dict(args.option)
    clash = {"name": options.pop("name")} if "name" in options else {}
    rule = await control.act(
        "faults", name=args.name, times=args.times, seconds=args.seconds, subject=args.subject,
        operation=args.operation, chance=args.chance, options={**options, **clash},
    )  # fmt: skip
    limits = [f"{rule['times']} times"] if rule["times"] else []
    limits += [f"for {args.seconds:g} s"] if args.seconds else []
    return f"set {args.name}: {', '.join(limits) or 'until cleared'}"


async def _fault_list(control: TenantControl, _args: argparse.Namespace) -> str:
    found = await control.faults()
    active = {rule["name"] for rule in found["set"]}
    rows = [
        f"{'*' if name in active else ' '} {name:26} {found['counts'].get(name, 0):6}  {text}"
        for name, text in found["known"].items()
    ]
    return "\n".join(["  NAME                        STRUCK  WHAT IT DOES (* set now)", *rows])


async def _fault_clear(control: TenantControl, args: argparse.Namespace) -> str:
    return f"cleared {await control.clear_faults(args.name)} settings"


async def _counters(control: TenantControl, _args: argparse.Namespace) -> Any:
    return await control.counters()


async def _requests(control: TenantControl, args: argparse.Namespace) -> Any:
    lines = await control.requests(operation=args.operation, last=args.last)
    if args.json:
        return lines
    return "\n".join(
        f"{line['at']:9.3f}  {line['status']}  {line['caller']}#{line['token']}  {line['method']} {line['path']}"
        f"  {line['seconds'] * 1000:.0f} ms  {line['fault'] or ''}  {line['user_agent'][:40]}"
        for line in lines
    )


async def _webhooks(control: TenantControl, args: argparse.Namespace) -> Any:
    deliveries = (await control.webhooks())[-args.last :]
    rows = []
    for delivery in deliveries:
        tries = ", ".join(
            f"{attempt['status'] or attempt['problem']} in {attempt['seconds'] * 1000:.0f} ms"
            for attempt in delivery["attempts"]
        )
        rows.append(f"{delivery['webhook_id']}  {delivery['type']}  {delivery['state']}  {tries}")
    return "\n".join(rows) or "no webhooks yet"


async def _webhook_route(control: TenantControl, args: argparse.Namespace) -> Any:
    stable = None if args.routing is None else args.routing == "stable"
    return await control.route_webhooks(args.url, stable=stable, retries=args.retries)


async def _clock(control: TenantControl, args: argparse.Namespace) -> Any:
    if args.scale is not None:
        await control.scale_clock(args.scale)
    return await control.advance_clock(args.seconds)


async def _burst(control: TenantControl, args: argparse.Namespace) -> Any:
    return await control.burst(args.events, args.entries, args.seconds)


async def _app(control: TenantControl, args: argparse.Namespace) -> Any:
    return await control.tell_app(args.kind)


async def _keys(control: TenantControl, args: argparse.Namespace) -> str:
    return f"signing with {await control.rotate_keys(keep_old=not args.withdraw_old)}"


async def _tokens(control: TenantControl, _args: argparse.Namespace) -> str:
    return f"revoked {await control.revoke_tokens()} tokens"


async def _gallery(control: TenantControl, _args: argparse.Namespace) -> str:
    return "\n".join(f"{name:24} {text}" for name, text in (await control.gallery()).items())


def _verb(verbs: Any, name: str, run: Verb, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=text)
    parser.set_defaults(run=run)
    return parser


def _add_entry_verbs(verbs: Any) -> None:
    entry = verbs.add_parser("entry", help="make and change notebook entries").add_subparsers(
        required=True, metavar="VERB"
    )
    create = _verb(entry, "create", _entry_create, "make entries (each sends v2.entry.created)")
    create.add_argument("--name", default="Simulated experiment")
    create.add_argument("--text", help="a note in the entry")
    create.add_argument("--count", type=int, default=1)
    create.add_argument("--field", type=pair_of, action="append", default=[], metavar="NAME=VALUE")
    create.add_argument("--attach", type=attachment_of, action="append", default=[], metavar="NAME:SIZE[:deflated]")
    create.add_argument(
        "--link", action="append", default=[], metavar="TYPE", help="mention an object, e.g. dna_sequence"
    )
    create.add_argument("--canvas", action="store_true", help="with the app's canvas in it")
    create.add_argument("--silent", action="store_true", help="neither webhook nor event")
    create.add_argument("--export-seconds", type=float, help="how long its exports run")
    _verb(entry, "list", _entry_list, "all entries")
    edit = _verb(entry, "edit", _entry_edit, "change an entry; only `fields` and `review` send webhooks")
    edit.add_argument("entry", help="id or display id")
    edit.add_argument("--kind", default="fields", help="fields, body, rename, review, archive, unarchive, delete")
    edit.add_argument("--count", type=int, default=1)
    edit.add_argument("--field", type=pair_of, action="append", default=[], metavar="NAME=VALUE")
    edit.add_argument("--text")
    edit.add_argument("--name")
    edit.add_argument("--display-id")
    attach = _verb(entry, "attach", _entry_attach, "attach files (no webhook)")
    attach.add_argument("entry")
    attach.add_argument("file", type=attachment_of, nargs="+", metavar="NAME:SIZE[:deflated]")
    attach.add_argument("--replace", action="store_true", help="new bytes under the same name")
    link = _verb(entry, "link", _entry_link, "mention an object (no webhook)")
    link.add_argument("entry")
    link.add_argument("kind", help="for example dna_sequence, user, entry, link")
    link.add_argument("--name")


def _add_canvas_verbs(verbs: Any) -> None:
    canvas = verbs.add_parser("canvas", help="canvases in entries").add_subparsers(required=True, metavar="VERB")
    insert = _verb(canvas, "insert", _canvas_insert, "put the app's canvas into an entry")
    insert.add_argument("entry")
    insert.add_argument("--initialized", action="store_true", help="ask the app to make it")
    _verb(canvas, "list", _canvas_list, "all canvases and what can be clicked")
    show = _verb(canvas, "show", _canvas_show, "one canvas with the history of its writes")
    show.add_argument("canvas", help="its id, or its entry's")
    click = _verb(verbs, "click", _click, "click a button of a canvas")
    click.add_argument("canvas", help="its id, or its entry's")
    click.add_argument("button")
    click.add_argument("--count", type=int, default=1, help="2: a double click")
    click.add_argument("--force", action="store_true", help="also what isn't there or is disabled")


def _add_fault_verbs(verbs: Any) -> None:
    fault = verbs.add_parser("fault", help="let things go wrong").add_subparsers(required=True, metavar="VERB")
    setting = _verb(fault, "set", _fault_set, "set a switch; `fault list` shows all")
    setting.add_argument("name")
    setting.add_argument("--times", type=int, help="so many times, then no more")
    setting.add_argument("--seconds", type=float, help="for so many seconds")
    setting.add_argument("--subject", help="only for this entry (or canvas, task, linked object)")
    setting.add_argument("--operation", help="only for this operation, e.g. exportItem, or webhook type")
    setting.add_argument("--chance", type=float, default=1.0)
    setting.add_argument("option", type=pair_of, nargs="*", metavar="OPTION=VALUE")
    _verb(fault, "list", _fault_list, "all faults, which are set, how often each struck")
    clear = _verb(fault, "clear", _fault_clear, "switch one fault off, or all")
    clear.add_argument("name", nargs="?")
    _verb(verbs, "gallery", _gallery, "the hostile archives for: fault set archive_gallery name=...")


def _add_other_verbs(verbs: Any) -> None:
    _verb(verbs, "counters", _counters, "requests, exports, faults, webhooks and their ACK times")
    requests = _verb(verbs, "requests", _requests, "who asked for what")
    requests.add_argument("--operation")
    requests.add_argument("--last", type=int, default=50)
    requests.add_argument("--json", action="store_true")
    webhooks = _verb(verbs, "webhooks", _webhooks, "the newest deliveries and their tries")
    webhooks.add_argument("--last", type=int, default=30)
    route = _verb(verbs, "route", _webhook_route, "where webhooks go")
    route.add_argument("--url")
    route.add_argument("--routing", choices=("suffixed", "stable"))
    route.add_argument("--retries", choices=RETRY_PROFILES)
    clock = _verb(verbs, "clock", _clock, "show tenant time, or move it")
    clock.add_argument("--seconds", type=float, default=0.0, help="forward by so many")
    clock.add_argument("--scale", type=float, help="tenant seconds per real one")
    burst = _verb(verbs, "burst", _burst, "many field edits at once")
    burst.add_argument("--events", type=int, default=1000)
    burst.add_argument("--entries", type=int, default=100)
    burst.add_argument("--seconds", type=float, default=20.0, help="over which they are spread")
    app = _verb(verbs, "app", _app, "send an app life cycle message")
    app.add_argument("kind", help="install, activate, deactivate, configure")
    keys = _verb(verbs, "rotate-keys", _keys, "sign webhooks with a new key")
    keys.add_argument("--withdraw-old", action="store_true")
    _verb(verbs, "revoke-tokens", _tokens, "revoke all access tokens")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    whole = argparse.ArgumentParser(prog="python -m sandbox.simulator", description=__doc__)
    whole.add_argument("--control", help=f"a simulator's control URL (default: ${ADDRESS_VARIABLE})")
    verbs = whole.add_subparsers(required=True, metavar="VERB")
    _add_serve(verbs)
    _add_entry_verbs(verbs)
    _add_canvas_verbs(verbs)
    _add_fault_verbs(verbs)
    _add_other_verbs(verbs)
    return whole


async def _spoken(args: argparse.Namespace) -> int:
    url = args.control or os.environ.get(ADDRESS_VARIABLE)
    if not url:
        message = (
            f"which simulator? Give its control URL by --control or ${ADDRESS_VARIABLE}; `serve` prints it as `control`"
        )
        raise Mistake(message)
    async with TenantControl(url) as control:
        try:
            answer = await args.run(control, args)
        except ControlRefused as problem:
            raise Mistake(str(problem)) from None
        except (httpx.HTTPError, httpx.InvalidURL, ValueError):
            message = f"no simulator answers at {url}; start one with: python -m sandbox.simulator serve"
            raise Mistake(message) from None
    text = answer if isinstance(answer, str) else json.dumps(answer, indent=2)
    sys.stdout.write(text + "\n")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; the exit code."""
    args = parser().parse_args(arguments)
    try:
        return asyncio.run(serve(args) if args.run is None else _spoken(args))
    except Mistake as problem:
        sys.stderr.write(f"{problem}\n")
        return 2
    except BrokenPipeError:
        return 0
