"""What a re-export costs of which only the rendered PDF differs, as it does in every export of an unchanged entry."""

from __future__ import annotations

import os
import random
import re
from collections import Counter
from typing import TYPE_CHECKING

from tests.integration.packager.conftest import Queue
from tests.support.archive_origin import Origin
from tests.support.archives import make_zip
from tests.support.faulty_line import Line
from tests.support.packager_process import Attempt, pack_here

if TYPE_CHECKING:
    from packager.packing import PackingResult
    from tests.support.s3_servers import S3Server

MEMBERS = 200
MEMBER_BYTES = 1_000_000
METADATA = 5


def _archive(pdf: bytes) -> bytes:
    """200 MB that fit into a few in memory: each member repeats a block of its own."""
    source = random.Random(6)
    files = {
        f"run/{n:03}.dat": (source.randbytes(4096) * (MEMBER_BYTES // 4096 + 1))[:MEMBER_BYTES] for n in range(MEMBERS)
    }
    return make_zip({"EXP24000047.pdf": pdf, **files})


def kinds(line: Line) -> Counter[str]:
    """Count the requests by what they do."""
    counted: Counter[str] = Counter()
    for head in line.heads:
        method, target = head.split(b" ", 2)[:2]
        name = method.decode()
        if name == "POST" and b"AmazonSQS.SendMessage" in head:
            name = "SendMessage"
        elif b".entrypackage" in target:
            name += " inventory"
        elif b"?" in target:
            name += " " + next(word.decode() for word in (b"list-type", b"uploads", b"versioning") if word in target)
        elif name == "PUT" and target.rpartition(b"/")[2].decode() in {
            "entry.json", "entry_data.json", "input.json", "links.json", "README.md",
        }:  # fmt: skip
            name += " metadata"
        counted[name] += 1
    return counted


def uploaded(line: Line) -> int:
    """Return the bytes of all bodies that were put."""
    lengths = (re.search(rb"(?i)\r\ncontent-length: *(\d+)", head) for head in line.heads if head.startswith(b"PUT"))
    return sum(int(length.group(1)) for length in lengths if length)


async def test_a_re_export_costs_what_changed(versitygw_server: S3Server, moto_server: S3Server) -> None:
    name = f"again-{os.getpid()}"
    bucket, queue = versitygw_server.new_bucket(name), Queue(moto_server, name)

    async def pack(what: str, number: int, pdf: bytes) -> tuple[PackingResult, Counter[str], int, int, int]:
        with (
            Origin(_archive(pdf)) as origin,
            Line(versitygw_server.url) as line,
            Line(moto_server.url) as told,
        ):
            attempt = Attempt(
                origin.url, bucket, line.url, queue.url, told.url, number=number, trigger_id=f"evt_{number}",
                event_id=f"evt_{number}",
            )  # fmt: skip
            failure, outcome = await pack_here(attempt)
            assert failure is None, failure
            requests = kinds(line)
            print(
                f"\n{what}: {origin.sent} bytes fetched, {uploaded(line)} uploaded, {outcome.skipped} members skipped, "
                f"{requests.total()} requests to S3 {dict(sorted(requests.items()))}, {len(told.heads)} to SQS"
            )
            return outcome, requests, len(told.heads), origin.sent, uploaded(line)

    one, two = b"%PDF one" * 5000, b"%PDF two" * 5000
    _, first, _, first_fetched, first_uploaded = await pack("first export", 1, one)
    outcome, again, told, fetched, again_uploaded = await pack("only the PDF differs", 2, two)
    same, third, third_told, third_fetched, third_uploaded = await pack("nothing differs", 3, two)

    assert first_uploaded > MEMBERS * MEMBER_BYTES
    assert first["PUT"] == MEMBERS + 1
    assert outcome.skipped == MEMBERS
    # The PDF, the five files, and the inventory three times: claimed, published, announced. One look at each member.
    assert again["PUT"] == 1
    assert again["PUT metadata"] == METADATA
    assert again["PUT inventory"] == 3
    assert again["HEAD"] == MEMBERS
    rest = sum(count for kind, count in again.items() if kind not in {"PUT", "PUT metadata", "PUT inventory", "HEAD"})
    assert rest <= 10
    assert again_uploaded < first_uploaded / 1000
    assert told == 1
    assert fetched < first_fetched / 3  # of the archive no more than its end, which holds the directory, and the PDF
    # Nothing differs: not a member is put or read, and nobody is told.
    assert same.skipped == MEMBERS + 1
    assert third["PUT"] == 0
    assert third_uploaded < again_uploaded
    assert third_told == 0
    assert third_fetched <= fetched
    assert sum(third.values()) <= MEMBERS + METADATA + 14
