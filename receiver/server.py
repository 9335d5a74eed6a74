"""Running the receiver: one socket, one event loop, and a stop that loses no delivery."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import signal
import socket
from typing import TYPE_CHECKING, Final

import httpx
import uvicorn

from entrypackage.kubernetes import ENTRY_PACKAGES, Kubernetes, KubernetesError, NotFoundError, UnreachableError
from receiver.app import Receiver
from receiver.jwks import fetch_keys
from receiver.keys import KeyRing
from receiver.metrics import Metrics
from receiver.writer import Writer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from cryptography.hazmat.primitives.asymmetric import ec

    from receiver.settings import ReceiverSettings

log = logging.getLogger(__name__)

MAX_CONNECTIONS: Final = 4096
_WANTED_FILES: Final = 65_536


class ListenError(Exception):
    """The address cannot be listened on; the text says which and why."""


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; raises `ListenError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ListenError(f"Cannot listen on {host} port {port}: {reason}. Change host or port.") from None


def raise_open_files_limit() -> None:
    """Allow as many open connections as the system does; container runtimes often start with 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED_FILES if hard == resource.RLIM_INFINITY else min(hard, _WANTED_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class _Server(uvicorn.Server):
    """uvicorn's server without its own signal handling, which would stop listening at once."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(settings: ReceiverSettings, kubernetes: Kubernetes, listening: socket.socket) -> None:
    """Serve on the socket until SIGTERM or SIGINT, then stop gracefully.

    SIGTERM: readiness goes off, deliveries are taken for `drain_seconds` more (load balancers learn of it late), then
    nothing new is accepted and what is in flight is finished. SIGINT, or a second signal, skips the draining.
    """
    metrics = Metrics()
    async with _key_client(settings) as client:

        async def fetch(app_definition_id: str) -> list[ec.EllipticCurvePublicKey]:
            return await fetch_keys(client, settings.jwks_url, app_definition_id)

        keys = KeyRing(
            fetch,
            settings.app_definition_ids,
            ttl_seconds=settings.jwks_ttl_seconds,
            timeout_seconds=settings.jwks_timeout_seconds,
            refresh_min_seconds=settings.jwks_refresh_min_seconds,
            on_fetch=metrics.fetched,
        )
        receiver = Receiver(settings, keys, Writer(kubernetes, settings.namespace), metrics)
        server = _Server(_configuration(settings, receiver))
        host, port = listening.getsockname()[:2]
        log.info("The receiver listens.", extra={"host": host, "port": port})
        async with _background(keys.run(), _try_access(kubernetes, settings.namespace)):
            with _stopping(server, receiver, settings.drain_seconds):
                await server.serve(sockets=[listening])
    log.info("The receiver has stopped.")


def _configuration(settings: ReceiverSettings, receiver: Receiver) -> uvicorn.Config:
    return uvicorn.Config(
        receiver.application(),
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        lifespan="off",
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=settings.shutdown_grace_seconds,
    )


def _key_client(settings: ReceiverSettings) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=8, max_keepalive_connections=1)
    return httpx.AsyncClient(timeout=settings.jwks_timeout_seconds, limits=limits, follow_redirects=False)


async def _try_access(kubernetes: Kubernetes, namespace: str) -> None:
    """Open the first connection ahead of the first delivery, and say so if the receiver may not do its work."""
    try:
        await kubernetes.get(ENTRY_PACKAGES, namespace, "none")
    except (NotFoundError, UnreachableError):
        return
    except KubernetesError as error:
        log.error("The API server refuses the receiver: %s", error.message, extra={"code": error.status})  # noqa: TRY400


@contextlib.asynccontextmanager
async def _background(*work: object) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(item) for item in work]  # type: ignore[call-overload]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.contextmanager
def _stopping(server: uvicorn.Server, receiver: Receiver, drain_seconds: float) -> Iterator[None]:
    loop = asyncio.get_running_loop()

    def stop_now() -> None:
        server.should_exit = True

    def on_signal(number: signal.Signals) -> None:
        if receiver.draining or number is signal.SIGINT:
            stop_now()
            return
        log.info("Stopping: readiness is off.", extra={"drainSeconds": drain_seconds})
        loop.call_later(drain_seconds, stop_now)

    def receive(number: signal.Signals) -> None:
        on_signal(number)
        receiver.draining = True

    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, receive, number)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
