"""What the documents promise is there, and what is there is in the documents."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import grimp
import pytest

from entrypackage.conditions import Reason
from entrypackage.failures import FailureClass
from tests.support.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PROGRAMS = ("controller", "receiver", "packager")

GENERATORS = {"entrypackage.crd", "entrypackage.failures_page"}
"""Programs of their own, which make what is checked in."""

AWAITED = {"entrypackage.clicks", "entrypackage.filing", "entrypackage.messages"}
"""The controller will use them for canvases and sweeps; a name whose second user is there must leave this list."""


def _targets() -> set[str]:
    lines = (ROOT / "Makefile").read_text().splitlines()
    return {match[1] for line in lines if (match := re.match(r"([a-z-]+):.*## .+", line))}


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md"])
def test_make_commands_exist(name: str) -> None:
    text = (ROOT / name).read_text()
    code = "\n".join(re.findall(r"```.*?```|`[^`\n]+`", text, flags=re.DOTALL))
    said = set(re.findall(r"\bmake ([a-z][a-z-]+)", code))
    assert said <= _targets()


def test_readme_names_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text()
    assert "$ make demo" in text
    assert "$ make test" in text


@pytest.mark.parametrize(
    "file", sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md")), ids=lambda p: p.name
)
def test_links_lead_somewhere(file: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", file.read_text())
    broken = [link for link in links if "://" not in link and not (file.parent / link).exists()]
    assert not broken


@pytest.mark.parametrize("file", ["README.md", "ARCHITECTURE.md"])
def test_named_files_exist(file: str) -> None:
    named = set(re.findall(r"`((?:[a-z-]+/)+[a-z_]+\.py)`", (ROOT / file).read_text()))
    assert not [name for name in named if not (ROOT / name).is_file()]


def _first_cells(document: str) -> set[str]:
    """Return the words in backquotes that open a row of a table, or a heading."""
    return set(re.findall(r"^(?:\| ?|#+ )`?([A-Z][A-Za-z]+)`?(?= ?\||$)", document, flags=re.MULTILINE))


def test_every_reason_is_explained() -> None:
    operations = (ROOT / "docs/operations.md").read_text()
    failures = (ROOT / "docs/failures.md").read_text()
    assert {reason.value for reason in Reason} <= _first_cells(operations)
    assert {failure.value for failure in FailureClass} <= _first_cells(failures)


def test_no_explained_reason_is_gone() -> None:
    known = {reason.value for reason in Reason} | {failure.value for failure in FailureClass}
    cells = re.findall(r"^\| `([A-Z][A-Za-z]+)` \|", (ROOT / "docs/operations.md").read_text(), flags=re.MULTILINE)
    assert set(cells) <= known


def test_the_domain_holds_what_two_programs_share() -> None:
    graph = grimp.build_graph("entrypackage", *PROGRAMS, cache_dir=None)
    users = {
        module: {program for program in PROGRAMS if graph.chain_exists(program, module, as_packages=True)}
        for module in graph.find_descendants("entrypackage")
    }
    lonely = {module for module, programs in users.items() if len(programs) < 2}
    assert lonely - GENERATORS == AWAITED
