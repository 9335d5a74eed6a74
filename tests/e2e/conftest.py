"""The whole product once for all end-to-end tests: the real chart on the sandbox."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest_asyncio

from sandbox.composition import Options, Sandbox
from tests.support.scene import Scene

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

VALUES = {
    "logLevel": "debug",
    "controller": {
        "settings": {
            "timing": {"quietPeriodSeconds": 1, "retainSucceededSeconds": 4, "retainFailedSeconds": 4},
            "retry": {"scale": 0.2},
        }
    },
}


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def scene() -> AsyncIterator[Scene]:
    """The running product and what a test needs to play with it."""
    async with Sandbox(Options(values=VALUES)) as sandbox, sandbox.benchling() as benchling:
        yield Scene(sandbox, benchling)
