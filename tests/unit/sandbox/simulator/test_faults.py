"""The switchboard: whom a fault strikes, how often, and what can be said of it."""

from __future__ import annotations

import ast
from pathlib import Path
from random import Random

import pytest

import sandbox.simulator as package
from sandbox.simulator.faults import (
    FAULTS,
    OPTIONS,
    Rule,
    Switchboard,
    UnknownFault,
    UnknownOption,
    check_options,
)


def test_a_fault_strikes_so_often_for_whom_it_is_set() -> None:
    board = Switchboard(Random(1))
    board.set(Rule("entry_404", times=2, subject="etr_a"))
    assert board.take("entry_404", 0.0, subject="etr_b") is None
    assert [board.take("entry_404", 0.0, subject="etr_a") is not None for _ in range(3)] == [True, True, False]
    board.set(Rule("api_503", until=10.0, operation="getTask"))
    assert board.take("api_503", 9.9, operation="getTask") is not None
    assert board.take("api_503", 9.9, operation="getEntry") is None
    assert board.take("api_503", 10.0, operation="getTask") is None
    assert board.counts == {"entry_404": 2, "api_503": 1}


def test_chance_is_seeded() -> None:
    def struck() -> list[bool]:
        board = Switchboard(Random(7))
        board.set(Rule("api_500", chance=0.5))
        return [board.take("api_500", 0.0) is not None for _ in range(50)]

    assert struck() == struck()
    assert 10 < sum(struck()) < 40


def test_an_unknown_fault_gets_a_hint() -> None:
    board = Switchboard(Random(1))
    with pytest.raises(UnknownFault, match="did you mean archive_slow"):
        board.set(Rule("archive_slo"))
    with pytest.raises(UnknownFault):
        board.clear("nonsense")


def test_every_fault_is_asked_for_somewhere() -> None:
    """A switch that nothing reads would be a promise that nobody keeps."""
    folder = Path(package.__path__[0])
    sources = "".join(path.read_text() for path in folder.rglob("*.py") if path.name != "faults.py")
    built = {f"api_{status}" for status in (500, 502, 503, 504)} | {f"api_{s}_html" for s in (502, 503, 504)}
    assert not [name for name in FAULTS if f'"{name}"' not in sources and name not in built]


def test_every_option_is_read_and_every_one_that_is_read_is_known() -> None:
    folder = Path(package.__path__[0])
    trees = [ast.parse(path.read_text()) for path in folder.rglob("*.py") if path.name != "faults.py"]
    read = {
        node.args[0].value
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        and (node.func.attr in ("number", "text") or ast.unparse(node.func) == "rule.options.get")
        and node.args and isinstance(node.args[0], ast.Constant)
    }  # fmt: skip
    assert read == {option for options in OPTIONS.values() for option in options}
    assert OPTIONS.keys() <= FAULTS.keys()
    with pytest.raises(UnknownOption, match="api_503 has no option 'foo'; it has: none"):
        check_options("api_503", ["foo"])
