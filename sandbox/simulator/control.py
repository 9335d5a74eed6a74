"""The Python side of the control API: what tests and the demo drive a running simulator with."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

import httpx

from sandbox.simulator import verbs

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import TracebackType

    from sandbox.simulator.simulator import Simulator
    from sandbox.simulator.wire import Json

P = ParamSpec("P")
R = TypeVar("R")


class ControlRefused(Exception):  # noqa: N818 - the simulator's own sentence
    """The simulator didn't do it; the message says why."""


def _sent(
    function: Callable[Concatenate[Simulator, P], R],
) -> Callable[Concatenate[TenantControl, P], Coroutine[Any, Any, R]]:
    """The verb as a method that sends its order. Raises ControlRefused."""
    path, signature = verbs.VERBS[function].path, inspect.signature(function)

    async def send(self: TenantControl, /, *args: P.args, **kwargs: P.kwargs) -> R:
        order = signature.bind(None, *args, **kwargs).arguments
        answer: R = await self.ask(path, dict(list(order.items())[1:]))
        return answer

    send.__doc__ = function.__doc__
    return send


def _one(
    function: Callable[Concatenate[Simulator, int, P], list[R]],
) -> Callable[Concatenate[TenantControl, P], Coroutine[Any, Any, R]]:
    """The verb that makes several things, as a method that makes one."""
    send = _sent(function)

    async def send_one(self: TenantControl, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return (await send(self, 1, *args, **kwargs))[0]

    return send_one


class TenantControl:
    """An async client of one simulator. `url` is the ready line's `control`."""

    def __init__(self, url: str) -> None:
        self._client = httpx.AsyncClient(base_url=url.rstrip("/") + "/", timeout=60.0, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def ask(self, path: str, order: Json) -> Any:
        """Send an order to a verb. Raises ControlRefused."""
        answer = await self._client.post(path, json=order)
        body = answer.json()
        if answer.status_code != 200:
            raise ControlRefused(body["error"])
        return body

    create_entries = _sent(verbs.create_entries)
    create_entry = _one(verbs.create_entries)
    entry = _sent(verbs.entry)
    entries = _sent(verbs.entries)
    edit_entry = _sent(verbs.edit_entry)
    attach_files = _sent(verbs.attach_files)
    link = _sent(verbs.link)
    burst = _sent(verbs.burst)
    insert_canvas = _sent(verbs.insert_canvas)
    canvases = _sent(verbs.canvases)
    canvas = _sent(verbs.canvas)
    click = _sent(verbs.click)
    tell_app = _sent(verbs.tell_app)
    clear_faults = _sent(verbs.clear_faults)
    faults = _sent(verbs.faults)
    gallery = _sent(verbs.gallery)
    clock = _sent(verbs.clock)
    spend_tenant = _sent(verbs.spend_tenant)
    route_webhooks = _sent(verbs.route_webhooks)
    webhooks = _sent(verbs.webhooks)
    release_webhooks = _sent(verbs.release_webhooks)
    rotate_keys = _sent(verbs.rotate_keys)
    revoke_tokens = _sent(verbs.revoke_tokens)
    change_secret = _sent(verbs.change_secret)
    requests = _sent(verbs.requests)
    counters = _sent(verbs.counters)
    _set_fault = _sent(verbs.set_fault)

    async def attach(self, entry: str, name: str, size: int = 1000, *, replace: bool = False, **members: Any) -> Json:
        """Attach one file, or `replace` the bytes of the one of this name; members as in `verbs.File`."""
        return await self.attach_files(entry, [{"name": name, "size": size, **members}], replace=replace)

    async def set_fault(
        self,
        name: str,
        /,
        *,
        times: int | None = None,
        seconds: float | None = None,
        subject: str | None = None,
        operation: str | None = None,
        chance: float = 1.0,
        **options: Any,
    ) -> Json:
        """Set a switch: for so many times, real seconds, one entry, canvas or task (`subject`), one operation
        (an OpenAPI operation id; for webhooks the message type). Options by name, as `fault list` says."""
        return await self._set_fault(
            name, options, times=times, seconds=seconds, subject=subject, operation=operation, chance=chance
        )
