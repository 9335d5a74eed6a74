"""Growth: time in proportion to bytes and members, memory that does not grow.

The archives are made while they are read, and S3's side discards (but for the second packing of many members), so
neither disk nor server is measured. Time is the packager's CPU time, which other load on the machine touches least.
Marked slow; ``-s`` prints the figures.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.performance.archives import Virtual
from tests.performance.bench_packager import MIB, serving
from tests.support.archive_origin import Origin
from tests.support.packager_process import Attempt, environment, write_order
from tests.support.paths import ROOT
from tests.support.s3_servers import run_versitygw

if TYPE_CHECKING:
    from pathlib import Path

GIB = 1024 * MIB


@dataclass(frozen=True)
class Packed:
    """What packing took."""

    cpu_seconds: float
    seconds: float
    peak_bytes: int
    skipped: int

    def __str__(self) -> str:
        return f"{self.cpu_seconds:.1f} CPU-s, {self.seconds:.0f} s wall, peak {self.peak_bytes / MIB:.0f} MiB"


def pack(archive: Virtual, endpoint: str, folder: Path, bucket: str = "bucket", entry_name: str = "Growth") -> Packed:
    """Pack an archive as a Job does."""
    with Origin(archive) as origin:  # type: ignore[arg-type]
        attempt = Attempt(origin.url, bucket, endpoint)
        attempt.entry["name"] = entry_name
        digest = write_order(attempt.order(), folder / "order")
        report = folder / "report"
        command = [
            sys.executable, "-m", "packager", "run", "--order", str(folder / "order"), "--digest", digest,
            "--termination-log", str(report),
        ]  # fmt: skip
        began = time.monotonic()
        process = subprocess.Popen(command, env=environment(), cwd=ROOT, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    document = json.loads(report.read_bytes())
    assert process.returncode == 0, document
    cpu = usage.ru_utime + usage.ru_stime
    return Packed(cpu, seconds, document["peakMemoryBytes"], document["filesSkipped"])


def many(count: int) -> Virtual:
    """Return an archive of many small members."""
    return Virtual((f"d{n % 100}/a-name-of-usual-length-{n:06}.txt", 64, False) for n in range(count))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_time_is_linear_in_bytes_and_memory_is_flat(tmp_path: Path) -> None:
    found: dict[int, Packed] = {}
    with serving("discard") as sink:  # what starting up takes is no part of the growth
        start = pack(Virtual([("small.bin", 1000, True)]), f"http://127.0.0.1:{sink}", tmp_path).cpu_seconds
    for gib in (1, 5, 20):
        large = 9 * GIB if gib >= 20 else gib * GIB // 4
        rest = (gib * GIB - large) // 4
        members = [("large.bin", large, True), *((f"{n}.bin", rest, n % 2 == 0) for n in range(4))]
        with serving("discard") as sink:
            found[gib] = pack(Virtual(members), f"http://127.0.0.1:{sink}", tmp_path)
        print(f"{gib} GiB: {found[gib]}")

    per_gib = [(packed.cpu_seconds - start) / gib for gib, packed in found.items()]
    assert max(per_gib) <= min(per_gib) * 1.15
    peaks = [packed.peak_bytes for packed in found.values()]
    assert max(peaks) <= 128 * MIB
    assert max(peaks) <= min(peaks) * 1.1


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_time_is_linear_in_members(tmp_path: Path) -> None:
    found: dict[int, Packed] = {}
    for count in (1000, 10_000, 100_000):
        with serving("discard") as sink:
            found[count] = pack(many(count), f"http://127.0.0.1:{sink}", tmp_path)
        print(f"{count} members: {found[count]}")
        assert found[count].peak_bytes <= (128 if count <= 10_000 else 256) * MIB

    # What starting up takes follows from the two smallest.
    start = found[1000].cpu_seconds - (found[10_000].cpu_seconds - found[1000].cpu_seconds) / 9
    per_member = [(packed.cpu_seconds - start) / count for count, packed in found.items()]
    assert max(per_member) <= min(per_member) * 1.15


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_hundred_thousand_members_are_packed_again(tmp_path: Path) -> None:
    """The second time, listing, inventory and the previous entry.json are as large as the first time's result."""
    count = 100_000
    with run_versitygw(tmp_path / "s3") as s3:
        bucket = s3.new_bucket("growth", versioned=False)
        first = pack(many(count), s3.url, tmp_path, bucket, "Größe 🧪")
        second = pack(many(count), s3.url, tmp_path, bucket, "Größe 🧪")
    print(f"first: {first}\nagain: {second}, {second.skipped} skipped")

    assert second.skipped == count
    assert first.peak_bytes <= 256 * MIB
    assert second.peak_bytes <= 384 * MIB
