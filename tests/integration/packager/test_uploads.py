"""Unfinished uploads have an owner: whoever lost the claim leaves those of the winner alone."""

from __future__ import annotations

import asyncio
import os
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from entrypackage.failures import FailureClass
from tests.support.archive_origin import Origin
from tests.support.archives import make_zip
from tests.support.faulty_line import Line, NoFault
from tests.support.packager_process import Attempt, pack_here

if TYPE_CHECKING:
    from tests.support.s3_servers import S3Server

PACKAGE = "benchling/EXP24000047/"
WINNER = {"doc.pdf": b"%PDF winner", "big.bin": b"w" * 6_000_000}


class HeldUntil(NoFault):
    """One request that goes on only when it is told to."""

    def __init__(self, *marks: bytes) -> None:
        self.marks = marks
        self.reached = threading.Event()
        self.go_on = threading.Event()

    def before(self, number: int, head: bytes) -> bytes | None:
        if all(mark in head for mark in self.marks) and not self.reached.is_set():
            self.reached.set()
            self.go_on.wait(60)
        return None


async def test_a_loser_that_looks_for_old_uploads_leaves_those_of_the_winner(versitygw_server: S3Server) -> None:
    """Its list was asked for while the claim was its own, and holds what the winner has begun since."""
    bucket = versitygw_server.new_bucket(f"uploads-{os.getpid()}")
    looking, putting = HeldUntil(b"GET ", b"uploads="), HeldUntil(b"PUT ", b"partNumber=1")
    with (
        Origin(make_zip({"a.txt": b"loser"}, 0)) as loser_origin,
        Origin(make_zip(WINNER, 0)) as winner_origin,
        Line(versitygw_server.url, looking) as loser_line,
        Line(versitygw_server.url, putting) as winner_line,
    ):
        attempt = Attempt(loser_origin.url, bucket, loser_line.url, number=1)
        loser = asyncio.create_task(pack_here(attempt, POD_UID="pod-loser"))
        assert await asyncio.to_thread(looking.reached.wait, 60)
        other = replace(attempt, url=winner_origin.url, endpoint=winner_line.url, number=2)
        winner = asyncio.create_task(pack_here(other, POD_UID="pod-winner"))
        assert await asyncio.to_thread(putting.reached.wait, 60)  # it has outwaited what the loser may still do
        looking.go_on.set()
        lost, _ = await loser
        ended = [head for head in loser_line.heads if head.startswith(b"DELETE ")]
        putting.go_on.set()
        won, _ = await winner

    assert lost is not None
    assert lost.failure is FailureClass.SUPERSEDED
    assert ended == []
    assert won is None
    contents = versitygw_server.contents(bucket, PACKAGE)
    assert {name: contents[PACKAGE + name] for name in WINNER} == WINNER
    assert versitygw_server.uploads(bucket) == 0
