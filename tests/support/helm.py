"""Runs the real helm on the chart."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from tests.support.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

Object = dict[str, Any]

CHART = ROOT / "charts" / "entrypackage-operator"
CRDS = ROOT / "crds"
MINIMAL = CHART / "ci" / "minimal-values.yaml"
EVERYTHING = CHART / "ci" / "everything-values.yaml"
SANDBOX = CHART / "ci" / "sandbox-values.yaml"
KUBERNETES = "1.34.0"
"""What `helm template` takes for the cluster's version; a helm that is built from its module knows none by itself."""
RELEASE = "demo"
NAMESPACE = "lab"


class HelmError(Exception):
    """Helm refused; the text is what it said."""


@dataclass(frozen=True)
class Helm:
    """The program, with configuration and cache in a folder of its own."""

    program: Path
    home: Path
    kubeconfig: Path | None = None

    def command(self, *arguments: str | Path) -> list[str | Path]:
        return [self.program, *arguments]

    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self.home),
            "KUBECONFIG": str(self.kubeconfig or self.home / "none"),
        }

    def run(self, *arguments: str | Path) -> str:
        """Return what helm prints; raises `HelmError`."""
        done = subprocess.run(
            self.command(*arguments),
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode != 0:
            raise HelmError(done.stderr)
        return done.stdout

    def template(
        self, *files: Path, chart: Path = CHART, release: str = RELEASE, sets: dict[str, str] | None = None
    ) -> Rendered:
        """Render with these files of values, and with single values on top; raises `HelmError`."""
        values: list[str | Path] = []
        for file in files:
            values += ["--values", file]
        for name, value in (sets or {}).items():
            values += ["--set", f"{name}={value}"]
        text = self.run("template", release, chart, "--namespace", NAMESPACE, "--kube-version", KUBERNETES, *values)
        return Rendered(tuple(one for one in yaml.safe_load_all(text) if one))


@dataclass(frozen=True)
class Rendered:
    """Objects that helm would apply."""

    objects: tuple[Object, ...]

    def kinds(self) -> set[str]:
        return {one["kind"] for one in self.objects}

    def of_kind(self, kind: str) -> list[Object]:
        return [one for one in self.objects if one["kind"] == kind]

    def one(self, kind: str, name: str) -> Object:
        """Return the one object of that kind and name."""
        found = [one for one in self.of_kind(kind) if one["metadata"]["name"] == name]
        assert len(found) == 1, f"{kind} {name}: {len(found)} found"
        return found[0]

    def settings(self, program: str, release: str = RELEASE) -> str:
        """Return the text of a program's settings file."""
        return str(self.one("ConfigMap", f"{release}-settings")["data"][f"{program}.yaml"])

    def containers(self) -> dict[str, Object]:
        """Return every container by its name."""
        return {
            container["name"]: container
            for deployment in self.of_kind("Deployment")
            for part in ("initContainers", "containers")
            for container in deployment["spec"]["template"]["spec"].get(part, [])
        }
