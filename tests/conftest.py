"""Fixtures for tests that need a real API server."""

import os
import secrets
from collections.abc import AsyncIterator

import httpx
import pytest
from xdist.remote import Producer  # type: ignore[import-untyped]
from xdist.scheduler import LoadGroupScheduling  # type: ignore[import-untyped]

from entrypackage.kubernetes import Kubernetes
from sandbox.controlplane import Address
from tests.support import control_plane as cluster
from tests.support.waiting import until

ONE_WORKER = ("tests/e2e/", "tests/integration/controller/")
"""Folders whose tests share what takes long to start: each stays on one worker of pytest-xdist."""
RIGHTS = (
    "tests/integration/sandbox/fargate/test_node.py::test_killed_node",
    "tests/integration/sandbox/fargate/test_pods.py",
    "tests/integration/sandbox/fargate/test_processes.py",
    "tests/integration/sandbox/test_processes.py",
    "tests/integration/sandbox/test_up.py",
    "tests/unit/sandbox/test_janitor.py",
    "tests/unit/sandbox/toolchain/",
)
"""The tests that depend on what the user may do: namespaces, users, control groups, files' modes, others' processes."""


class FolderScheduling(LoadGroupScheduling):  # type: ignore[misc]
    """Distributes tests one by one, but those folders as a whole.

    The mark `xdist_group` would say the same, but pytest 9.2 keeps xdist 3.8 from passing it on.
    """

    def _split_scope(self, nodeid: str) -> str:
        return next((folder for folder in ONE_WORKER if nodeid.startswith(folder)), nodeid)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what depends on rights, ask nobody but root for what only root may, and begin with what takes long."""
    for item in items:
        if item.nodeid.startswith(RIGHTS):
            item.add_marker(pytest.mark.rights)
    if os.geteuid() != 0:
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("root")])
        items[:] = [item for item in items if not item.get_closest_marker("root")]
    items.sort(key=lambda item: not item.nodeid.startswith(ONE_WORKER))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> FolderScheduling | None:
    """Schedule for ``--dist loadgroup``."""
    return FolderScheduling(config, log) if config.getvalue("dist") == "loadgroup" else None


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Stop the shared control plane with the run, not with the worker that happened to start it."""
    if not hasattr(session.config, "workerinput"):
        cluster.stop()


@pytest.fixture(scope="session")
def control_plane() -> Address:
    """The run's control plane: etcd, kube-apiserver, kube-controller-manager; `crds/` is applied. No node."""
    try:
        return cluster.ensure_running()
    except RuntimeError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture
def kubeconfig(control_plane: Address) -> str:
    """The administrator's kubeconfig file."""
    return str(control_plane.kubeconfig)


@pytest.fixture
async def api(control_plane: Address) -> AsyncIterator[httpx.AsyncClient]:
    """A plain HTTP client of the API server, as administrator."""
    async with control_plane.client() as client:
        yield client


@pytest.fixture
async def kubernetes(kubeconfig: str) -> AsyncIterator[Kubernetes]:
    """The programs' own client, as administrator."""
    async with await Kubernetes.connect(kubeconfig) as client:
        yield client


@pytest.fixture
async def namespace(api: httpx.AsyncClient) -> AsyncIterator[str]:
    """A fresh namespace for one test, ready for pods. Its deletion is asked for at the end and not waited for."""
    name = f"test-{secrets.token_hex(5)}"
    answer = await api.post("/api/v1/namespaces", json={"metadata": {"name": name}})
    answer.raise_for_status()

    async def has_account() -> bool:
        return (await api.get(f"/api/v1/namespaces/{name}/serviceaccounts/default")).status_code == 200

    # The controller-manager makes it; without it the API server refuses pods.
    await until(has_account, "the ServiceAccount of the namespace")
    yield name
    await api.delete(f"/api/v1/namespaces/{name}")
