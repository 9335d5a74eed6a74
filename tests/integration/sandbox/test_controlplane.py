"""The control plane starts, survives a restart of its API server and leaves nothing behind."""

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from sandbox import janitor
from sandbox.controlplane import Address, ControlPlane
from sandbox.toolchain import Toolchain
from tests.support.paths import ROOT
from tests.support.waiting import PATIENCE_SECONDS, until_true


def commands_below(folder: Path) -> list[str]:
    """Return the command lines of processes that name the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if str(folder) in command:
                found.append(command)
    return found


async def test_start_restart_stop(tmp_path: Path) -> None:
    folder = tmp_path / "cluster"
    async with ControlPlane(folder, await Toolchain().ensure(build=False)) as control_plane:
        async with control_plane.address.client() as client:
            created = await client.post(
                "/api/v1/namespaces/default/configmaps", json={"metadata": {"name": "kept"}, "data": {"a": "b"}}
            )
            assert created.status_code == 201
            await control_plane.stop_api_server()
            with pytest.raises(httpx.TransportError):
                await client.get("/readyz")
            await control_plane.start_api_server()
            kept = await client.get("/api/v1/namespaces/default/configmaps/kept")
            assert kept.json()["data"] == {"a": "b"}
        records = [json.loads(line) for line in control_plane.audit_log.read_text().splitlines()]
        assert {record["user"]["username"] for record in records} >= {"sandbox-admin"}
        assert len(commands_below(folder)) == 3
    assert commands_below(folder) == []
    assert not folder.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_a_server(tmp_path: Path, number: signal.Signals) -> None:
    folder = tmp_path / "cluster"
    server = subprocess.Popen(
        [sys.executable, "-m", "sandbox.controlplane", "--folder", str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    address = Address.from_json(json.loads(server.stdout.readline()))
    token = (folder / janitor.FOLDER_MARKER).read_text()
    left = [os.pidfd_open(pid) for pid in janitor.pids_with_token(token)]
    assert len(left) == 3
    server.send_signal(number)
    server.communicate(timeout=PATIENCE_SECONDS)
    for watched in left:
        assert select.select([watched], [], [], PATIENCE_SECONDS)[0], "a process of the control plane is still there"
        os.close(watched)
    until_true(lambda: not folder.exists(), f"the removal of {folder}")
    port = int(address.server.rpartition(":")[2])
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}", trust_env=False)


async def test_pod_security_is_enforced(api: httpx.AsyncClient, namespace: str) -> None:
    label = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    await api.patch(
        f"/api/v1/namespaces/{namespace}",
        content=json.dumps(label),
        headers={"Content-Type": "application/merge-patch+json"},
    )
    pod = {"metadata": {"name": "a"}, "spec": {"containers": [{"name": "a", "image": "a"}]}}
    answer = await api.post(f"/api/v1/namespaces/{namespace}/pods", json=pod)
    assert answer.status_code == 403
    assert 'violates PodSecurity "restricted:latest"' in answer.json()["message"]


async def test_secret_contents_stay_out_of_the_audit_log(
    api: httpx.AsyncClient, namespace: str, control_plane: Address
) -> None:
    body = {"metadata": {"name": "a"}, "stringData": {"key": "hush-hush-value"}}
    answer = await api.post(f"/api/v1/namespaces/{namespace}/secrets", json=body)
    assert answer.status_code == 201
    text = control_plane.audit_log.read_text()
    assert namespace in text
    assert "hush-hush-value" not in text
