"""Objects in memory, under the API server's rules for create and JSON Patch; integration tests have the real one."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from entrypackage.kubernetes import (
    AlreadyExistsError,
    InvalidError,
    Kind,
    Kubernetes,
    KubernetesError,
    NotFoundError,
    Object,
)

if TYPE_CHECKING:
    from collections.abc import Callable

TEST_FAILED = InvalidError(422, "Invalid", "the server rejected our request due to an error in our request")


class Store(Kubernetes):
    """Keeps objects in memory under the API server's rules for create and JSON Patch."""

    def __init__(self, name: str = "") -> None:
        """`name` is that of the object whose spec a test looks at."""
        self.name = name
        self.objects: dict[str, Object] = {}
        self.writes: list[str] = []
        self.failures: list[KubernetesError] = []
        """Raised by the next calls, one each."""
        self.before_write: Callable[[], None] = lambda: None
        self.gate: asyncio.Event | None = None
        self.in_flight = 0
        self.most_in_flight = 0

    async def _pass(self) -> None:
        await asyncio.sleep(0)
        if self.failures:
            raise self.failures.pop(0)

    async def get(self, kind: Kind, namespace: str, name: str) -> Object:
        await self._pass()
        if name not in self.objects:
            raise NotFoundError(404, "NotFound", "none")
        copy: Object = json.loads(json.dumps(self.objects[name]))
        return copy

    async def _write(self, what: str) -> None:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if self.gate is not None:
                await self.gate.wait()
            await self._pass()
            self.before_write()
            self.writes.append(what)
        finally:
            self.in_flight -= 1

    async def create(self, kind: Kind, namespace: str, body: Object) -> Object:
        await self._write("create")
        name = body["metadata"]["name"]
        if name in self.objects:
            raise AlreadyExistsError(409, "AlreadyExists", "there")
        self.objects[name] = body
        return body

    async def json_patch(self, kind: Kind, namespace: str, name: str, operations: list[Object]) -> Object:
        await self._write("patch")
        if name not in self.objects:
            raise NotFoundError(404, "NotFound", "none")
        found = self.objects[name]
        for operation in operations:
            _, part, member = operation["path"].split("/")
            if operation["op"] == "test" and found[part].get(member) != operation["value"]:
                raise TEST_FAILED
            if operation["op"] == "add":
                found[part][member] = operation["value"]
        return found

    @property
    def spec(self) -> dict[str, Any]:
        spec: dict[str, Any] = self.objects[self.name]["spec"]
        return spec
