"""The few calls of the Kubernetes API that the node makes, over plain REST."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import aiohttp
import yaml

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path
    from types import TracebackType

Json = dict[str, Any]
_MERGE = "application/strategic-merge-patch+json"
_WATCH_SECONDS = 300


class KubeconfigError(Exception):
    """The kubeconfig can't be used; the message says why."""


class ApiError(Exception):
    """The API server refused a call; `status` is the HTTP code."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        """Keep what the Status object says."""
        super().__init__(message)
        self.status, self.reason = status, reason


@dataclass(frozen=True)
class Connection:
    """Where the API server is and how to be trusted by it."""

    server: str
    tls: ssl.SSLContext | None
    token: str | None

    @property
    def host(self) -> str:
        """The server's host name or address."""
        return urlsplit(self.server).hostname or "127.0.0.1"

    @property
    def port(self) -> int:
        """The server's port."""
        parts = urlsplit(self.server)
        return parts.port or (443 if parts.scheme == "https" else 80)


def read_kubeconfig(file: Path) -> Connection:
    """The connection of the file's current context; raises KubeconfigError."""
    try:
        content = yaml.safe_load(file.read_text())
        context = _named(content, "contexts", content["current-context"])["context"]
        cluster = _named(content, "clusters", context["cluster"])["cluster"]
        user = _named(content, "users", context["user"])["user"]
        server = cluster["server"]
        tls = _tls(cluster, user, file.parent) if server.startswith("https:") else None
    except (OSError, yaml.YAMLError, LookupError, TypeError, ssl.SSLError) as error:
        raise KubeconfigError(f"the kubeconfig {file} can't be used: {error}") from error
    return Connection(server.rstrip("/"), tls, user.get("token"))


def _named(content: Json, part: str, name: str) -> Json:
    found: Json | None = next((one for one in content[part] if one["name"] == name), None)
    if found is None:
        raise LookupError(f"{part} has no member named {name!r}")
    return found


def _material(entry: Json, name: str, folder: Path) -> bytes | None:
    if f"{name}-data" in entry:
        return base64.b64decode(entry[f"{name}-data"])
    return (folder / entry[name]).read_bytes() if name in entry else None


def _tls(cluster: Json, user: Json, folder: Path) -> ssl.SSLContext:
    authority = _material(cluster, "certificate-authority", folder)
    context = ssl.create_default_context(cadata=authority.decode() if authority else None)
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    certificate, key = (_material(user, f"client-{part}", folder) for part in ("certificate", "key"))
    if certificate and key:
        with tempfile.NamedTemporaryFile() as file:
            file.write(certificate + b"\n" + key)
            file.flush()
            context.load_cert_chain(file.name)
    return context


class Api:
    """A client of one API server; use it as an async context manager."""

    def __init__(self, connection: Connection, parallel: int = 64) -> None:
        """Make at most `parallel` calls at a time, watches aside."""
        self.connection = connection
        self._gate = asyncio.Semaphore(parallel)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the connections."""
        headers = {"User-Agent": "local-fargate"}
        if self.connection.token:
            headers["Authorization"] = f"Bearer {self.connection.token}"
        connector = aiohttp.TCPConnector(ssl=self.connection.tls or False, limit=0)
        timeout = aiohttp.ClientTimeout(total=30, sock_connect=5)
        self._session = aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def get(self, path: str, query: Mapping[str, str] | None = None, *, accept: str | None = None) -> Json:
        """Read an object or list; `accept` asks for another form of it."""
        return await self._call("GET", path, query=query, accept=accept)

    async def find(self, path: str) -> Json | None:
        """Read an object; None when it is not there."""
        try:
            return await self._call("GET", path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def post(self, path: str, body: Json) -> Json:
        """Create an object or call a subresource."""
        return await self._call("POST", path, body=body)

    async def patch_status(self, path: str, body: Json) -> Json:
        """Strategic merge patch of a `/status`."""
        return await self._call("PATCH", path, body=body, kind=_MERGE)

    async def delete(self, path: str, *, uid: str | None = None, grace: int | None = None) -> bool:
        """Delete an object; False when it (or the one with this uid) is not there."""
        body: Json = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if uid is not None:
            body["preconditions"] = {"uid": uid}
        if grace is not None:
            body["gracePeriodSeconds"] = grace
        try:
            await self._call("DELETE", path, body=body)
        except ApiError as error:
            if error.status in (404, 409):
                return False
            raise
        return True

    async def watch(self, path: str, version: str, *, accept: str | None = None) -> AsyncIterator[Json]:
        """Events after a resource version, until the server ends the watch; raises ApiError (410: list anew)."""
        assert self._session is not None
        query = {"watch": "1", "resourceVersion": version, "allowWatchBookmarks": "true"}
        query["timeoutSeconds"] = str(_WATCH_SECONDS)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=_WATCH_SECONDS + 30)
        url = self.connection.server + path
        headers = {"Accept": accept or "application/json"}
        async with self._session.get(url, params=query, timeout=timeout, headers=headers) as answer:
            if answer.status != 200:
                raise _error(answer.status, await answer.read())
            rest = b""
            async for chunk in answer.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise _error(event["object"].get("code", 500), json.dumps(event["object"]).encode())
                    yield event

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        kind: str = "application/json",
        accept: str | None = None,
    ) -> Json:
        assert self._session is not None
        async with (
            self._gate,
            self._session.request(
                method,
                self.connection.server + path,
                params=query,
                data=None if body is None else json.dumps(body),
                headers={"Content-Type": kind, "Accept": accept or "application/json"},
            ) as answer,
        ):
            content = await answer.read()
            if answer.status >= 400:
                raise _error(answer.status, content)
            result: Json = json.loads(content)
            return result


def _error(status: int, content: bytes) -> ApiError:
    try:
        body = json.loads(content)
        return ApiError(status, body.get("reason", ""), body.get("message", ""))
    except (ValueError, AttributeError):
        return ApiError(status, "", f"the API server answered {status}")
