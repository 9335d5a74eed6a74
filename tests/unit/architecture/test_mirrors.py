"""Tests mirror the source: who reads a module finds its unit tests under the same path."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

UNIT = ROOT / "tests/unit"

NOT_OF_ONE_MODULE = {
    "controller/decisions/test_golden.py": "compares the manifests of a whole attempt: Job and order Secrets",
    "packager/decisions/test_metadata_golden.py": "compares the five files of a package, all together",
}
"""Unit tests of several modules together, each with the reason."""

NOT_OF_THE_SOURCE = {"architecture", "chart"}
"""Folders whose subject is no Python package."""


def source_of(test: Path) -> Path:
    """Return the module that a unit test belongs to."""
    module = test.relative_to(UNIT).with_name(test.name.removeprefix("test_"))
    match module.parts[0]:
        case "packager":
            return ROOT / "job-image" / module
        case "support":
            return ROOT / "tests" / module
        case _:
            return ROOT / module


def _mirrors() -> list[Path]:
    tests = sorted(UNIT.rglob("test_*.py"))
    return [test for test in tests if test.relative_to(UNIT).parts[0] not in NOT_OF_THE_SOURCE]


@pytest.mark.parametrize("test", _mirrors(), ids=lambda test: str(test.relative_to(UNIT)))
def test_each_unit_test_has_its_module(test: Path) -> None:
    assert source_of(test).is_file() or test.relative_to(UNIT).as_posix() in NOT_OF_ONE_MODULE


def test_exceptions_are_still_needed() -> None:
    for name in NOT_OF_ONE_MODULE:
        assert (UNIT / name).is_file()
        assert not source_of(UNIT / name).is_file()
