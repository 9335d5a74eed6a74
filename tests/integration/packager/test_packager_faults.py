"""Kills, cuts and errors at every request: after the re-run the bucket is that of an undisturbed run."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from entrypackage.failures import POLICIES, FailureClass
from packager.policy import METADATA_FILES
from tests.integration.packager.chaos import Line, plain_answer
from tests.integration.packager.conftest import Queue
from tests.integration.packager.origin import Origin
from tests.integration.packager.running import Attempt, Running, run, start
from tests.unit.packager.making import make_zip

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.packager.stores import S3Server

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
    new = replace(attempt, endpoint=line.url, sqs_endpoint=line.url, number=2)
    return Stage(s3, queue, line, new, folder)


@pytest.fixture(scope="module")
def undisturbed(versitygw_server: S3Server, moto_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the bucket looks like after a run that nothing disturbs, and how many requests that took."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with Origin(make_zip(NEW, 0)) as origin, Line(versitygw_server.url) as line:
        stage = set_stage(versitygw_server, moto_server, origin, line, folder, f"calm-{os.getpid()}")
        stage.attempt = replace(stage.attempt, sqs_endpoint=stage.queue.endpoint)
        assert run(stage.attempt, folder / "new", POD_UID="pod-1").code == 0
        assert len(stage.queue.bodies()) == 1
        return (*stage.result(), len(line.heads))


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


# The first requests only read; an undisturbed run takes about 27.
KILLS = [
    pytest.param(number, carried_out, marks=[pytest.mark.slow] if (number + carried_out) % 5 else [])
    for number in range(1, 27)
    for carried_out in (False, True)
]


@pytest.mark.parametrize(("number", "carried_out"), KILLS)
def test_a_kill_at_any_request_and_a_re_run_end_in_the_same_package(
    number: int,
    carried_out: bool,
    undisturbed: Any,
    versitygw_server: S3Server,
    moto_server: S3Server,
    tmp_path: Path,
) -> None:
    contents, inventory, _ = undisturbed
    fault = KillAt(number, carried_out=carried_out)
    with Origin(make_zip(NEW, 0)) as origin, Line(versitygw_server.url) as line:
        name = f"kill-{os.getpid()}-{number}-{carried_out:d}"
        stage = set_stage(versitygw_server, moto_server, origin, line, tmp_path, name)
        stage.attempt = replace(stage.attempt, sqs_endpoint=stage.queue.endpoint)
        line.fault = fault
        fault.process = start(stage.attempt.order(), tmp_path / "killed", POD_UID="pod-1")
        killed = fault.process.ended()
        line.fault = Once(0, b"")
        again = run(stage.attempt, tmp_path / "again", POD_UID="pod-1")

        assert killed.code in {-signal.SIGKILL, 0}
        assert again.code == 0, again.log
        assert stage.result() == (contents, inventory)
        assert versitygw_server.uploads(stage.attempt.bucket) == 0
        assert 1 <= len(stage.queue.bodies()) <= 2


FAULTS = {
    "503": plain_answer(503, "SlowDown"),
    "500": plain_answer(500, "InternalError"),
    "reset": b"",
}


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        pytest.param(number, kind, marks=[pytest.mark.slow] if (number + place) % 4 else [])
        for number in (1, 4, 6, 9, 11, 13, 16, 19, 22, 24)
        for place, kind in enumerate([*FAULTS, "lost"])
    ],
)
def test_a_passing_fault_changes_nothing(
    number: int, kind: str, undisturbed: Any, versitygw_server: S3Server, moto_server: S3Server, tmp_path: Path
) -> None:
    contents, inventory, _ = undisturbed
    with Origin(make_zip(NEW, 0)) as origin, Line(versitygw_server.url) as line:
        stage = set_stage(versitygw_server, moto_server, origin, line, tmp_path, f"{kind}-{os.getpid()}-{number}")
        stage.attempt = replace(stage.attempt, sqs_endpoint=stage.queue.endpoint)
        line.fault = Once(number, FAULTS.get(kind, b""), lost=kind == "lost")
        ended = run(stage.attempt, tmp_path / "new", POD_UID="pod-1")

        assert ended.code == 0, ended.log
        assert stage.result() == (contents, inventory)
        assert versitygw_server.uploads(stage.attempt.bucket) == 0
        assert len(stage.queue.bodies()) == 1


def test_sigterm_ends_uploads_and_reports(versitygw_server: S3Server, moto_server: S3Server, tmp_path: Path) -> None:
    with Origin(make_zip(NEW, 0)) as origin, Line(versitygw_server.url) as line:
        stage = set_stage(versitygw_server, moto_server, origin, line, tmp_path, f"term-{os.getpid()}")
        stage.attempt = replace(stage.attempt, sqs_endpoint=stage.queue.endpoint)

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
