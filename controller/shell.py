"""kopf, the shell: login, watches and their life cycle. Its handlers only pass news on; nothing else imports it.

No timers, daemons, retries by exception, finalizers or returned values: each of those costs writes for every look, and
some hang deletion. What is decided and done is in `plan` and `execute`.
"""

from __future__ import annotations

import os
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import kopf

from entrypackage import identity
from entrypackage.resource import GROUP, PLURAL, VERSION

if TYPE_CHECKING:
    import asyncio

    from controller.cache import Feed

ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
LOGIN_MINUTES: Final = 30


def _configure(settings: kopf.OperatorSettings) -> None:
    settings.process.ultimate_exiting_timeout = 20
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


def build_registry(feed: Feed, kubeconfig: str | None) -> kopf.OperatorRegistry:
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

    kopf takes the process's signals for itself while it runs: on SIGTERM or SIGINT this returns as if `stop` were set.
    """
    if kubeconfig is not None:
        os.environ["KUBECONFIG"] = kubeconfig
    await kopf.operator(
        registry=build_registry(feed, kubeconfig),
        namespaces=[namespace],
        standalone=True,
        ready_flag=ready,
        stop_flag=stop,
        liveness_endpoint=None,
    )
