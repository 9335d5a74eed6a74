"""`python -m sandbox.simulator`: serve a simulator, and the verbs of a person who works in its tenant."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from sandbox.simulator.clock import Clock
from sandbox.simulator.control import ControlRefused, TenantControl
from sandbox.simulator.settings import RETRY_PROFILES, TenantAddresses, TenantSettings
from sandbox.simulator.verbs import VERBS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandbox.simulator.command import Verb

ADDRESS_VARIABLE = "ENTRYPACKAGE_SIMULATOR"
_GROUPS = {
    "entry": "make and change notebook entries",
    "canvas": "canvases in entries",
    "fault": "let things go wrong",
}


class Mistake(Exception):  # noqa: N818 - the person's
    """Something on the command line that can't be done; the message says what to do instead."""


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


def parser() -> argparse.ArgumentParser:
    """The command line."""
    whole = argparse.ArgumentParser(prog="python -m sandbox.simulator", description=__doc__)
    whole.add_argument("--control", help=f"a simulator's control URL (default: ${ADDRESS_VARIABLE})")
    verbs = whole.add_subparsers(required=True, metavar="VERB")
    _add_serve(verbs)
    groups: dict[str, Any] = {}
    for verb in VERBS.values():
        group, _, name = verb.words.rpartition(" ")
        if group and group not in groups:
            several = verbs.add_parser(group, help=_GROUPS[group])
            groups[group] = several.add_subparsers(required=True, metavar="VERB")
        one = groups.get(group, verbs).add_parser(name, help=verb.help, description=verb.help)
        verb.add_to(one)
        if verb.show is not None:
            one.add_argument("--json", action="store_true", help="the whole answer as JSON")
        one.set_defaults(run=verb)
    return whole


async def _spoken(args: argparse.Namespace) -> int:
    verb: Verb = args.run
    url = args.control or os.environ.get(ADDRESS_VARIABLE)
    if not url:
        message = (
            f"which simulator? Give its control URL by --control or ${ADDRESS_VARIABLE}; `serve` prints it as `control`"
        )
        raise Mistake(message)
    async with TenantControl(url) as control:
        try:
            answer = await control.ask(verb.path, verb.order_of(args))
        except ControlRefused as problem:
            raise Mistake(str(problem)) from None
        except (httpx.HTTPError, httpx.InvalidURL, ValueError):
            message = f"no simulator answers at {url}; start one with: python -m sandbox.simulator serve"
            raise Mistake(message) from None
    text = json.dumps(answer, indent=2) if verb.show is None or args.json else verb.show(answer)
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
