"""One name, one thing: no public class of a program has a namesake in another module."""

from __future__ import annotations

import ast
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest

from tests.support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

PRODUCT = ("entrypackage", "controller", "receiver", "job-image/packager")


def public_classes(folder: Path) -> Iterable[tuple[str, str]]:
    """Yield name and file of each public class on a module's top level."""
    for path in sorted(folder.rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield node.name, str(path)


def namesakes(folders: Iterable[Path]) -> dict[str, list[str]]:
    """Return the classes' names that occur more than once, with the files that define them."""
    found = defaultdict(list)
    for folder in folders:
        for name, file in public_classes(folder):
            found[name].append(file)
    return {name: files for name, files in found.items() if len(files) > 1}


@pytest.mark.parametrize("folders", [PRODUCT, ("sandbox",)], ids=["product", "sandbox"])
def test_no_public_class_has_a_namesake(folders: tuple[str, ...]) -> None:
    assert not namesakes(ROOT / folder for folder in folders)


def test_namesakes_are_noticed(tmp_path: Path) -> None:
    for folder, text in (("a", "class Entry: ..."), ("b", "class Entry: ...\nclass _Private: ..."), ("c", "Entry = 1")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "module.py").write_text(text)
    assert namesakes([tmp_path / "a", tmp_path / "b"]) == {
        "Entry": [str(tmp_path / "a/module.py"), str(tmp_path / "b/module.py")]
    }
    assert not namesakes([tmp_path / "b", tmp_path / "c"])
