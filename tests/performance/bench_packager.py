"""The packager beside the plain way, on versitygw and an archive server, in one run; ends non-zero on a missed bar.

``python -m tests.performance.bench_packager [start a b latency c d proof quarter]``. The plain way runs right after the
on the same archive and servers, so that what else the machine does falls on both.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.performance.archives import write_archive
from tests.support.packager_process import Attempt, environment, write_order
from tests.support.paths import ROOT
from tests.support.s3_servers import S3Server, run_versitygw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MIB = 1024 * 1024


@dataclass(frozen=True)
class Took:
    """One run."""

    seconds: float
    peak_bytes: int
    cpu_seconds: float

    def __str__(self) -> str:
        return f"{self.seconds:6.2f} s wall, {self.cpu_seconds:5.2f} s CPU, {self.peak_bytes / MIB:5.0f} MiB"


@dataclass
class Bench:
    """The servers, and what was found."""

    folder: Path
    s3: S3Server
    port: int
    missed: list[str] = field(default_factory=list)

    def bar(self, what: str, value: float, least: float | None = None, most: float | None = None) -> None:
        """Print a figure and remember a missed bar."""
        held = (least is None or value >= least) and (most is None or value <= most)
        wanted = f">= {least}" if least is not None else f"<= {most}"
        print(f"  {'ok  ' if held else 'MISS'} {what}: {value:.2f} (bar {wanted})", flush=True)
        if not held:
            self.missed.append(what)

    def new_bucket(self) -> str:
        """Return an empty bucket."""
        return self.s3.new_bucket(f"bench-{time.monotonic_ns()}", versioned=False)

    def packager(
        self, url: str, endpoint: str | None = None, bucket: str | None = None, group: ControlGroup | None = None,
        **variables: str,
    ) -> Took:  # fmt: skip
        """Run the packager, from exec to exit, into an empty bucket or over what a bucket holds."""
        bucket = bucket or self.new_bucket()
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            order = Attempt(url, bucket, endpoint or self.s3.url).order()
            digest = write_order(order, Path(folder) / "order")
            report = Path(folder) / "report"
            command = [
                sys.executable, "-m", "packager", "run", "--order", f"{folder}/order", "--digest", digest,
                "--termination-log", str(report),
            ]  # fmt: skip
            enter = group.enter if group else None
            seconds, cpu = _timed(command, environment(**variables), stderr=subprocess.DEVNULL, preexec_fn=enter)
            document = json.loads(report.read_bytes())
        assert "failure" not in document, document
        return Took(seconds, document["peakMemoryBytes"], cpu)

    def plain(self, url: str, endpoint: str | None = None) -> Took:
        """Run the plain way."""
        bucket = self.new_bucket()
        command = [
            sys.executable,
            "-m",
            "tests.performance.plain_way",
            url,
            bucket,
            "plain/EXP1",
            endpoint or self.s3.url,
        ]
        with tempfile.TemporaryFile() as out:
            seconds, cpu = _timed(command, environment(), stdout=out)
            out.seek(0)
            peak = json.loads(out.read())["peak_memory_bytes"]
        return Took(seconds, peak, cpu)

    def url(self, name: str, port: int | None = None) -> str:
        """Return an archive's address."""
        return f"http://127.0.0.1:{port or self.port}/{name}.zip"

    def beside(self, title: str, url: str, endpoint: str | None = None) -> tuple[Took, Took]:
        """Run both, print both."""
        ours, plain = self.packager(url, endpoint), self.plain(url, endpoint)
        print(f"{title}\n  packager  {ours}\n  plain way {plain}", flush=True)
        return ours, plain


def _timed(command: list[str], variables: dict[str, str], **files: Any) -> tuple[float, float]:
    began = time.monotonic()
    process = subprocess.Popen(command, env=variables, cwd=ROOT, **files)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return seconds, usage.ru_utime + usage.ru_stime


@contextlib.contextmanager
def serving(*arguments: str) -> Iterator[int]:
    """Run a server of `tests.performance.serving`; yield its port."""
    command = [sys.executable, "-m", "tests.performance.serving", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def megabytes(bench: Bench) -> None:
    """(a) 200 members of 1 MB."""
    ours, plain = bench.beside("(a) 200 x 1 MB", bench.url("a"))
    bench.bar("(a) times faster than the plain way", plain.seconds / ours.seconds, least=2.0)
    bench.bar("(a) peak MiB", ours.peak_bytes / MIB, most=128)


def kilobytes(bench: Bench) -> None:
    """(b) 3,000 members of 4 KB."""
    ours, plain = bench.beside("(b) 3,000 x 4 KB", bench.url("b"))
    bench.bar("(b) times faster than the plain way", plain.seconds / ours.seconds, least=2.5)
    bench.bar("(b) peak MiB", ours.peak_bytes / MIB, most=128)


def far_away(bench: Bench) -> None:
    """(b) again, with 20 ms added to each round trip to S3 and to the archive."""
    port = re.sub(r".*:", "", bench.s3.url)
    with (
        serving("delay", "127.0.0.1", port, "10") as s3_port,
        serving("delay", "127.0.0.1", str(bench.port), "10") as archive_port,
    ):
        url, endpoint = bench.url("b", archive_port), f"http://127.0.0.1:{s3_port}"
        ours, plain = bench.beside("(b) with 20 ms per round trip", url, endpoint)
    bench.bar("(b, 20 ms) times faster than the plain way", plain.seconds / ours.seconds, least=25)


def hundreds(bench: Bench) -> None:
    """(c) Ten members of 100 MB, and how near that is to what the same parts do without each other."""
    ours, plain = bench.beside("(c) 10 x 100 MB, half deflated", bench.url("c"))
    bench.bar("(c) times faster than the plain way", plain.seconds / ours.seconds, least=2.0)
    bench.bar("(c) peak MiB", ours.peak_bytes / MIB, most=128)
    bucket = bench.new_bucket()
    parts = ["fetch", bench.url("c"), bench.s3.url, bucket]
    fetch, _ = _timed([sys.executable, "-m", "tests.performance.ceiling", *parts], environment())
    put, _ = _timed([sys.executable, "-m", "tests.performance.ceiling", "put", *parts[1:]], environment())
    print(f"  fetching and inflating alone {fetch:.2f} s, putting alone {put:.2f} s")
    bench.bar("(c) share of the ceiling 1/(1/F + 1/U)", (fetch + put) / ours.seconds, least=0.7)


def five_gibibytes(bench: Bench) -> None:
    """(d) 5 GiB take no more memory than (a)."""
    small = _median([bench.packager(bench.url("a")) for _ in range(3)])
    large = bench.packager(bench.url("d"))
    print(f"(d) 5 GiB\n  packager  {large}\n  (a) again {small}, medians of 3", flush=True)
    bench.bar("(d) peak of 5 GiB over that of (a)", large.peak_bytes / small.peak_bytes, most=1.1)
    bench.bar("(d) peak MiB", large.peak_bytes / MIB, most=128)


def proof(bench: Bench) -> None:
    """What it costs that nothing is replaced before the whole archive is proven.

    The bars are on CPU time; wall time, most of which is the S3 server's, varies by more than they allow.
    """
    for name, what in (("a", "200 x 1 MB"), ("c", "10 x 100 MB")):
        empty: list[Took] = []
        over: dict[str, list[Took]] = {"some": [], "all": []}
        for _ in range(3):
            empty.append(bench.packager(bench.url(name)))
            for share, found in over.items():
                bucket = bench.new_bucket()
                bench.packager(bench.url(f"{name}-{share}"), bucket=bucket)
                found.append(bench.packager(bench.url(name), bucket=bucket))
        print(f"(proof) {what}, medians of 3\n  into nothing {_median(empty)}")
        for share, most in (("some", 1.1), ("all", 2.2)):
            took, plain = _median(over[share]), _median(empty)
            print(f"  over {share:4}    {took}, {took.seconds / plain.seconds:.2f} times the wall time", flush=True)
            bench.bar(
                f"(proof) {what}, {share} replaced: times the CPU time of an empty destination",
                took.cpu_seconds / plain.cpu_seconds, most=most,
            )  # fmt: skip
            bench.bar(f"(proof) {what}, {share} replaced: peak MiB", took.peak_bytes / MIB, most=128)


def _median(runs: list[Took]) -> Took:
    """Return the median of each figure."""
    middle = len(runs) // 2
    return Took(
        sorted(run.seconds for run in runs)[middle],
        sorted(run.peak_bytes for run in runs)[middle],
        sorted(run.cpu_seconds for run in runs)[middle],
    )


@dataclass(frozen=True)
class ControlGroup:
    """A control group with a share of one CPU, as a container has."""

    tasks: Path

    def enter(self) -> None:
        """Move the calling process into it."""
        self.tasks.write_text(str(os.getpid()))


@contextlib.contextmanager
def cpu_share(millis: int) -> Iterator[ControlGroup | None]:
    """Make a control group; yields None where this process may not."""
    old = Path("/sys/fs/cgroup/cpu")
    folder = (old if old.is_dir() else Path("/sys/fs/cgroup")) / f"packager-bench-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError:
        yield None
        return
    try:
        if old.is_dir():
            (folder / "cpu.cfs_period_us").write_text("100000")
            (folder / "cpu.cfs_quota_us").write_text(str(millis * 100))
        else:
            (folder / "cpu.max").write_text(f"{millis * 100} 100000")
        yield ControlGroup(folder / "cgroup.procs")
    except OSError:
        yield None
    finally:
        folder.rmdir()


def quarter(bench: Bench) -> None:
    """The smallest pod of Fargate: 0.25 vCPU, 512 MiB. Only told, for no bar is set."""
    with cpu_share(250) as group:
        if group is None:
            print("0.25 vCPU: not measured, for no control group can be made here", flush=True)
            return
        for name in ("a", "b", "c"):
            took = bench.packager(bench.url(name), group=group, CPU_LIMIT_MILLIS="250")
            print(f"({name}) at 0.25 vCPU  {took}", flush=True)
            bench.bar(f"({name}) at 0.25 vCPU, peak MiB", took.peak_bytes / MIB, most=128)


def start_up(bench: Bench) -> None:
    """CPU from exec to the first byte asked for."""
    code = (
        "import sys, time, packager.http1 as h\n"
        "old = h.Client._send\n"
        "async def send(*a, **k):\n"
        "    print(time.process_time(), flush=True)\n"
        "    raise SystemExit(0)\n"
        "h.Client._send = send\n"
        "from packager.cli import main\n"
        "main(sys.argv[1:])\n"
    )
    with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
        write_order(Attempt(bench.url("a"), "bucket", bench.s3.url).order(), Path(folder) / "order")
        command = [
            sys.executable,
            "-c",
            code,
            "run",
            "--order",
            f"{folder}/order",
            "--termination-log",
            f"{folder}/log",
        ]
        found = [
            subprocess.run(
                command, env=environment(), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            ).stdout
            for _ in range(5)
        ]
    seconds = sorted(float(text.split()[0]) for text in found)
    print(f"start-up: {seconds} CPU-s from exec to the first byte asked for")
    bench.bar("start-up CPU-s (median of 5)", seconds[2], most=0.3)


CASES: dict[str, Callable[[Bench], None]] = {
    "start": start_up, "a": megabytes, "b": kilobytes, "latency": far_away, "c": hundreds, "d": five_gibibytes,
    "proof": proof, "quarter": quarter,
}  # fmt: skip


def archives(folder: Path, cases: list[str]) -> None:
    """Make what is measured with, once."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = set(cases)

    def make(name: str, users: set[str], members: Iterator[tuple[str, int, bool]], seed: int = 0) -> None:
        if users & wanted:
            print(f"archive {name} …", flush=True)
            write_archive(folder / f"{name}.zip", members, seed=seed)

    def a(count: int) -> Iterator[tuple[str, int, bool]]:
        return ((f"file-{n:03}.bin", 1_000_000, n % 2 == 0) for n in range(count))

    def c(count: int) -> Iterator[tuple[str, int, bool]]:
        return ((f"file-{n}.bin", 100_000_000, n % 2 == 0) for n in range(count))

    make("a", {"start", "a", "d", "proof", "quarter"}, a(200))
    make("a-some", {"proof"}, a(20), seed=1000)
    make("a-all", {"proof"}, a(200), seed=1000)
    make("b", {"b", "latency", "quarter"}, ((f"d{n % 10}/file-{n:04}.txt", 4096, n % 2 == 0) for n in range(3000)))
    make("c", {"c", "proof", "quarter"}, c(10))
    make("c-some", {"proof"}, c(1), seed=1000)
    make("c-all", {"proof"}, c(10), seed=1000)
    make("d", {"d"}, ((f"file-{n}.bin", 512 * MIB, n % 2 == 0) for n in range(10)))


def main() -> int:
    """Measure what was asked for and return 1 if a bar was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", default=list(CASES), help=f"of {', '.join(CASES)}; all by default")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "packager-bench")
    options = parser.parse_args()
    print(f"load before: {os.getloadavg()[0]:.1f}")
    archives(options.folder / "archives", options.cases)
    with (
        tempfile.TemporaryDirectory(dir=options.folder) as store,
        run_versitygw(Path(store) / "s3") as s3,
        serving("files", str(options.folder / "archives")) as port,
    ):
        bench = Bench(options.folder, s3, port)
        for name in options.cases:
            CASES[name](bench)
    print(f"load after: {os.getloadavg()[0]:.1f}")
    for missed in bench.missed:
        print(f"missed: {missed}")
    return 1 if bench.missed else 0


if __name__ == "__main__":
    sys.exit(main())
