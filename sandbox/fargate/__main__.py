"""`python -m sandbox.fargate`: run the local Fargate node, or print its bill."""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import json
import logging
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from entrypackage.kubernetes import ConfigurationError
from sandbox.fargate.addresses import claim_network
from sandbox.fargate.backoff import Backoff
from sandbox.fargate.bill import Ledger, table
from sandbox.fargate.clock import unix_now
from sandbox.fargate.control import NodeControl
from sandbox.fargate.images import default_images, load_images
from sandbox.fargate.isolation import adopt_orphans, best_isolation, works
from sandbox.fargate.log_server import LogServer
from sandbox.fargate.node import FargateNode
from sandbox.fargate.refusal import Profile, Selector
from sandbox.fargate.settings import Delay, NodeSettings
from sandbox.kubernetes import ClusterApi

if TYPE_CHECKING:
    from sandbox.fargate.addresses import Network


class UsageError(Exception):
    """A setting is wrong; the message says which and what to do."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sandbox.fargate", description=__doc__)
    parser.add_argument("command", nargs="?", choices=("serve", "bill"), default="serve")
    parser.add_argument("--folder", type=Path, required=True, metavar="DIR", help="where logs, volumes and bill lie")
    parser.add_argument("--kubeconfig", type=Path, metavar="FILE")
    parser.add_argument("--profile", type=Path, metavar="FILE", help="JSON: a Fargate profile or a list of them")
    parser.add_argument("--profile-namespace", action="append", default=[], metavar="NS", help="wildcards allowed")
    parser.add_argument("--images", type=Path, metavar="FILE", help="JSON: which programs stand for which images")
    parser.add_argument("--python", type=Path, default=Path(sys.executable), metavar="PATH")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="for every container")
    parser.add_argument("--start-delay", default="0", metavar="SECONDS", help="or LOW-HIGH; until a pod is bound")
    parser.add_argument("--pull-delay", default="0", metavar="SECONDS", help="or LOW-HIGH; billed")
    parser.add_argument("--launch-rate", type=float, default=20.0, metavar="PODS_PER_SECOND")
    parser.add_argument("--launch-burst", type=int, default=20, metavar="PODS")
    parser.add_argument("--restart-backoff", type=float, default=10.0, metavar="SECONDS")
    parser.add_argument("--isolation", choices=("auto", "root", "user", "none"), default="auto")
    parser.add_argument("--pod-network", metavar="CIDR", help="default: a free part of 127.0.0.0/8")
    parser.add_argument("--control-port", type=int, default=0)
    parser.add_argument("--honour-run-as-user", action="store_true", help="needs root and readable programs")
    parser.add_argument("--cpu-quota", action="store_true", help="apply CPU limits as control groups; needs root")
    return parser


def _profiles(arguments: argparse.Namespace) -> tuple[Profile, ...]:
    found: list[Profile] = []
    if arguments.profile is not None:
        try:
            content = json.loads(arguments.profile.read_text())
            listed = content if isinstance(content, list) else [content]
            found += TypeAdapter(list[Profile]).validate_python(listed)
        except (OSError, ValueError) as error:
            raise UsageError(f"--profile {arguments.profile} is not a Fargate profile: {error}") from error
    for number, namespace in enumerate(arguments.profile_namespace):
        found.append(Profile(name=f"fp-{number}", selectors=[Selector(namespace=namespace)]))
    if not found:
        raise UsageError("no Fargate profile: give --profile FILE or --profile-namespace NS")
    return tuple(found)


def _settings(arguments: argparse.Namespace) -> NodeSettings:
    if arguments.kubeconfig is None:
        raise UsageError("no API server: give --kubeconfig FILE")
    if arguments.isolation not in ("auto", "none") and not works(arguments.isolation):
        raise UsageError(f"--isolation {arguments.isolation} does not work on this machine; use --isolation auto")
    try:
        images = load_images(arguments.images) if arguments.images else []
        return NodeSettings(
            folder=arguments.folder.absolute(),
            profiles=_profiles(arguments),
            images=tuple(images or default_images(arguments.python.absolute())),
            isolation=best_isolation() if arguments.isolation == "auto" else arguments.isolation,
            start_delay=Delay.parse(arguments.start_delay),
            pull_delay=Delay.parse(arguments.pull_delay),
            launch_rate=arguments.launch_rate,
            launch_burst=arguments.launch_burst,
            backoff=Backoff(base=arguments.restart_backoff),
            env=tuple(_variable(text) for text in arguments.env),
            honour_run_as_user=arguments.honour_run_as_user,
            cpu_quota=arguments.cpu_quota,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ValueError(f"--env {text!r} is not NAME=VALUE")
    return name, value


def _network(arguments: argparse.Namespace) -> Network:
    try:
        return ipaddress.IPv4Network(arguments.pod_network)
    except ValueError as error:
        raise UsageError(f"--pod-network {arguments.pod_network}: {error}") from error


async def _serve(settings: NodeSettings, kubeconfig: Path, network: Network, control_port: int) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if settings.isolation != "none":
        adopt_orphans()
    log_server = LogServer(settings.folder / "logs")
    port = await log_server.start()
    async with await ClusterApi.connect(str(kubeconfig)) as api:
        node = FargateNode(settings, api, network, port)
        log_server.node = node
        control = NodeControl(node, api)
        try:
            url = await control.start(control_port)
        except OSError as error:
            raise UsageError(f"the control can't listen on port {control_port}: {error.strerror}") from error
        work = asyncio.create_task(node.run())
        stopping = asyncio.create_task(stop.wait())
        ready = asyncio.create_task(node.ready.wait())
        await asyncio.wait([work, stopping, ready], return_when=asyncio.FIRST_COMPLETED)
        if node.ready.is_set():
            facts = {"control": url, "log_server": port, "network": str(network), "isolation": settings.isolation}
            print(json.dumps({"ready": True, **facts}), flush=True)
        await asyncio.wait([work, stopping], return_when=asyncio.FIRST_COMPLETED)
        work.cancel()
        with suppress(asyncio.CancelledError):
            await work
        await control.close()
        await log_server.close()


def main() -> int:
    """Run one command; the result is the exit code."""
    arguments = _parser().parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    if arguments.command == "bill":
        print(table(Ledger(arguments.folder).lines(unix_now())))
        return 0
    try:
        settings = _settings(arguments)
        settings.folder.mkdir(parents=True, exist_ok=True)
        network, holder = (_network(arguments), None) if arguments.pod_network else claim_network(settings.folder)
        asyncio.run(_serve(settings, arguments.kubeconfig, network, arguments.control_port))
    except (UsageError, ConfigurationError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if holder is not None:
        holder.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
