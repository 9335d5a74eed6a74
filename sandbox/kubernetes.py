"""The product's Kubernetes client with what only the sandbox needs: subresources, forced deletions, informers."""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

from entrypackage.kubernetes import (
    ConflictError,
    Kind,
    Kubernetes,
    KubernetesError,
    NotFoundError,
    Object,
    ObjectList,
)

if TYPE_CHECKING:
    from collections.abc import Callable

NODES: Final = Kind("api/v1", "nodes")
SERVICES: Final = Kind("api/v1", "services")
SERVICE_ACCOUNTS: Final = Kind("api/v1", "serviceaccounts")
INGRESSES: Final = Kind("apis/networking.k8s.io/v1", "ingresses")

_LOG = logging.getLogger(__name__)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0


class ClusterApi(Kubernetes):
    """Acts as what stands around the product in a cluster: a kubelet, a scheduler, a load balancer."""

    @classmethod
    async def connect(cls, kubeconfig: str | None = None, *, timeout_seconds: float = 30.0) -> Self:
        """Configure from a kubeconfig file; raises `ConfigurationError`."""
        self = await super().connect(kubeconfig, timeout_seconds=timeout_seconds)
        # The API server is on this machine, whatever proxy the environment names.
        self._client.configuration.client_session_kwargs = {"trust_env": False}
        return self

    @property
    def address(self) -> tuple[str, int]:
        """The API server's host and port."""
        parts = urlsplit(self._client.configuration.host)
        return parts.hostname or "127.0.0.1", parts.port or (443 if parts.scheme == "https" else 80)

    async def find(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """Return one object, or None when it is not there."""
        try:
            return await self.get(kind, namespace, name)
        except NotFoundError:
            return None

    async def create_in(self, kind: Kind, namespace: str, name: str, part: str, body: Object) -> Object:
        """Create a subresource of an object, such as a pod's binding."""
        return await self._request("POST", f"{_place(kind, namespace, name)}/{part}", body=body)

    async def patch_status(self, kind: Kind, namespace: str, name: str, body: Object) -> Object:
        """Apply a strategic merge patch to a status, which keeps the conditions of others."""
        path = f"{_place(kind, namespace, name)}/status"
        return await self._request("PATCH", path, body=body, content="application/strategic-merge-patch+json")

    async def remove(
        self, kind: Kind, namespace: str, name: str, *, uid: str | None = None, grace_seconds: int | None = None
    ) -> bool:
        """Delete an object; False when it, or the one with this uid, is not there."""
        body: Object = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if uid is not None:
            body["preconditions"] = {"uid": uid}
        if grace_seconds is not None:
            body["gracePeriodSeconds"] = grace_seconds
        try:
            await self._request("DELETE", _place(kind, namespace, name), body=body)
        except (NotFoundError, ConflictError):
            return False
        return True


class Informer:
    """Calls `on_list` with every complete list and `on_event` with (type, object) in between.

    It outlives an API server that restarts; both callbacks are plain functions and must not block.
    """

    def __init__(
        self,
        api: Kubernetes,
        kind: Kind,
        namespace: str,
        on_list: Callable[[list[Object]], None],
        on_event: Callable[[str, Object], None],
        *,
        metadata_only: bool = False,
    ) -> None:
        """Follow a namespace, or with an empty name all; with `metadata_only` objects come without their content."""
        self._api, self._kind, self._namespace = api, kind, namespace
        self._on_list, self._on_event = on_list, on_event
        self._metadata_only = metadata_only
        self.listed = asyncio.Event()

    async def run(self) -> None:
        """Never returns; cancel it."""
        self._pause = _FIRST_PAUSE
        while True:
            try:
                await self._follow()
            except KubernetesError as error:
                _LOG.warning("reading %s: %s; trying again", self._kind.plural, error)
            await asyncio.sleep(self._pause * random.uniform(0.5, 1))
            self._pause = min(self._pause * 2, _LONGEST_PAUSE)

    async def _follow(self) -> None:
        watch = self._api.watch(self._kind, self._namespace, metadata_only=self._metadata_only)
        async with aclosing(watch) as changes:
            async for change in changes:
                if isinstance(change, ObjectList):
                    self._on_list(change.items)
                    self.listed.set()
                    self._pause = _FIRST_PAUSE
                else:
                    self._on_event(change.type, change.item)


def _place(kind: Kind, namespace: str, name: str) -> str:
    scope = f"namespaces/{namespace}/" if namespace else ""
    return f"/{kind.api}/{scope}{kind.plural}/{name}"
