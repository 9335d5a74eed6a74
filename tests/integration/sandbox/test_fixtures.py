"""The shared fixtures give what they promise."""

import httpx

from entrypackage.kubernetes import CONFIG_MAPS, ENTRY_PACKAGES, Kubernetes


async def test_namespace_is_fresh_and_writable(kubernetes: Kubernetes, namespace: str) -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}}
    assert await kubernetes.list_all(CONFIG_MAPS, namespace, fields="metadata.name=a") == []
    await kubernetes.create(CONFIG_MAPS, namespace, body)
    assert (await kubernetes.get(CONFIG_MAPS, namespace, "a"))["data"] == {"k": "v"}


async def test_definitions_are_served(kubernetes: Kubernetes, namespace: str) -> None:
    assert await kubernetes.list_all(ENTRY_PACKAGES, namespace) == []


async def test_anonymous_requests_are_refused(api: httpx.AsyncClient) -> None:
    answer = await api.get("/api/v1/namespaces", headers={"Authorization": ""})
    assert answer.status_code == 401
