"""A key server, accounts with no more rights than the chart gives, and receivers that use both."""

from __future__ import annotations

import secrets
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml

from entrypackage.resource import GROUP, PLURAL
from tests.support.receiver_process import KeyServer, RunningReceiver
from tests.support.webhook_signing import Signer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from sandbox.controlplane import Address


@contextmanager
def administrator(control_plane: Address) -> Iterator[httpx.Client]:
    context = ssl.create_default_context(cafile=control_plane.ca_file)
    headers = {"Authorization": f"Bearer {control_plane.token}"}
    with httpx.Client(base_url=control_plane.server, headers=headers, verify=context, trust_env=False) as client:
        yield client


def make_account(control_plane: Address, namespace: str) -> dict[str, Any]:
    """Return the kubeconfig of a ServiceAccount that may get, create and patch EntryPackages and nothing else."""
    rights = {"apiGroups": [GROUP], "resources": [PLURAL], "verbs": ["get", "create", "patch"]}
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    subject = {"kind": "ServiceAccount", "name": "receiver", "namespace": namespace}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "receiver"}
    account = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    with administrator(control_plane) as api:
        for path, body in (
            (account, {}),
            (f"{rbac}/roles", {"rules": [rights]}),
            (f"{rbac}/rolebindings", {"subjects": [subject], "roleRef": role}),
        ):
            api.post(path, json={"metadata": {"name": "receiver"}, **body}).raise_for_status()
        answer = api.post(f"{account}/receiver/token", json={"spec": {"expirationSeconds": 3600}})
        token = answer.raise_for_status().json()["status"]["token"]
    made: dict[str, Any] = yaml.safe_load(control_plane.kubeconfig.read_text())
    made["users"][0]["user"] = {"token": token}
    return made


@pytest.fixture
def keys() -> Iterator[KeyServer]:
    with KeyServer(Signer()) as server:
        yield server


@pytest.fixture
def account(control_plane: Address, namespace: str) -> dict[str, Any]:
    """The kubeconfig of a receiver of a test's own namespace."""
    return make_account(control_plane, namespace)


@pytest.fixture
def account_file(account: dict[str, Any], tmp_path: Path) -> Path:
    path = tmp_path / "receiver.kubeconfig"
    path.write_text(yaml.safe_dump(account))
    return path


@pytest.fixture(scope="session")
def shared(control_plane: Address, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningReceiver]:
    """One receiver for the tests that leave it as it is, in a namespace of its own."""
    folder = tmp_path_factory.mktemp("receiver")
    name = f"test-receiver-{secrets.token_hex(4)}"
    with administrator(control_plane) as api:
        api.post("/api/v1/namespaces", json={"metadata": {"name": name}}).raise_for_status()
        path = folder / "receiver.kubeconfig"
        path.write_text(yaml.safe_dump(make_account(control_plane, name)))
        # A busy machine is no reason to fail; the deadline itself has tests of its own.
        settings = {"writeDeadlineSeconds": 20}
        with KeyServer(Signer()) as keys, RunningReceiver(folder / "run", path, name, keys, **settings) as running:
            yield running
        api.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture
async def receiver(shared: RunningReceiver) -> AsyncIterator[RunningReceiver]:
    """The shared receiver; a test uses an entry of its own."""
    async with shared.client():
        yield shared


@pytest.fixture
def entry() -> str:
    """An entry that no other test knows."""
    return f"etr_{secrets.token_hex(4)}"
