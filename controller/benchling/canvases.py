"""Calls about canvases, app sessions and the app itself: what a person sees in an entry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from controller.benchling.api_calls import ApiCalls, quoted
from controller.benchling.errors import Rejected, SessionClosed
from controller.benchling.models import App, Canvas, CanvasChange, Session, SessionMessage, read_canvas, read_wire
from controller.benchling.priority import Priority
from controller.benchling.wire import Operation, Repeat

if TYPE_CHECKING:
    from collections.abc import Sequence

_CLOSED_SESSION: Final = "session has been closed"

CREATE_CANVAS: Final = Operation("canvases.create", "POST", Repeat.UNSAFE)
GET_CANVAS: Final = Operation("canvases.get", "GET")
PATCH_CANVAS: Final = Operation("canvases.patch", "PATCH")
LIST_CANVASES: Final = Operation("canvases.list", "GET")
ARCHIVE_CANVASES: Final = Operation("canvases.archive", "POST")
CREATE_SESSION: Final = Operation("sessions.create", "POST", Repeat.UNSAFE)
PATCH_SESSION: Final = Operation("sessions.patch", "PATCH")
GET_APP: Final = Operation("apps.get", "GET")


class CanvasCalls(ApiCalls):
    """Reads and changes canvases and app sessions."""

    async def create_canvas(
        self,
        *,
        app_id: str,
        feature_id: str,
        resource_id: str,
        change: CanvasChange,
        priority: Priority = Priority.CLICK,
        deadline: float | None = None,
    ) -> Canvas:
        """Create a canvas in an entry and return it.

        After `OutcomeUnknown` the caller must list the entry's canvases before it tries again.
        """
        body = {"appId": app_id, "featureId": feature_id, "resourceId": resource_id, "blocks": [], **_changed(change)}
        answer = await self._write(CREATE_CANVAS, "/app-canvases", body, priority=priority, deadline=deadline)
        return read_canvas(answer, CREATE_CANVAS.name)

    async def get_canvas(
        self, canvas_id: str, *, priority: Priority = Priority.CLICK, deadline: float | None = None
    ) -> Canvas:
        """Return a canvas; raises `NotFound` if it is gone or the app may not see it."""
        answer = await self._get(GET_CANVAS, f"/app-canvases/{quoted(canvas_id)}", priority=priority, deadline=deadline)
        return read_canvas(answer, GET_CANVAS.name)

    async def patch_canvas(
        self,
        canvas_id: str,
        change: CanvasChange,
        *,
        priority: Priority = Priority.CLICK,
        deadline: float | None = None,
    ) -> Canvas:
        """Change the members that `change` sets. Blocks replace the whole list, so that a repeat does no harm."""
        path = f"/app-canvases/{quoted(canvas_id)}"
        answer = await self._write(PATCH_CANVAS, path, _changed(change), priority=priority, deadline=deadline)
        return read_canvas(answer, PATCH_CANVAS.name)

    async def list_canvases(
        self,
        *,
        resource_id: str | None = None,
        app_id: str | None = None,
        feature_id: str | None = None,
        priority: Priority = Priority.CLICK,
        deadline: float | None = None,
    ) -> list[Canvas]:
        """Return the canvases that are not archived, of an entry, an app or a feature."""
        wanted = {"resourceId": resource_id, "appId": app_id, "featureId": feature_id}
        query = {key: value for key, value in wanted.items() if value is not None}
        rows = await self._all_pages(
            LIST_CANVASES, "/app-canvases", query, "appCanvases", priority=priority, deadline=deadline
        )
        return [read_canvas(row, LIST_CANVASES.name) for row in rows]

    async def archive_canvases(
        self, canvas_ids: Sequence[str], *, priority: Priority = Priority.CLICK, deadline: float | None = None
    ) -> None:
        """Archive canvases."""
        body = {"canvasIds": list(canvas_ids), "reason": "Other"}
        await self._write(ARCHIVE_CANVASES, "/app-canvases:archive", body, priority=priority, deadline=deadline)

    async def create_session(
        self,
        *,
        app_id: str,
        name: str,
        timeout_seconds: int,
        messages: Sequence[SessionMessage] = (),
        priority: Priority = Priority.CLICK,
        deadline: float | None = None,
    ) -> Session:
        """Open an app session, the line of progress that a person sees; return it.

        It lasts at most 30 days. Its name is cut to 100 characters.
        """
        body = {
            "appId": app_id,
            "name": name[:100].ljust(3, "."),
            "timeoutSeconds": max(1, min(2_592_000, timeout_seconds)),
            "messages": _messages(messages),
        }
        answer = await self._write(CREATE_SESSION, "/app-sessions", body, priority=priority, deadline=deadline)
        return read_wire(Session, answer, CREATE_SESSION.name)

    async def patch_session(
        self,
        session_id: str,
        *,
        status: str | None = None,
        messages: Sequence[SessionMessage] | None = None,
        priority: Priority = Priority.CLICK,
        deadline: float | None = None,
    ) -> Session:
        """Replace the messages (the last 10 are kept) or end the session; raises `SessionClosed` if it has ended."""
        body: dict[str, Any] = {}
        if status is not None:
            body["status"] = status
        if messages is not None:
            body["messages"] = _messages(messages)
        path = f"/app-sessions/{quoted(session_id)}"
        try:
            answer = await self._write(PATCH_SESSION, path, body, priority=priority, deadline=deadline)
        except Rejected as failure:
            if _CLOSED_SESSION in failure.message.lower():
                raise SessionClosed(failure.message, status=failure.status or 400) from None
            raise
        return read_wire(Session, answer, PATCH_SESSION.name)

    async def get_app(self, app_id: str, *, priority: Priority = Priority.SWEEP, deadline: float | None = None) -> App:
        """Return an app; raises `NotFound`."""
        answer = await self._get(GET_APP, f"/apps/{quoted(app_id)}", priority=priority, deadline=deadline)
        return read_wire(App, answer, GET_APP.name)


def _changed(change: CanvasChange) -> dict[str, Any]:
    return change.model_dump(mode="json", by_alias=True, exclude_unset=True)


def _messages(messages: Sequence[SessionMessage]) -> list[dict[str, Any]]:
    return [message.model_dump(mode="json") for message in messages[-10:]]
