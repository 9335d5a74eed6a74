"""HTTP probes of a container: one attempt, and how single results become ready, started or failed.

Source: Kubernetes documentation, "Configure Liveness, Readiness and Startup Probes".
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from sandbox.fargate.pod import Container, HttpGet, Probe


@dataclass(frozen=True)
class ProbeState:
    """Counts equal results in a row; `passing` is the verdict, None before the first one."""

    success_threshold: int
    failure_threshold: int
    passing: bool | None = None
    last: bool | None = None
    run: int = 0

    def observe(self, success: bool) -> ProbeState:
        """The state after one more result; the verdict changes when its threshold is reached."""
        run = self.run + 1 if self.last == success else 1
        threshold = self.success_threshold if success else self.failure_threshold
        return replace(self, last=success, run=run, passing=success if run >= threshold else self.passing)


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
    """Probes a container from the node's side, as a kubelet does."""

    def __init__(self, container: Container, address: str) -> None:
        """`address` is the pod's."""
        self._container, self._address = container, address

    async def attempt(self, probe: Probe) -> tuple[bool, str]:
        """Whether the probe succeeds within its time, and why not."""
        # Others are refused before the pod is bound.
        assert probe.http_get is not None
        try:
            async with asyncio.timeout(probe.timeout_seconds):
                return await self._ask(probe.http_get)
        except TimeoutError:
            return False, f"no answer within {probe.timeout_seconds} s"
        except (OSError, aiohttp.ClientError, ValueError) as error:
            return False, str(error) or type(error).__name__

    async def _ask(self, request: HttpGet) -> tuple[bool, str]:
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
