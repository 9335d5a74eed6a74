"""Of several runs of the tests: what differed, what always fails, and the exit code."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.again import Failing, Outcome, failing, missing, read_report
from tests.support.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

WELL, BADLY = Outcome(failed=False, seconds=1.0), Outcome(failed=True, seconds=3.0)

REPORT = """<?xml version="1.0"?><testsuites><testsuite>
<testcase classname="tests.a" name="good" time="0.5"/>
<testcase classname="tests.a" name="skipped" time="0"><skipped/></testcase>
<testcase classname="tests.a" name="wrong" time="2"><failure message="no"/></testcase>
<testcase classname="tests.a" name="ends" time="1"/>
<testcase classname="tests.a" name="ends" time="1"><error message="at teardown"/></testcase>
</testsuite></testsuites>"""


def test_a_report_is_read() -> None:
    assert read_report(REPORT) == {
        "tests.a::good": Outcome(failed=False, seconds=0.5),
        "tests.a::skipped": Outcome(failed=False, seconds=0.0),
        "tests.a::wrong": Outcome(failed=True, seconds=2.0),
        "tests.a::ends": Outcome(failed=True, seconds=2.0),
    }


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([{"a": WELL}, {"a": WELL}], []),
        ([{"a": BADLY}, {"a": BADLY}], [Failing("a", 2, 2, 3.0, 3.0)]),
        ([{"a": BADLY}, {"a": WELL}], [Failing("a", 1, 2, 1.0, 3.0)]),
        # What differs comes first; a run that broke off has no say about what it did not come to.
        (
            [{"a": BADLY, "b": WELL}, {"a": BADLY, "b": BADLY}, {"a": BADLY}],
            [Failing("b", 1, 2, 1.0, 3.0), Failing("a", 3, 3, 3.0, 3.0)],
        ),
    ],
)
def test_what_did_not_end_well_in_every_run(runs: list[dict[str, Outcome]], expected: list[Failing]) -> None:
    assert failing(runs) == expected


def test_what_was_not_in_every_run() -> None:
    assert missing([{"a": WELL, "b": WELL}, {"a": WELL}]) == ["b"]


def test_a_line_says_whether_it_differs() -> None:
    assert str(Failing("a", 1, 2, 1.0, 3.0)) == "differs  failed in 1 of 2 runs, 1.0 to 3.0 s  a"
    assert str(Failing("a", 2, 2, 1.0, 3.0)) == "fails    failed in 2 of 2 runs, 1.0 to 3.0 s  a"


TURNS = """
from pathlib import Path

def test_good():
    pass

def test_second_time():
    before = Path(__file__).with_name("ran")
    if not before.exists():
        before.touch()
        raise AssertionError
"""


@pytest.mark.parametrize(("chosen", "code"), [("::test_good", 0), ("", 1), ("::absent", 4)])
def test_on_the_command_line(chosen: str, code: int, tmp_path: Path) -> None:
    (tmp_path / "test_turns.py").write_text(TURNS)
    pytest_command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "tests.support.again", "--times", "2", "--"),
            *(*pytest_command, "-c", "/dev/null", f"{tmp_path / 'test_turns.py'}{chosen}"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == code, ended.stdout + ended.stderr
    assert ("differs  failed in 1 of 2 runs" in ended.stdout) == (code == 1)
