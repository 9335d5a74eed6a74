"""helm and kubectl, pointed at the run's control plane."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.helm import Helm
from tests.unit.chart.conftest import find_programs

if TYPE_CHECKING:
    from sandbox.toolchain import Programs


@pytest.fixture(scope="session")
def programs() -> Programs:
    return find_programs()


@pytest.fixture
def helm(programs: Programs, kubeconfig: str, tmp_path: Path) -> Helm:
    return Helm(programs.helm, tmp_path, kubeconfig=Path(kubeconfig))
