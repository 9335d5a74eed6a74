"""Tests again and again: which of them ended in different ways, and which never well.

``python -m tests.support.again --times N -- COMMAND…``, where the command runs pytest; the exit code is 1 if anything
failed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_BAD = ("failure", "error")
NOTHING_RUN = (2, 3, 4, 5)
"""pytest's exit codes when it ended before the tests did: interrupted, broken, wrongly called, no test found."""


@dataclass(frozen=True)
class Outcome:
    """How a test ended in one run, and how long it took."""

    failed: bool
    seconds: float


Run = dict[str, Outcome]


@dataclass(frozen=True)
class Failing:
    """A test that did not end well in every run."""

    name: str
    failed: int
    """In so many runs."""
    ran: int
    """It was part of so many runs; of a run that broke off, some are not."""
    shortest: float
    longest: float

    @property
    def differs(self) -> bool:
        """Whether it also ended well."""
        return self.failed < self.ran

    def __str__(self) -> str:
        """One line for a person."""
        kind = "differs" if self.differs else "fails  "
        times = f"{self.shortest:.1f} to {self.longest:.1f} s"
        return f"{kind}  failed in {self.failed} of {self.ran} runs, {times}  {self.name}"


def read_report(text: str) -> Run:
    """Read pytest's JUnit report; what was skipped counts as ended well."""
    run: Run = {}
    for case in ET.fromstring(text).iter("testcase"):
        name = f"{case.get('classname', '')}::{case.get('name', '')}".removeprefix("::")
        failed = any(case.find(kind) is not None for kind in _BAD)
        before = run.get(name, Outcome(failed=False, seconds=0.0))  # its set-up and its end may be told one by one
        run[name] = Outcome(failed or before.failed, before.seconds + float(case.get("time", "0")))
    return run


def failing(runs: Sequence[Mapping[str, Outcome]]) -> list[Failing]:
    """Return what did not end well in every run: first what differs, then what always fails, by name."""
    found = []
    for name in sorted({name for run in runs for name in run}):
        outcomes = [run[name] for run in runs if name in run]
        bad = sum(outcome.failed for outcome in outcomes)
        if bad:
            seconds = [outcome.seconds for outcome in outcomes]
            found.append(Failing(name, bad, len(outcomes), min(seconds), max(seconds)))
    return sorted(found, key=lambda one: not one.differs)


def missing(runs: Sequence[Mapping[str, Outcome]]) -> list[str]:
    """Return the names of tests that were in some runs and not in others."""
    return sorted(name for name in {name for run in runs for name in run} if any(name not in run for run in runs))


def _run(command: Sequence[str], report: Path) -> tuple[int, Run]:
    code = subprocess.run([*command, f"--junitxml={report}"], check=False).returncode
    return code, read_report(report.read_text()) if report.exists() else {}


def main(arguments: Sequence[str]) -> int:
    """Run the command so many times and say what differed."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.again", description=__doc__)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(arguments)
    if options.times < 1:
        parser.error("--times must be at least 1")
    runs: list[Run] = []
    codes: list[int] = []
    took: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(1, options.times + 1):
            print(f"==> run {number} of {options.times}", flush=True)
            began = time.monotonic()
            code, run = _run(options.command, Path(folder, f"{number}.xml"))
            took.append(time.monotonic() - began)
            codes.append(code)
            runs.append(run)
            if code in NOTHING_RUN:
                return code
    print(
        f"==> {options.times} runs, {min(took):.0f} to {max(took):.0f} s each, {sum(map(bool, codes))} of them failed"
    )
    for one in failing(runs):
        print(one)
    for name in missing(runs):
        print(f"not in every run  {name}")
    return int(any(codes) or bool(failing(runs)) or bool(missing(runs)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
