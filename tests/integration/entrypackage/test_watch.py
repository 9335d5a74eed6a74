"""The client's watch on a real API server: what it tells, and how it goes on or ends."""

from __future__ import annotations

import asyncio
import json
import ssl
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web

from entrypackage.kubernetes import (
    CONFIG_MAPS,
    Kind,
    Kubernetes,
    KubernetesError,
    NotFoundError,
    Object,
    ObjectChange,
    ObjectList,
    UnreachableError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from pathlib import Path

    from sandbox.controlplane import Address

OURS = {"made-by": "this-test"}
SELECTOR = "made-by=this-test"


def config_map(name: str, **content: str) -> Object:
    return {"metadata": {"name": name, "labels": OURS}, "data": content}


async def following(watch: AsyncGenerator[ObjectList | ObjectChange]) -> ObjectList | ObjectChange:
    return await asyncio.wait_for(anext(watch), 30)


async def change(watch: AsyncGenerator[ObjectList | ObjectChange]) -> tuple[str, str]:
    found = await following(watch)
    assert isinstance(found, ObjectChange)
    return found.type, found.item["metadata"]["name"]


async def names(watch: AsyncGenerator[ObjectList | ObjectChange]) -> list[str]:
    found = await following(watch)
    assert isinstance(found, ObjectList)
    return sorted(item["metadata"]["name"] for item in found.items)


async def test_a_watch_lists_and_then_tells_changes(kubernetes: Kubernetes, namespace: str) -> None:
    await kubernetes.create(CONFIG_MAPS, namespace, config_map("a", x="1"))
    async with aclosing(kubernetes.watch(CONFIG_MAPS, namespace, labels=SELECTOR)) as watch:
        assert await names(watch) == ["a"]
        await kubernetes.create(CONFIG_MAPS, namespace, {"metadata": {"name": "of-others"}})
        # Larger than what arrives in one piece.
        await kubernetes.create(CONFIG_MAPS, namespace, config_map("b", x="x" * 900_000))
        assert await change(watch) == ("ADDED", "b")
        await kubernetes.merge_patch(CONFIG_MAPS, namespace, "a", {"data": {"x": "2"}})
        assert await change(watch) == ("MODIFIED", "a")
        await kubernetes.delete(CONFIG_MAPS, namespace, "b")
        assert await change(watch) == ("DELETED", "b")


async def test_a_watch_of_all_namespaces_without_content(kubernetes: Kubernetes, namespace: str) -> None:
    async with aclosing(kubernetes.watch(CONFIG_MAPS, "", labels=SELECTOR, metadata_only=True)) as watch:
        await following(watch)
        await kubernetes.create(CONFIG_MAPS, namespace, config_map(namespace, x="1"))
        found = await following(watch)
        while isinstance(found, ObjectChange) and found.item["metadata"]["name"] != namespace:
            found = await following(watch)
        assert isinstance(found, ObjectChange)
        assert (found.item["metadata"]["namespace"], "data" in found.item) == (namespace, False)


async def test_a_kind_that_is_not_there_is_refused(kubernetes: Kubernetes, namespace: str) -> None:
    async with aclosing(kubernetes.watch(Kind("apis/example.com/v1", "things"), namespace)) as watch:
        with pytest.raises(NotFoundError):
            await following(watch)


class Between:
    """A server between client and API server that can spoil watches."""

    def __init__(self, behind: Address) -> None:
        self._behind = behind
        self.watched = 0
        self.said: dict[int, Object] = {}
        """What a watch, counted from 1, gets before anything of the API server's."""
        self.cut = asyncio.Event()
        """Once set, watches break off."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        is_watch = "watch" in request.query
        self.watched += is_watch
        context = ssl.create_default_context(cafile=self._behind.ca_file)
        headers = {"Authorization": f"Bearer {self._behind.token}", "Accept": request.headers["Accept"]}
        async with (
            aiohttp.ClientSession() as session,
            session.get(
                self._behind.server + request.path, params=request.query, headers=headers, ssl=context
            ) as found,
        ):
            answer = web.StreamResponse(status=found.status)
            await answer.prepare(request)
            if is_watch and self.watched in self.said:
                await answer.write(json.dumps(self.said[self.watched]).encode() + b"\n")
            passing = asyncio.ensure_future(self._pass_on(found, answer))
            cutting = asyncio.ensure_future(self.cut.wait())
            await asyncio.wait([passing, cutting], return_when=asyncio.FIRST_COMPLETED)
            if not passing.done() and request.transport is not None:
                request.transport.abort()
            for task in (passing, cutting):
                task.cancel()
            return answer

    @staticmethod
    async def _pass_on(found: aiohttp.ClientResponse, answer: web.StreamResponse) -> None:
        async for piece in found.content.iter_any():
            await answer.write(piece)
        await answer.write_eof()

    @asynccontextmanager
    async def client(self, folder: Path) -> AsyncIterator[Kubernetes]:
        """Serve, and give a client of it."""
        application = web.Application()
        application.router.add_get("/{path:.*}", self.answer)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            config: dict[str, Any] = {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{runner.addresses[0][1]}"}}],
                "users": [{"name": "u", "user": {}}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "x",
            }
            file = folder / "kubeconfig"
            file.write_text(json.dumps(config))
            async with await Kubernetes.connect(str(file)) as client:
                yield client
        finally:
            self.cut.set()
            await runner.cleanup()


async def test_changes_that_are_forgotten_lead_to_a_new_list(
    control_plane: Address, kubernetes: Kubernetes, namespace: str, tmp_path: Path
) -> None:
    between = Between(control_plane)
    # So a real one says it; a young one has not forgotten anything yet.
    status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version: 1 (9)"}
    between.said = {1: {"type": "ERROR", "object": status}}
    await kubernetes.create(CONFIG_MAPS, namespace, config_map("a"))
    async with (
        between.client(tmp_path) as client,
        aclosing(client.watch(CONFIG_MAPS, namespace, labels=SELECTOR)) as watch,
    ):
        assert await names(watch) == ["a"]
        assert await names(watch) == ["a"]
        await kubernetes.create(CONFIG_MAPS, namespace, config_map("b"))
        assert await change(watch) == ("ADDED", "b")
        assert between.watched == 2


async def test_an_error_in_a_watch_is_raised(control_plane: Address, namespace: str, tmp_path: Path) -> None:
    between = Between(control_plane)
    status = {"kind": "Status", "code": 500, "reason": "InternalError", "message": "etcdserver: mvcc"}
    between.said = {1: {"type": "ERROR", "object": status}}
    async with between.client(tmp_path) as client, aclosing(client.watch(CONFIG_MAPS, namespace)) as watch:
        await names(watch)
        with pytest.raises(KubernetesError, match="500 InternalError: etcdserver: mvcc"):
            await following(watch)


async def test_a_watch_that_breaks_off_is_raised(control_plane: Address, namespace: str, tmp_path: Path) -> None:
    between = Between(control_plane)
    async with between.client(tmp_path) as client, aclosing(client.watch(CONFIG_MAPS, namespace)) as watch:
        await names(watch)
        waiting = asyncio.ensure_future(following(watch))
        between.cut.set()
        with pytest.raises(UnreachableError, match="watching /api/v1/namespaces"):
            await waiting
