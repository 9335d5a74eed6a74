"""kopf, the shell: login, watches and their life cycle. Its handlers only pass news on. No other module imports kopf.

Timers, daemons, retries by exception, finalizers and returned values are not used: each costs writes for every visit,
and some block deletion. Decisions are made in `controller.decisions` and carried out in `controller.reconciler`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import threading
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import kopf

from entrypackage import identity
from entrypackage.resource import GROUP, PLURAL, VERSION

if TYPE_CHECKING:
    from controller.watch.feed import Feed

_KOPF_RUNNING: Final = logging.getLogger("kopf._core.reactor.running")
_KOPF_RUNNING.addFilter(lambda record: not record.getMessage().startswith("OS signals are ignored"))

ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
LOGIN_MINUTES: Final = 30


def _configure(settings: kopf.OperatorSettings) -> None:
    # By default kopf kills the whole process 10 minutes after a stop signal, with all work that is under way.
    settings.process.ultimate_exiting_timeout = None
    # Scanning needs cluster-wide rights on namespaces and definitions; the one namespace is known.
    settings.scanning.disabled = True
    # The Lease decides who acts. Peering writes objects of its own, has no fencing and pauses all equal peers.
    settings.peering.standalone = True
    # `EventRecorder` posts the Events and counts repeats; kopf would post each one as a new object.
    settings.posting.enabled = False
    # Watches are renewed every 5 minutes or so; the random part keeps controllers from reconnecting all at once. kopf
    # sends the number as it is, and the API server accepts only whole seconds.
    settings.watching.server_timeout = 290 + random.randrange(20)  # noqa: S311 - jitter, not secrets
    # Longer than the server's timeout, so that the client ends only a connection that hangs.
    settings.watching.client_timeout = 330
    # A watch that cannot connect by then is tried again; without this setting the limit of other requests would apply.
    settings.watching.connect_timeout = 10
    # The API server sends a bookmark every 60 s, so a stream that is silent for longer is dead.
    settings.watching.inactivity_timeout = 70
    # kopf's 0.1 s would send ten requests a second to an API server that ends each watch at once.
    settings.watching.reconnect_backoff = 1.0
    # Without chunks the first list comes as one answer, and both sides hold all of it in memory.
    settings.watching.chunk_size = 500
    # The filters of kopf's handlers run here: without a selector the API server would send every Job of the namespace.
    settings.watching.label_selectors["batch/v1", "jobs"] = f"{identity.LABEL_MANAGED_BY}={identity.MANAGED_BY}"
    # The handlers return at once; a limit could only let one object wait for another.
    settings.queueing.worker_limit = None
    # kopf keeps a task for each object with news; it ends soon after the last news, so that quiet objects cost nothing.
    settings.queueing.idle_timeout = 5.0
    # The handlers only pass news on, so that nothing is lost when kopf cancels them this soon after a stop.
    settings.queueing.exit_timeout = 2.0
    # The same limit as for our own client's requests; kopf's 5 minutes would hide an API server that hangs.
    settings.networking.request_timeout = 30
    # An API server that works accepts a connection at once; without a limit a lost packet costs the whole request time.
    settings.networking.connect_timeout = 5
    # Half a minute of retries; then the watch fails, the process ends and Kubernetes starts it again.
    settings.networking.error_backoffs = (0.5, 1, 2, 4, 8, 15)


def _login_from_pod() -> kopf.ConnectionInfo:
    # kopf's own login reads the token once. A bound token expires, so it is read anew before that.
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    if ":" in host:
        host = f"[{host}]"
    return kopf.ConnectionInfo(
        server=f"https://{host}:{port}",
        ca_path=str(ACCOUNT / "ca.crt"),
        token=(ACCOUNT / "token").read_text(encoding="ascii").strip(),
        expiration=datetime.now(UTC) + timedelta(minutes=LOGIN_MINUTES),
    )


class _Relay:
    """Passes news from kopf's thread to the event loop of the controller."""

    def __init__(self, feed: Feed, loop: asyncio.AbstractEventLoop) -> None:
        self._feed = feed
        self._loop = loop

    def package_changed(self, body: dict[str, Any], *, deleted: bool) -> None:
        self._loop.call_soon_threadsafe(partial(self._feed.package_changed, body, deleted=deleted))

    def job_changed(self, body: dict[str, Any]) -> None:
        self._loop.call_soon_threadsafe(self._feed.job_changed, body)


def build_registry(feed: _Relay, kubeconfig: str | None) -> kopf.OperatorRegistry:
    """Return kopf's registry with all handlers."""
    registry = kopf.OperatorRegistry()

    @kopf.on.startup(registry=registry)
    async def startup(settings: kopf.OperatorSettings, **_: Any) -> None:
        _configure(settings)

    @kopf.on.login(registry=registry)
    async def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        if kubeconfig is not None:
            return kopf.login_with_kubeconfig(**kwargs)
        return _login_from_pod()

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def package_news(event: kopf.RawEvent, **_: Any) -> None:
        feed.package_changed(dict(event["object"]), deleted=event["type"] == "DELETED")

    @kopf.on.event("batch", "v1", "jobs", registry=registry)
    async def job_news(event: kopf.RawEvent, **_: Any) -> None:
        feed.job_changed(dict(event["object"]))

    return registry


async def watch(
    feed: Feed,
    namespace: str,
    *,
    kubeconfig: str | None,
    ready: asyncio.Event,
    stop: asyncio.Event,
) -> None:
    """Watch until `stop` is set; raises the error of a watch that cannot continue. `ready` is set once kopf watches.

    kopf gets a thread and an event loop of its own. When it ends it cancels all tasks of its loop, and on the main
    thread it handles SIGTERM itself. Either would cancel the work under way at each update of the controller, and the
    Lease would have to expire.
    """
    if kubeconfig is not None:
        os.environ["KUBECONFIG"] = kubeconfig
    loop = asyncio.get_running_loop()
    operator = _Kopf(build_registry(_Relay(feed, loop), kubeconfig), namespace)
    operator.ready.add_done_callback(lambda _: loop.call_soon_threadsafe(ready.set))
    operator.start()
    waits: list[asyncio.Future[Any]] = [asyncio.wrap_future(operator.ended), asyncio.ensure_future(stop.wait())]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waits[1].cancel()
        operator.stop()
    await waits[0]


class _Kopf:
    """kopf in its own thread."""

    def __init__(self, registry: kopf.OperatorRegistry, namespace: str) -> None:
        self._registry = registry
        self._namespace = namespace
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self.ready: Future[None] = Future()
        self.ended: Future[None] = Future()

    def start(self) -> None:
        threading.Thread(target=self._run, name="kopf", daemon=True).start()

    def stop(self) -> None:
        """Ask kopf to end; does nothing if it has ended."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._stopping.set)

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._operate())
        except BaseException as error:  # noqa: BLE001 - raised again where the end is awaited
            self.ended.set_exception(error)
        else:
            self.ended.set_result(None)

    async def _operate(self) -> None:
        await kopf.operator(
            registry=self._registry,
            namespaces=[self._namespace],
            standalone=True,
            ready_flag=self.ready,
            stop_flag=self._stopping,
            liveness_endpoint=None,
        )
