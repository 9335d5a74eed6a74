"""A small typed way to the Kubernetes API, over the official client's transport.

The official client does what is easily got wrong (kubeconfig, the token file that changes, TLS); its generated models
are left aside, because the programs read and write plain JSON that their own models parse.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self

import aiohttp
from kubernetes.aio import config as kube_config
from kubernetes.aio.client import ApiClient, Configuration

from entrypackage.resource import GROUP, PLURAL, VERSION

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

Object = dict[str, Any]
"""A Kubernetes object as JSON."""

REQUEST_SECONDS: Final = 30.0
PAGE_SIZE: Final = 500
_WATCH_SECONDS: Final = 300
# A server that ends watches at once is not asked in a tight loop.
_SHORTEST_WATCH_SECONDS: Final = 1.0
_METADATA_FORM: Final = "application/json;as=PartialObjectMetadata{};g=meta.k8s.io;v=v1"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object and where the API server keeps it.

    Where a namespace is asked for, an empty one means all of them; kinds outside namespaces have no other.
    """

    api: str
    """The path of its group and version, such as api/v1."""
    plural: str


ENTRY_PACKAGES: Final = Kind(f"apis/{GROUP}/{VERSION}", PLURAL)
JOBS: Final = Kind("apis/batch/v1", "jobs")
PODS: Final = Kind("api/v1", "pods")
SECRETS: Final = Kind("api/v1", "secrets")
CONFIG_MAPS: Final = Kind("api/v1", "configmaps")
EVENTS: Final = Kind("api/v1", "events")
LEASES: Final = Kind("apis/coordination.k8s.io/v1", "leases")


@dataclass(frozen=True, slots=True)
class ObjectList:
    """All objects that a watch covers, at its start and after changes were missed."""

    items: list[Object]


@dataclass(frozen=True, slots=True)
class ObjectChange:
    """One change that a watch saw; `item` is the object after it, of a deleted one its last state."""

    type: Literal["ADDED", "MODIFIED", "DELETED"]
    item: Object


class KubernetesError(Exception):
    """The API server refused a request (`status` is its HTTP code) or could not be reached (`status` is 0)."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        """Take the HTTP code, the Status object's reason and its sentence."""
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message

    @property
    def may_pass(self) -> bool:
        """Whether the same request may succeed later: no answer, too many requests, a fault of the server."""
        return self.status in {0, 429} or self.status >= 500


class NotFoundError(KubernetesError):
    """There is no such object (404)."""


class ConflictError(KubernetesError):
    """The object changed since it was read, or a precondition failed (409)."""


class AlreadyExistsError(KubernetesError):
    """An object of that name is there already (409 on create)."""


class InvalidError(KubernetesError):
    """The object or the patch breaks a rule (422)."""


class UnreachableError(KubernetesError):
    """No answer: the request may or may not have taken effect."""


class ConfigurationError(Exception):
    """There is no usable way to a cluster; the text says what to set."""


def _error(status: int, body: bytes) -> KubernetesError:
    try:
        answer = json.loads(body)
    except ValueError:
        answer = {}
    if not isinstance(answer, dict):
        answer = {}
    reason = str(answer.get("reason") or f"Http{status}")
    message = str(answer.get("message") or "the API server gave no message")
    match status, reason:
        case 404, _:
            return NotFoundError(status, reason, message)
        case 409, "AlreadyExists":
            return AlreadyExistsError(status, reason, message)
        case 409, _:
            return ConflictError(status, reason, message)
        case 422, _:
            return InvalidError(status, reason, message)
        case _:
            return KubernetesError(status, reason, message)


class Kubernetes:
    """Reads and writes objects; an async context manager. Every call ends within `REQUEST_SECONDS` or raises."""

    def __init__(
        self,
        client: ApiClient,
        *,
        timeout_seconds: float = REQUEST_SECONDS,
        before_write: Callable[[], None] | None = None,
    ) -> None:
        """Use a configured client of the official library; see `connect`.

        `before_write` is called right before every request that changes something and may raise to prevent it.
        """
        self._client = client
        self._timeout = timeout_seconds
        self._before_write = before_write

    @classmethod
    async def connect(cls, kubeconfig: str | None = None, *, timeout_seconds: float = REQUEST_SECONDS) -> Self:
        """Configure from a kubeconfig file, or without one from the pod's ServiceAccount.

        Raises `ConfigurationError`. Nothing is asked of the API server yet.
        """
        if kubeconfig is not None:
            _demand_file(kubeconfig)
        configuration = Configuration()
        try:
            if kubeconfig is not None:
                await kube_config.load_kube_config(config_file=kubeconfig, client_configuration=configuration)
            else:
                kube_config.load_incluster_config(client_configuration=configuration)
        except (kube_config.ConfigException, OSError) as error:
            source = f"the kubeconfig {kubeconfig}" if kubeconfig else "the pod's ServiceAccount"
            raise ConfigurationError(f"No way to the Kubernetes API from {source}: {error}") from error
        configuration.connection_pool_maxsize = 100
        return cls(ApiClient(configuration=configuration), timeout_seconds=timeout_seconds)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def guarded(self, before_write: Callable[[], None]) -> Kubernetes:
        """Return a second view on the same connections whose writes are preceded by a check."""
        return Kubernetes(self._client, timeout_seconds=self._timeout, before_write=before_write)

    async def get(self, kind: Kind, namespace: str, name: str) -> Object:
        """Return one object; raises `NotFoundError`."""
        return await self._request("GET", _path(kind, namespace, name))

    async def list_all(self, kind: Kind, namespace: str, *, labels: str = "", fields: str = "") -> list[Object]:
        """Return all objects that match the selectors, read page by page."""
        return [item async for item in self.pages(kind, namespace, labels=labels, fields=fields)]

    async def pages(
        self, kind: Kind, namespace: str, *, labels: str = "", fields: str = "", metadata_only: bool = False
    ) -> AsyncIterator[Object]:
        """Yield all objects that match. A continue token that expired ends in `KubernetesError` 410: list anew."""
        async for page in self._pages(kind, namespace, labels, fields, metadata_only=metadata_only):
            for item in page.get("items") or []:
                yield item

    async def _pages(
        self, kind: Kind, namespace: str, labels: str, fields: str, *, metadata_only: bool
    ) -> AsyncIterator[Object]:
        query = {"limit": str(PAGE_SIZE), "labelSelector": labels, "fieldSelector": fields}
        accept = _METADATA_FORM.format("List") if metadata_only else "application/json"
        token = ""
        while True:
            page = await self._request("GET", _path(kind, namespace), query={**query, "continue": token}, accept=accept)
            yield page
            token = page["metadata"].get("continue") or ""
            if not token:
                return

    async def watch(
        self, kind: Kind, namespace: str, *, labels: str = "", metadata_only: bool = False
    ) -> AsyncGenerator[ObjectList | ObjectChange]:
        """Yield all objects that match, then every change of one, without an end.

        Where the API server no longer has the changes since the last one (410), another `ObjectList` comes. Raises
        `KubernetesError`, as `UnreachableError` when the API server goes away; a new watch begins with a list again.
        """
        while True:
            items: list[Object] = []
            version = ""
            async for page in self._pages(kind, namespace, labels, "", metadata_only=metadata_only):
                items += page.get("items") or []
                version = page["metadata"]["resourceVersion"]
            yield ObjectList(items)
            query = {"watch": "1", "allowWatchBookmarks": "true", "labelSelector": labels}
            query["timeoutSeconds"] = str(_WATCH_SECONDS)
            accept = _METADATA_FORM.format("") if metadata_only else "application/json"
            try:
                while True:
                    began = time.monotonic()
                    path = _path(kind, namespace)
                    async for event in self._stream(path, {**query, "resourceVersion": version}, accept):
                        version = event["object"]["metadata"]["resourceVersion"]
                        if event["type"] != "BOOKMARK":
                            yield ObjectChange(event["type"], event["object"])
                    await asyncio.sleep(max(0.0, began + _SHORTEST_WATCH_SECONDS - time.monotonic()))
            except KubernetesError as error:
                if error.status != 410:
                    raise

    async def create(self, kind: Kind, namespace: str, body: Object) -> Object:
        """Create an object; raises `AlreadyExistsError`, `InvalidError`."""
        return await self._request("POST", _path(kind, namespace), body=body, query={"fieldValidation": "Strict"})

    async def replace(self, kind: Kind, namespace: str, name: str, body: Object) -> Object:
        """Replace an object; with a resourceVersion in it `ConflictError` if it changed meanwhile."""
        return await self._request("PUT", _path(kind, namespace, name), body=body)

    async def replace_status(self, kind: Kind, namespace: str, name: str, body: Object) -> Object:
        """Replace an object's status; the rest of the body only says which object and version is meant."""
        query = {"fieldValidation": "Strict"}
        return await self._request("PUT", _path(kind, namespace, name) + "/status", body=body, query=query)

    async def json_patch(self, kind: Kind, namespace: str, name: str, operations: list[Object]) -> Object:
        """Apply a JSON Patch; a failed ``test`` is `InvalidError`, as is a broken rule of the schema."""
        path = _path(kind, namespace, name)
        return await self._request("PATCH", path, body=operations, content="application/json-patch+json")

    async def merge_patch(self, kind: Kind, namespace: str, name: str, body: Object) -> Object:
        """Apply a merge patch; with a resourceVersion in it `ConflictError` if the object changed meanwhile."""
        path = _path(kind, namespace, name)
        return await self._request("PATCH", path, body=body, content="application/merge-patch+json")

    async def delete(self, kind: Kind, namespace: str, name: str, *, uid: str | None = None) -> None:
        """Delete an object and, in the background, what it owns.

        With `uid` only that very object (`ConflictError` if the name is another's by now); absent is fine.
        """
        body: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if uid is not None:
            body["preconditions"] = {"uid": uid}
        try:
            await self._request("DELETE", _path(kind, namespace, name), body=body)
        except NotFoundError:
            return

    async def _request(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: Object | list[Object] | None = None,
        content: str = "application/json",
        accept: str = "application/json",
    ) -> Object:
        url, headers, sent = await self._prepare(method, path, query, body, content, accept)
        if self._before_write is not None and method != "GET":
            self._before_write()
        try:
            async with asyncio.timeout(self._timeout):
                response = await self._client.call_api(
                    method, url, header_params=headers, body=sent, _request_timeout=self._timeout
                )
                received = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnreachableError(0, "Unreachable", f"{method} {path}: {type(error).__name__}") from error
        if response.status >= 400:
            raise _error(response.status, received)
        answer: Object = json.loads(received)
        return answer

    async def _stream(self, path: str, query: dict[str, str], accept: str) -> AsyncIterator[Object]:
        """Yield the events of one watch until the API server ends it; an event of type ERROR is raised."""
        url, headers, _ = await self._prepare("GET", path, query, None, "application/json", accept)
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=self._timeout, sock_read=_WATCH_SECONDS + self._timeout
        )
        try:
            response = await self._client.call_api("GET", url, header_params=headers, _request_timeout=timeout)
            async with response.response as answer:
                if answer.status >= 400:
                    raise _error(answer.status, await answer.read())
                rest = b""
                async for chunk in answer.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        event: Object = json.loads(line)
                        if event["type"] == "ERROR":
                            raise _error(event["object"].get("code", 500), json.dumps(event["object"]).encode())
                        yield event
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnreachableError(0, "Unreachable", f"watching {path}: {type(error).__name__}") from error

    async def _prepare(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None,
        body: Object | list[Object] | None,
        content: str,
        accept: str,
    ) -> tuple[str, dict[str, str], Any]:
        used = [(key, value) for key, value in (query or {}).items() if value]
        _, url, headers, sent, _ = await self._client.param_serialize(
            method,
            path,
            query_params=used,
            header_params={"Accept": accept, "Content-Type": content},
            body=body,
            auth_settings=["BearerToken"],
        )
        return url, headers, sent


def _demand_file(kubeconfig: str) -> None:
    """Raise `ConfigurationError` if the file is not there; of that the library would log a line of its own."""
    if not Path(kubeconfig).is_file():
        raise ConfigurationError(f"No way to the Kubernetes API: there is no kubeconfig {kubeconfig}.")


def _path(kind: Kind, namespace: str, name: str = "") -> str:
    path = f"/{kind.api}/namespaces/{namespace}/{kind.plural}" if namespace else f"/{kind.api}/{kind.plural}"
    return f"{path}/{name}" if name else path
