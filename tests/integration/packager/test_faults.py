"""Kills, cuts and errors at every request: after the re-run the bucket is that of an undisturbed run."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from entrypackage.failures import POLICIES, FailureClass
from packager.decisions.policy import METADATA_FILES
from tests.integration.packager.conftest import Queue
from tests.support.archive_origin import Origin
from tests.support.archives import make_zip
from tests.support.faulty_line import Line, is_message, plain_answer
from tests.support.packager_process import Attempt, Running, run, start

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.s3_servers import S3Server

OLD = {"doc.pdf": b"%PDF old", "same.txt": b"same", "gone.txt": b"gone", "big.bin": b"o" * 6_000_000}
NEW = {
    "doc.pdf": b"%PDF new",
    "same.txt": b"same",
    "added.txt": b"added",
    "big.bin": b"n" * 6_000_000,
    "more.bin": b"m" * 6_000_000,
}
INVENTORY = "benchling/.entrypackage/EXP24000047.json"


@dataclass
class Stage:
    """A destination that holds the old package, and the attempt that makes the new one."""

    s3: S3Server
    queue: Queue
    line: Line
    attempt: Attempt
    folder: Path
    bodies: list[str] = field(default_factory=list)

    def result(self) -> tuple[dict[str, bytes], Any]:
        """Return the bucket and its inventory, without the claim and what only names this test's bucket and ports."""
        contents = self.s3.contents(self.attempt.bucket)
        inventory = json.loads(contents.pop(INVENTORY))
        assert inventory["settled"]
        for member in ("message_id", "manifest_checksum"):
            inventory["notified"].pop(member)
        rows = {name: row if name not in METADATA_FILES else row[2] for name, row in inventory.pop("keys").items()}
        del inventory["claim"]
        origin = self.attempt.url.partition("/export")[0].encode()
        contents = {
            key: body.replace(self.attempt.bucket.encode(), b"BUCKET").replace(origin, b"ORIGIN")
            for key, body in contents.items()
        }
        return contents, (inventory, rows)


def set_stage(s3: S3Server, moto: S3Server, origin: Origin, line: Line, folder: Path, name: str) -> Stage:
    """Pack the old package, undisturbed."""
    bucket = s3.new_bucket(name)
    queue = Queue(moto, name)
    attempt = Attempt(origin.url, bucket, s3.url, queue.url, queue.endpoint)
    with Origin(make_zip(OLD, 0)) as old:
        assert run(replace(attempt, url=old.url, event_id="evt_0"), folder / "old", POD_UID="pod-0").code == 0
    queue.bodies()
    line.sqs = queue.endpoint
    new = replace(attempt, endpoint=line.url, sqs_endpoint=line.url, number=2)
    line.heads.clear()
    line.carried_out.clear()
    return Stage(s3, queue, line, new, folder)


@dataclass(frozen=True)
class Calm:
    """What a run leaves that nothing disturbs."""

    result: tuple[dict[str, bytes], Any]
    heads: list[bytes]
    """Of its requests to S3 and SQS."""
    asked: int
    """How many requests the archive's origin got."""


@pytest.fixture(scope="module")
def undisturbed(versitygw_server: S3Server, moto_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Calm:
    """What a run leaves that nothing disturbs."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with Origin(make_zip(NEW, 0)) as origin, Line(versitygw_server.url) as line:
        stage = set_stage(versitygw_server, moto_server, origin, line, folder, f"calm-{os.getpid()}-{folder.name}")
        assert run(stage.attempt, folder / "new", POD_UID="pod-1").code == 0
        assert len(stage.queue.bodies()) == 1
        return Calm(stage.result(), line.heads, origin.requests)


class KillAt:
    """SIGKILL at one request, before it is forwarded or after it was carried out but before its answer."""

    def __init__(self, number: int, *, carried_out: bool) -> None:
        self.number = number
        self.carried_out = carried_out
        self.process: Running | None = None

    def before(self, number: int, head: bytes) -> bytes | None:
        return self._kill() if number == self.number and not self.carried_out else None

    def after(self, number: int, head: bytes) -> bool:
        if number == self.number and self.carried_out:
            self._kill()
        return True

    def _kill(self) -> bytes:
        assert self.process is not None
        self.process.signal(signal.SIGKILL)
        return b""


class Once:
    """One fault at one request; with `lost`, the request is carried out and its answer lost."""

    def __init__(self, number: int, answer: bytes, *, lost: bool = False) -> None:
        self.number, self.answer, self.lost = number, answer, lost

    def before(self, number: int, head: bytes) -> bytes | None:
        return self.answer if number == self.number and not self.lost else None

    def after(self, number: int, head: bytes) -> bool:
        return not (number == self.number and self.lost)


REQUESTS = 27
"""What an undisturbed run sends to S3 and SQS; a slow one looks at its claim now and then besides."""
ASKED = 5
"""The most that it asks the archive's origin for; how often depends on what it can keep instead of reading twice."""

# The first requests only read. The last two send the message and record it.
KILLS = [
    pytest.param(
        number, carried_out, marks=[pytest.mark.slow] if number < REQUESTS - 1 and (number + carried_out) % 11 else []
    )
    for number in range(1, REQUESTS + 1)
    for carried_out in (False, True)
]


def test_the_points_are_all_of_a_run(undisturbed: Calm) -> None:
    own = [head for head in undisturbed.heads if not (head.startswith(b"HEAD") and INVENTORY.encode() in head)]
    assert len(own) == REQUESTS
    assert [is_message(head) for head in undisturbed.heads[-2:]] == [True, False]
    assert undisturbed.asked <= ASKED


def messages_due(carried_out: list[bytes]) -> int:
    """Return how many messages there are once a killed run was followed by a whole one.

    One; and one more if the first run had sent its own and could not record that.
    """
    sent = [place for place, head in enumerate(carried_out) if is_message(head)]
    if not sent:
        return 1
    recorded = any(head.startswith(b"PUT") and INVENTORY.encode() in head for head in carried_out[sent[-1] :])
    return 1 if recorded else 2


@pytest.mark.parametrize(("number", "carried_out"), KILLS)
def test_a_kill_at_any_request_and_a_re_run_end_in_the_same_package(
    number: int,
    carried_out: bool,
    undisturbed: Calm,
    versitygw_server: S3Server,
    moto_server: S3Server,
    tmp_path: Path,
) -> None:
    fault = KillAt(number, carried_out=carried_out)
    with Origin(make_zip(NEW, 0)) as origin, Line(versitygw_server.url) as line:
        name = f"kill-{os.getpid()}-{number}-{carried_out:d}"
        stage = set_stage(versitygw_server, moto_server, origin, line, tmp_path, name)
        line.fault = fault
        fault.process = start(stage.attempt.order(), tmp_path / "killed", POD_UID="pod-1")
        killed = fault.process.ended()
        due = messages_due(list(line.carried_out))
        line.fault = Once(0, b"")
        again = run(stage.attempt, tmp_path / "again", POD_UID="pod-1")

        assert killed.code == -signal.SIGKILL
        assert again.code == 0, again.log
        assert stage.result() == undisturbed.result
        assert versitygw_server.uploads(stage.attempt.bucket) == 0
        assert len(stage.queue.bodies()) == due


FAULTS = {
    "503": plain_answer(503, "SlowDown"),
    "500": plain_answer(500, "InternalError"),
    "reset": b"",
}
SAMPLE = {(4, "503"), (9, "lost"), (13, "reset"), (16, "lost"), (22, "503"), (24, "500"), (26, "lost"), (27, "reset")}


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        pytest.param(number, kind, marks=[] if (number, kind) in SAMPLE else [pytest.mark.slow])
        for number in (1, 4, 6, 9, 11, 13, 16, 19, 22, 24, 26, 27)
        for kind in [*FAULTS, "lost"]
    ],
)
def test_a_passing_fault_changes_nothing(
    number: int, kind: str, undisturbed: Calm, versitygw_server: S3Server, moto_server: S3Server, tmp_path: Path
) -> None:
    with Origin(make_zip(NEW, 0)) as origin, Line(versitygw_server.url) as line:
        stage = set_stage(versitygw_server, moto_server, origin, line, tmp_path, f"{kind}-{os.getpid()}-{number}")
        line.fault = Once(number, FAULTS.get(kind, b""), lost=kind == "lost")
        ended = run(stage.attempt, tmp_path / "new", POD_UID="pod-1")

        assert ended.code == 0, ended.log
        assert stage.result() == undisturbed.result
        assert versitygw_server.uploads(stage.attempt.bucket) == 0
        # Whether a message whose answer was lost was sent, nobody can know: it is sent again.
        sent_twice = kind == "lost" and is_message(line.heads[number - 1])
        assert len(stage.queue.bodies()) == (2 if sent_twice else 1)


def test_sigterm_ends_uploads_and_reports(versitygw_server: S3Server, moto_server: S3Server, tmp_path: Path) -> None:
    with Origin(make_zip(NEW, 0)) as origin, Line(versitygw_server.url) as line:
        stage = set_stage(versitygw_server, moto_server, origin, line, tmp_path, f"term-{os.getpid()}")

        class Term(Once):
            process: Running

            def before(self, number: int, head: bytes) -> bytes | None:
                if b"partNumber=2" in head:
                    self.process.signal(signal.SIGTERM)
                return None

        line.fault = fault = Term(0, b"")
        fault.process = start(stage.attempt.order(), tmp_path / "stopped")
        ended = fault.process.ended(25)

        assert ended.code == POLICIES[FailureClass.DISRUPTED].exit_code
        assert ended.report.failure is FailureClass.DISRUPTED
        assert versitygw_server.uploads(stage.attempt.bucket) == 0
