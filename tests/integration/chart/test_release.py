"""Installing for real: pods are made, rights are exact, a second release and a missing Secret are refused."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.helm import CHART, MINIMAL, Helm, HelmError
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

CREDENTIALS = {"metadata": {"name": "benchling-app"}, "stringData": {"client_id": "id", "client_secret": "hidden"}}


async def install(helm: Helm, namespace: str, *more: str, release: str = "demo") -> str:
    """Install or upgrade; the run's control plane has its definitions already, and no node to wait for."""
    values: list[str | Path] = ["--values", MINIMAL, "--set", "crds.install=false", *more]
    return await asyncio.to_thread(helm.run, "upgrade", "--install", release, CHART, "--namespace", namespace, *values)


@pytest.fixture
async def lab(api: httpx.AsyncClient, namespace: str) -> str:
    """A namespace with the Benchling app's Secret."""
    (await api.post(f"/api/v1/namespaces/{namespace}/secrets", json=CREDENTIALS)).raise_for_status()

    async def has_authority() -> bool:
        return (await api.get(f"/api/v1/namespaces/{namespace}/configmaps/kube-root-ca.crt")).status_code == 200

    await until(has_authority, "the authority of the namespace")
    return namespace


async def pods(api: httpx.AsyncClient, namespace: str) -> list[dict[str, Any]]:
    answer = await api.get(f"/api/v1/namespaces/{namespace}/pods")
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def allowed(api: httpx.AsyncClient, namespace: str, account: str, what: str) -> bool:
    """Ask the API server whether `demo-<account>` may do `<verb> <group>/<resource>[/<subresource>] [name]`."""
    verb, path, *name = what.split()
    group, resource, *sub = path.split("/")
    attributes = {
        "namespace": namespace,
        "verb": verb,
        "group": group,
        "resource": resource,
        "subresource": sub[0] if sub else "",
        "name": name[0] if name else "",
    }
    user = f"system:serviceaccount:{namespace}:demo-{account}"
    answer = await api.post(
        "/apis/authorization.k8s.io/v1/subjectaccessreviews",
        json={"spec": {"user": user, "resourceAttributes": attributes}},
    )
    answer.raise_for_status()
    return bool(answer.json()["status"]["allowed"])


async def test_pods_of_both_programs_are_made(api: httpx.AsyncClient, lab: str, helm: Helm) -> None:
    notes = await install(helm, lab)

    async def has_pods() -> bool:
        return len(await pods(api, lab)) >= 4

    await until(has_pods, "four pods")
    found = await pods(api, lab)
    components = sorted(one["metadata"]["labels"]["app.kubernetes.io/component"] for one in found)
    assert components == ["controller", "controller", "receiver", "receiver"]
    assert {one["status"]["qosClass"] for one in found} == {"Guaranteed"}
    assert "https://benchling.example.com/" in notes
    assert f"system:serviceaccount:{lab}:demo-packager" in notes
    assert "receiver: 2 x 0.25 vCPU, 0.5 GB = $18.02 a month" in notes
    assert "hidden" not in notes


MAY = {
    "receiver": ["get", "create", "patch"],
    "controller": ["get", "list", "watch"],
    "packager": [],
}


async def test_rights_are_what_the_api_server_grants(api: httpx.AsyncClient, lab: str, helm: Helm) -> None:
    await install(helm, lab)
    for account, verbs in MAY.items():
        for verb in ("get", "list", "watch", "create", "update", "patch", "delete"):
            granted = await allowed(api, lab, account, f"{verb} benchling.quilt.bio/entrypackages")
            assert granted == (verb in verbs), f"{account} {verb}"
    answers = {
        question: await allowed(api, lab, *question)
        for question in (
            ("receiver", "get /secrets benchling-app"),
            ("receiver", "patch benchling.quilt.bio/entrypackages/status"),
            ("packager", "get /secrets benchling-app"),
            ("packager", "create batch/jobs"),
            ("controller", "update benchling.quilt.bio/entrypackages/status"),
            ("controller", "create batch/jobs"),
            ("controller", "create /pods"),
            ("controller", "update /secrets"),
            ("controller", "update coordination.k8s.io/leases entrypackage-controller"),
            ("controller", "update coordination.k8s.io/leases another"),
        )
    }
    assert {question for question, granted in answers.items() if granted} == {
        ("controller", "update benchling.quilt.bio/entrypackages/status"),
        ("controller", "create batch/jobs"),
        ("controller", "update coordination.k8s.io/leases entrypackage-controller"),
    }
    assert not await allowed(api, "default", "controller", "list benchling.quilt.bio/entrypackages")


async def test_a_second_release_in_the_namespace_is_refused(api: httpx.AsyncClient, lab: str, helm: Helm) -> None:
    await install(helm, lab)
    with pytest.raises(HelmError, match="Install into another namespace, or upgrade the release demo"):
        await install(helm, lab, release="other")
    await install(helm, lab, "--set", "logLevel=debug")
    deployments = (await api.get(f"/apis/apps/v1/namespaces/{lab}/deployments")).json()["items"]
    assert sorted(one["metadata"]["name"] for one in deployments) == ["demo-controller", "demo-receiver"]


async def test_a_missing_secret_is_named_with_its_remedy(api: httpx.AsyncClient, lab: str, helm: Helm) -> None:
    path = f"/api/v1/namespaces/{lab}/secrets"
    (await api.delete(f"{path}/benchling-app")).raise_for_status()
    with pytest.raises(HelmError, match=r"Create the Secret benchling-app .*client_id is not there\."):
        await install(helm, lab)
    (await api.post(path, json={**CREDENTIALS, "stringData": {"client_id": "id"}})).raise_for_status()
    with pytest.raises(HelmError, match=r"client_secret is not there\."):
        await install(helm, lab)
    await install(helm, lab, "--set", "benchling.checkSecret=false")
