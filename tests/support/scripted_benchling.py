"""A Benchling in a few lines, as an HTTP transport: it counts as Benchling does and misbehaves as it is told.

It answers after a delay by the loop's clock, so in virtual time a run of hours takes seconds. How it misbehaves is
decided by small functions that tests put in `faults`; what it saw is in `log`.
"""

from __future__ import annotations

import asyncio
import base64
import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
from pydantic import SecretStr

from controller.benchling.settings import AppCredentials, BenchlingSettings

BASE_URL = "https://tenant.benchling.invalid"
GATEWAY_PAGE = b"<html><body><h1>503 Service Unavailable</h1></body></html>"

Fault = Callable[[httpx.Request, float], "httpx.Response | Exception | None"]
"""Given a request and the time it arrives: None to serve it, an answer to give instead, or an error to break with."""


@dataclass(frozen=True)
class Arrival:
    """One request as the server saw it."""

    at: float
    method: str
    path: str
    status: int
    authorization: str


@dataclass
class ScriptedBenchling(httpx.AsyncBaseTransport):
    """Fixed windows of `period` seconds, counted at arrival, `limit` for the app and `tenant_limit` unseen."""

    limit: int = 300
    tenant_limit: int = 1000
    period: float = 30.0
    latency: float = 0.2
    export_limit: int = 10**9
    export_seconds: float = 30.0
    token_seconds: float = 900.0
    client_secret: str = "right"
    headers: bool = True
    counts_tokens: bool = True
    faults: list[Fault] = field(default_factory=list)
    log: list[Arrival] = field(default_factory=list)
    exports: dict[str, float] = field(default_factory=dict)
    lost_exports: int = 0
    """Exports that were started and whose answer never arrived."""
    foreign: Counter[int] = field(default_factory=Counter)
    """Requests of others, by window."""
    _windows: Counter[int] = field(default_factory=Counter)
    _tokens: dict[str, float] = field(default_factory=dict)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(self.latency / 2)
        now = asyncio.get_running_loop().time()
        response = self._answer(request, now)
        status = response.status_code if isinstance(response, httpx.Response) else 0
        path = request.url.path
        self.log.append(Arrival(now, request.method, path, status, request.headers.get("authorization", "")))
        await asyncio.sleep(self.latency / 2)
        if isinstance(response, Exception):
            raise response
        return response

    def revoke_all(self) -> None:
        """Make every token that was handed out invalid."""
        self._tokens.clear()

    def count(self, path: str, *, status: int | None = None) -> int:
        """Return how many requests came for a path that begins so, with that status."""
        return sum(1 for item in self.log if item.path.startswith(path) and (status is None or item.status == status))

    def running(self, now: float) -> int:
        """Return how many exports run."""
        return sum(1 for started in self.exports.values() if now < started + self.export_seconds)

    def _answer(self, request: httpx.Request, now: float) -> httpx.Response | Exception:
        for fault in self.faults:
            outcome = fault(request, now)
            if isinstance(outcome, httpx.Response):
                return self._with_headers(outcome, now)
            if outcome is not None:
                return outcome
        window = math.floor(now / self.period)
        is_token = request.url.path == "/api/v2/token"
        if not is_token or self.counts_tokens:
            if self._windows[window] + self.foreign[window] >= self.limit:
                return self._refuse(now)
            if self._windows[window] >= self.tenant_limit:
                return self._refuse(now)
            self._windows[window] += 1
        return self._with_headers(self._token(request, now) if is_token else self._serve(request, now), now)

    def _serve(self, request: httpx.Request, now: float) -> httpx.Response:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if self._tokens.get(token, 0.0) <= now:
            return problem(401, "authentication_error", "Failed to authenticate")
        path = request.url.path.removeprefix("/api/v2")
        if request.method == "POST" and path == "/exports":
            return self._export(now)
        if path.startswith("/tasks/"):
            return self._task(path.removeprefix("/tasks/"), now)
        if path.startswith("/entries/"):
            return httpx.Response(200, json={"entry": entry(path.removeprefix("/entries/"))})
        if path == "/entries":
            return httpx.Response(200, json={"entries": [], "nextToken": ""})
        if path.startswith("/app-canvases/"):
            return httpx.Response(200, json={"id": path.removeprefix("/app-canvases/"), "blocks": []})
        return problem(404, "invalid_request_error", "There is no such thing")

    def _export(self, now: float) -> httpx.Response:
        if self.running(now) >= self.export_limit:
            return problem(429, "invalid_request_error", "Rate limit exceeded.")
        task = f"task-{len(self.exports) + 1}"
        self.exports[task] = now
        return httpx.Response(202, json={"taskId": task})

    def _task(self, task: str, now: float) -> httpx.Response:
        if task not in self.exports:
            return problem(404, "invalid_request_error", "There is no such task")
        if now < self.exports[task] + self.export_seconds:
            return httpx.Response(200, json={"status": "RUNNING"})
        url = f"https://archives.invalid/{task}.zip?X-Amz-Signature=LEAKMARK"
        return httpx.Response(200, json={"status": "SUCCEEDED", "response": {"downloadURL": url}})

    def _token(self, request: httpx.Request, now: float) -> httpx.Response:
        pair = base64.b64decode(request.headers["authorization"].removeprefix("Basic ")).decode()
        if pair != f"client:{self.client_secret}":
            return problem(401, "invalid_client", "Client authentication failed")
        token = f"token-LEAKMARK-{len(self.log)}"
        self._tokens[token] = now + self.token_seconds
        body = {"access_token": token, "token_type": "Bearer", "expires_in": self.token_seconds}
        return httpx.Response(200, json=body)

    def _refuse(self, now: float) -> httpx.Response:
        return self._with_headers(problem(429, "invalid_request_error", "Rate limit exceeded."), now)

    def _with_headers(self, response: httpx.Response, now: float) -> httpx.Response:
        if self.headers and "x-rate-limit-limit" not in response.headers:
            window = math.floor(now / self.period)
            left = max(0, self.limit - self._windows[window] - self.foreign[window])
            response.headers["x-rate-limit-limit"] = str(self.limit)
            response.headers["x-rate-limit-remaining"] = str(left)
            response.headers["x-rate-limit-reset"] = str(math.ceil((window + 1) * self.period - now))
        return response


def entry(entry_id: str, **members: Any) -> dict[str, Any]:
    """Return an entry as the API gives it."""
    return {
        "id": entry_id,
        "displayId": "EXP1",
        "name": "An entry",
        "webURL": f"https://tenant.benchling.invalid/etr/{entry_id}",
        "createdAt": "2026-01-01T00:00:00+00:00",
        "modifiedAt": "2026-01-02T00:00:00+00:00",
        "fields": {},
        "days": [],
        **members,
    }


def problem(status: int, kind: str, message: str, **more: Any) -> httpx.Response:
    """Return an error in the API's envelope."""
    return httpx.Response(status, json={"error": {"type": kind, "message": message, "userMessage": message, **more}})


def gateway_page(status: int = 503) -> httpx.Response:
    """Return what a gateway answers when Benchling is down."""
    return httpx.Response(status, content=GATEWAY_PAGE, headers={"content-type": "text/html"})


def settings(**changes: Any) -> BenchlingSettings:
    """Return settings for the scripted Benchling."""
    given: dict[str, Any] = {
        "base_url": BASE_URL,
        "credentials": lambda: AppCredentials("client", SecretStr("right")),
        **changes,
    }
    return BenchlingSettings(**given)


def in_window(times: list[float], seconds: float) -> int:
    """Return the most moments that lie within any span of so many seconds."""
    ordered = sorted(times)
    most = start = 0
    for end, moment in enumerate(ordered):
        while moment - ordered[start] >= seconds:
            start += 1
        most = max(most, end - start + 1)
    return most


def body_of(request: httpx.Request) -> Any:
    """Return the JSON that was sent."""
    return json.loads(request.content)
