"""Tests wait for conditions: what only lets time pass is found in the syntax tree."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import pytest

from tests.support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

WAITING = ROOT / "tests/support/waiting.py"
VIRTUAL = ("tests.support.virtual_time", "tests.support.scripted_benchling", "tests.support.small_controller")
"""Whoever imports these sleeps in virtual time, which takes none."""
ON_VIRTUAL_TIME = {"tests/support/scripted_benchling.py", "tests/support/small_controller.py"}
TESTS = sorted(path for path in (ROOT / "tests").rglob("*.py") if path != WAITING)


def _called(node: ast.AST) -> str:
    """Return the dotted name that is called, with `()` for calls within it; empty for everything else."""
    if isinstance(node, ast.Call):
        return f"{_called(node.func)}()"
    if isinstance(node, ast.Attribute):
        return f"{_called(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def _loops(tree: ast.AST) -> set[int]:
    """Return the lines of all that stands in a `while`: it asks for something between its pauses."""
    found: set[int] = set()
    for loop in ast.walk(tree):
        ends = [isinstance(node, ast.Break | ast.Return) for node in ast.walk(loop)]
        if isinstance(loop, ast.While) and (not isinstance(loop.test, ast.Constant) or any(ends)):
            found.update(range(loop.lineno, (loop.end_lineno or loop.lineno) + 1))
    return found


def bare_waits(source: str, *, virtual: bool = False) -> Iterator[int]:
    """Yield the lines that let time pass whatever happens meanwhile."""
    tree = ast.parse(source)
    loops = _loops(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = _called(node.func)
        # Nobody can ever set an event that has no name.
        if name.endswith("Event().wait") and node.args:
            yield node.lineno
        pause = node.args[0] if node.args else None
        zero = isinstance(pause, ast.Constant) and pause.value == 0
        if name == "asyncio.sleep" and not zero and not virtual and node.lineno not in loops:
            yield node.lineno


def _on_virtual_time(source: str) -> bool:
    tree = ast.parse(source)
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    return not modules.isdisjoint(VIRTUAL)


def test_no_test_only_lets_time_pass() -> None:
    found = []
    for path in TESTS:
        source = path.read_text()
        name = str(path.relative_to(ROOT))
        virtual = name in ON_VIRTUAL_TIME or _on_virtual_time(source)
        found += [f"{name}:{line}" for line in bare_waits(source, virtual=virtual)]
    assert found == [], "wait for a condition (tests/support/waiting.py); `elapse` if time itself is what it is about"


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("threading.Event().wait(3)", [1]),
        ("Event().wait(timeout)", [1]),
        ("await asyncio.sleep(0.3)", [1]),
        ("for _ in range(3):\n    await asyncio.sleep(0.3)", [2]),
        ("while True:\n    await asyncio.sleep(0.3)", [2]),
        ("await asyncio.sleep(0)", []),
        ("await asyncio.Event().wait()", []),
        ("assert reached.wait(30)", []),
        ("while True:\n    if await look():\n        break\n    await asyncio.sleep(0.3)", []),
        ("while not await look():\n    await asyncio.sleep(0.3)", []),
    ],
)
def test_what_counts_as_letting_time_pass(source: str, lines: list[int]) -> None:
    assert list(bare_waits(source)) == lines
