"""What is put in the place of folders that only root may enter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.unprivileged import Veil, closed_folder, veils

if TYPE_CHECKING:
    from pathlib import Path


def test_the_uppermost_closed_folder_counts(tmp_path: Path) -> None:
    inner = tmp_path / "shut/inner/file"
    inner.mkdir(parents=True)
    (tmp_path / "shut").chmod(0o700)
    (tmp_path / "shut/inner").chmod(0o700)
    found = closed_folder(inner)
    assert found is not None
    assert inner.is_relative_to(found)
    assert found == closed_folder(tmp_path) or found == tmp_path / "shut"


def test_what_is_below_another_needed_folder_is_seen_with_it(tmp_path: Path) -> None:
    shut = tmp_path / "shut"
    for name in ("checkout/.venv", "python"):
        (shut / name).mkdir(parents=True)
    shut.chmod(0o700)
    folder = closed_folder(shut / "python")
    assert folder is not None
    assert veils([shut / "checkout/.venv", shut / "python", shut / "checkout"]) == [
        Veil(folder, (shut / "checkout", shut / "python"))
    ]
