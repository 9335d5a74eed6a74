"""Secrets and ConfigMaps as pods need them: read when needed, noticed when they change."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from entrypackage.kubernetes import CONFIG_MAPS, SECRETS
from sandbox.fargate.environment import Configuration, ConfigurationKey, configuration
from sandbox.kubernetes import Informer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sandbox.kubernetes import ClusterApi

_KINDS = {"Secret": SECRETS, "ConfigMap": CONFIG_MAPS}


class Configurations:
    """Reads configurations and reports which ones changed, in the namespaces that pods use."""

    def __init__(self, api: ClusterApi, changed: Callable[[str, ConfigurationKey], None]) -> None:
        """`changed(namespace, key)` is called for every object that appears, changes or goes."""
        self._api, self._changed = api, changed
        self._watches: dict[str, list[asyncio.Task[None]]] = {}

    async def read(self, namespace: str, keys: Iterable[ConfigurationKey]) -> dict[ConfigurationKey, Configuration]:
        """Those of the objects that exist; from now on changes in the namespace are noticed."""
        wanted = sorted(set(keys))
        if wanted:
            self._watch(namespace)
        found = {}
        for kind, name in wanted:
            raw = await self._api.find(_KINDS[kind], namespace, name)
            if raw is not None:
                found[kind, name] = configuration(kind, raw)
        return found

    def close(self) -> None:
        """End the watches."""
        for tasks in self._watches.values():
            for task in tasks:
                task.cancel()

    def _watch(self, namespace: str) -> None:
        if namespace in self._watches:
            return
        self._watches[namespace] = [asyncio.create_task(self._informer(namespace, kind).run()) for kind in _KINDS]

    def _informer(self, namespace: str, kind: str) -> Informer:
        def tell(one: dict[str, Any]) -> None:
            self._changed(namespace, (kind, one["metadata"]["name"]))

        def tell_all(items: list[dict[str, Any]]) -> None:
            for one in items:
                tell(one)

        # Orders are large, and only pods that name an object read it.
        return Informer(self._api, _KINDS[kind], namespace, tell_all, lambda _type, one: tell(one), metadata_only=True)
