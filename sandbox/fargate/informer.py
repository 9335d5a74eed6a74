"""List, then watch, for ever: the node's view of one kind of object."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import TYPE_CHECKING, Any

import aiohttp

from sandbox.fargate.api import Api, ApiError

if TYPE_CHECKING:
    from collections.abc import Callable

Json = dict[str, Any]
_LOG = logging.getLogger(__name__)
_PAGE = "500"
_LONGEST_PAUSE = 5.0
# A watch lasts minutes; a server that ends it at once must not be asked in a tight loop.
_SHORTEST_WATCH = 1.0
_METADATA = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1"


class Informer:
    """Calls `on_list` with every complete list and `on_event` with (type, object) in between.

    It outlives an API server that restarts; both callbacks are plain functions and must not block.
    """

    def __init__(
        self,
        api: Api,
        path: str,
        on_list: Callable[[list[Json]], None],
        on_event: Callable[[str, Json], None],
        *,
        metadata_only: bool = False,
    ) -> None:
        """With `metadata_only` the objects come without their content."""
        self._api, self._path = api, path
        self._list_form = _METADATA.format("List") if metadata_only else None
        self._watch_form = _METADATA.format("") if metadata_only else None
        self._on_list, self._on_event = on_list, on_event
        self.listed = asyncio.Event()

    async def run(self) -> None:
        """Never returns; cancel it."""
        pause = 0.1
        while True:
            try:
                version = await self._list()
                self.listed.set()
                pause = 0.1
                while True:
                    version = await self._watch(version)
            except (ApiError, aiohttp.ClientError, TimeoutError, OSError) as error:
                if not (isinstance(error, ApiError) and error.status == 410):
                    _LOG.warning("reading %s: %s; trying again", self._path, str(error) or type(error).__name__)
            await asyncio.sleep(pause * random.uniform(0.5, 1))
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _list(self) -> str:
        items: list[Json] = []
        query = {"limit": _PAGE}
        while True:
            answer = await self._api.get(self._path, query, accept=self._list_form)
            items += answer.get("items") or []
            more = answer["metadata"].get("continue")
            if not more:
                break
            query["continue"] = more
        self._on_list(items)
        return str(answer["metadata"]["resourceVersion"])

    async def _watch(self, version: str) -> str:
        began = time.monotonic()
        async for event in self._api.watch(self._path, version, accept=self._watch_form):
            version = event["object"]["metadata"]["resourceVersion"]
            if event["type"] != "BOOKMARK":
                self._on_event(event["type"], event["object"])
        await asyncio.sleep(max(0.0, began + _SHORTEST_WATCH - time.monotonic()))
        return version
