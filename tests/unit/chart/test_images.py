"""The images are made of what the chart starts in them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.support.helm import CHART, Rendered

ROOT = CHART.parents[1]
DOCKERFILE = (ROOT / "Dockerfile.controller").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def stage(name: str) -> str:
    """Return the instructions of a stage."""
    found = re.search(rf"^FROM \S+ AS {name}$(.*?)(?=^FROM |\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL)
    assert found is not None, f"there is no stage {name}"
    return found[1]


@pytest.mark.parametrize("program", ["receiver", "controller"])
def test_an_image_holds_its_program_and_no_other(minimal: Rendered, program: str) -> None:
    build, final = stage(f"build-{program}"), stage(program)
    assert re.findall(r"^COPY (\S+) ", build, re.MULTILINE) == ["entrypackage", program]
    assert set(re.findall(r"--extra (\S+)", build)) == {program}
    assert program in EXTRAS
    assert f"--from=build-{program} " in final
    command = minimal.containers()[program]["command"]
    assert re.search(r"^CMD \[(.+)\]$", final, re.MULTILINE)[1].replace('"', "").split(", ") == command  # type: ignore[index]


def test_no_image_holds_the_sdk_that_only_tests_import() -> None:
    required = [one for extra in EXTRAS.values() for one in extra] + PROJECT["dependencies"]
    assert not [one for one in required if one.startswith("benchling")]


def test_images_run_as_the_charts_user(minimal: Rendered) -> None:
    spec = minimal.one("Deployment", "demo-receiver")["spec"]["template"]["spec"]["securityContext"]
    assert f"USER {spec['runAsUser']}:{spec['runAsGroup']}" in stage("runtime")


def test_builds_follow_the_lock_file() -> None:
    syncs = re.findall(r"^RUN uv sync (.+)$", DOCKERFILE, re.MULTILINE)
    assert len(syncs) == 4
    assert all("--frozen" in one and "--no-default-groups" in one for one in syncs)


def test_what_is_copied_is_sent_to_the_builder() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        name for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE) for name in line.split()[:-1]
    }
    assert copied <= kept
    assert all((Path(ROOT) / name).exists() for name in kept)
