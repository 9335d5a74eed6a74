"""Containers as processes, without an API server: what they see, how they end."""

from __future__ import annotations

import asyncio
import resource
import secrets
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sandbox.fargate.isolation import BindMount, ContainerSpec, Isolation, adopt_orphans
from sandbox.fargate.logs import ContainerLog
from sandbox.fargate.process import ContainerProcess
from tests.support.fargate_process import processes_of
from tests.support.isolations import ISOLATIONS, NAMESPACED, require

if TYPE_CHECKING:
    from collections.abc import Sequence

GIBIBYTE = 1 << 30
ENV = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}


@pytest.fixture(autouse=True)
def subreaper() -> None:
    adopt_orphans()


async def _launch(
    folder: Path,
    isolation: Isolation,
    argv: Sequence[str],
    mounts: Sequence[BindMount] = (),
    limit: int = GIBIBYTE,
    cwd: str = "/",
) -> tuple[ContainerProcess, ContainerLog]:
    require(isolation)
    root = folder / "root"
    root.mkdir(exist_ok=True)
    log = ContainerLog(folder / "log" / "c.log")
    spec = ContainerSpec(argv, dict(ENV), cwd, mounts, hostname="pod-name")
    return await ContainerProcess.launch(spec, isolation, root, limit, log), log


def _lines(log: ContainerLog) -> list[str]:
    return [line.split(" ", 3)[3] for line in log.file.read_text().splitlines()]


def _exists(path: str) -> bool:
    return Path(path).exists()


@pytest.mark.parametrize("isolation", ISOLATIONS)
async def test_exit_codes(tmp_path: Path, isolation: Isolation) -> None:
    process, _ = await _launch(tmp_path, isolation, ["sh", "-c", "exit 42"])
    assert process.start_error() == ""
    assert (await process.wait()).code == 42
    process, log = await _launch(
        tmp_path, isolation, ["python", "-c", "import time; print('up', flush=True); time.sleep(60)"]
    )
    while "up" not in log.file.read_text():
        await log.changed()
    process.signal(signal.SIGKILL)
    result = await process.wait()
    assert (result.code, result.oom_killed) == (137, False)
    # Without a namespace of its own the container is a direct fork of this process, and the kernel's high-water mark
    # survives exec: it holds what this process had then.
    inherited = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 if isolation == "none" else 0
    assert 4 << 20 < result.peak_bytes < (300 << 20) + inherited


@pytest.mark.parametrize("isolation", ISOLATIONS)
async def test_start_errors(tmp_path: Path, isolation: Isolation) -> None:
    process, _ = await _launch(tmp_path, isolation, ["no-such-program"])
    assert '"no-such-program": executable file not found' in process.start_error()
    assert (await process.wait()).code == 128
    source = tmp_path / "volume"
    source.mkdir()
    (source / "program").write_bytes(b"\x00not a program")
    (source / "program").chmod(0o755)
    mounts = [BindMount(source, "/programs", read_only=True)]
    process, _ = await _launch(tmp_path, isolation, ["/programs/program"], mounts)
    assert "Exec format error" in process.start_error()
    assert (await process.wait()).code == 128


@pytest.mark.parametrize("isolation", NAMESPACED)
async def test_mounts_anywhere_leave_the_host_as_it_was(tmp_path: Path, isolation: Isolation) -> None:
    secret, space, message = tmp_path / "secret", tmp_path / "space", tmp_path / "message"
    secret.mkdir()
    space.mkdir()
    (secret / "f").write_text("hush")
    message.touch()
    targets = ["/no-such-top/deep", "/etc/no-such/deep", "/var/run/no-such/deep"]
    mounts = [BindMount(secret, target, read_only=True) for target in targets]
    mounts += [
        BindMount(space, "/no-such-space", read_only=False),
        BindMount(secret, "/no-such-space/inner", read_only=True),
        BindMount(message, "/dev/no-such-log", read_only=False, folder=False),
    ]
    script = "".join(f"cat {target}/f; echo; touch {target}/g 2>/dev/null && echo written\n" for target in targets)
    script += "cat /no-such-space/inner/f; echo; echo kept > /no-such-space/made; echo report > /dev/no-such-log\n"
    script += "hostname; echo $$; ls /proc | grep -c '^[0-9]'; pwd; test -e /etc/passwd && echo host"
    process, log = await _launch(tmp_path, isolation, ["sh", "-c", script], mounts, cwd="/no-such-cwd")
    assert process.start_error() == ""
    assert (await process.wait()).code == 0
    lines = _lines(log)
    assert lines[:4] == ["hush"] * 4
    assert lines[4:6] == ["pod-name", "1"]
    assert int(lines[6]) <= 4
    assert lines[7:] == ["/no-such-cwd", "host"]
    assert (space / "made").read_text() == "kept\n"
    assert message.read_text() == "report\n"
    made = ("/no-such-top", "/etc/no-such", "/run/no-such", "/no-such-space", "/dev/no-such-log", "/no-such-cwd")
    assert [path for path in made if _exists(path)] == []


@pytest.mark.parametrize("isolation", NAMESPACED)
async def test_a_renamed_link_is_seen(tmp_path: Path, isolation: Isolation) -> None:
    source = tmp_path / "volume"
    source.mkdir()
    (source / "a").write_text("old")
    (source / "b").write_text("new")
    (source / "now").symlink_to("a")
    script = "cat /v/now; echo; while [ $(cat /v/now) = old ]; do sleep 0.02; done; cat /v/now"
    process, log = await _launch(tmp_path, isolation, ["sh", "-c", script], [BindMount(source, "/v", read_only=True)])
    while "old" not in log.file.read_text():
        await log.changed()
    (source / "next").symlink_to("b")
    (source / "next").rename(source / "now")
    async with asyncio.timeout(20):
        assert (await process.wait()).code == 0
    assert _lines(log) == ["old", "new"]


@pytest.mark.parametrize("isolation", ISOLATIONS)
async def test_memory_of_the_whole_tree_counts(tmp_path: Path, isolation: Isolation) -> None:
    code = (
        "import subprocess, sys, time\n"
        "one = 'import time; keep = bytearray(60 << 20); time.sleep(60)'\n"
        "children = [subprocess.Popen([sys.executable, '-c', one]) for _ in range(3)]\n"
        "time.sleep(60)"
    )
    process, _ = await _launch(tmp_path, isolation, ["python", "-c", code], limit=128 << 20)
    async with asyncio.timeout(30):
        result = await process.wait()
    assert (result.code, result.oom_killed) == (137, True)
    assert result.peak_bytes > 128 << 20


@pytest.mark.parametrize("isolation", NAMESPACED)
async def test_nothing_outlives_the_first_process(tmp_path: Path, isolation: Isolation) -> None:
    word = secrets.token_hex(8)
    script = f"setsid sh -c 'while true; do echo alive >> /v/beats; sleep 0.05; done' {word} & "
    script += "while [ ! -s /v/beats ]; do sleep 0.02; done"
    source = tmp_path / "volume"
    source.mkdir()
    mounts = [BindMount(source, "/v", read_only=False)]
    process, _ = await _launch(tmp_path, isolation, ["sh", "-c", script], mounts)
    assert (await process.wait()).code == 0
    assert processes_of(word) == []
