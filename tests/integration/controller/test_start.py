"""What keeps a controller from starting is told in one sentence, with an exit code that is not zero."""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from controller.__main__ import main
from tests.support.controller_process import Json, write_kubeconfig
from tests.support.paths import ROOT
from tests.support.request_proxy import Call, Proxy, RefusedError

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.controlplane import Address

WRONG_SETTINGS: dict[str, tuple[Json, str]] = {
    "a missing one": ({"namespace": None}, "The setting namespace is missing."),
    "an unknown one": ({"workerz": 3}, "There is no setting workerz."),
    "a wrong type": ({"workers": "many"}, "The setting workers"),
    "out of range": ({"timing": {"exportDeadlineSeconds": 0}}, "The setting timing.exportDeadlineSeconds"),
    "a wrong address": ({"benchling": {"baseUrl": "example.benchling.com"}}, "The setting benchling.baseUrl"),
    "a plain address": ({"benchling": {"baseUrl": "http://example.benchling.com"}}, "must start with https://"),
}


def _settings(folder: Path, **changes: Any) -> Path:
    content = {
        "namespace": "default",
        "healthPort": 0,
        "benchling": {"baseUrl": "https://example.benchling.com", "credentialsFolder": str(folder)},
        "destination": {"bucket": "packages", "queueUrl": "http://127.0.0.1:9/queue"},
        "packager": {"image": "packager:1", "serviceAccount": "packager"},
        **changes,
    }
    file = folder / "controller.yaml"
    file.write_text(yaml.safe_dump({name: value for name, value in content.items() if value is not None}))
    return file


def _nowhere(folder: Path) -> Path:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return write_kubeconfig(folder, f"http://127.0.0.1:{port}")


def _require_sentence(text: str, part: str) -> None:
    lines = [line for line in text.splitlines() if line and not line.startswith("{")]
    assert len(lines) == 1, text
    assert lines[0].startswith("controller: ")
    assert part in lines[0]
    assert "Traceback" not in text


@pytest.mark.parametrize("name", WRONG_SETTINGS)
def test_wrong_settings(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes, sentence = WRONG_SETTINGS[name]
    code = main(["--settings", str(_settings(tmp_path, **changes)), "--kubeconfig", str(_nowhere(tmp_path))])
    assert code == 2
    _require_sentence(capsys.readouterr().err, sentence)


def test_missing_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--settings", str(tmp_path / "none.yaml")]) == 2
    _require_sentence(capsys.readouterr().err, "name it with --settings")


def test_no_way_to_a_cluster(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = str(_settings(tmp_path))
    assert main(["--settings", settings, "--kubeconfig", str(tmp_path / "none")]) == 2
    _require_sentence(capsys.readouterr().err, "there is no kubeconfig")
    assert main(["--settings", settings]) == 2
    _require_sentence(capsys.readouterr().err, "ServiceAccount")


async def _run(folder: Path, server: str, **changes: Any) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "controller", "--settings", str(_settings(folder, **changes))),
        *("--kubeconfig", str(write_kubeconfig(folder, server))),
        cwd=ROOT,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(90):
            _, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return process.returncode, errors.decode()


async def test_missing_definition(control_plane: Address, tmp_path: Path) -> None:
    async with Proxy.to_api_server(control_plane) as api:
        api.rewrite = lambda path: path.replace("benchling.quilt.bio", "absent.quilt.bio")
        code, errors = await _run(tmp_path, api.url)
    assert code == 2
    _require_sentence(errors, "install the chart's CRDs first")


async def test_missing_rights(control_plane: Address, tmp_path: Path) -> None:
    async with Proxy.to_api_server(control_plane) as api:
        api.before = _forbid
        code, errors = await _run(tmp_path, api.url)
    assert code == 2
    _require_sentence(errors, "may not list EntryPackages in default")


async def _forbid(_: Call) -> None:
    raise RefusedError(403, "Forbidden")


async def test_busy_port(control_plane: Address, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with Proxy.to_api_server(control_plane) as api:
            code, errors = await _run(tmp_path, api.url, healthPort=port)
    assert code == 2
    _require_sentence(errors, f"The port {port} on 127.0.0.1 for probes and metrics is not free: set healthPort.")
