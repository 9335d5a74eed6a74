"""A real Kubernetes control plane on loopback: etcd, kube-apiserver, kube-controller-manager.

    async with ControlPlane(folder, programs) as control_plane:
        control_plane.kubeconfig

`python -m sandbox.controlplane` runs one until it is stopped and prints where it is.
"""

import argparse
import asyncio
import base64
import json
import os
import secrets
import socket
import ssl
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import yaml

from sandbox.certificates import Authority, write_signing_key
from sandbox.processes import Child, Run, announce_ready, die_with_parent, run_program
from sandbox.toolchain import Programs, Toolchain

ADMIN = "sandbox-admin"
FARGATE = "sandbox-fargate"
INGRESS = "sandbox-ingress"
TESTS = "sandbox-tests"
_MANAGER = "system:kube-controller-manager"
USERS = {
    ADMIN: "system:masters",
    FARGATE: "system:masters",
    INGRESS: "system:masters",
    TESTS: "system:masters",
    _MANAGER: "",
}
"""Who holds a token, and the group. The names stand in the audit log: it shows who wrote what."""

ADDRESS_FILE = "address.json"
"""In the folder of `python -m sandbox.controlplane`: its `Address` and `pid`."""

_READY_SECONDS = 60.0
_API_SERVER_GRACE_SECONDS = 0.0
"""With open watches the API server takes a minute to stop; nothing in it is worth waiting for."""

_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [
        {"level": "None", "nonResourceURLs": ["/livez*", "/readyz*", "/healthz*", "/openapi*", "/api*", "/version*"]},
        {"level": "None", "verbs": ["get", "update"], "resources": [{"group": "coordination.k8s.io"}],
         "users": [_MANAGER]},
        # Bodies of what a test wants to see; nothing that may hold a secret.
        {"level": "Request", "resources": [{"group": "benchling.quilt.bio"}, {"group": "batch"}]},
        {"level": "Metadata"},
    ],
}  # fmt: skip


@dataclass(frozen=True)
class Address:
    """What somebody needs in order to talk to a control plane."""

    server: str
    """https URL of the API server."""
    ca_file: Path
    token: str
    """Bearer token of the administrator."""
    kubeconfig: Path
    """The administrator's kubeconfig file."""
    audit_log: Path
    """One JSON object per answered request: `user.username`, `verb`, `objectRef`, `responseStatus`."""
    folder: Path

    def to_json(self) -> dict[str, str]:
        return {name: str(value) for name, value in vars(self).items()}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Address":
        return cls(
            server=content["server"],
            ca_file=Path(content["ca_file"]),
            token=content["token"],
            kubeconfig=Path(content["kubeconfig"]),
            audit_log=Path(content["audit_log"]),
            folder=Path(content["folder"]),
        )

    def kubeconfig_of(self, user: str) -> Path:
        """Return the kubeconfig file of another of `USERS`."""
        return self.folder / f"{user.replace(':', '-')}.kubeconfig"

    def client(self) -> httpx.AsyncClient:
        """Open a plain HTTP client as the administrator, for the sandbox's own needs."""
        return httpx.AsyncClient(
            base_url=self.server,
            headers={"Authorization": f"Bearer {self.token}"},
            verify=ssl.create_default_context(cafile=self.ca_file),
            timeout=30.0,
            trust_env=False,
        )


class ControlPlane:
    """Starts in seconds, listens on loopback only, authorises by RBAC, enforces Pod Security, writes an audit log."""

    def __init__(self, folder: Path | None, programs: Programs, *, keep: bool = False) -> None:
        """Keep everything in `folder` (None: a temporary one); it is removed at the end unless `keep` is set."""
        self._programs = programs
        self._run = Run(folder, keep=keep)
        self._ports: list[socket.socket] = []
        self._stack = AsyncExitStack()
        self._address: Address | None = None

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._run)
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Stop everything; takes a moment, not a minute. Safe to call twice."""
        for port in self._ports:
            port.close()
        await self._stack.aclose()

    @property
    def address(self) -> Address:
        if self._address is None:
            raise RuntimeError("the control plane is not running")
        return self._address

    @property
    def server(self) -> str:
        return self.address.server

    @property
    def ca_file(self) -> Path:
        return self.address.ca_file

    @property
    def token(self) -> str:
        return self.address.token

    @property
    def kubeconfig(self) -> Path:
        return self.address.kubeconfig

    @property
    def audit_log(self) -> Path:
        return self.address.audit_log

    async def first_to_end(self) -> Child:
        """Wait until one of its processes ends, which none should."""
        return await self._run.first_to_end()

    async def _start(self) -> None:
        folder = self._run.folder
        self._address = _write_files(folder, self._reserve_port())
        # The socket lies in the run's folder, which is ours alone: etcd itself authenticates no one.
        etcd = f"unix://{folder}/etcd.sock"
        await self._run.start("etcd", _etcd_command(self._programs.etcd, folder, etcd), grace_seconds=0)
        api_server = await self._start_api_server(etcd)
        async with self._address.client() as client:
            await api_server.until(lambda: _answers(client, "/readyz"), seconds=_READY_SECONDS, what="get ready")
            # Not before: it gives up when it may not read /healthz within 10 s, and roles come late on a busy machine.
            await self._start_controller_manager()
            # Both come from the controller-manager, and pods need both.
            for path in ("serviceaccounts/default", "configmaps/kube-root-ca.crt"):
                await self._run.child("kube-controller-manager").until(
                    lambda path=path: _answers(client, f"/api/v1/namespaces/default/{path}"),  # type: ignore[misc]
                    seconds=_READY_SECONDS,
                    what=f"make {path}",
                )

    async def _start_api_server(self, etcd: str) -> Child:
        return await self._run.start(
            "kube-apiserver",
            _api_server_command(self._programs.kube_apiserver, self.address, etcd),
            grace_seconds=_API_SERVER_GRACE_SECONDS,
        )

    async def _start_controller_manager(self) -> Child:
        return await self._run.start(
            "kube-controller-manager",
            _controller_manager_command(self._programs.kube_controller_manager, self.address),
            grace_seconds=0,
        )

    async def restart_api_server(self, *, away_seconds: float = 0.0) -> None:
        """Kill the API server, leave it away for a while and start it again at the same address."""
        await self.stop_api_server()
        await asyncio.sleep(away_seconds)
        await self.start_api_server()

    async def stop_api_server(self) -> None:
        """Kill the API server alone; its address stays reserved."""
        await self._run.child("kube-apiserver").stop()

    async def start_api_server(self) -> None:
        """Start the API server again after `stop_api_server` and wait until it is ready."""
        api_server = await self._start_api_server(f"unix://{self.address.folder}/etcd.sock")
        async with self.address.client() as client:
            await api_server.until(lambda: _answers(client, "/readyz"), seconds=_READY_SECONDS, what="get ready")

    def _reserve_port(self) -> int:
        """Choose a free port and hold it: the API server may share it (SO_REUSEPORT), no other program gets it."""
        reserved = socket.socket()
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(("127.0.0.1", 0))
        self._ports.append(reserved)
        return int(reserved.getsockname()[1])


async def _answers(client: httpx.AsyncClient, path: str) -> bool:
    try:
        return (await client.get(path, timeout=5.0)).status_code == 200
    except httpx.HTTPError:
        return False


def _write_files(folder: Path, port: int) -> Address:
    authority = Authority(folder)
    names = ["127.0.0.1", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
    authority.issue_server("kube-apiserver", names)
    write_signing_key(folder / "service-account.key", folder / "service-account.pub")
    tokens = {user: secrets.token_hex(16) for user in USERS}
    _write_private(
        folder / "tokens.csv",
        "".join(f'{tokens[user]},{user},{user},"{group}"\n' for user, group in USERS.items()),
    )
    _write_private(folder / "audit-policy.yaml", yaml.safe_dump(_AUDIT_POLICY))
    address = Address(
        server=f"https://127.0.0.1:{port}",
        ca_file=authority.certificate_file,
        token=tokens[ADMIN],
        kubeconfig=folder / f"{ADMIN}.kubeconfig",
        audit_log=folder / "audit.log",
        folder=folder,
    )
    for user, token in tokens.items():
        _write_private(address.kubeconfig_of(user), json.dumps(_kubeconfig(address, user, token), indent=1))
    return address


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")


def _kubeconfig(address: Address, user: str, token: str) -> dict[str, Any]:
    authority = base64.b64encode(address.ca_file.read_bytes()).decode()
    cluster = {"server": address.server, "certificate-authority-data": authority}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "sandbox", "cluster": cluster}],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": "sandbox", "context": {"cluster": "sandbox", "user": user}}],
        "current-context": "sandbox",
    }


def _etcd_command(program: Path, folder: Path, url: str) -> list[str | Path]:
    return [
        program,
        f"--data-dir={folder}/etcd",
        f"--listen-client-urls={url}",
        "--advertise-client-urls=http://127.0.0.1:2379",  # the form is required; no client uses it
        f"--listen-peer-urls=unix://{folder}/peer.sock",
        "--unsafe-no-fsync",  # nothing here outlives the machine
        "--log-level=warn",
    ]


def _api_server_command(program: Path, address: Address, etcd: str) -> list[str | Path]:
    folder = address.folder
    return [
        program,
        f"--etcd-servers={etcd}",
        "--bind-address=127.0.0.1",
        f"--secure-port={address.server.rpartition(':')[2]}",
        "--permit-port-sharing",
        # A machine without a default route has no address to advertise, and no client uses it.
        "--advertise-address=192.0.2.1",
        "--endpoint-reconciler-type=none",
        f"--tls-cert-file={folder}/kube-apiserver.crt",
        f"--tls-private-key-file={folder}/kube-apiserver.key",
        f"--cert-dir={folder}",
        f"--token-auth-file={folder}/tokens.csv",
        "--authorization-mode=RBAC",
        "--anonymous-auth=false",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={folder}/service-account.pub",
        f"--service-account-signing-key-file={folder}/service-account.key",
        # Else the token of a projected volume is good for a year, whatever it says.
        "--service-account-extend-token-expiration=false",
        "--service-cluster-ip-range=10.96.0.0/16",
        f"--audit-policy-file={folder}/audit-policy.yaml",
        f"--audit-log-path={address.audit_log}",
        "--profiling=false",
    ]


def _controller_manager_command(program: Path, address: Address) -> list[str | Path]:
    folder = address.folder
    kubeconfig = address.kubeconfig_of(_MANAGER)
    return [
        program,
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--secure-port=0",
        "--leader-elect=false",
        "--use-service-account-credentials",
        f"--service-account-private-key-file={folder}/service-account.key",
        f"--root-ca-file={address.ca_file}",
        # They refuse the pods' loopback addresses with a Warning each time; the ingress reads pods itself.
        "--controllers=*,-endpoints-controller,-endpointslice-controller,-endpointslice-mirroring-controller",
        # The defaults (20 requests per second) bound Jobs to three per second.
        "--kube-api-qps=300",
        "--kube-api-burst=500",
        "--concurrent-job-syncs=20",
        # The local Fargate's nodes send no heartbeats.
        "--node-monitor-grace-period=24h",
    ]


async def serve(folder: Path | None, *, keep: bool, until_exit_of: int | None) -> None:
    """Run a control plane until it is stopped, or until the process `until_exit_of` has ended."""
    programs = await Toolchain().ensure(build=False)
    async with ControlPlane(folder, programs, keep=keep) as control_plane:
        address = control_plane.address
        _write_private(address.folder / ADDRESS_FILE, json.dumps({**address.to_json(), "pid": os.getpid()}))
        announce_ready(**address.to_json())
        waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(control_plane.first_to_end())]
        if until_exit_of is not None:
            waits.append(asyncio.ensure_future(_exit_of(until_exit_of)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


async def _exit_of(pid: int) -> None:
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(watched, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(watched)
        os.close(watched)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sandbox.controlplane", description=__doc__)
    parser.add_argument("--folder", type=Path, help="where everything is kept (default: a temporary folder)")
    parser.add_argument("--keep", action="store_true", help="leave the folder, with its logs, at the end")
    parser.add_argument("--until-exit-of", type=int, metavar="PID", help="stop when that process ends")
    options = parser.parse_args()

    async def act() -> None:
        if options.until_exit_of is None:
            die_with_parent()
        await serve(options.folder, keep=options.keep, until_exit_of=options.until_exit_of)

    return run_program(act)


if __name__ == "__main__":
    sys.exit(main())
