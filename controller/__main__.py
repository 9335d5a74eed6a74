"""The controller program: ``python -m controller --settings FILE``. It assembles all parts."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import random
import signal
import socket
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from controller import metrics
from controller.benchling.client import BenchlingClient
from controller.benchling.settings import credentials_in
from controller.health import serve_health
from controller.reconciler.events import EventRecorder
from controller.reconciler.execute import Executor
from controller.reconciler.exports_in_flight import ExportsInFlight
from controller.reconciler.loop import Reconciler
from controller.reconciler.observe import Observer
from controller.reconciler.recovery import Recovery
from controller.settings import ControllerSettings
from controller.watch.feed import Feed
from controller.watch.kopf_watch import watch
from controller.watch.lease import Leadership, NotLeadingError
from controller.watch.work_queue import WorkQueue
from entrypackage.kubernetes import ENTRY_PACKAGES, ConfigurationError, Kubernetes, KubernetesError
from entrypackage.settings import SettingsError, read_settings
from entrypackage.telemetry import configure_logging

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger("controller")

DRAIN_SECONDS: Final = 10.0
"""How long visits under way may take to finish, so that an update of the controller orphans no export."""
STOP_SECONDS: Final = 10.0
"""How long the parts may then take to stop; the chart's grace period is longer than both together."""


class StartError(Exception):
    """The controller cannot start; the message says why and what to do."""


class Controller:
    """One controller process: it watches all the time and acts while it holds the Lease."""

    def __init__(self, settings: ControllerSettings, kubernetes: Kubernetes, benchling: BenchlingClient) -> None:
        self._settings = settings
        self._holder = os.environ.get("POD_NAME") or f"{socket.gethostname()}-{os.getpid()}"
        self._leadership = Leadership(kubernetes, settings.namespace, self._holder, settings.lease)
        self._kubernetes = kubernetes.guarded(self._leadership.check)
        self._in_flight = ExportsInFlight()
        self._queue = WorkQueue(time.monotonic)
        self._benchling = benchling
        self._reconciler: Reconciler | None = None
        self._recovery = Recovery(credentials_in(settings.benchling.credentials_folder))
        benchling.on_recovery(self._recovery.happened)
        self.feed = Feed(self._kubernetes, settings.namespace, self._queue, self._in_flight)

    async def campaign(self) -> None:
        """Act whenever the Lease is held, until cancelled."""
        await self._leadership.campaign(self._lead)

    async def drain(self) -> None:
        """Finish the visits under way and start no others; the Lease is kept meanwhile."""
        if self._reconciler is not None:
            await self._reconciler.drain()

    async def _lead(self) -> None:
        self._in_flight.clear()
        metrics.LEADING.set(1)
        try:
            await self._recovery.start()
            # No decision is made before everything has been listed.
            await self._resync_until_it_works()
            async with asyncio.TaskGroup() as parts:
                self._reconciler = self._new_reconciler()
                parts.create_task(self._reconciler.run())
                parts.create_task(self._resync_now_and_then())
                parts.create_task(self._resync_after_recovery())
        except* NotLeadingError:
            # All work has stopped. The campaign notices the loss, too, and cancels this.
            await asyncio.get_running_loop().create_future()
        finally:
            self._reconciler = None
            for gauge in (metrics.LEADING, metrics.QUEUE_DEPTH, metrics.EXPORTS_IN_FLIGHT):
                gauge.set(0)

    def _new_reconciler(self) -> Reconciler:
        settings = self._settings
        executor = Executor.assemble(
            kubernetes=self._kubernetes,
            benchling=self._benchling,
            settings=settings,
            in_flight=self._in_flight,
            events=EventRecorder(self._kubernetes, settings.namespace, self._holder),
            random=random.Random(),  # noqa: S311 - jitter, not secrets
            monotonic=time.monotonic,
            credential_version=lambda: self._recovery.version,
        )
        observer = Observer(
            self._kubernetes, settings.namespace, self._in_flight, self._recovery, executor.exporting.has_capacity
        )
        return Reconciler(self._queue, observer, executor, self._in_flight, settings)

    async def _resync_until_it_works(self) -> None:
        while True:
            try:
                await self.feed.resync()
            except KubernetesError as error:
                log.warning("the full list failed", extra={"why": str(error)})
                await asyncio.sleep(1.0)
            else:
                return

    async def _resync_after_recovery(self) -> None:
        while True:
            await self._recovery.wait()
            await self._resync_until_it_works()

    async def _resync_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(self._settings.timing.resync_seconds)
            await self._resync_until_it_works()


async def run(settings: ControllerSettings, kubeconfig: str | None) -> int:
    """Run until a signal; return the exit code. Raises `StartError`."""
    stop, ready = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        kubernetes = await stack.enter_async_context(await Kubernetes.connect(kubeconfig))
        await _check_resource(kubernetes, settings.namespace)
        try:
            client = BenchlingClient.from_folder(settings.benchling, metrics.record_call)
        except ValueError as error:
            raise StartError(f"The setting benchling.baseUrl is wrong. {error}") from error
        benchling = await stack.enter_async_context(client)
        host = os.environ.get("POD_IP") or "127.0.0.1"
        try:
            runner, port = await serve_health(
                host, settings.health_port, ready.is_set, lambda: metrics.read_client(benchling)
            )
        except OSError as error:
            text = f"The port {settings.health_port} on {host} for probes and metrics is not free: set healthPort."
            raise StartError(text) from error
        stack.push_async_callback(runner.cleanup)
        log.info("started", extra={"namespace": settings.namespace, "health": f"{host}:{port}"})
        controller = Controller(settings, kubernetes, benchling)
        watching = asyncio.create_task(
            watch(
                controller.feed,
                settings.namespace,
                kubeconfig=kubeconfig,
                ready=ready,
                stop=stop,
            )
        )
        campaigning = asyncio.create_task(controller.campaign())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({watching, campaigning, stopping}, return_when=asyncio.FIRST_COMPLETED)
        asked = stop.is_set()
        log.info("stopping", extra={"asked": asked})
        stop.set()
        stopping.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS if asked else 0):
                await controller.drain()
        campaigning.cancel()
        await asyncio.wait({watching, campaigning}, timeout=STOP_SECONDS)
        for part in (watching, campaigning):
            if part.done() and not part.cancelled() and (failed := part.exception()) is not None:
                log.error("a part of the controller failed", exc_info=failed)
        return 0 if asked else 1


async def _check_resource(kubernetes: Kubernetes, namespace: str) -> None:
    """Raise `StartError` unless EntryPackages can be listed; a watch of an unknown resource would wait in silence."""
    try:
        async for _ in kubernetes.pages(ENTRY_PACKAGES, namespace, metadata_only=True):
            break
    except KubernetesError as error:
        if error.status == 404:
            raise StartError("The cluster does not know EntryPackages: install the chart's CRDs first.") from error
        if error.status == 403:
            raise StartError(
                f"The ServiceAccount may not list EntryPackages in {namespace}: check its Role."
            ) from error
        log.warning("the API server does not answer yet", extra={"why": str(error)})


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse arguments, read settings, run; wrong settings end with 2 and one sentence."""
    parser = argparse.ArgumentParser(prog="python -m controller", description=__doc__)
    parser.add_argument("--settings", type=Path, default=Path("/etc/entrypackage/controller.yaml"))
    parser.add_argument("--kubeconfig", help="work from outside of the cluster")
    given = parser.parse_args(arguments)
    try:
        settings = read_settings(given.settings, ControllerSettings)
        configure_logging(settings.log_level)
        return asyncio.run(run(settings, given.kubeconfig))
    except (SettingsError, ConfigurationError, StartError) as error:
        sys.stderr.write(f"controller: {error}\n")
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
