"""The API server accepts every rendered object, in a namespace with the Pod Security level restricted."""

from __future__ import annotations

import asyncio
import copy
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.support.helm import EVERYTHING, MINIMAL, Helm

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from sandbox.toolchain import Programs

LEVEL = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}


@pytest.fixture
async def restricted(api: httpx.AsyncClient, namespace: str) -> str:
    answer = await api.patch(
        f"/api/v1/namespaces/{namespace}",
        json={"metadata": {"labels": LEVEL}},
        headers={"Content-Type": "application/merge-patch+json"},
    )
    answer.raise_for_status()
    return namespace


async def dry_run(
    programs: Programs, kubeconfig: str, namespace: str, objects: list[dict[str, Any]]
) -> tuple[int, str]:
    """Apply on the server without effect: unknown fields are errors, and so are warnings. Return code and words."""
    for one in objects:
        if "namespace" in one["metadata"]:
            one["metadata"]["namespace"] = namespace
        for subject in one.get("subjects", []):
            subject["namespace"] = namespace
    kubectl = await asyncio.create_subprocess_exec(
        *(programs.kubectl, "--kubeconfig", kubeconfig, "--namespace", namespace, "apply", "--filename", "-"),
        *("--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "--warnings-as-errors"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await kubectl.communicate(yaml.safe_dump_all(objects).encode())
    assert kubectl.returncode is not None
    return kubectl.returncode, said.decode()


@pytest.mark.parametrize("values", [[MINIMAL], [MINIMAL, EVERYTHING]], ids=["minimal", "everything"])
async def test_all_objects_are_accepted_without_a_warning(
    programs: Programs, kubeconfig: str, restricted: str, helm: Helm, values: list[Path]
) -> None:
    objects = [copy.deepcopy(one) for one in helm.template(*values).objects]
    code, said = await dry_run(programs, kubeconfig, restricted, objects)
    assert code == 0, said
    assert said.count("serverside-applied (server dry run)") == len(objects)


async def test_the_check_notices_what_restricted_forbids(
    programs: Programs, kubeconfig: str, restricted: str, helm: Helm
) -> None:
    deployment = copy.deepcopy(helm.template(MINIMAL).one("Deployment", "demo-receiver"))
    deployment["spec"]["template"]["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    code, said = await dry_run(programs, kubeconfig, restricted, [deployment])
    assert code != 0
    assert "would violate PodSecurity" in said
