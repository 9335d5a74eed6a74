"""The receiver as a process: starting, keys that come and go, stopping, and what it says when something is wrong."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import yaml

from tests.support.paths import ROOT
from tests.support.receiver_process import Gate, KeyServer, RunningReceiver, kubeconfig_through
from tests.support.waiting import until_holds
from tests.support.webhook_signing import Signer, entry_message

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.controlplane import Address

SETTINGS = {"appDefinitionIds": ["appdef_1"], "namespace": "lab", "host": "127.0.0.1", "port": 0}


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "receiver", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


async def ready(receiver: RunningReceiver) -> int:
    return (await receiver.http.get("/readyz")).status_code


async def test_it_is_ready_once_it_has_keys_and_stays_so(
    account_file: Path, namespace: str, keys: KeyServer, tmp_path: Path
) -> None:
    keys.status = 503
    receiver = RunningReceiver(tmp_path / "receiver", account_file, namespace, keys, jwksRefreshMinSeconds=0.01)
    receiver.start()
    with contextlib.ExitStack() as stack:
        stack.push(receiver)
        async with receiver.client():
            assert await ready(receiver) == 503
            response = await receiver.send(entry_message())
            assert (response.status_code, response.json()["reason"]) == (503, "KeysUnavailable")
            keys.status = 200
            await until_holds(lambda: receiver.logged("Keys fetched."), "the keys")
            assert await ready(receiver) == 200
            keys.status = 503
            assert (await receiver.send(entry_message(), headers={})).status_code == 401
            assert (await receiver.send(entry_message())).status_code == 200
            assert await ready(receiver) == 200


async def test_rotated_keys_are_taken_up_and_nonsense_is_not(
    account_file: Path, namespace: str, keys: KeyServer, tmp_path: Path
) -> None:
    settings = {"jwksTtlSeconds": 1, "jwksRefreshMinSeconds": 60}
    with RunningReceiver(tmp_path / "receiver", account_file, namespace, keys, **settings) as receiver:
        async with receiver.client():
            keys.body = b"<html>maintenance</html>"
            await until_holds(lambda: "Keys not fetched" in str(receiver.lines), "a line on the keys")
            assert (await receiver.send(entry_message())).status_code == 200
            keys.body = None
            keys.signer = receiver.signer = Signer()
            # Asked for by the delivery that the new key signs, not by the passing of time.
            assert (await receiver.send(entry_message())).status_code == 200
            forged = [receiver.send(entry_message(), headers=Signer().headers(b"")) for _ in range(20)]
            assert {answer.status_code for answer in await asyncio.gather(*forged)} <= {401}
    assert set(keys.asked) == {"/appdef_Trusted1/jwks"}


async def test_sigterm_turns_readiness_off_and_finishes_what_is_in_flight(
    account: dict[str, Any], control_plane: Address, namespace: str, keys: KeyServer, tmp_path: Path
) -> None:
    async with Gate(control_plane.server) as gate:
        path = kubeconfig_through(account, tmp_path, gate.port)
        settings = {"drainSeconds": 2, "writeDeadlineSeconds": 20}
        with RunningReceiver(tmp_path / "receiver", path, namespace, keys, **settings) as receiver:
            async with receiver.client():
                gate.stick()
                in_flight = asyncio.create_task(receiver.send(entry_message()))
                await asyncio.sleep(0)
                receiver.process.send_signal(signal.SIGTERM)
                await until_holds(lambda: receiver.logged("Stopping: readiness is off."), "the beginning of the end")
                assert await ready(receiver) == 503
                late = await receiver.send(entry_message(), headers={})
                assert (late.status_code, late.headers["connection"]) == (401, "close")
                await gate.open()
                assert (await in_flight).status_code == 200
                assert await receiver.ended() == 0
                assert receiver.logged("The receiver has stopped.")


async def test_an_idle_receiver_stops_at_once(
    account_file: Path, namespace: str, keys: KeyServer, tmp_path: Path
) -> None:
    with RunningReceiver(tmp_path / "receiver", account_file, namespace, keys) as receiver:
        async with receiver.client():
            assert (await receiver.send(entry_message())).status_code == 200
            receiver.process.send_signal(signal.SIGTERM)
            assert await receiver.ended() == 0


def test_missing_surroundings_are_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    path = tmp_path / "receiver.yaml"
    path.write_text(yaml.safe_dump(SETTINGS))
    ended = run("--settings", path, "--kubeconfig", tmp_path / "none")
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "No way to the Kubernetes API" in ended.stderr
    with socket.create_server(("127.0.0.1", 0)) as taken:
        path.write_text(yaml.safe_dump(SETTINGS | {"port": taken.getsockname()[1]}))
        ended = run("--settings", path, "--kubeconfig", "none")
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "Cannot listen on 127.0.0.1 port" in ended.stderr


def test_it_ships_no_framework_of_the_controller() -> None:
    code = "import receiver.__main__, sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    ).stdout.split()
    assert "starlette" in loaded
    forbidden = {
        "kopf",
        "benchling_sdk",
        "benchling_api_client",
        "boto3",
        "botocore",
        "controller",
        "packager",
        "sandbox",
    }
    assert forbidden.isdisjoint(loaded)
