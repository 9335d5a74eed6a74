"""The node through a restart of the API server, on a control plane of the test's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.controlplane import ControlPlane
from sandbox.processes import Run
from sandbox.toolchain import Toolchain
from tests.support.fargate_process import Cluster, pod_spec, python_container, start_fargate
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path


async def test_nothing_is_started_twice_or_lost_over_an_outage(tmp_path: Path) -> None:
    programs = await Toolchain().ensure(build=False)
    async with (
        ControlPlane(tmp_path / "plane", programs, keep=True) as plane,
        Run(tmp_path / "run", keep=True) as run,
        plane.address.client() as api,
    ):
        cluster = Cluster(api, str(plane.kubeconfig), "default")

        async def account() -> bool | None:
            return await cluster.get("serviceaccounts", "default") is not None or None

        await until(account, "the default ServiceAccount")
        fargate = await start_fargate(run, tmp_path / "fargate", plane.address, "default")
        code = "import time; print('up', flush=True); time.sleep(600)"
        await cluster.create_pod("stays", pod_spec(python_container(code)))
        # Ends while nobody can be told.
        code = "import os, time; print('up', flush=True)\nwhile not os.path.exists('/go/now'): time.sleep(0.05)"
        mounts = [{"name": "go", "mountPath": "/go"}]
        volumes = [{"name": "go", "emptyDir": {}}]
        await cluster.create_pod("ends", pod_spec(python_container(code, volumeMounts=mounts), volumes=volumes))
        before = await cluster.until_phase("stays", "Running")
        ending = await cluster.until_phase("ends", "Running")
        await plane.stop_api_server()
        folder = fargate.folder / "pods" / ending["metadata"]["uid"] / "volumes" / "go"
        (folder / "now").touch()
        await plane.start_api_server()
        await cluster.until_phase("ends", "Succeeded", 60)
        after = await cluster.get("pods", "stays")
        assert after is not None
        first, second = (pod["status"]["containerStatuses"][0] for pod in (before, after))
        assert first["containerID"] == second["containerID"]
        assert fargate.log("default", "stays").count("up") == 1
        # And it still hears of what is new.
        await cluster.create_pod("new", pod_spec({"name": "main", "image": "x", "command": ["true"]}))
        await cluster.until_phase("new", "Succeeded", 60)
        await cluster.empty()
