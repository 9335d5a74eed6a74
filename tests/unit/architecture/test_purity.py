"""The pure set reads no clock and opens no file: what an import contract cannot see, the syntax tree shows.

Which modules are pure stands once, in the import contract of `pyproject.toml`; `test_imports` breaks that contract.
"""

from __future__ import annotations

import ast
import tomllib
from typing import TYPE_CHECKING

import pytest

from tests.support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONTRACT = "Decisions are pure: no I/O, no clock, no chance, no framework"

CLOCKS = frozenset({"now", "utcnow", "today"})
"""Class methods of `datetime` and `date` that read the machine's clock."""
MODULES = frozenset({"time", "os", "random", "secrets", "asyncio"})
"""Modules whose every call is impure, however they came to be here."""
CALLS = frozenset({"open", "input", "print", "exec", "eval", "__import__"})
"""Built-in functions that reach out of the process or around the contract."""
FILES = frozenset({"read_text", "write_text", "read_bytes", "write_bytes", "unlink", "mkdir"})
"""Methods of paths."""


def _contract() -> list[str]:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (contract,) = (contract for contract in tool["contracts"] if contract["name"] == CONTRACT)
    return list(contract["source_modules"])


def _files(module: str) -> list[Path]:
    path = (ROOT / "job-image" if module.startswith("packager") else ROOT).joinpath(*module.split("."))
    return sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


def impurities(source: str) -> Iterator[str]:
    """Yield the calls in a module's text that read a clock, draw a number or reach out of the process."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        match node.func:
            case ast.Name(id=name) if name in CALLS:
                yield f"{name}() in line {node.lineno}"
            case ast.Attribute(attr=name) if name in CLOCKS | FILES:
                yield f".{name}() in line {node.lineno}"
            case ast.Attribute(value=ast.Name(id=module), attr=name) if module in MODULES:
                yield f"{module}.{name}() in line {node.lineno}"


@pytest.mark.parametrize("file", [file for module in _contract() for file in _files(module)], ids=str)
def test_pure_modules_call_nothing_impure(file: Path) -> None:
    assert not list(impurities(file.read_text()))


def test_the_pure_set_holds_the_packages_of_decisions() -> None:
    assert {"controller.decisions", "packager.decisions", "receiver.intake", "entrypackage.filing"} <= set(_contract())


@pytest.mark.parametrize(
    "line",
    [
        "datetime.now(UTC)",
        "datetime.datetime.now(datetime.UTC)",
        "datetime.utcnow()",
        "date.today()",
        "time.time()",
        "time.monotonic()",
        "open('x')",
        "print('x')",
        "random.random()",
        "Path('x').read_text()",
        "__import__('time')",
    ],
)
def test_each_kind_of_impurity_is_noticed(line: str) -> None:
    assert list(impurities(f"def decide():\n    if True:\n        return [{line}]\n"))


@pytest.mark.parametrize("line", ["datetime.fromisoformat('x')", "now + timedelta(seconds=1)", "reopen(x)", "x.open"])
def test_pure_lines_pass(line: str) -> None:
    assert not list(impurities(line))
