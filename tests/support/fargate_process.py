"""What the tests say to the cluster and to the node program."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from sandbox.fargate.bill import Ledger
from tests.support.paths import ROOT
from tests.support.waiting import PATIENCE_SECONDS, until

if TYPE_CHECKING:
    from sandbox.controlplane import Address
    from sandbox.fargate.bill import BillLine
    from sandbox.processes import Run

Json = dict[str, Any]
KUBECTL = Path(sys.executable).with_name("kubectl")


def python_container(code: str, **members: Any) -> Json:
    """A container that runs this Python code."""
    command = {"name": "main", "image": "example/program:1", "command": ["python", "-c", code]}
    return command | members


def pod_spec(*containers: Json, **members: Any) -> Json:
    """A pod spec that ends quickly and is never restarted."""
    few = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1}
    return few | {"containers": list(containers)} | members


@dataclass
class Cluster:
    """The test's namespace on the API server."""

    api: httpx.AsyncClient
    kubeconfig: str
    namespace: str

    def path(self, resource: str, name: str = "", group: str = "") -> str:
        base = f"/apis/{group}" if group else "/api/v1"
        return f"{base}/namespaces/{self.namespace}/{resource}" + (f"/{name}" if name else "")

    async def create(self, resource: str, body: Json, group: str = "") -> Json:
        answer = await self.api.post(self.path(resource, group=group), json=body)
        assert answer.is_success, answer.text
        created: Json = answer.json()
        return created

    async def create_pod(self, name: str, spec: Json, **metadata: Any) -> Json:
        return await self.create("pods", {"metadata": {"name": name, **metadata}, "spec": spec})

    async def create_job(self, name: str, spec: Json, **members: Any) -> Json:
        body = {"metadata": {"name": name}, "spec": {"backoffLimit": 0, "template": {"spec": spec}, **members}}
        return await self.create("jobs", body, group="batch/v1")

    async def get(self, resource: str, name: str = "", group: str = "") -> Json | None:
        answer = await self.api.get(self.path(resource, name, group))
        if answer.status_code == 404:
            return None
        found: Json = answer.raise_for_status().json()
        return found

    async def delete(self, resource: str, name: str, *, grace: int | None = None, group: str = "") -> None:
        body = {"propagationPolicy": "Background"} | ({} if grace is None else {"gracePeriodSeconds": grace})
        answer = await self.api.request("DELETE", self.path(resource, name, group), json=body)
        assert answer.is_success, answer.text

    async def pods(self) -> list[Json]:
        listed = await self.get("pods")
        assert listed is not None
        items: list[Json] = listed["items"]
        return items

    async def until_pod(
        self, name: str, fits: Callable[[Json], bool], what: str, seconds: float = PATIENCE_SECONDS
    ) -> Json:
        last: Json | None = None

        async def look() -> Json | None:
            nonlocal last
            last = await self.get("pods", name)
            return last if last is not None and fits(last) else None

        try:
            return await until(look, what, seconds=seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; the pod's status: {last and last['status']}") from error

    async def until_phase(self, name: str, phase: str, seconds: float = PATIENCE_SECONDS) -> Json:
        return await self.until_pod(name, lambda pod: pod["status"]["phase"] == phase, f"{name} {phase}", seconds)

    async def until_gone(self, name: str, seconds: float = PATIENCE_SECONDS) -> None:
        async def look() -> bool | None:
            return await self.get("pods", name) is None or None

        await until(look, f"{name} to be gone", seconds=seconds)

    async def events(self, reason: str) -> list[str]:
        listed = await self.get("events")
        assert listed is not None
        return [item["message"] for item in listed["items"] if item["reason"] == reason]

    async def node(self, name: str) -> Json | None:
        answer = await self.api.get(f"/api/v1/nodes/{name}")
        return None if answer.status_code == 404 else dict(answer.json())

    async def kubectl(self, *arguments: str) -> asyncio.subprocess.Process:
        command = [str(KUBECTL), "--kubeconfig", self.kubeconfig, "--namespace", self.namespace, *arguments]
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, env=dict(os.environ))

    async def logs(self, *arguments: str) -> str:
        process = await self.kubectl("logs", *arguments)
        output, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
        return output.decode()

    async def empty(self) -> None:
        """Delete all that makes pods, and the pods, and wait until they are gone."""
        for resource, group in (("deployments", "apps/v1"), ("jobs", "batch/v1"), ("pods", "")):
            body = {"propagationPolicy": "Background", "gracePeriodSeconds": 1}
            await self.api.request("DELETE", self.path(resource, group=group), json=body)

        async def look() -> bool | None:
            return not await self.pods() or None

        await until(look, "no pods to be left")


@dataclass
class Fargate:
    """A node program that serves."""

    folder: Path
    control: str
    pid: int

    async def post(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False) as client:
            return await client.post(f"{self.control}{path}")

    async def put(self, path: str, body: Any) -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False) as client:
            return await client.put(f"{self.control}{path}", json=body)

    def line(self, pod: str, now: float = 0.0) -> BillLine:
        """The bill's line for the newest pod of this name; an open one is billed up to `now`."""
        return next(line for line in reversed(Ledger(self.folder).lines(now)) if line.pod == pod)

    async def until_billed(self, pod: str) -> BillLine:
        """Wait until the newest pod of this name is billed for good, which is a moment after its object is gone."""

        async def look() -> BillLine | None:
            line = self.line(pod)
            return None if line.open else line

        return await until(look, f"{pod} to be billed")

    def log(self, namespace: str, pod: str) -> str:
        """What the container `main` has logged so far, in the runtime's form."""
        file = self.folder / "logs" / namespace / pod / "main.log"
        return file.read_text() if file.exists() else ""

    async def until_logged(self, namespace: str, pod: str, text: str) -> None:
        """Wait until the container's log has the text."""

        async def look() -> bool | None:
            return text in self.log(namespace, pod) or None

        await until(look, f"{pod} logs {text!r}")


StartFargate = Callable[..., Awaitable[Fargate]]


def node_command(folder: Path, control_plane: Address, namespace: str, *options: str) -> list[str]:
    """The command line of a node program for one namespace."""
    kubeconfig = control_plane.kubeconfig_of("sandbox-fargate")
    return [
        *(sys.executable, "-m", "sandbox.fargate"),
        *("--folder", str(folder), "--kubeconfig", str(kubeconfig), "--profile-namespace", namespace),
        *options,
    ]


async def start_fargate(run: Run, folder: Path, control_plane: Address, namespace: str, *options: str) -> Fargate:
    """Start a node program that dies with the run."""
    command = node_command(folder, control_plane, namespace, *options)
    child = await run.start("fargate", command, folder=ROOT)
    ready = await child.ready_line(seconds=PATIENCE_SECONDS)
    return Fargate(folder, ready["control"], child.pid)


def processes_of(word: str) -> list[int]:
    """The pids of living processes whose command line has this word."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                if word.encode() in (folder / "cmdline").read_bytes():
                    found.append(int(folder.name))
    return found
