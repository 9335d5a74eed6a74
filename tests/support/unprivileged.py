"""A command as an unprivileged user: what root runs here, run as a newcomer would, without a copy of anything.

``python -m tests.support.unprivileged COMMAND…``, for root. The user is nobody, with a home and a temporary folder of
its own. Where the checkout or Python lies below a folder that only root may enter (/root, say), the command sees
another folder in its place that holds only those: in a mount namespace of its own, so nothing changes for others.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sandbox.toolchain.cache import Cache
from tests.support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

NOBODY = 65534
_KEPT_VARIABLES = ("LANG", "LC_ALL", "TZ", "TESTS_MAY_SKIP", "VERSITYGW", "CI")
_PROGRAMS = ("setpriv", "unshare", "mount")
_INSIDE = "--inside"


@dataclass(frozen=True)
class Veil:
    """A folder that others may not enter, and what of it they need nevertheless."""

    folder: Path
    needed: tuple[Path, ...]


def closed_folder(path: Path) -> Path | None:
    """Return the uppermost folder on the way to `path`, itself included, that others may not enter."""
    way = [*reversed(path.parents), path]
    return next((folder for folder in way if folder.is_dir() and not folder.stat().st_mode & stat.S_IXOTH), None)


def veils(paths: Iterable[Path]) -> list[Veil]:
    """Return which folders have to be replaced so that others reach these paths; uppermost folders only."""
    found: dict[Path, list[Path]] = {}
    for path in sorted(set(paths)):
        folder = closed_folder(path)
        if folder is not None and not any(path.is_relative_to(other) for other in found.get(folder, [])):
            found.setdefault(folder, []).append(path)
    return [Veil(folder, tuple(needed)) for folder, needed in found.items()]


def needed_paths() -> set[Path]:
    """Return the folders that the tests read: the checkout, the virtual environment and its Python."""
    folders = {ROOT, Path(sys.prefix), Path(sys.base_prefix)}
    return folders | {folder.resolve() for folder in folders}


def _mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)


def _lift(veil: Veil, stage: Path) -> None:
    """Put a folder in the place of the closed one in which only what is needed is seen."""
    stage.mkdir()
    held = []
    for number, path in enumerate(veil.needed):
        place = stage / str(number)
        place.mkdir()
        _mount("--rbind", path, place)
        held.append((place, path))
    _mount("-t", "tmpfs", "-o", "mode=755", "none", veil.folder)
    for place, path in held:
        path.mkdir(parents=True, exist_ok=True)
        _mount("--rbind", place, path)


def _enter(folder: Path, command: Sequence[str]) -> None:
    """In the mount namespace: make all reachable, then become the command. Does not return."""
    home, temporary = folder / "h", folder / "t"
    cache = Cache.of_user()
    own = Cache(home / ".cache" / cache.folder.name)
    for made in (home, temporary, home / ".cache", own.folder, own.folder / "programs"):
        made.mkdir()
        os.chown(made, NOBODY, NOBODY)
    if cache.folder.is_dir():
        _mount("--bind", cache.folder / "programs", own.folder / "programs")
    for number, veil in enumerate(veils(needed_paths())):
        _lift(veil, folder / f"stage-{number}")
    variables = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    variables |= {
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "PATH": f"{Path(sys.prefix) / 'bin'}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "PYTHONDONTWRITEBYTECODE": "1",  # the checkout is root's
        "HYPOTHESIS_STORAGE_DIRECTORY": str(temporary / "hypothesis"),
    }
    os.chdir(ROOT)
    user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=-all"]
    os.execvpe("setpriv", [*user, *command], variables)


def main(arguments: Sequence[str]) -> int:
    """Run the command; return its exit code, 1 after one sentence if it can't be run."""
    if arguments[:1] == [_INSIDE]:
        _enter(Path(arguments[1]), arguments[2:])
    if os.geteuid() != 0:
        print("Only root needs to become somebody else to run this: run the command itself.", file=sys.stderr)
        return 1
    missing = [program for program in _PROGRAMS if shutil.which(program) is None]
    if missing:
        print(f"Not there: {', '.join(missing)}; install util-linux and mount.", file=sys.stderr)
        return 1
    # A short name: the path of a Unix socket, which etcd has in a test's folder, ends at 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="n-"))
    folder.chmod(0o755)
    try:
        unshare = ["unshare", "--mount", "--propagation", "private"]
        again = [sys.executable, "-m", "tests.support.unprivileged", _INSIDE, str(folder), *arguments]
        return subprocess.run([*unshare, *again], cwd=ROOT, check=False).returncode
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
