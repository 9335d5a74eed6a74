"""Who may import whom: the contracts hold, and each one notices when it is broken."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGES = ("entrypackage", "controller", "receiver", "job-image/packager", "sandbox")
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")

LAYERS = "Programs use the domain, never each other; the product knows nothing of its sandbox"
KOPF = "kopf is an edge of the controller, in one module"
PURE = "Decisions are pure: no I/O, no clock, no chance, no framework"
DOMAIN = "The domain has no framework and no AWS library"
RECEIVER = "The receiver ships no kopf, no Benchling client and no AWS library"
PACKAGER = "The packager ships neither Kubernetes, kopf nor Starlette"

BREAKS = [
    ("controller/watch/work_queue.py", "import receiver.intake", LAYERS),
    ("receiver/intake.py", "from controller.decisions import plan", LAYERS),
    ("job-image/packager/decisions/plan.py", "import controller.decisions.jobs", LAYERS),
    ("entrypackage/identity.py", "import controller.decisions.jobs", LAYERS),
    ("controller/watch/work_queue.py", "from sandbox import aws", LAYERS),
    ("controller/reconciler/execute.py", "import kopf", KOPF),
    ("controller/decisions/plan.py", "import time", PURE),
    ("controller/decisions/transitions.py", "import random", PURE),
    ("controller/decisions/conditions.py", "import asyncio", PURE),
    ("controller/decisions/polling.py", "import os", PURE),
    ("controller/decisions/fresh.py", "import secrets", PURE),
    ("controller/decisions/jobs.py", "from controller.reconciler import execute", PURE),
    ("job-image/packager/decisions/plan.py", "import pathlib", PURE),
    ("job-image/packager/decisions/policy.py", "import logging", PURE),
    ("job-image/packager/decisions/fresh.py", "import awscrt", PURE),
    ("receiver/intake.py", "import subprocess", PURE),
    ("entrypackage/filing.py", "import socket", PURE),
    ("entrypackage/backoff.py", "import random", PURE),
    ("entrypackage/entry_notes.py", "import httpx", PURE),
    ("entrypackage/resource.py", "import kubernetes", PURE),
    ("entrypackage/telemetry.py", "import boto3", DOMAIN),
    ("receiver/app.py", "import benchling_sdk", RECEIVER),
    ("job-image/packager/packing.py", "from entrypackage import kubernetes", PACKAGER),
    ("job-image/packager/cli.py", "import starlette", PACKAGER),
]


class Copy:
    """The packages in a folder of their own, where they can be spoilt."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for package in PACKAGES:
            shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)

    def lint(self) -> tuple[int, dict[str, str], str]:
        """Return the exit code, each contract's verdict, and the whole text."""
        ended = subprocess.run(
            [LINT_IMPORTS, "--no-logo", "--no-cache"],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": f"{self.folder}:{self.folder / 'job-image'}", "COLUMNS": "500"},
            capture_output=True,
            text=True,
            check=False,
        )
        text = ended.stdout + ended.stderr
        verdicts = dict(re.findall(r"^(.+?) (KEPT|BROKEN)\b", text, flags=re.MULTILINE))
        return ended.returncode, verdicts, text


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    return Copy(tmp_path_factory.mktemp("sources"))


@pytest.fixture
def spoil(copy: Copy) -> Iterator[Copy]:
    """The copy for a test to change; it is as before afterwards."""
    yield copy
    for file, _, _ in BREAKS:
        if (ROOT / file).exists():
            shutil.copy(ROOT / file, copy.folder / file)
        else:
            (copy.folder / file).unlink(missing_ok=True)


def test_contracts_hold(copy: Copy) -> None:
    code, verdicts, text = copy.lint()
    assert code == 0, text
    assert set(verdicts) == {LAYERS, KOPF, PURE, DOMAIN, RECEIVER, PACKAGER}


@pytest.mark.parametrize(("file", "line", "contract"), BREAKS, ids=lambda value: str(value).split(",", maxsplit=1)[0])
def test_contract_notices(spoil: Copy, file: str, line: str, contract: str) -> None:
    path = spoil.folder / file
    before = path.read_text() if path.exists() else '"""A module that the contract does not name."""\n'
    path.write_text(f"{before}\n{line}\n")
    code, verdicts, text = spoil.lint()
    assert code == 1, text
    assert verdicts.get(contract) == "BROKEN", text
