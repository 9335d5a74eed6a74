"""The real helm, and what it renders from the least values; both once in a session."""

from __future__ import annotations

import asyncio

import pytest

from sandbox.processes import SandboxError
from sandbox.toolchain import Programs, Toolchain
from tests.support.helm import EVERYTHING, MINIMAL, Helm, Rendered


def find_programs() -> Programs:
    """Return the tool chain's programs, or fail with its sentence."""
    try:
        return asyncio.run(Toolchain().ensure(build=False))
    except SandboxError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm(find_programs().helm, tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="session")
def minimal(helm: Helm) -> Rendered:
    return helm.template(MINIMAL)


@pytest.fixture(scope="session")
def everything(helm: Helm) -> Rendered:
    return helm.template(MINIMAL, EVERYTHING)
