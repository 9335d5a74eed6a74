"""Operations by their OpenAPI ids, and which one a request means."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

from sandbox.simulator.wire import Call, Reply

if TYPE_CHECKING:
    from sandbox.simulator.world import World


@dataclass(frozen=True)
class Request:
    """An authenticated call of an operation. `parameters`: the query's; `at`: the path's."""

    world: World
    call: Call
    caller: str
    parameters: dict[str, str]
    at: dict[str, str]


Edge = Callable[[Request], Reply]


@dataclass(frozen=True)
class Operation:
    """One operation. `subject`: the path parameter by which faults know what the call is about."""

    id: str
    method: str
    path: str
    edge: Edge
    subject: str | None = None

    @property
    def pattern(self) -> re.Pattern[str]:
        """The path with a group for each parameter."""
        return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(self.path)))


class Routes:
    """Finds the operation of a request."""

    def __init__(self, operations: list[Operation]) -> None:
        self.operations = operations
        self._patterns = [(operation, operation.pattern) for operation in operations]

    def find(self, method: str, path: str) -> tuple[Operation | None, dict[str, str], bool]:
        """(operation, path parameters, whether the path exists with another method)."""
        known = False
        for operation, pattern in self._patterns:
            match = pattern.fullmatch(path)
            if match is None:
                continue
            if operation.method == method:
                return operation, {name: unquote(value) for name, value in match.groupdict().items()}, True
            known = True
        return None, {}, known
