"""The HTTPS server that the API server asks for logs, one for all Nodes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from aiohttp import web

from sandbox.certificates import server_context
from sandbox.fargate.clock import parse_rfc3339, unix_now
from sandbox.fargate.logs import LogQuery, previous_log, read_log
from sandbox.fargate.status import Waiting

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sandbox.fargate.logs import ContainerLog
    from sandbox.fargate.node import FargateNode

_NAME = re.compile(r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")


class LogsError(Exception):
    """There is no such log; the message is for the person who asked."""


def log_query(parameters: Mapping[str, str]) -> LogQuery:
    """What the API server passes on; raises LogsError for a value that is none."""
    try:
        since = None
        if "sinceTime" in parameters:
            since = parse_rfc3339(parameters["sinceTime"])
        elif "sinceSeconds" in parameters:
            since = unix_now() - int(parameters["sinceSeconds"])
        return LogQuery(
            tail_lines=int(parameters["tailLines"]) if "tailLines" in parameters else None,
            since=since,
            limit_bytes=int(parameters["limitBytes"]) if "limitBytes" in parameters else None,
            timestamps=parameters.get("timestamps") == "true",
            follow=parameters.get("follow") == "true",
        )
    except ValueError as error:
        raise LogsError(f"the log options can't be understood: {error}") from error


class LogServer:
    """Serves `GET /containerLogs/{namespace}/{pod}/{container}`; other calls get 501."""

    def __init__(self, log_folder: Path) -> None:
        """`log_folder` holds `<namespace>/<pod>/<container>.log`."""
        self._folder = log_folder
        self._runner: web.AppRunner | None = None
        self.node: FargateNode | None = None

    async def start(self) -> int:
        """Listen on 127.0.0.1; the result is the port."""
        app = web.Application()
        app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._logs)
        app.router.add_get("/healthz", self._health)
        app.router.add_route("*", "/{rest:.*}", self._unknown)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=server_context("127.0.0.1")).start()
        port: int = self._runner.addresses[0][1]
        return port

    async def close(self) -> None:
        """Stop serving."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        try:
            query = log_query(request.query)
            path, live = self._log(request)
        except LogsError as error:
            return web.Response(status=400, text=str(error))
        answer = web.StreamResponse(headers={"Content-Type": "text/plain; charset=utf-8"})
        answer.enable_chunked_encoding()
        await answer.prepare(request)
        async for piece in read_log(path, query, live):
            await answer.write(piece)
        await answer.write_eof()
        return answer

    def _log(self, request: web.Request) -> tuple[Path, ContainerLog | None]:
        namespace, pod, container = (request.match_info[part] for part in ("namespace", "pod", "container"))
        if not all(map(_NAME.match, (namespace, pod, container))):
            raise LogsError("a namespace, pod or container can't have this name")
        file = self._folder / namespace / pod / f"{container}.log"
        if request.query.get("previous") == "true":
            before = previous_log(file)
            if before is None:
                raise LogsError(f'previous terminated container "{container}" in pod "{pod}" not found')
            return before, None
        live = self._live(namespace, pod, container, file)
        if not file.exists():
            raise LogsError(f'container "{container}" in pod "{pod}" is not available')
        return file, live

    def _live(self, namespace: str, pod: str, container: str, file: Path) -> ContainerLog | None:
        run = self.node.find(namespace, pod) if self.node is not None else None
        if run is None:
            return None
        one = next((one for one in run.containers if one.container.name == container), None)
        if one is None:
            raise LogsError(f'container "{container}" is not in pod "{pod}"')
        adopted = one.log is None and file.exists()
        if not adopted and one.log is None and isinstance(one.view.state, Waiting):
            reason = one.view.state.reason
            raise LogsError(f'container "{container}" in pod "{pod}" is waiting to start: {reason}')
        return one.log

    @staticmethod
    async def _health(_request: web.Request) -> web.Response:
        return web.Response(text="ok")

    @staticmethod
    async def _unknown(_request: web.Request) -> web.Response:
        return web.Response(status=501, text="the local Fargate node serves logs only")
