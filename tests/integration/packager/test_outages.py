"""S3 or SQS down for a whole run: what it reports, what it leaves, and what the run after it makes of that."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from entrypackage.failures import POLICIES, FailureClass
from tests.integration.packager.test_faults import NEW, Stage, set_stage
from tests.support.archive_origin import Origin
from tests.support.archives import make_zip
from tests.support.faulty_line import Line, NoFault, is_message, plain_answer
from tests.support.packager_process import start

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.packager_process import Ended
    from tests.support.s3_servers import S3Server

PACKAGE = "benchling/EXP24000047/"


class Down(NoFault):
    """Answers with an error from the first request on that fits."""

    def __init__(self, answer: bytes, concerns: Callable[[bytes], bool], begins: Callable[[bytes], bool]) -> None:
        self._answer, self._concerns, self._begins = answer, concerns, begins
        self._down = False

    def before(self, number: int, head: bytes) -> bytes | None:
        self._down = self._down or self._begins(head)
        return self._answer if self._down and self._concerns(head) else None


def is_s3(head: bytes) -> bool:
    """Return whether a request is one to S3."""
    return not is_message(head)


def at_once(head: bytes) -> bool:
    """From the first request on."""
    return True


@dataclass(frozen=True)
class Outage:
    """What is down, and what the packager ends with."""

    fault: Down | None
    """None: SQS's port is closed."""
    failure: FailureClass


SLOW_DOWN = plain_answer(503, "SlowDown")


def sqs_outages() -> dict[str, Outage]:
    """SQS in trouble, and SQS gone."""
    return {
        "sqs-500": Outage(
            Down(plain_answer(500, "InternalFailure"), is_message, at_once), FailureClass.NOTIFICATION_FAILED
        ),
        "sqs-gone": Outage(None, FailureClass.NOTIFICATION_FAILED),
    }


def s3_outages() -> dict[str, Outage]:
    """S3 down from the start, and from several points of the writing on."""
    points: dict[str, Callable[[bytes], bool]] = {
        "s3-claim": lambda head: head.startswith(b"PUT"),
        "s3-part": lambda head: b"partNumber=2" in head,
        "s3-complete": lambda head: head.startswith(b"POST") and b"uploadId=" in head,
        "s3-metadata": lambda head: b"entry.json" in head and head.startswith(b"PUT"),
        "s3-deletes": lambda head: head.startswith(b"DELETE"),
    }
    return {
        name: Outage(Down(SLOW_DOWN, is_s3, begins), FailureClass.DESTINATION_DOWN) for name, begins in points.items()
    }


def closed_port() -> str:
    """Return the address of a port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def endure(
    outages: dict[str, Outage], s3: S3Server, moto: S3Server, origin: Origin, folder: Path, lines: ExitStack
) -> dict[str, tuple[Stage, Ended]]:
    """Run one packager in each outage, all at once because they mostly wait; return how they ended."""
    begun = {}
    for name, outage in outages.items():
        line = lines.enter_context(Line(s3.url))
        stage = set_stage(s3, moto, origin, line, folder / name, f"{name}-{os.getpid()}")
        if outage.fault is None:
            stage.attempt = replace(stage.attempt, sqs_endpoint=closed_port())
        else:
            line.fault = outage.fault
        begun[name] = (stage, start(stage.attempt.order(), folder / name / "down", POD_UID="pod-1"))
    return {name: (stage, running.ended()) for name, (stage, running) in begun.items()}


def repeat(stages: dict[str, Stage]) -> dict[str, Ended]:
    """Run the next attempt of each once the outage is over."""
    begun = {}
    for name, stage in stages.items():
        stage.line.fault = NoFault()
        attempt = replace(stage.attempt, number=3, sqs_endpoint=stage.queue.endpoint)
        begun[name] = start(attempt.order(), stage.folder / "again", POD_UID="pod-2")
    return {name: running.ended() for name, running in begun.items()}


def members(stage: Stage) -> dict[str, bytes]:
    """Return the package's objects that came from the archive."""
    contents = stage.s3.contents(stage.attempt.bucket, PACKAGE)
    return {
        name: body for key, body in contents.items() if (name := key.removeprefix(PACKAGE)) in NEW or name == "gone.txt"
    }


def test_sqs_or_s3_down_for_a_whole_run(versitygw_server: S3Server, moto_server: S3Server, tmp_path: Path) -> None:
    outages = sqs_outages() | {"s3-start": Outage(Down(SLOW_DOWN, is_s3, at_once), FailureClass.DESTINATION_DOWN)}
    with Origin(make_zip(NEW, 0)) as origin, ExitStack() as lines:
        ends = endure(outages, versitygw_server, moto_server, origin, tmp_path, lines)
        for name, (stage, ended) in ends.items():
            assert ended.code == POLICIES[outages[name].failure].exit_code, (name, ended.log)
            assert ended.report.failure is outages[name].failure
            assert stage.queue.bodies() == []
            if name.startswith("sqs"):
                assert members(stage) == NEW, "the package is complete"
                assert ended.report.touched
            else:
                assert not ended.report.touched
                assert len(stage.line.carried_out) == 0

        again = repeat({name: stage for name, (stage, _) in ends.items()})
        for name, ended in again.items():
            stage = ends[name][0]
            assert ended.code == 0, (name, ended.log)
            assert len(stage.queue.bodies()) == 1
            assert members(stage) == NEW
            if name.startswith("sqs"):
                assert ended.report.files_skipped == len(NEW)
                assert ended.report.files_uploaded == 5, "only the metadata"


@pytest.mark.slow
def test_s3_down_from_some_point_on(versitygw_server: S3Server, moto_server: S3Server, tmp_path: Path) -> None:
    outages = s3_outages()
    with Origin(make_zip(NEW, 0)) as origin, ExitStack() as lines:
        ends = endure(outages, versitygw_server, moto_server, origin, tmp_path, lines)
        for name, (stage, ended) in ends.items():
            assert ended.code == POLICIES[FailureClass.DESTINATION_DOWN].exit_code, (name, ended.log)
            assert ended.report.failure is FailureClass.DESTINATION_DOWN
            assert stage.queue.bodies() == []
        left = {name: versitygw_server.uploads(stage.attempt.bucket) for name, (stage, _) in ends.items()}
        assert left["s3-part"] + left["s3-complete"] > 0, "an upload cannot be given up while S3 is down"

        again = repeat({name: stage for name, (stage, _) in ends.items()})
        for name, ended in again.items():
            stage = ends[name][0]
            assert ended.code == 0, (name, ended.log)
            assert members(stage) == NEW
            assert len(stage.queue.bodies()) == 1
            assert versitygw_server.uploads(stage.attempt.bucket) == 0
