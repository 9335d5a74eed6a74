"""Told to stop at any moment, or met by a defect: a report is left, the exit code is the documented one."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from controller.decisions.jobs import GRACE_SECONDS
from entrypackage.failures import POLICIES, FailureClass
from entrypackage.order import REPORT_BYTES, Report, encode_order, parse_report
from packager.stopping import LAST_MOMENT_SECONDS
from tests.integration.packager.conftest import Queue
from tests.support.archive_origin import Origin
from tests.support.archives import make_zip
from tests.support.faulty_line import Line, NoFault
from tests.support.packager_process import Attempt, environment, run, write_order
from tests.support.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.s3_servers import S3Server

FILES = {"doc.pdf": b"%PDF", "a.txt": b"a", "big.bin": b"b" * 6_000_000}


class Held(NoFault):
    """One request that is not forwarded, and not answered either while the packager lives."""

    def __init__(self, *marks: bytes) -> None:
        self.marks = marks
        self.reached = threading.Event()
        self.over = threading.Event()

    def before(self, number: int, head: bytes) -> bytes | None:
        if not all(mark in head for mark in self.marks):
            return None
        self.reached.set()
        self.over.wait(GRACE_SECONDS * 2)
        return b""


class HeldAnswer(Held):
    """One request that is carried out and never answered."""

    def before(self, number: int, head: bytes) -> bytes | None:
        return None

    def after(self, number: int, head: bytes) -> bool:
        return super().before(number, head) is None


class Started:
    """A packager in a process of its own, started as a pod's image does."""

    def __init__(self, attempt: Attempt, folder: Path, *, write: bool = True, **variables: str) -> None:
        """Start it; without `write` the order's folder is there already."""
        digest = encode_order(attempt.order()).digest
        if write:
            write_order(attempt.order(), folder / "order")
        self.digest = digest
        self._report = folder / "report"
        command = [
            sys.executable, "-m", "packager", "run", "--order", str(folder / "order"), "--digest", digest,
            "--termination-log", str(self._report),
        ]  # fmt: skip
        self.process = subprocess.Popen(
            command, env=environment(**variables), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )

    def stopped(self) -> tuple[int, Report, bytes, float]:
        """Send SIGTERM; return exit code, report, log, and how long it took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        return (*self.ended(), time.monotonic() - began)

    def ended(self) -> tuple[int, Report, bytes]:
        """Wait for its end and read what it left."""
        try:
            _, log = self.process.communicate(timeout=GRACE_SECONDS)
        finally:
            self.process.kill()
        assert self._report.exists(), log
        raw = self._report.read_bytes()
        assert len(raw) <= REPORT_BYTES
        report = parse_report(raw.decode())
        assert report is not None
        return self.process.returncode, report, log


def assert_disrupted(started: Started) -> None:
    """Stop it and check what it leaves."""
    code, report, log, seconds = started.stopped()

    assert code == POLICIES[FailureClass.DISRUPTED].exit_code, log
    assert report.failure is FailureClass.DISRUPTED
    assert report.order_digest == started.digest
    assert seconds < GRACE_SECONDS - 2
    assert b"Traceback" not in log


def test_the_last_moment_lies_within_the_grace_period() -> None:
    assert LAST_MOMENT_SECONDS < GRACE_SECONDS - 3


def test_stopped_in_its_first_moment(tmp_path: Path) -> None:
    """It listens before it reads its order, and that it reads from a pipe shows where it stands."""
    with Origin(make_zip(FILES)) as origin:
        attempt = Attempt(origin.url, "bucket", "http://127.0.0.1:9")
        write_order(attempt.order(), tmp_path / "whole")
        (tmp_path / "order").mkdir()
        os.mkfifo(tmp_path / "order/part-000")
        started = Started(attempt, tmp_path, write=False)
        with (tmp_path / "order/part-000").open("wb") as pipe:  # opens once the packager has opened its end
            started.process.send_signal(signal.SIGTERM)
            pipe.write((tmp_path / "whole/part-000").read_bytes())
        assert_disrupted(started)

        assert origin.requests == 0


@pytest.mark.parametrize("number", [1, 2], ids=["opening the archive", "reading its directory"])
def test_stopped_while_the_origin_is_silent(number: int, versitygw_server: S3Server, tmp_path: Path) -> None:
    bucket = versitygw_server.new_bucket(f"stop-origin-{os.getpid()}-{number}")
    reached, over = threading.Event(), threading.Event()
    # A directory of its own request: it must be longer than the end that is asked for first.
    files = {"/".join([f"{place:03}" + "n" * 190] * 5): b"" for place in range(400)}
    with Origin(make_zip(files)) as origin:

        def hold(request: int) -> None:
            if request == number:
                reached.set()
                over.wait(GRACE_SECONDS * 2)

        origin.on_request = hold
        started = Started(Attempt(origin.url, bucket, versitygw_server.url), tmp_path)
        assert reached.wait(30)
        assert_disrupted(started)
        over.set()
    assert versitygw_server.contents(bucket) == {}


HELD = {
    "listing": Held(b"list-type=2"),
    "claiming": HeldAnswer(b"PUT", b".entrypackage/"),
    "putting a file": Held(b"PUT", b"/a.txt"),
    "beginning an upload": HeldAnswer(b"POST", b"uploads="),
    "putting a part": Held(b"partNumber=2"),
    "completing an upload": HeldAnswer(b"POST", b"uploadId="),
    "putting entry.json": HeldAnswer(b"PUT", b"/entry.json"),
    "sending the message": HeldAnswer(b"AmazonSQS.SendMessage"),
}


QUICK = ("claiming", "putting a part", "sending the message")


@pytest.mark.parametrize("moment", [pytest.param(m, marks=[] if m in QUICK else pytest.mark.slow) for m in HELD])
def test_stopped_while_a_request_is_out(
    moment: str, versitygw_server: S3Server, moto_server: S3Server, tmp_path: Path
) -> None:
    held = HELD[moment]
    name = f"stop-{os.getpid()}-{list(HELD).index(moment)}"
    bucket, queue = versitygw_server.new_bucket(name), Queue(moto_server, name)
    with (
        Origin(make_zip(FILES, 0)) as origin,
        Line(versitygw_server.url, held) as line,
        Line(moto_server.url, held) as sqs_line,
    ):
        attempt = Attempt(origin.url, bucket, line.url, queue.url, sqs_line.url)
        started = Started(attempt, tmp_path, POD_UID="pod-1")
        assert held.reached.wait(30), started.process.poll()
        assert_disrupted(started)
        held.over.set()

        line.fault = sqs_line.fault = NoFault()
        again = run(attempt, tmp_path / "again", POD_UID="pod-1")

    assert again.code == 0, again.log
    contents = versitygw_server.contents(bucket, "benchling/EXP24000047/")
    assert {key.rpartition("/")[2] for key in contents} >= set(FILES)
    assert versitygw_server.uploads(bucket) == 0
    assert 1 <= len(queue.bodies()) <= 2


def test_stopped_while_sts_is_silent(versitygw_server: S3Server, tmp_path: Path) -> None:
    held = Held(b"POST")
    with Origin(make_zip(FILES)) as origin, Line(versitygw_server.url, held) as sts:
        attempt = Attempt(
            origin.url, "bucket", versitygw_server.url, extra={"role_arn": "arn:aws:iam::123456789012:role/writer"}
        )
        started = Started(attempt, tmp_path, AWS_ENDPOINT_URL_STS=sts.url)
        assert held.reached.wait(30)
        assert_disrupted(started)
        held.over.set()


@pytest.mark.slow
def test_stopped_while_s3_has_gone_silent_altogether(versitygw_server: S3Server, tmp_path: Path) -> None:
    """Cleaning up then gets no answer either; it is given up in time for the report."""
    bucket = versitygw_server.new_bucket(f"stop-silent-{os.getpid()}")

    class Silent(Held):
        def before(self, number: int, head: bytes) -> bytes | None:
            if self.reached.is_set() or b"partNumber=2" in head:
                self.reached.set()
                self.over.wait(GRACE_SECONDS * 2)
                return b""
            return None

    silent = Silent()
    with Origin(make_zip(FILES, 0)) as origin, Line(versitygw_server.url, silent) as line:
        started = Started(Attempt(origin.url, bucket, line.url), tmp_path)
        assert silent.reached.wait(30)
        assert_disrupted(started)
        silent.over.set()


def test_a_second_signal_does_not_break_off_the_cleaning_up(versitygw_server: S3Server, tmp_path: Path) -> None:
    bucket = versitygw_server.new_bucket(f"stop-twice-{os.getpid()}")

    class Twice(Held):
        process: subprocess.Popen[bytes]

        def before(self, number: int, head: bytes) -> bytes | None:
            if head.startswith(b"DELETE"):
                self.process.send_signal(signal.SIGTERM)
            return super().before(number, head)

    held = Twice(b"partNumber=2")
    with Origin(make_zip(FILES, 0)) as origin, Line(versitygw_server.url, held) as line:
        started = Started(Attempt(origin.url, bucket, line.url), tmp_path)
        held.process = started.process
        assert held.reached.wait(30)
        assert_disrupted(started)
        held.over.set()
    assert versitygw_server.uploads(bucket) == 0


@pytest.mark.parametrize(
    ("files", "failure"),
    [(FILES, None), ({"../x": b""}, FailureClass.ARCHIVE_REFUSED)],
    ids=["packed", "refused"],
)
def test_what_became_of_it_stands_once_it_is_reported(
    files: dict[str, bytes], failure: FailureClass | None, versitygw_server: S3Server, tmp_path: Path
) -> None:
    """Signals from the report's last byte on, until the process is gone."""
    bucket = versitygw_server.new_bucket(f"stop-late-{os.getpid()}-{failure is None:d}")
    pipe = tmp_path / "report"
    os.mkfifo(pipe)
    with Origin(make_zip(files)) as origin:
        started = Started(Attempt(origin.url, bucket, versitygw_server.url), tmp_path)
        raw = pipe.read_bytes()  # until the packager has written and closed it
        signals = itertools.cycle((signal.SIGTERM, signal.SIGINT))
        while started.process.poll() is None:
            started.process.send_signal(next(signals))
            with contextlib.suppress(subprocess.TimeoutExpired):
                started.process.wait(0.001)
        _, log = started.process.communicate()

    report = parse_report(raw.decode())
    assert report is not None
    assert report.failure is failure
    assert started.process.returncode == (POLICIES[failure].exit_code if failure else 0), log
    assert b"Traceback" not in log


@pytest.mark.parametrize(
    ("attempt", "failure"),
    [
        pytest.param(
            Attempt("http://127.0.0.1:9/x.zip", "bucket", "http://127.0.0.1:9"), FailureClass.ARCHIVE_UNREACHABLE,
            marks=pytest.mark.slow,
        ),
        (Attempt("ftp://127.0.0.1/x.zip", "bucket", "http://127.0.0.1:9"), FailureClass.ORDER_INVALID),
    ],
)  # fmt: skip
def test_an_order_that_leads_nowhere_is_reported(attempt: Attempt, failure: FailureClass, tmp_path: Path) -> None:
    code, report, _ = Started(attempt, tmp_path).ended()

    assert (code, report.failure) == (POLICIES[failure].exit_code, failure)


def test_a_defect_is_reported(tmp_path: Path) -> None:
    """A region that no check of the settings lets through stands for whatever is not foreseen."""
    with Origin(make_zip(FILES)) as origin:
        started = Started(Attempt(origin.url, "bucket", "http://127.0.0.1:9", extra={"region": "a\r\nb"}), tmp_path)
        code, report, log = started.ended()

    assert code == POLICIES[FailureClass.INTERNAL].exit_code
    assert report.failure is FailureClass.INTERNAL
    assert report.order_digest == started.digest
    assert b"topsecretsignature" not in log
    assert all(json.loads(line) for line in log.splitlines())


def test_whatever_s3_says_the_report_is_json(versitygw_server: S3Server, tmp_path: Path) -> None:
    said = (
        b'<Error><Code>Denied"\x01\\</Code><Message>\x00\x1b[2J"\\'
        + "𝄞".encode() * 900
        + b"\xed\xa0\x80</Message></Error>"
    )
    answer = f"HTTP/1.1 403 No\r\nContent-Length: {len(said)}\r\nConnection: close\r\n\r\n".encode() + said

    class Denied(NoFault):
        def before(self, number: int, head: bytes) -> bytes | None:
            return answer if b"list-type=2" in head else None

    names = {"𝄞" * 200 + case: b"" for case in ("a", "A", "b", "B")}
    bucket = versitygw_server.new_bucket(f"stop-said-{os.getpid()}")
    with Origin(make_zip(names)) as origin, Line(versitygw_server.url, Denied()) as line:
        code, report, _ = Started(Attempt(origin.url, bucket, line.url), tmp_path).ended()

    assert code == POLICIES[FailureClass.DESTINATION_DENIED].exit_code
    assert "𝄞" in report.message
