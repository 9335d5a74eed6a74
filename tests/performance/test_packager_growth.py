"""Growth: time in proportion to bytes and members, memory that does not grow. S3's side discards.

Marked slow; ``-s`` prints the figures. 20 GiB and 100,000 members run when ``GROWTH=full`` is set.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.packager.running import ROOT, Attempt, environment, write_order
from tests.performance.archives import write_archive
from tests.performance.bench_packager import MIB, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

FULL = os.environ.get("GROWTH") == "full"
GIB = 1024 * MIB


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder for archives that are too large for the usual one to keep."""
    with tempfile.TemporaryDirectory(prefix="packager-growth-") as name:
        yield Path(name)


def pack(folder: Path, archive: Path) -> tuple[float, int]:
    """Pack into a server that discards; return CPU-seconds, which other load does not touch, and peak bytes."""
    with serving("files", str(folder)) as port, serving("discard") as sink:
        order = Attempt(f"http://127.0.0.1:{port}/{archive.name}", "bucket", f"http://127.0.0.1:{sink}").order()
        digest = write_order(order, folder / f"order-{archive.stem}")
        report = folder / f"report-{archive.stem}"
        order_folder = str(folder / f"order-{archive.stem}")
        command = [sys.executable, "-m", "packager", "run", "--order", order_folder, "--digest", digest]
        command += ["--termination-log", str(report)]
        process = subprocess.Popen(command, env=environment(), cwd=ROOT, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    document = json.loads(report.read_bytes())
    assert process.returncode == 0, document
    return usage.ru_utime + usage.ru_stime, document["peakMemoryBytes"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_time_is_linear_in_bytes_and_memory_is_flat(folder: Path) -> None:
    found = {}
    for gib in (1, 5, 20) if FULL else (1, 3):
        large = 9 * GIB if gib >= 20 else gib * GIB // 4
        rest = (gib * GIB - large) // 4
        members = [("large.bin", large, True), *((f"{n}.bin", rest, n % 2 == 0) for n in range(4))]
        archive = write_archive(folder / f"{gib}.zip", iter(members))
        found[gib] = pack(folder, archive)
        archive.unlink()
        print(f"{gib} GiB: {found[gib][0]:.1f} CPU-s, {found[gib][1] / MIB:.0f} MiB")

    per_gib = [seconds / gib for gib, (seconds, _) in found.items()]
    assert max(per_gib[1:]) <= per_gib[0] * 1.15
    assert max(peak for _, peak in found.values()) <= 128 * MIB
    assert found[max(found)][1] <= found[1][1] * 1.1


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_time_is_linear_in_members(folder: Path) -> None:
    found = {}
    for count in (1000, 10_000, 100_000) if FULL else (1000, 10_000):
        archive = write_archive(folder / f"n{count}.zip", ((f"d{n % 100}/{n:06}.txt", 64, False) for n in range(count)))
        found[count] = pack(folder, archive)
        print(f"{count} members: {found[count][0]:.1f} CPU-s, {found[count][1] / MIB:.0f} MiB")
        assert found[count][1] <= (128 if count <= 10_000 else 256) * MIB

    start = found[1000][0] - (found[10_000][0] - found[1000][0]) / 9
    per_member = [(seconds - start) / count for count, (seconds, _) in found.items()]
    assert max(per_member) <= min(per_member) * 1.15
