"""The ingress leads requests to ready pods of a real cluster's objects."""

import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from aiohttp import web

from sandbox.controlplane import INGRESS, Address
from sandbox.processes import Run
from tests.support.waiting import until


class Pod:
    """A server that stands for a pod and remembers what it was asked."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.port = 0

    async def answer(self, request: web.Request) -> web.Response:
        self.requests.append((request.raw_path, dict(request.headers), await request.read()))
        return web.Response(status=418, body=b"\x00raw", headers={"X-Own": "yes"})


@pytest.fixture
async def pod() -> AsyncIterator[Pod]:
    served = Pod()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", served.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    served.port = runner.addresses[0][1]
    yield served
    await runner.cleanup()


async def make(api: httpx.AsyncClient, path: str, body: dict[str, Any]) -> None:
    answer = await api.post(path, json=body)
    assert answer.status_code == 201, answer.text


async def make_pod(api: httpx.AsyncClient, namespace: str, name: str, port: int) -> None:
    container = {"name": "a", "image": "a", "ports": [{"name": "web", "containerPort": port}]}
    path = f"/api/v1/namespaces/{namespace}/pods"
    await make(api, path, {"metadata": {"name": name, "labels": {"app": "a"}}, "spec": {"containers": [container]}})
    status = {"phase": "Running", "podIP": "127.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}
    answer = await api.patch(
        f"{path}/{name}/status",
        content=json.dumps({"status": status}),
        headers={"Content-Type": "application/strategic-merge-patch+json"},
    )
    assert answer.status_code == 200, answer.text


async def make_route(api: httpx.AsyncClient, namespace: str, host: str) -> None:
    port = {"name": "http", "port": 80, "targetPort": "web"}
    service = {"metadata": {"name": "s"}, "spec": {"selector": {"app": "a"}, "ports": [port]}}
    await make(api, f"/api/v1/namespaces/{namespace}/services", service)
    backend = {"service": {"name": "s", "port": {"name": "http"}}}
    rule = {"host": host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}
    ingress = {"metadata": {"name": "i"}, "spec": {"ingressClassName": "sandbox", "rules": [rule]}}
    await make(api, f"/apis/networking.k8s.io/v1/namespaces/{namespace}/ingresses", ingress)


async def ask_until(client: httpx.AsyncClient, status: int, **request: Any) -> httpx.Response:
    async def look() -> httpx.Response | None:
        answer = await client.post("/event%20x?q=1", **request)
        return answer if answer.status_code == status else None

    return await until(look, f"an answer of {status}")


async def test_requests_reach_a_ready_pod_unchanged(
    api: httpx.AsyncClient, namespace: str, control_plane: Address, pod: Pod
) -> None:
    host = f"{namespace}.example"
    async with Run() as run:
        ready = await run.start_piece(
            "ingress", ["sandbox.ingress", "--kubeconfig", control_plane.kubeconfig_of(INGRESS)]
        )
        headers = {"Host": host, "X-Forwarded-For": "203.0.113.9", "Webhook-Id": "msg_1"}
        async with httpx.AsyncClient(base_url=ready["url"], headers=headers, trust_env=False) as client:
            assert (await client.get("/")).status_code == 404
            await make_route(api, namespace, host)
            await ask_until(client, 503)
            with socket.create_server(("127.0.0.1", 0)) as closed:
                nobody = closed.getsockname()[1]
            await make_pod(api, namespace, "dead", nobody)
            await ask_until(client, 502)
            await make_pod(api, namespace, "alive", pod.port)
            body = b'{"raw":  "b\xc3\xb6dy"}\n'
            await ask_until(client, 418, content=body)
            pod.requests.clear()
            for _ in range(4):  # whichever pod's turn it is, the one that answers gets it
                answer = await client.post("/event%20x?q=1", content=body)
                assert (answer.status_code, answer.content, answer.headers["X-Own"]) == (418, b"\x00raw", "yes")
        assert len(pod.requests) == 4
        path, seen, received = pod.requests[-1]
        assert (path, received) == ("/event%20x?q=1", body)
        assert seen["X-Forwarded-For"] == "203.0.113.9, 127.0.0.1"
        assert (seen["Host"], seen["Webhook-Id"]) == (host, "msg_1")
