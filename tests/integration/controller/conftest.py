"""One Benchling, one AWS and one node for all tests with controllers of a worker; a namespace for each test."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from sandbox import aws
from sandbox.controlplane import FARGATE
from sandbox.processes import Run
from sandbox.simulator.control import TenantControl
from tests.support.controller_process import Json, Place
from tests.support.request_proxy import Proxy

if TYPE_CHECKING:
    import httpx

    from sandbox.controlplane import Address

MakePlace = Callable[[], Awaitable[Place]]


@dataclass
class Surroundings:
    """What the places have in common."""

    address: Address
    api: httpx.AsyncClient
    run: Run
    aws: aws.AwsAddresses
    simulator: Json
    benchling: TenantControl
    prefix: str
    """Of the namespaces whose pods run."""

    async def place(self, name: str) -> Place:
        """Make a namespace."""
        folder = self.run.folder / name
        place = Place(
            self.api, f"{self.prefix}-{name}", folder, self.address, self.aws, self.simulator, self.benchling, self.run
        )
        await place.make()
        return place


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def surroundings(control_plane: Address) -> AsyncIterator[Surroundings]:
    """Simulated Benchling without limits, S3, SQS and a node for the namespaces of these tests."""
    prefix = f"ctl-{secrets.token_hex(3)}"
    async with Run(in_order=False) as run, control_plane.client() as api:
        found = await run.start_piece("aws", ["sandbox.aws"])
        limits = ("--app-rate", "1000000", "--tenant-rate", "1000000", "--export-seconds", "0.5")
        simulator = await run.start_piece("benchling", ["sandbox.simulator", "serve", *limits])
        await run.start_piece(
            "fargate",
            [
                *("sandbox.fargate", "--folder", run.folder / "fargate"),
                *("--kubeconfig", control_plane.kubeconfig_of(FARGATE), "--profile-namespace", f"{prefix}-*"),
            ],
        )
        addresses = aws.AwsAddresses(found["s3"], found["sqs"], found["bucket"], found["queue_url"])
        async with TenantControl(simulator["control"]) as benchling:
            yield Surroundings(control_plane, api, run, addresses, simulator, benchling, prefix)


@pytest_asyncio.fixture(loop_scope="session")
async def place(surroundings: Surroundings) -> AsyncIterator[Place]:
    """A namespace of the test's own; its deletion is asked for at the end."""
    made = await surroundings.place(secrets.token_hex(3))
    yield made
    for child in surroundings.run.children:
        if child.name.startswith(made.name):
            child.grace_seconds = 0
            await child.stop()
    await surroundings.api.delete(f"/api/v1/namespaces/{made.name}")


@pytest_asyncio.fixture(loop_scope="session")
async def benchling_proxy(surroundings: Surroundings) -> AsyncIterator[Proxy]:
    """A way to Benchling."""
    async with Proxy(surroundings.simulator["tenant"]) as proxy:
        yield proxy


@pytest.fixture
def group() -> str:
    """Everything here shares one node: one worker."""
    return "controller"
