"""What all groups of calls share: sending a request, reading all pages of a list, quoting an id for a path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from controller.benchling.errors import NotFound
from controller.benchling.models import members, next_token
from controller.benchling.wire import Request

if TYPE_CHECKING:
    from collections.abc import Mapping

    from controller.benchling.priority import Priority
    from controller.benchling.request_sender import RequestSender
    from controller.benchling.settings import BenchlingSettings
    from controller.benchling.wire import Operation

API: Final = "/api/v2"


class ApiCalls:
    """The base of each group of calls. All groups share one `RequestSender`."""

    def __init__(self, settings: BenchlingSettings, sender: RequestSender) -> None:
        self.settings = settings
        self._sender = sender

    async def _get(
        self,
        operation: Operation,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        priority: Priority,
        deadline: float | None,
    ) -> Any:
        return await self._sender.send(Request(operation, API + path, query), priority, deadline)

    async def _write(
        self,
        operation: Operation,
        path: str,
        body: Mapping[str, Any],
        *,
        priority: Priority,
        deadline: float | None,
    ) -> Any:
        return await self._sender.send(Request(operation, API + path, body=body), priority, deadline)

    async def _all_pages(
        self,
        operation: Operation,
        path: str,
        query: Mapping[str, str],
        rows_key: str,
        *,
        priority: Priority,
        deadline: float | None,
    ) -> list[Any]:
        """Return the rows of all pages. A page token that repeats ends the list, as an absent one does."""
        rows: list[Any] = []
        token: str | None = None
        while True:
            page = {**query, "pageSize": str(self.settings.page_size)}
            if token is not None:
                page["nextToken"] = token
            answer = await self._get(operation, path, page, priority=priority, deadline=deadline)
            rows += members(answer, rows_key, operation.name)
            following = next_token(answer)
            if following is None or following == token:
                return rows
            token = following


def quoted(value: str) -> str:
    """Return an id quoted as one segment of a path; raises `NotFound` for a text that cannot be an id."""
    if value in {"", ".", ".."}:
        raise NotFound("Benchling has no object with such an id.", status=404)
    return quote(value, safe="")
