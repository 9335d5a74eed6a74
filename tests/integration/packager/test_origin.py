"""The way to the archive goes wrong, or the archive is another all at once: it ends right, or nothing was touched."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from entrypackage.failures import POLICIES, FailureClass
from tests.integration.packager.test_faults import ASKED, NEW, OLD, Calm, Stage, set_stage
from tests.integration.packager.test_faults import undisturbed as undisturbed  # a fixture
from tests.support.archive_origin import Origin, Spoilt
from tests.support.archives import make_zip
from tests.support.faulty_line import Line
from tests.support.packager_process import run, start

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.packager_process import Running
    from tests.support.s3_servers import S3Server

PACKAGE = "benchling/EXP24000047/"
REFUSED = POLICIES[FailureClass.ARCHIVE_REFUSED].exit_code
UNREACHABLE = POLICIES[FailureClass.ARCHIVE_UNREACHABLE].exit_code


@pytest.fixture(autouse=True)
def _point(request: pytest.FixtureRequest, undisturbed: Calm) -> None:
    """Leave out the points that a run does not come to."""
    if request.node.callspec.params.get("number", 0) > undisturbed.asked:
        pytest.skip("the origin is not asked that often")


def package_of(stage: Stage) -> dict[str, bytes]:
    """Return everything under the package's prefix, by relative name."""
    contents = stage.s3.contents(stage.attempt.bucket, PACKAGE)
    return {key.removeprefix(PACKAGE): body for key, body in contents.items()}


SPOILT = {
    "reset": Spoilt(reset=True),
    "cut-at-once": Spoilt(cut_after=0),
    "cut-in-a-header": Spoilt(cut_after=17),
    "cut-after-100000": Spoilt(cut_after=100_000),
}
SPOILT_SAMPLE = ((3, "cut-in-a-header"),)


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        pytest.param(number, kind, marks=[] if (number, kind) in SPOILT_SAMPLE else [pytest.mark.slow])
        for number in range(1, ASKED + 1)
        for kind in SPOILT
    ],
)
def test_a_broken_answer_of_the_origin_changes_nothing(
    number: int, kind: str, undisturbed: Calm, versitygw_server: S3Server, moto_server: S3Server, tmp_path: Path
) -> None:
    with Origin(make_zip(NEW, 0), spoilt={number: SPOILT[kind]}) as origin, Line(versitygw_server.url) as line:
        name = f"origin-{os.getpid()}-{number}-{kind}"
        stage = set_stage(versitygw_server, moto_server, origin, line, tmp_path, name)
        ended = run(stage.attempt, tmp_path / "new", POD_UID="pod-1")

        assert ended.code == 0, ended.log
        if kind != "cut-after-100000":  # some answers are shorter
            assert origin.requests > undisturbed.asked
        assert stage.result() == undisturbed.result
        assert len(stage.queue.bodies()) == 1


class KillWhileAsking:
    """SIGKILL when the origin is asked for the n-th time, or once it has sent the first piece of that answer."""

    def __init__(self, number: int, *, in_the_answer: bool) -> None:
        self.number, self.in_the_answer = number, in_the_answer
        self.process: Running | None = None

    def asked(self, number: int) -> None:
        if number == self.number and not self.in_the_answer:
            self._kill()

    def sent(self, number: int, count: int) -> None:
        if number == self.number and self.in_the_answer:
            self._kill()

    def _kill(self) -> None:
        assert self.process is not None
        self.process.signal(signal.SIGKILL)


@pytest.mark.parametrize(
    ("number", "in_the_answer"),
    [
        pytest.param(number, in_the_answer, marks=[] if (number, in_the_answer) == (4, True) else [pytest.mark.slow])
        for number in range(1, ASKED + 1)
        for in_the_answer in (False, True)
    ],
)
def test_a_kill_while_the_archive_is_read(
    number: int,
    in_the_answer: bool,
    undisturbed: Calm,
    versitygw_server: S3Server,
    moto_server: S3Server,
    tmp_path: Path,
) -> None:
    fault = KillWhileAsking(number, in_the_answer=in_the_answer)
    with Origin(make_zip(NEW, 0)) as origin, Line(versitygw_server.url) as line:
        name = f"reading-{os.getpid()}-{number}-{in_the_answer:d}"
        stage = set_stage(versitygw_server, moto_server, origin, line, tmp_path, name)
        origin.on_request, origin.on_piece = fault.asked, fault.sent
        fault.process = start(stage.attempt.order(), tmp_path / "killed", POD_UID="pod-1")
        killed = fault.process.ended()
        origin.on_request = origin.on_piece = None
        again = run(stage.attempt, tmp_path / "again", POD_UID="pod-1")

        assert killed.code == -signal.SIGKILL
        assert again.code == 0, again.log
        assert stage.result() == undisturbed.result
        assert versitygw_server.uploads(stage.attempt.bucket) == 0
        assert len(stage.queue.bodies()) == 1


def another_etag(origin: Origin) -> None:
    """Say another ETag of the same bytes."""
    origin.etag = '"two"'


def another_length(origin: Origin) -> None:
    """Say the same ETag of a longer archive."""
    origin.body = bytes(origin.body) + b"more"


def other_bytes(origin: Origin) -> None:
    """Serve other members under the same ETag, length and directory."""
    directory = bytes(origin.body).index(b"PK\x01\x02")
    members = bytearray(bytes(origin.body)[:directory])
    for content in (b"m" * 50, b"n" * 50, b"added", b"%PDF new"):
        members = members.replace(content, content[::-1].swapcase())
    origin.body = bytes(members) + bytes(origin.body)[directory:]


def no_ranges(origin: Origin) -> None:
    """Serve the whole where a range is asked for."""
    origin.ranges = False


def a_wrong_range(origin: Origin) -> None:
    """Serve another range than was asked for, and say so."""
    origin.spoilt = {number: Spoilt(shift=1) for number in range(2, 50)}


CHANGES = (another_etag, another_length, other_bytes, no_ranges, a_wrong_range)
CHANGES_SAMPLE = ((2, other_bytes), (4, another_length))


@pytest.mark.parametrize(
    ("number", "change"),
    [
        pytest.param(number, change, marks=[] if (number, change) in CHANGES_SAMPLE else [pytest.mark.slow])
        for number in range(2, ASKED + 1)
        for change in CHANGES
    ],
)
def test_an_archive_that_changes_while_it_is_read_is_refused(
    number: int,
    change: Callable[[Origin], None],
    undisturbed: Calm,
    versitygw_server: S3Server,
    moto_server: S3Server,
    tmp_path: Path,
) -> None:
    archive = make_zip(NEW, 0)
    with Origin(archive) as origin, Line(versitygw_server.url) as line:
        name = f"change-{os.getpid()}-{number}-{change.__name__}".replace("_", "-")
        stage = set_stage(versitygw_server, moto_server, origin, line, tmp_path, name)
        before = package_of(stage)
        origin.on_request = lambda count: change(origin) if count == number else None
        ended = run(stage.attempt, tmp_path / "changed", POD_UID="pod-1")

        # An answer to another question than was asked is no other archive; it is asked again, here in vain.
        assert ended.code == (UNREACHABLE if change is a_wrong_range else REFUSED), ended.log
        assert stage.queue.bodies() == []
        assert versitygw_server.uploads(stage.attempt.bucket) == 0
        # The last request may be for what replaces something, when all was proven: then a change comes too late.
        assert not ended.report.touched or number == undisturbed.asked
        if not ended.report.touched:
            after = package_of(stage)
            assert {name: after[name] for name in before} == before
            assert ended.code == UNREACHABLE or after == before

        origin.body, origin.etag, origin.ranges, origin.spoilt, origin.on_request = archive, '"one"', True, {}, None
        again = run(stage.attempt, tmp_path / "again", POD_UID="pod-1")

        assert again.code == 0, again.log
        assert stage.result() == undisturbed.result
        assert len(stage.queue.bodies()) == 1


@pytest.mark.parametrize(
    "change",
    [another_etag, pytest.param(other_bytes, marks=pytest.mark.slow), pytest.param(no_ranges, marks=pytest.mark.slow)],
)
def test_an_archive_that_changed_when_a_broken_answer_is_resumed_is_refused(
    change: Callable[[Origin], None], versitygw_server: S3Server, moto_server: S3Server, tmp_path: Path
) -> None:
    with Origin(make_zip(NEW, 0), cut_every_bytes=300_000) as origin, Line(versitygw_server.url) as line:
        name = f"resume-{os.getpid()}-{change.__name__}".replace("_", "-")
        stage = set_stage(versitygw_server, moto_server, origin, line, tmp_path, name)
        before = package_of(stage)
        origin.on_piece = lambda number, count: change(origin) if number > 1 and count > 200_000 else None
        ended = run(stage.attempt, tmp_path / "changed", POD_UID="pod-1")

        assert ended.code == REFUSED, ended.log
        assert not ended.report.touched
        assert package_of(stage) == before


@pytest.mark.parametrize("etag", ['"one"', pytest.param('"two"', marks=pytest.mark.slow)])
def test_the_archive_is_another_in_the_next_attempt(
    etag: str, undisturbed: Calm, versitygw_server: S3Server, moto_server: S3Server, tmp_path: Path
) -> None:
    """Also one of the same length under the same ETag: only the directory's own sums say what is there already."""
    first = {name: body.swapcase() for name, body in NEW.items()} | {"gone.txt": b"gone"}
    with Origin(make_zip(first, 0)) as origin, Line(versitygw_server.url) as line:
        name = f"another-{os.getpid()}-{etag.strip(chr(34))}"
        stage = set_stage(versitygw_server, moto_server, origin, line, tmp_path, name)
        origin.expire_after_bytes, origin.expiry_cuts = 6_000_000, True
        ended = run(stage.attempt, tmp_path / "first", POD_UID="pod-1")
        assert ended.code == POLICIES[FailureClass.ARCHIVE_EXPIRED].exit_code
        origin.body, origin.etag, origin.expire_after_bytes = make_zip(NEW, 0), etag, None

        again = run(stage.attempt, tmp_path / "again", POD_UID="pod-1")

        assert again.code == 0, again.log
        assert stage.result() == undisturbed.result
        assert set(package_of(stage)) & {*OLD, *NEW} == set(NEW)
