"""What the tool chain decides without building anything."""

import asyncio
import io
import os
from pathlib import Path

import pytest

from sandbox.processes import SandboxError
from sandbox.toolchain import Toolchain
from sandbox.toolchain.build import explain_failure
from sandbox.toolchain.cache import Cache, size_of
from sandbox.toolchain.existing import candidates, find
from sandbox.toolchain.pins import CLUSTER, KUBECTL, S3, digest, read_version
from sandbox.toolchain.progress import Progress, Reporter

PROGRAMS = {program.name: program for program in (*CLUSTER.programs, *S3.programs, KUBECTL)}


def make_program(folder: Path, name: str, says: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / name
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o755)
    return program


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("etcd Version: 3.6.13\nGit SHA: Not provided", (3, 6)),
        ("Kubernetes v1.36.3", (1, 36)),
        ("v3.22.0+gabc", (3, 22)),
        ("Client Version: v1.37.1\nKustomize Version: v5.8.1", (1, 37)),
        ("no version here", None),
    ],
)
def test_versions_are_read_from_what_programs_print(text: str, version: tuple[int, int] | None) -> None:
    assert read_version(text) == version


@pytest.mark.parametrize(
    ("name", "version", "serves"),
    [
        ("kube-apiserver", (1, 36), True),
        ("kube-apiserver", (1, 35), False),  # the controller-manager may not be newer than it
        ("kube-controller-manager", (1, 37), False),
        ("etcd", (3, 5), True),
        ("etcd", (4, 0), False),
        ("helm", (4, 0), False),
        ("kubectl", (1, 34), False),
        ("kubectl", None, False),
    ],
)
def test_only_versions_that_fit_together_serve(name: str, version: tuple[int, int] | None, serves: bool) -> None:
    assert PROGRAMS[name].accepts(version) is serves


def test_built_file_names_leave_out_version_parts() -> None:
    assert {name: PROGRAMS[name].built_as for name in ("etcd", "kube-apiserver", "helm", "versitygw")} == {
        "etcd": "server",
        "kube-apiserver": "kube-apiserver",
        "helm": "helm",
        "versitygw": "versitygw",
    }


def test_tool_directives_name_the_packages_that_are_built() -> None:
    for module in (CLUSTER, S3):
        text = (module.folder / "go.mod").read_text()
        for program in module.programs:
            assert program.package in text


def test_digest_differs_by_module_and_platform() -> None:
    digests = {digest(module, platform) for module in (CLUSTER, S3) for platform in ("linux/x86_64", "linux/aarch64")}
    assert len(digests) == 4
    assert digest(CLUSTER, "linux/x86_64") in digests


def test_assets_come_before_path(tmp_path: Path) -> None:
    asset = make_program(tmp_path / "assets", "etcd", "etcd Version: 3.6.1")
    on_path = make_program(tmp_path / "bin", "etcd", "etcd Version: 3.6.2")
    environment = {"KUBEBUILDER_ASSETS": str(asset.parent), "PATH": str(on_path.parent)}
    assert list(candidates(PROGRAMS["etcd"], environment)) == [asset, on_path]


async def test_a_program_of_a_wrong_version_is_passed_over(tmp_path: Path) -> None:
    old = make_program(tmp_path / "old", "etcd", "etcd Version: 3.4.0")
    new = make_program(tmp_path / "new", "etcd", "etcd Version: 3.6.0")
    assert await find(PROGRAMS["etcd"], {"PATH": f"{old.parent}{os.pathsep}{new.parent}"}) == new
    assert await find(PROGRAMS["etcd"], {"PATH": str(old.parent)}) is None


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
    with pytest.raises(SandboxError, match=r"takes up to 5\.6 GiB .* 976\.6 KiB are free at .*: make room there"):
        await toolchain.ensure()


async def test_a_second_builder_waits_and_says_so(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    said: list[str] = []
    order: list[str] = []
    inside, waiting = asyncio.Event(), asyncio.Event()

    def say(text: str) -> None:
        said.append(text)
        waiting.set()

    async def first() -> None:
        async with cache.locked(said.append):
            inside.set()
            await waiting.wait()
            order.append("first")

    async def second() -> None:
        await inside.wait()
        async with cache.locked(say):
            order.append("second")

    async with asyncio.timeout(20):
        await asyncio.gather(first(), second())
    assert order == ["first", "second"]
    assert said == [f"Process {os.getpid()} is building the tool chain; waiting for it."]


def test_clean_removes_everything_and_says_how_much(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    for folder in ("programs/x", "building/go-mod/deep", "go"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "file").write_bytes(bytes(1_000_000))
    assert size_of(tmp_path) == 3_000_000
    assert cache.remove_build_files() == 2_000_000
    assert cache.remove_all() == 1_000_000
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("write /x: no space left on device", "The disk became full"),
        ("dial tcp: lookup proxy on 1.1.1.1:53: no such host", "check the network, or set GOPROXY"),
        ("verifying m@v1: checksum mismatch\nSECURITY ERROR", "does not match go.sum"),
        ("x.go:1:1: undefined: y", "failed while the tool chain was built"),
    ],
)
def test_failures_of_a_build_are_explained(output: str, sentence: str) -> None:
    assert sentence in explain_failure("go build", output, Path("/log"))


def test_progress_counts_downloads_and_packages() -> None:
    fetching = Progress.from_log("go: downloading k8s.io/api v0.36.3\ngo: downloading go.uber.org/zap v1.27.0\n")
    assert fetching.describe(None) == "modules fetched: 2, go.uber.org/zap v1.27.0"
    building = Progress.from_log("internal/cpu\ngo.uber.org/zap\nk8s.io/api/core/v1\n")
    assert building.describe(2842) == "packages compiled: 3 of at most 2842, k8s.io/api/core/v1"


def test_a_stream_that_is_no_terminal_gets_no_control_characters() -> None:
    stream = io.StringIO()
    reporter = Reporter(stream)
    for number in range(100):
        reporter.update(f"step {number}")
    reporter.say("done")
    assert stream.getvalue() == "done\n"
