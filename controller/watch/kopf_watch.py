"""kopf, the shell: login, watches and their life cycle. Its handlers only pass news on; nothing else imports it.

No timers, daemons, retries by exception, finalizers or returned values: each of those costs writes for every look, and
some hang deletion. What is decided and done is in `plan` and `execute`.
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
    # Else kopf kills the process that long after it was told to stop, whatever is still under way in it.
    settings.process.ultimate_exiting_timeout = None
    settings.scanning.disabled = True
    settings.peering.standalone = True
    settings.posting.enabled = False
    settings.watching.server_timeout = 290 + random.randrange(20)  # noqa: S311 - spreads reconnects; must be an int
    settings.watching.client_timeout = 330
    settings.watching.connect_timeout = 10
    settings.watching.inactivity_timeout = 70
    settings.watching.reconnect_backoff = 1.0
    settings.watching.chunk_size = 500
    settings.watching.label_selectors["batch/v1", "jobs"] = f"{identity.LABEL_MANAGED_BY}={identity.MANAGED_BY}"
    settings.queueing.worker_limit = None
    settings.queueing.idle_timeout = 5.0
    settings.queueing.exit_timeout = 2.0
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 5
    settings.networking.error_backoffs = (0.5, 1, 2, 4, 8, 15)


def _login_from_pod() -> kopf.ConnectionInfo:
    # kopf's own login reads the token once; a bound token expires, so it is read anew before that.
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
    """Hands news over to the thread that works with it."""

    def __init__(self, feed: Feed, loop: asyncio.AbstractEventLoop) -> None:
        self._feed = feed
        self._loop = loop

    def package_changed(self, body: dict[str, Any], *, deleted: bool) -> None:
        self._loop.call_soon_threadsafe(partial(self._feed.package_changed, body, deleted=deleted))

    def job_changed(self, body: dict[str, Any]) -> None:
        self._loop.call_soon_threadsafe(self._feed.job_changed, body)


def build_registry(feed: _Relay, kubeconfig: str | None) -> kopf.OperatorRegistry:
    """Return kopf's registry with everything that it does here."""
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
    """Watch until `stop` is set. A watch that cannot go on ends this with an error, and the process with it.

    kopf gets a thread and an event loop of its own. When it ends it cancels every task of its loop, whoever made it,
    and on the main thread it takes SIGTERM for itself: either way an update of the controller would cut off what is
    under way, and leave the Lease to expire.
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
    """kopf in its thread, until it ends or is told to stop."""

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
        """Let it end; safe to call when it has ended by itself."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._stopping.set)

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._operate())
        except BaseException as error:  # noqa: BLE001 - it goes on where the end is waited for
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
