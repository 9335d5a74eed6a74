"""Answers of S3 that mean something else than they seem to say, and what is found at a destination."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from entrypackage.failures import FailureClass
from tests.support.archive_origin import Origin
from tests.support.archives import make_zip
from tests.support.faulty_line import Line, NoFault, plain_answer
from tests.support.packager_process import ENTRY, Attempt, pack_here, read_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from entrypackage.failures import Failure
    from packager.packing import PackingResult
    from tests.support.s3_servers import S3Server

PACKAGE = "benchling/EXP24000047/"
INVENTORY = "benchling/.entrypackage/EXP24000047.json"
FILES = {"EXP24000047.pdf": b"%PDF", "a.txt": b"a", "big.bin": bytes(range(256)) * 24_000}

_NUMBERS = itertools.count(1)


class Instead(NoFault):
    """Answers so to the first requests whose heads hold all the marks."""

    def __init__(self, answer: bytes, *marks: bytes, times: int = 1) -> None:
        self.answer, self.marks, self.times = answer, marks, times

    def before(self, number: int, head: bytes) -> bytes | None:
        if not self.times or not all(mark in head for mark in self.marks):
            return None
        self.times -= 1
        return self.answer


class Place:
    """One bucket, by way of a line."""

    def __init__(self, s3: S3Server, line: Line) -> None:
        self.s3, self.line = s3, line
        self.bucket = s3.new_bucket(f"said-{os.getpid()}-{next(_NUMBERS)}")
        self.attempts = 0

    async def pack(self, files: dict[str, bytes], **changes: Any) -> tuple[Failure | None, PackingResult]:
        """Pack an archive of these files."""
        self.attempts += 1
        variables = changes.pop("variables", {})
        with Origin(make_zip(files, 0)) as origin:
            attempt = Attempt(origin.url, self.bucket, self.line.url, number=self.attempts)
            return await pack_here(replace(attempt, **changes), **variables)

    @property
    def contents(self) -> dict[str, bytes]:
        """Everything in the bucket."""
        return self.s3.contents(self.bucket)

    def count(self, *marks: bytes) -> int:
        """Return how many requests held all these marks."""
        return sum(all(mark in head for mark in marks) for head in self.line.heads)


@pytest.fixture
def place(versitygw_server: S3Server) -> Iterator[Place]:
    """An empty bucket."""
    with Line(versitygw_server.url) as line:
        yield Place(versitygw_server, line)


@pytest.mark.parametrize("code", ["RequestTimeTooSkewed", "RequestExpired", "KMS.ThrottlingException"])
async def test_what_a_new_signature_may_mend_is_tried_again(place: Place, code: str) -> None:
    place.line.fault = Instead(plain_answer(403, code), b"PUT ", b"/a.txt ")

    assert (await place.pack(FILES))[0] is None
    assert place.count(b"PUT ", b"/a.txt ") == 2


async def test_a_refused_look_may_mean_that_the_session_ended(moto_server: S3Server) -> None:
    """S3 gives no reason with HEAD: with an expired session it says 400 and nothing more."""
    with Line(moto_server.url) as line, Line(moto_server.url) as sts:
        place = Place(moto_server, line)
        assert (await place.pack(FILES))[0] is None
        line.fault = Instead(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", b"HEAD ", b"/big.bin ")
        failure, outcome = await place.pack(
            FILES, extra={"role_arn": "arn:aws:iam::123456789012:role/writer"},
            variables={"AWS_ENDPOINT_URL_STS": sts.url},
        )  # fmt: skip

    assert failure is None
    assert outcome.skipped == len(FILES)
    assert len(sts.heads) == 2, "another session was asked for"


SAID = b"<Error><Code>%s</Code><Message>We encountered an internal error. Please try again.</Message></Error>"


def late_error(code: bytes) -> bytes:
    """Return an error as S3 writes it when it has said 200 already, to keep the connection alive."""
    body = b'  \n<?xml version="1.0" encoding="UTF-8"?>\n' + SAID % code
    return b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body


async def test_completing_is_tried_again_after_a_late_error(place: Place) -> None:
    place.line.fault = Instead(late_error(b"InternalError"), b"POST ", b"uploadId=")

    failure, _ = await place.pack(FILES)

    assert failure is None
    assert place.count(b"POST ", b"uploads=") == 1, "the parts that were put are good still"
    assert place.count(b"POST ", b"uploadId=") == 2
    assert place.contents[f"{PACKAGE}big.bin"] == FILES["big.bin"]


@pytest.mark.parametrize(
    ("answer", "marks"),
    [
        (late_error(b"InvalidPart"), (b"POST ", b"uploadId=")),
        (plain_answer(404, "NoSuchUpload"), (b"PUT ", b"partNumber=2")),
    ],
    ids=["completing", "a part"],
)
async def test_an_upload_that_somebody_ended_is_an_outage(place: Place, answer: bytes, marks: tuple[bytes]) -> None:
    """A lifecycle rule does that, or a person: no right is missing, and the next attempt begins a new one."""
    place.line.fault = Instead(answer, *marks)

    failure, _ = await place.pack(FILES)

    assert failure is not None
    assert failure.failure is FailureClass.DESTINATION_DOWN
    assert place.s3.uploads(place.bucket) == 0


async def test_an_entry_json_of_many_members_is_read(place: Place) -> None:
    """Of more than other answers may hold: a package must not grow until it can never be packed again."""
    rows = {f"{number:06}/{'n' * 90}": {"s3_key": f"{PACKAGE}{number:06}/{'n' * 90}"} for number in range(70_000)}
    document = json.dumps({"entry_id": ENTRY["id"], "canvas_id": "cnvs_old", "files": rows}, indent=2).encode()
    assert len(document) > 16 * 1024 * 1024
    place.s3.client.put_object(Bucket=place.bucket, Key=f"{PACKAGE}entry.json", Body=document)

    assert (await place.pack(FILES))[0] is None
    assert read_json(place.contents, f"{PACKAGE}entry.json")["canvas_id"] == "cnvs_old"


async def test_a_bucket_that_does_not_tell_its_versioning_is_left_as_it_was(place: Place) -> None:
    assert (await place.pack({**FILES, "old.txt": b"old"}))[0] is None
    before = place.contents
    place.line.fault = Instead(plain_answer(403, "AccessDenied"), b"GET ", b"versioning=")

    failure, outcome = await place.pack({**FILES, "a.txt": b"other"})

    assert failure is not None
    assert failure.failure is FailureClass.DESTINATION_DENIED
    assert not outcome.touched
    assert place.contents == before


@pytest.mark.parametrize("spoilt", [b"{broken", b"[]", b"\xff"])
async def test_a_spoilt_entry_json_costs_neither_canvas_nor_files(place: Place, spoilt: bytes) -> None:
    """The inventory is good, but what somebody wrote over the one may have been done to others too."""
    assert (await place.pack({**FILES, "old.txt": b"old"}, canvas_id="cnvs_1"))[0] is None
    place.s3.client.put_object(Bucket=place.bucket, Key=f"{PACKAGE}entry.json", Body=spoilt)

    failure, outcome = await place.pack(FILES)

    assert failure is None
    assert outcome.skipped == 0
    assert any("entry.json found here was unreadable" in notice for notice in outcome.notices)
    assert place.contents[f"{PACKAGE}old.txt"] == b"old"
    assert read_json(place.contents, f"{PACKAGE}entry.json")["canvas_id"] == "cnvs_1"
    assert read_json(place.contents, INVENTORY)["canvas_id"] == "cnvs_1"


async def test_a_failed_attempt_is_settled_only_when_nothing_of_it_is_on_the_wire(place: Place) -> None:
    """A put that was cut off is carried out a moment later; who finds the claim settled would not wait for it."""

    class Late(NoFault):
        reached = threading.Event()
        settled = threading.Event()

        def before(self, number: int, head: bytes) -> bytes | None:
            if b"PUT " in head and b"/a.txt " in head:
                self.reached.set()
                self.settled.wait(0.5)  # how long it takes on its way
            return None

        def after(self, number: int, head: bytes) -> bool:
            if self.reached.is_set() and head.startswith(b"PUT ") and INVENTORY.encode() in head:
                self.settled.set()
            return True

    fault = place.line.fault = Late()
    files = {"a.txt": b"a", "far.bin": bytes(3_000_000), "last.txt": b"z"}
    with Origin(make_zip(files, 0)) as origin:

        def expire_once_a_put_is_out(span: str) -> None:
            if not span.startswith(
                ("bytes=-", "bytes=0-")
            ):  # neither the directory nor a.txt, which is the first member
                fault.reached.wait()
                origin.expire_after_bytes = 0

        origin.on_range = expire_once_a_put_is_out
        failure, _ = await pack_here(Attempt(origin.url, place.bucket, place.line.url))

    assert failure is not None
    assert failure.failure is FailureClass.ARCHIVE_EXPIRED
    puts = [head.split(b" ")[1] for head in place.line.carried_out if head.startswith(b"PUT ")]
    assert puts[-1].endswith(INVENTORY.encode())
    assert any(path.endswith(b"/a.txt") for path in puts), "it was carried out, and before that"
    assert read_json(place.contents, INVENTORY)["settled"]


@pytest.mark.slow
async def test_a_failed_attempt_does_not_wait_for_ever_for_its_cleaning_up(place: Place) -> None:
    """Many uploads, and S3 answers no request to end one: why the attempt failed must be told nevertheless."""

    class Silent(NoFault):
        parts = threading.Event()
        over = threading.Event()

        def before(self, number: int, head: bytes) -> bytes | None:
            if b"partNumber=1" in head:
                self.parts.set()
            if head.startswith(b"DELETE "):
                self.over.wait(600)
                return b""
            return None

    fault = place.line.fault = Silent()
    with Origin(make_zip({f"{number}.bin": bytes(12_000_000) for number in range(4)}, 0)) as origin:

        def expire(number: int, sent: int) -> None:
            if sent > 6_000_000 and fault.parts.wait(30):
                origin.expire_after_bytes = 0

        origin.on_piece, origin.expiry_cuts = expire, True
        async with asyncio.timeout(60):
            failure, _ = await pack_here(Attempt(origin.url, place.bucket, place.line.url))
    fault.over.set()

    assert failure is not None
    assert failure.failure is FailureClass.ARCHIVE_EXPIRED
    place.line.fault = NoFault()
    assert (await place.pack(FILES, number=2))[0] is None
    assert place.s3.uploads(place.bucket) == 0
