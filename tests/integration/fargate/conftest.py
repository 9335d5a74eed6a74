"""A local Fargate of its own for each test, on the run's control plane."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sandbox.processes import Run
from tests.integration.fargate.running import Cluster, StartFargate, start_fargate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import httpx

    from sandbox.controlplane import Address
    from tests.integration.fargate.running import Fargate


@pytest.fixture
def cluster(api: httpx.AsyncClient, control_plane: Address, namespace: str) -> Cluster:
    """The test's namespace."""
    return Cluster(api, str(control_plane.kubeconfig), namespace)


@pytest.fixture
async def start_node(tmp_path: Path, control_plane: Address, cluster: Cluster) -> AsyncIterator[StartFargate]:
    """Starts node programs that run the pods of the test's namespace, with further options as given."""
    async with Run(tmp_path / "run", keep=True) as run:

        async def start(*options: str) -> Fargate:
            return await start_fargate(run, tmp_path / "fargate", control_plane, cluster.namespace, *options)

        yield start
        # A pod without its node would keep the namespace for ever.
        await cluster.empty()


@pytest.fixture
async def fargate(start_node: StartFargate) -> Fargate:
    """A node program with a short restart back-off."""
    return await start_node("--restart-backoff", "0.2")
