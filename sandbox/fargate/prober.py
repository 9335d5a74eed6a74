"""Does what a probe or a life cycle action says: a request, a connection or a command."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

import aiohttp

from sandbox.fargate.isolation import Isolation, enter_command

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sandbox.fargate.pod import Container, HttpGet, Probe, TcpSocket
    from sandbox.fargate.process import ContainerProcess

_LONGEST_OUTPUT = 4096


def port_number(container: Container, port: int | str) -> int:
    """The number of a port given by number or by name; raises ValueError for an unknown name."""
    if isinstance(port, int):
        return port
    for one in container.ports:
        if one.name == port:
            return one.container_port
    if port.isdigit():
        return int(port)
    raise ValueError(f"container {container.name} has no port named {port!r}")


class Prober:
    """Probes one run of a container from the node's side, as a kubelet does."""

    def __init__(
        self,
        container: Container,
        address: str,
        process: ContainerProcess,
        isolation: Isolation,
        env: Mapping[str, str],
    ) -> None:
        """`address` is the pod's, `env` what the container's commands see."""
        self._container, self._address = container, address
        self._process, self._isolation, self._env = process, isolation, env

    async def attempt(self, probe: Probe) -> tuple[bool, str]:
        """Whether the probe succeeds within its time, and why not."""
        try:
            async with asyncio.timeout(probe.timeout_seconds):
                return await self._attempt(probe)
        except TimeoutError:
            return False, f"no answer within {probe.timeout_seconds} s"
        except (OSError, aiohttp.ClientError, ValueError) as error:
            return False, str(error) or type(error).__name__

    async def _attempt(self, probe: Probe) -> tuple[bool, str]:
        if probe.http_get is not None:
            return await self.http(probe.http_get)
        if probe.tcp_socket is not None:
            return await self._connect(probe.tcp_socket)
        if probe.exec is not None:
            code, output = await self.run(probe.exec.command)
            return code == 0, output
        return True, ""

    async def http(self, request: HttpGet) -> tuple[bool, str]:
        """Whether the answer's code is 200 to 399; redirects are not followed."""
        host, port = request.host or self._address, port_number(self._container, request.port)
        path = request.path if request.path.startswith("/") else f"/{request.path}"
        url = f"{request.scheme.lower()}://{host}:{port}{path}"
        headers = {"User-Agent": "kube-probe/1.36", "Accept": "*/*"}
        headers |= {one.name: one.value for one in request.http_headers}
        async with (
            aiohttp.ClientSession() as session,
            session.get(url, headers=headers, allow_redirects=False, ssl=False) as answer,
        ):
            return 200 <= answer.status < 400, f"HTTP probe failed with statuscode: {answer.status}"

    async def _connect(self, target: TcpSocket) -> tuple[bool, str]:
        port = port_number(self._container, target.port)
        _reader, writer = await asyncio.open_connection(target.host or self._address, port)
        writer.close()
        return True, ""

    async def run(self, command: Sequence[str]) -> tuple[int, str]:
        """Run a command inside the container: its exit code and the beginning of what it wrote."""
        pid = self._process.main_pid()
        if pid is None:
            return 1, "the container is not running"
        process = await asyncio.create_subprocess_exec(
            *enter_command(self._isolation, pid, command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=dict(self._env),
            start_new_session=True,
        )
        try:
            output, _ = await process.communicate()
        except asyncio.CancelledError:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
        return process.returncode or 0, output[:_LONGEST_OUTPUT].decode(errors="replace").strip()
