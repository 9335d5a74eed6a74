"""Two packagers on one destination: the loser is paused at a request and goes on after the winner is done."""

from __future__ import annotations

import json
import os
import signal
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from entrypackage.failures import POLICIES, FailureClass
from tests.integration.packager.chaos import Line
from tests.integration.packager.origin import Origin
from tests.integration.packager.running import Attempt, Running, run, start
from tests.unit.packager.making import make_zip

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.packager.stores import S3Server

LOSER = {"doc.pdf": b"%PDF loser", "a.txt": b"loser", "big.bin": b"l" * 6_000_000, "only-loser.txt": b"l"}
WINNER = {"doc.pdf": b"%PDF winner", "a.txt": b"winner", "big.bin": b"w" * 6_000_000}
PACKAGE = "benchling/EXP24000047/"


class PauseAt:
    """SIGSTOP at one request; the request itself is held back or has been answered."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: Running | None = None
        self.paused = threading.Event()
        self.head = b""

    def before(self, number: int, head: bytes) -> bytes | None:
        return None

    def after(self, number: int, head: bytes) -> bool:
        if number == self.number:
            assert self.process is not None
            self.process.signal(signal.SIGSTOP)
            self.head = head
            self.paused.set()
        return True


# 1 to 3 read; 4 claims. From then on whatever the loser does next must not reach the package.
POINTS = [pytest.param(n, marks=[pytest.mark.slow] if n not in {4, 9, 14} else []) for n in range(1, 21)]


@pytest.mark.parametrize("number", POINTS)
def test_a_paused_loser_leaves_the_package_to_the_winner(
    number: int, versitygw_server: S3Server, tmp_path: Path
) -> None:
    bucket = versitygw_server.new_bucket(f"fence-{os.getpid()}-{number}")
    pause = PauseAt(number)
    with (
        Origin(make_zip(LOSER, 0)) as loser_origin,
        Origin(make_zip(WINNER, 0)) as winner_origin,
        Line(versitygw_server.url, pause) as line,
    ):
        attempt = Attempt(loser_origin.url, bucket, line.url, number=1)
        loser = pause.process = start(attempt.order(), tmp_path / "loser", POD_UID="pod-loser")
        waited = threading.Event()
        while loser.alive and not pause.paused.wait(0.05):
            waited.wait(0.01)
        if not pause.paused.is_set():
            pytest.skip(f"the packager sends fewer than {number} requests")
        # It takes over 6 s: it outwaits what the loser may still have the right to do.
        won = run(
            replace(attempt, url=winner_origin.url, endpoint=versitygw_server.url, number=2), tmp_path / "winner",
            POD_UID="pod-winner",
        )  # fmt: skip
        assert won.code == 0, won.log
        threading.Event().wait(max(0.0, 10.5 - sum(won.report.seconds.values())))
        after_winner = versitygw_server.contents(bucket)
        loser.signal(signal.SIGCONT)
        lost = loser.ended()

    contents = versitygw_server.contents(bucket)
    # A loser that was paused after the answer to its last request had finished before the winner began.
    finished = len(line.heads) == number
    assert lost.code == (0 if finished else POLICIES[FailureClass.SUPERSEDED].exit_code), lost.log
    assert contents == after_winner
    package = {key.removeprefix(PACKAGE): body for key, body in contents.items() if key.startswith(PACKAGE)}
    assert {name: package[name] for name in WINNER} == WINNER
    assert "only-loser.txt" not in json.loads(package["entry.json"])["files"]
    assert "only-loser.txt" not in package
    assert versitygw_server.uploads(bucket) == 0
