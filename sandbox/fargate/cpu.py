"""An optional CPU quota for a container, as a control group. Needs root."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_V1, _V2 = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")
_PERIOD_MICROSECONDS = 100_000


def cpu_group(name: str, cpus: float) -> Sequence[Path]:
    """Make a group with this quota; the result are the files to which its first process writes `0`.

    Raises OSError where control groups can't be made.
    """
    quota = int(cpus * _PERIOD_MICROSECONDS)
    if (_V1 / "cpu.cfs_quota_us").exists() or not (_V2 / "cgroup.controllers").exists():
        folder = _V1 / f"local-fargate-{name}"
        folder.mkdir(exist_ok=True)
        (folder / "cpu.cfs_period_us").write_text(str(_PERIOD_MICROSECONDS))
        (folder / "cpu.cfs_quota_us").write_text(str(quota))
    else:
        folder = _V2 / f"local-fargate-{name}"
        folder.mkdir(exist_ok=True)
        (folder / "cpu.max").write_text(f"{quota} {_PERIOD_MICROSECONDS}")
    return (folder / "cgroup.procs",)


def release_cpu_group(files: Sequence[Path]) -> None:
    """Remove the group of a container that has ended."""
    for file in files:
        with suppress(OSError):
            file.parent.rmdir()
