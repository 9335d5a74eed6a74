"""The run's control plane and local Fargates on it: one that most tests of a worker share, others as started."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from sandbox.processes import Run
from tests.support.fargate_process import Cluster, Fargate, StartFargate, node_command, start_fargate
from tests.support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    import httpx

    from sandbox.controlplane import Address

_PROFILES_OF_NOBODY = "no-such-namespace"


@pytest.fixture
def cluster(api: httpx.AsyncClient, control_plane: Address, namespace: str) -> Cluster:
    """The test's namespace."""
    return Cluster(api, str(control_plane.kubeconfig), namespace)


@pytest.fixture(scope="session")
def shared_node(control_plane: Address, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fargate]:
    """A node program that runs as long as the tests of this worker."""
    folder = tmp_path_factory.mktemp("fargate")
    command = node_command(folder, control_plane, _PROFILES_OF_NOBODY, "--restart-backoff", "0.2")
    with (folder / "node.log").open("wb") as log:
        node = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command], cwd=ROOT, stdout=subprocess.PIPE, stderr=log
        )
    assert node.stdout is not None
    ready = node.stdout.readline()
    if not ready:
        pytest.fail(f"the node did not start: {(folder / 'node.log').read_text()}")
    yield Fargate(folder, json.loads(ready)["control"], node.pid)
    node.terminate()
    node.wait()


@pytest.fixture
async def fargate(shared_node: Fargate, cluster: Cluster) -> AsyncIterator[Fargate]:
    """A node program that runs the pods of the test's namespace; restart back-off 0.2 s."""
    profile = {"name": "fp-0", "selectors": [{"namespace": cluster.namespace}]}
    assert (await shared_node.put("/profiles", [profile])).is_success
    assert (await shared_node.put("/faults", {})).is_success
    yield shared_node
    # A pod without its node would keep the namespace for ever.
    await cluster.empty()


@pytest.fixture
async def start_node(tmp_path: Path, control_plane: Address, cluster: Cluster) -> AsyncIterator[StartFargate]:
    """Starts node programs of the test's own for its namespace, with further options as given."""
    async with Run(tmp_path / "run", keep=True) as run:

        async def start(*options: str) -> Fargate:
            return await start_fargate(run, tmp_path / "fargate", control_plane, cluster.namespace, *options)

        yield start
        await cluster.empty()
