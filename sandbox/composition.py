"""The product on this machine: a real control plane, the local Fargate, Benchling, S3 and SQS, and the real chart.

async with Sandbox(Options()) as sandbox:
    await sandbox.kubectl("get", "entrypackages")
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
import yaml

from sandbox import aws
from sandbox.controlplane import FARGATE, INGRESS, Address, ControlPlane
from sandbox.installation import AWS_SECRET, BENCHLING_SECRET, merged, sandbox_values, secret
from sandbox.processes import Run, SandboxError, call
from sandbox.simulator.control import TenantControl
from sandbox.toolchain import Programs, Toolchain

CHART = Path(__file__).parent.parent / "charts" / "entrypackage-operator"
_FARGATE_GRACE_SECONDS = 3.0
Json = dict[str, Any]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Options:
    """What a run of the sandbox is made of."""

    namespace: str = "entrypackage"
    release: str = "entrypackage"
    values: Json = field(default_factory=dict)
    """Chart values, laid over the sandbox's own."""
    simulator_arguments: tuple[str, ...] = ()
    """More arguments of `python -m sandbox.simulator serve`."""
    fargate_arguments: tuple[str, ...] = ()
    """More arguments of `python -m sandbox.fargate`."""
    bucket: str = "packages"
    queue: str = "packages"
    """A name that ends in .fifo makes a FIFO queue."""
    s3_on_disk: bool = False
    """S3 is versitygw over a folder, for large packages; else moto's, in memory."""
    install: bool = True
    """Install the chart; without it there is everything but the product."""
    folder: Path | None = None
    """None: a temporary one."""
    keep: bool = False
    """Leave the folder, with its logs, at the end."""
    install_seconds: int = 180


class Sandbox:
    """An async context manager; everything is started on entry and gone on exit."""

    control_plane: Address
    programs: Programs
    aws: aws.AwsAddresses
    simulator: Json
    """The simulator's ready line: api, tenant, jwks, control, clientId, appDefinitionId, ..."""
    fargate: Json
    """The local Fargate's ready line: control, log_server, network, isolation."""
    webhook_url: str
    """Where the simulator sends webhooks: the ingress."""

    def __init__(self, options: Options | None = None, *, say: Callable[[str], None] | None = None) -> None:
        """`say` gets a line after each step, with the time that it took."""
        self.options = options or Options()
        self._say = say or (lambda _: None)
        self._stack = AsyncExitStack()
        self._root = Run(self.options.folder, keep=self.options.keep)
        self._pieces: Run
        self._cluster: ControlPlane
        self._started = time.monotonic()

    async def __aenter__(self) -> Self:
        folder = self.options.folder
        if folder is not None and folder.is_dir() and any(folder.iterdir()):
            raise SandboxError(f"The folder {folder} is not empty: name one that is, or that does not exist yet.")
        self.programs = await Toolchain().ensure()
        if self.options.s3_on_disk:
            await Toolchain().ensure_versitygw()
        self._started = time.monotonic()
        try:
            await self._stack.enter_async_context(self._root)
            # Left in reverse: the pieces end before the control plane that they talk to, the folder last.
            self._cluster = ControlPlane(self.folder / "control-plane", self.programs, keep=self.options.keep)
            self._stack.push_async_callback(self._cluster.stop)
            pieces = Run(self.folder / "pieces", keep=self.options.keep, in_order=False)
            self._pieces = await self._stack.enter_async_context(pieces)
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def folder(self) -> Path:
        """Where logs, kubeconfig and the node's files lie."""
        return self._root.folder

    @property
    def namespace(self) -> str:
        return self.options.namespace

    def benchling(self) -> TenantControl:
        """Open a client of the simulator's control: make entries, edit them, let things go wrong."""
        return TenantControl(self.simulator["control"])

    async def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl as administrator in the sandbox's namespace; raises `SandboxError` with what it says."""
        command: list[str | Path] = [self.programs.kubectl, "-n", self.namespace, *arguments]
        return await call(command, environment=self.tool_environment(), stdin=stdin)

    async def helm(self, *arguments: str) -> str:
        """Run helm as administrator in the sandbox's namespace; raises `SandboxError` with what it says."""
        command: list[str | Path] = [self.programs.helm, "-n", self.namespace, *arguments]
        return await call(command, environment=self.tool_environment())

    async def upgrade(self, values: Json | None = None) -> None:
        """Install or upgrade the chart with more values laid over the sandbox's, and wait until it is ready."""
        wanted = merged(sandbox_values(self.simulator, self.aws), self.options.values, values or {})
        file = self.folder / "values.yaml"
        file.write_text(yaml.safe_dump(wanted), encoding="utf-8")
        seconds = self.options.install_seconds
        try:
            await self.helm(
                *("upgrade", "--install", self.options.release, str(CHART), "-f", str(file)),
                *("--wait", "--timeout", f"{seconds}s"),
            )
        except SandboxError as error:
            pods = await self.kubectl("get", "pods", "-o", "wide")
            raise SandboxError(f"The chart did not become ready: {error}\nPods:\n{pods}") from error

    async def first_to_end(self) -> str:
        """Wait until one of the parts ends, which none should; return its name."""
        waits = [
            asyncio.ensure_future(self._pieces.first_to_end()),
            asyncio.ensure_future(self._cluster.first_to_end()),
        ]
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result().name
        finally:
            for wait in waits:
                wait.cancel()

    # -- start-up -----------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        await _together(
            self._step("S3 and SQS", self._start_aws),
            self._step("Benchling simulator", self._start_simulator),
            self._start_cluster(),
        )
        await self._make_secrets()
        if self.options.install:
            await self._step("chart installed, pods ready", self.upgrade)
        async with self.benchling() as control:
            await control.route_webhooks(self.webhook_url)

    async def _start_cluster(self) -> None:
        await self._step("control plane", self._start_control_plane)
        await self._make_namespace()
        await _together(
            self._step("local Fargate", self._start_fargate),
            self._step("ingress", self._start_ingress),
        )

    async def _step(self, name: str, action: Callable[[], Awaitable[Result]]) -> Result:
        started = time.monotonic()
        result = await action()
        now = time.monotonic()
        self._say(f"{now - self._started:6.1f} s  {name} ({now - started:.1f} s)")
        return result

    async def _start_control_plane(self) -> None:
        await self._cluster.__aenter__()
        self.control_plane = self._cluster.address

    async def _start_aws(self) -> None:
        arguments = ["sandbox.aws", "--bucket", self.options.bucket, "--queue", self.options.queue]
        if self.options.s3_on_disk:
            arguments += ["--s3-folder", str(self.folder / "s3")]
        ready = await self._pieces.start_piece("aws", arguments)
        self.aws = aws.AwsAddresses(ready["s3"], ready["sqs"], ready["bucket"], ready["queue_url"])

    async def _start_simulator(self) -> None:
        arguments: list[str | Path] = ["sandbox.simulator", "serve", "--folder", self.folder / "benchling"]
        self.simulator = await self._pieces.start_piece("benchling", [*arguments, *self.options.simulator_arguments])

    async def _start_fargate(self) -> None:
        arguments: list[str | Path] = [
            *("sandbox.fargate", "--folder", self.folder / "fargate"),
            *("--kubeconfig", self.control_plane.kubeconfig_of(FARGATE)),
            *("--profile-namespace", self.namespace),
        ]
        self.fargate = await self._pieces.start_piece(
            "fargate", [*arguments, *self.options.fargate_arguments], grace_seconds=_FARGATE_GRACE_SECONDS
        )

    async def _start_ingress(self) -> None:
        ready = await self._pieces.start_piece(
            "ingress", ["sandbox.ingress", "--kubeconfig", self.control_plane.kubeconfig_of(INGRESS)]
        )
        self.webhook_url = ready["url"]

    async def _make_namespace(self) -> None:
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        async with self.control_plane.client() as client:
            await _create(client, "/api/v1/namespaces", {"metadata": {"name": self.namespace, "labels": labels}})

    async def _make_secrets(self) -> None:
        path = f"/api/v1/namespaces/{self.namespace}/secrets"
        benchling = {"client_id": self.simulator["clientId"], "client_secret": self.simulator["clientSecret"]}
        async with self.control_plane.client() as client:
            await _create(client, path, secret(BENCHLING_SECRET, benchling))
            await _create(client, path, secret(AWS_SECRET, aws.environment()))

    def tool_environment(self) -> dict[str, str]:
        """Return the environment for kubectl and helm: nothing of the user's own clusters and charts is touched."""
        folder = self.folder / "helm"
        return {
            "KUBECONFIG": str(self.control_plane.kubeconfig),
            "HELM_CACHE_HOME": str(folder / "cache"),
            "HELM_CONFIG_HOME": str(folder / "config"),
            "HELM_DATA_HOME": str(folder / "share"),
        }


async def _create(client: httpx.AsyncClient, path: str, content: Json) -> None:
    answer = await client.post(path, json=content)
    if answer.is_error:
        raise SandboxError(f"The API server refused {content['metadata']['name']}: {answer.json().get('message')}")


async def _together(*actions: Coroutine[Any, Any, Any]) -> None:
    """Run the actions at once; the first failure ends the others and is raised as it is."""
    tasks = [asyncio.create_task(action) for action in actions]
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
