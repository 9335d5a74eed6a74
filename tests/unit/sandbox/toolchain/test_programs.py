"""What is built, and what is used as it is."""

import io
from pathlib import Path

import pytest

from sandbox.processes import SandboxError
from sandbox.toolchain import Toolchain
from sandbox.toolchain.cache import Cache
from sandbox.toolchain.progress import Reporter
from tests.support.toolchain_programs import make_program


async def test_what_is_missing_is_said_instead_of_built(tmp_path: Path) -> None:
    make_program(tmp_path / "bin", "etcd", "etcd Version: 3.6.0")
    toolchain = Toolchain(Cache(tmp_path / "cache"), environment={"PATH": str(tmp_path / "bin")})
    with pytest.raises(SandboxError, match=r"Not built yet: kube-apiserver, kube-controller-manager, helm\. Run"):
        await toolchain.ensure(build=False)


async def test_found_programs_are_used_and_nothing_is_built(tmp_path: Path) -> None:
    for name, says in (
        ("etcd", "etcd Version: 3.6.0"),
        ("kube-apiserver", "Kubernetes v1.36.0"),
        ("kube-controller-manager", "Kubernetes v1.36.0"),
        ("helm", "v3.19.0"),
    ):
        make_program(tmp_path / "bin", name, says)
    programs = await Toolchain(Cache(tmp_path / "cache"), environment={"PATH": str(tmp_path / "bin")}).ensure()
    assert programs.kube_apiserver == tmp_path / "bin" / "kube-apiserver"
    assert not (tmp_path / "cache").exists()


async def test_too_little_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cache, "free_bytes", lambda _: 1_000_000)
    toolchain = Toolchain(Cache(tmp_path / "cache"), environment={"PATH": ""}, reporter=Reporter(io.StringIO()))
    with pytest.raises(SandboxError, match=r"takes up to 5\.6 GiB .* 976\.6 KiB are free at .*: free some there"):
        await toolchain.ensure()
