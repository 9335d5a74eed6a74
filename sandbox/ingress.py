"""A small load balancer on loopback that obeys Ingress objects, as the AWS Load Balancer Controller's would.

`python -m sandbox.ingress --kubeconfig FILE` prints its address; what it can't place is answered 404 (no rule), 503 (no
pod is ready) or 502 (no pod answered).
"""

import argparse
import asyncio
import contextlib
import itertools
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
from aiohttp import web
from yarl import URL

from entrypackage.kubernetes import PODS, ConfigurationError, Kind
from sandbox.kubernetes import INGRESSES, SERVICES, ClusterApi, Informer
from sandbox.processes import SandboxError, announce_ready, run_program, stopped_by_signal
from sandbox.routes import Json, Target, find_backend, find_targets

_LARGEST_BODY = 16 * 1024 * 1024
_CONNECT_SECONDS = 1.0
_ANSWER_SECONDS = 60.0
_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailers"}
    | {"transfer-encoding", "upgrade", "host", "content-length"}
)


class Objects:
    """All objects of one kind, as a watch keeps them."""

    def __init__(self, api: ClusterApi, kind: Kind) -> None:
        self._by_uid: dict[str, Json] = {}
        self._informer = Informer(api, kind, "", self._replace, self._change)

    async def run(self) -> None:
        await self._informer.run()

    async def listed(self) -> None:
        await self._informer.listed.wait()

    def all(self) -> list[Json]:
        return list(self._by_uid.values())

    def _replace(self, items: list[Json]) -> None:
        self._by_uid = {item["metadata"]["uid"]: item for item in items}

    def _change(self, kind: str, item: Json) -> None:
        if kind == "DELETED":
            self._by_uid.pop(item["metadata"]["uid"], None)
        else:
            self._by_uid[item["metadata"]["uid"]] = item


class LoadBalancer:
    """Takes turns among a Service's ready pods; a pod that can't be connected to is passed over."""

    def __init__(self, api: ClusterApi, classes: frozenset[str]) -> None:
        self._classes = classes
        self._ingresses = Objects(api, INGRESSES)
        self._services = Objects(api, SERVICES)
        self._pods = Objects(api, PODS)
        self._turn = itertools.count()
        self._session: aiohttp.ClientSession | None = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follow the objects; entered when all of them have been read once."""
        kinds = (self._ingresses, self._services, self._pods)
        watches = [asyncio.create_task(kind.run()) for kind in kinds]
        timeout = aiohttp.ClientTimeout(total=_ANSWER_SECONDS, sock_connect=_CONNECT_SECONDS)
        try:
            async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as self._session:
                await asyncio.gather(*(kind.listed() for kind in kinds))
                yield
        finally:
            for watch in watches:
                watch.cancel()

    async def answer(self, request: web.Request) -> web.Response:
        """Pass a request on to a pod and its answer back."""
        host = request.host.partition(":")[0]
        backend = find_backend(self._ingresses.all(), self._classes, host, request.path)
        if backend is None:
            return web.Response(status=404, text="no Ingress has a rule for this request\n")
        targets = find_targets(backend, self._services.all(), self._pods.all())
        if not targets:
            return web.Response(status=503, text=f"no pod of Service {backend.service} is ready\n")
        body = await request.read()
        first = next(self._turn) % len(targets)
        for target in targets[first:] + targets[:first]:
            try:
                return await self._pass_on(request, target, body)
            except aiohttp.ClientConnectorError:
                continue
            except (aiohttp.ClientError, TimeoutError):
                break  # the pod may have acted on it: asking another one is the sender's decision
        return web.Response(status=502, text=f"no pod of Service {backend.service} answered\n")

    async def _pass_on(self, request: web.Request, target: Target, body: bytes) -> web.Response:
        assert self._session is not None
        headers = [(name, value) for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP]
        headers = [pair for pair in headers if pair[0].lower() not in ("x-forwarded-for", "x-forwarded-proto")]
        seen = request.headers.get("X-Forwarded-For")
        source = request.remote or "127.0.0.1"
        headers.append(("X-Forwarded-For", f"{seen}, {source}" if seen else source))
        headers.append(("X-Forwarded-Proto", "https"))
        headers.append(("Host", request.host))
        url = f"http://{target.address}:{target.port}{request.raw_path}"
        async with self._session.request(
            request.method, _verbatim(url), headers=headers, data=body, allow_redirects=False
        ) as answer:
            content = await answer.read()
            passed = [(name, value) for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP]
            response = web.Response(status=answer.status, body=content)
            for name, value in passed:
                if name.lower() != "content-type":
                    response.headers.add(name, value)
                else:
                    response.headers["Content-Type"] = value
            return response


def _verbatim(url: str) -> URL:
    return URL(url, encoded=True)


async def serve(kubeconfig: Path, classes: frozenset[str], port: int) -> None:
    """Serve until a signal says to stop."""
    try:
        api = await ClusterApi.connect(str(kubeconfig))
    except ConfigurationError as error:
        raise SandboxError(str(error)) from error
    async with contextlib.AsyncExitStack() as stack:
        stop = await stack.enter_async_context(stopped_by_signal())
        await stack.enter_async_context(api)
        balancer = LoadBalancer(api, classes)
        await stack.enter_async_context(balancer.running())
        application = web.Application(client_max_size=_LARGEST_BODY)
        application.router.add_route("*", "/{path:.*}", balancer.answer)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, "127.0.0.1", port)
        try:
            await site.start()
        except OSError as error:
            raise SandboxError(f"Port {port} is taken: choose another with --port.") from error
        host, bound = runner.addresses[0][:2]
        announce_ready(url=f"http://{host}:{bound}")
        await stop.wait()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sandbox.ingress", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument(
        "--class", dest="classes", action="append", help="Ingress classes to serve; default: sandbox, alb"
    )
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    classes = frozenset(options.classes or ("sandbox", "alb"))
    return run_program(lambda: serve(options.kubeconfig, classes, options.port))


if __name__ == "__main__":
    sys.exit(main())
