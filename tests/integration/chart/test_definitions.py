"""The life of the CustomResourceDefinition with its release, on a control plane of its own because it changes there."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

import pytest
import yaml

from sandbox.controlplane import ControlPlane
from tests.support.helm import CHART, MINIMAL, Helm, HelmError
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from sandbox.toolchain import Programs

DEFINITION = "entrypackages.benchling.quilt.bio"
DEFINITION_PATH = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{DEFINITION}"
OBJECTS_PATH = "/apis/benchling.quilt.bio/v1alpha1/namespaces/lab/entrypackages"
OBJECT = {
    "apiVersion": "benchling.quilt.bio/v1alpha1",
    "kind": "EntryPackage",
    "metadata": {"name": "etr-ab12-1e3ac3"},
    "spec": {"entryId": "etr_Ab12"},
}


def newer_chart(folder: Path) -> Path:
    """Copy the chart as a package has it, with a column more in the definition."""
    chart = folder / "chart"
    shutil.copytree(CHART, chart)
    file = chart / "files" / "crds" / f"{DEFINITION}.yaml"
    definition = yaml.safe_load(file.read_text())
    definition["spec"]["versions"][0]["additionalPrinterColumns"].append(
        {"name": "New", "type": "string", "jsonPath": ".spec.entryId", "priority": 1}
    )
    file.write_text(yaml.safe_dump(definition))
    return chart


async def columns(api: httpx.AsyncClient) -> list[str]:
    definition = (await api.get(DEFINITION_PATH)).raise_for_status().json()
    return [one["name"] for one in definition["spec"]["versions"][0]["additionalPrinterColumns"]]


async def test_it_is_upgraded_and_outlives_its_release(programs: Programs, tmp_path: Path) -> None:
    async with ControlPlane(None, programs) as control_plane, control_plane.address.client() as api:
        helm = Helm(programs.helm, tmp_path, kubeconfig=control_plane.kubeconfig)

        async def run(*arguments: str | Path) -> None:
            await asyncio.to_thread(helm.run, *arguments, "--namespace", "lab")

        install = ("upgrade", "--install", "demo")
        # The namespace is made at the same time, so there is no Secret yet.
        values = ("--values", MINIMAL, "--set", "benchling.checkSecret=false")
        await run(*install, CHART, *values, "--create-namespace")
        assert "New" not in await columns(api)

        async def created() -> bool:
            return (await api.post(OBJECTS_PATH, json=OBJECT)).status_code == 201

        await until(created, "the definition to be served")

        await run(*install, newer_chart(tmp_path), *values)
        assert "New" in await columns(api)

        await run("uninstall", "demo")
        assert (await api.get(DEFINITION_PATH)).status_code == 200
        assert (await api.get(f"{OBJECTS_PATH}/etr-ab12-1e3ac3")).status_code == 200
        assert (await api.get("/apis/apps/v1/namespaces/lab/deployments")).json()["items"] == []

        await run(*install, CHART, *values)
        assert "New" not in await columns(api)

        await run("uninstall", "demo")
        with pytest.raises(HelmError, match="invalid ownership metadata"):
            await run("upgrade", "--install", "other", CHART, *values)
        await run("upgrade", "--install", "other", CHART, *values, "--take-ownership")
