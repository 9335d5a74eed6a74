"""Versions, digests and what is built of them."""

import pytest

from sandbox.toolchain.pins import CLUSTER, KUBECTL, S3, digest, read_version

PROGRAMS = {program.name: program for program in (*CLUSTER.programs, *S3.programs, KUBECTL)}


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
