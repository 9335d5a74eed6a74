"""What the settings of a destination promise: keys, tags, queues, regions, roles, and refusals told in one sentence."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

import pytest

from entrypackage.backoff import Backoff
from entrypackage.failures import Failure, FailureClass
from packager.aws.queue import queue_region
from packager.aws.store import ask_region
from packager.http1 import Client
from packager.retrying import Retrying
from tests.integration.packager.conftest import Queue
from tests.support.archive_origin import Origin
from tests.support.archives import make_zip
from tests.support.faulty_line import Line, NoFault, plain_answer
from tests.support.packager_process import ENTRY, Attempt, pack_here, read_json
from tests.support.s3_servers import sqs_client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from packager.packing import PackingResult
    from tests.support.s3_servers import S3Server

PACKAGE = "benchling/EXP24000047/"
INVENTORY = "benchling/.entrypackage/EXP24000047.json"
BIG = bytes(range(256)) * 24_000
FILES = {"EXP24000047.pdf": b"%PDF", "a.txt": b"a", "big.bin": BIG}

_NUMBERS = itertools.count(1)


class Place:
    """One bucket, and attempts upon it by way of a line that counts and may refuse."""

    def __init__(self, s3: S3Server, bucket: str, line: Line) -> None:
        self.s3, self.bucket, self.line = s3, bucket, line
        self.attempts = 0

    async def pack(self, files: dict[str, bytes], **changes: Any) -> tuple[Failure | None, PackingResult]:
        """Pack an archive of these files."""
        self.attempts += 1
        number = self.attempts
        variables = changes.pop("variables", {})
        with Origin(make_zip(files, 0)) as origin:
            attempt = Attempt(
                origin.url, self.bucket, self.line.url, number=number, trigger_id=f"evt_{number}",
                event_id=f"evt_{number}",
            )  # fmt: skip
            return await pack_here(replace(attempt, **changes), **variables)

    async def packed(self, files: dict[str, bytes], **changes: Any) -> PackingResult:
        """Pack, and insist that it went well."""
        failure, outcome = await self.pack(files, **changes)
        assert failure is None, failure
        return outcome

    def head(self, key: str) -> dict[str, Any]:
        """Return what S3 says of an object."""
        return dict(self.s3.client.head_object(Bucket=self.bucket, Key=key))

    def tags(self, key: str) -> dict[str, str]:
        """Return an object's tags."""
        rows = self.s3.client.get_object_tagging(Bucket=self.bucket, Key=key)["TagSet"]
        return {row["Key"]: row["Value"] for row in rows}


def _place(server: S3Server, **options: bool) -> Iterator[Place]:
    with Line(server.url) as line:
        yield Place(server, server.new_bucket(f"place.{os.getpid()}-{next(_NUMBERS)}", **options), line)


@pytest.fixture
def place(versitygw_server: S3Server) -> Iterator[Place]:
    """A bucket, with a dot in its name, on a real server."""
    yield from _place(versitygw_server)


@pytest.fixture(name="either")
def either_place(s3: S3Server) -> Iterator[Place]:
    """The same on each server in turn."""
    yield from _place(s3)


@pytest.fixture
def moto_place(moto_server: S3Server) -> Iterator[Place]:
    """The same on moto, which knows more of AWS's options."""
    yield from _place(moto_server)


KEY = "arn:aws:kms:us-east-1:123456789012:key/0123abcd-0000-0000-0000-000000000000"
SETTINGS = {
    "kms_key_id": KEY,
    "tags": {"lab": "A-B_C.d", "cost+centre": "0.5 = 1/2 @x:y", "ü": "plus+space here"},
    "metadata": {"Owner": "Ada Lovelace", "note": "a  b; c=d"},
}
"""With all that must survive the way through a header."""

OPTIONS = "entrypackage-options"
"""What the packager adds to the metadata, to know later with which settings an object was stored."""


def assert_stored_with(place: Place, keys: set[str], settings: dict[str, Any]) -> None:
    """Every object, the inventory among them, has key, tags and metadata."""
    assert {INVENTORY, f"{PACKAGE}entry.json", f"{PACKAGE}big.bin", f"{PACKAGE}a.txt"} <= keys
    for key in keys:
        head = place.head(key)
        assert head.get("SSEKMSKeyId") == settings.get("kms_key_id"), key
        assert head.get("ServerSideEncryption", "AES256") == ("aws:kms" if "kms_key_id" in settings else "AES256"), key
        wanted = {name.lower(): value for name, value in settings.get("metadata", {}).items()}
        found = {name.lower(): value for name, value in head["Metadata"].items()}
        assert (found.pop(OPTIONS, None) is None) == (not settings), key
        assert found == wanted, key
        assert place.tags(key) == settings.get("tags", {}), key


async def test_every_object_has_key_tags_and_metadata(moto_place: Place) -> None:
    """Single puts, parts, metadata files and the inventory; also after another run, and those that were skipped."""
    await moto_place.packed(FILES, extra=SETTINGS)
    keys = moto_place.s3.keys(moto_place.bucket)
    assert_stored_with(moto_place, keys, SETTINGS)

    outcome = await moto_place.packed({**FILES, "EXP24000047.pdf": b"%PDF again"}, extra=SETTINGS)

    assert outcome.skipped == 2
    assert_stored_with(moto_place, keys, SETTINGS)


async def test_a_changed_setting_reaches_objects_that_would_be_skipped(moto_place: Place) -> None:
    await moto_place.packed(FILES)
    keys = moto_place.s3.keys(moto_place.bucket)

    outcome = await moto_place.packed(FILES, extra=SETTINGS)

    assert outcome.skipped == 0
    assert_stored_with(moto_place, keys, SETTINGS)
    assert (await moto_place.packed(FILES, extra=SETTINGS)).skipped == len(FILES)

    other = {**SETTINGS, "tags": {"lab": "C"}}
    assert (await moto_place.packed(FILES, extra=other)).skipped == 0
    assert_stored_with(moto_place, keys, other)


async def test_a_setting_that_changed_in_a_broken_attempt_is_not_taken_for_done(moto_place: Place) -> None:
    """Some objects have the new key then: the next attempt must neither think that all have, nor put those again."""
    await moto_place.packed(FILES)
    keys = moto_place.s3.keys(moto_place.bucket)

    moto_place.line.fault = Refusing(b"PUT", b"/a.txt")
    failure, _ = await moto_place.pack(FILES, extra=SETTINGS)
    assert failure is not None
    moto_place.line.fault = NoFault()

    outcome = await moto_place.packed(FILES, extra=SETTINGS)

    assert outcome.skipped < len(FILES)
    assert_stored_with(moto_place, keys, SETTINGS)


async def test_what_is_kept_back_is_not_skipped_later_with_other_settings(moto_server: S3Server) -> None:
    for place in _place(moto_server, versioned=False):
        await place.packed(FILES)
        await place.packed({"EXP24000047.pdf": b"%PDF"}, extra=SETTINGS)  # the others stay, as they were stored
        assert place.tags(f"{PACKAGE}a.txt") == {}

        await place.packed(FILES, extra=SETTINGS)

        assert_stored_with(place, place.s3.keys(place.bucket), SETTINGS)


async def test_metadata_of_other_letters_goes_as_s3_wants_it(moto_place: Place) -> None:
    await moto_place.packed(FILES, extra={"metadata": {"owner": "Müller"}})

    assert moto_place.head(f"{PACKAGE}a.txt")["Metadata"]["owner"] == "=?UTF-8?B?TcO8bGxlcg==?="


@pytest.mark.parametrize("metadata", [{"a b": "c"}, {"a": "b\r\nx-amz-acl: public-read"}, {"a:": "b"}, {"": "b"}])
async def test_metadata_that_no_header_can_hold_is_refused(moto_place: Place, metadata: dict[str, str]) -> None:
    failure, _ = await moto_place.pack(FILES, extra={"metadata": metadata})

    assert failure is not None
    assert failure.failure is FailureClass.ORDER_INVALID
    assert moto_place.s3.keys(moto_place.bucket) == set()


NAMES = [
    "plain", "with space", " lead", "trail ", "plus+plus", "percent%", "percent%20", "%2e%2e", "q?x=1&y=2", "#hash",
    "~tilde", "st*r", "it's", 'quo"te', "(a)!", "a;b:c", "a=b,c$d@e", "<tag>&amp;", "[{^`|}]", "ü", "e\u0301",
    "\U0001d11e", "\u202egpj.exe", "a\u00a0b", "...", "dots..", ".hidden", "aux", "x" * 200, "\u65e5\u672c/\u8a9e.txt",
]  # fmt: skip
UNWRITABLE_IN_XML = "not a character \uffff"


async def test_every_key_is_stored_under_exactly_its_name(either: Place) -> None:
    """And found again by the next run's list and HEAD, and removed by the one after it."""
    names = [*NAMES, UNWRITABLE_IN_XML] if either.s3.kind == "moto" else NAMES  # versitygw lists it as another one
    files = {f"{number:02}/{name}": name.encode() for number, name in enumerate(names)}

    await either.packed(files)

    stored = either.s3.contents(either.bucket, PACKAGE)
    assert {name: stored.get(PACKAGE + name) for name in files} == files
    assert set(stored) == {PACKAGE + name for name in files} | {key for key in stored if key.count("/") == 2}

    assert (await either.packed(files)).skipped == len(files)
    assert either.s3.contents(either.bucket, PACKAGE).keys() == stored.keys()

    await either.packed({"EXP24000047.pdf": b"%PDF"})
    left = {key for key in either.s3.keys(either.bucket, PACKAGE) if key.count("/") > 2}
    assert left == set()


async def test_large_files_of_odd_names_leave_no_upload(either: Place) -> None:
    files = {f"{name}/big": BIG for name in ("a b+c%20d", "ü~*", "q?x=1&uploadId=2")}
    await either.packed(files)

    stored = either.s3.contents(either.bucket, PACKAGE)
    assert {name: stored.get(PACKAGE + name) for name in files} == files
    assert (await either.packed(files)).skipped == len(files)
    assert either.s3.uploads(either.bucket) == 0


async def test_an_upload_that_was_left_under_an_odd_name_is_ended(either: Place) -> None:
    await either.packed(FILES)
    for name in ("a b+c%20d", "ü~*"):
        either.s3.client.create_multipart_upload(Bucket=either.bucket, Key=PACKAGE + name)

    await either.packed(FILES)

    assert either.s3.uploads(either.bucket) == 0


async def test_a_prefix_and_a_display_id_may_be_odd_too(either: Place) -> None:
    entry = {**ENTRY, "displayId": "EXP #1 (ü+%)"}
    await either.packed(FILES, entry=entry, prefix="lab A/50% + x")
    outcome = await either.packed(FILES, entry=entry, prefix="lab A/50% + x")

    prefix = "lab A/50% + x/EXP #1 (ü+%)/"
    stored = either.s3.contents(either.bucket)
    assert {name: stored.get(prefix + name) for name in FILES} == FILES
    assert outcome.skipped == len(FILES)
    assert "lab A/50% + x/.entrypackage/EXP #1 (ü+%).json" in stored


class Refusing(NoFault):
    """Says AccessDenied to every request whose head holds all the marks; counts them."""

    def __init__(self, *marks: bytes, absent: bytes = b"\0") -> None:
        self.marks, self.absent = marks, absent
        self.refused = 0

    def before(self, number: int, head: bytes) -> bytes | None:
        if self.absent in head or not all(mark in head for mark in self.marks):
            return None
        self.refused += 1
        answer = plain_answer(403, "AccessDenied")
        return answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if head.startswith(b"HEAD") else answer


REFUSALS = {
    "put": (Refusing(b"PUT ", b"/a.txt "), 'storing a file "benchling/EXP24000047/a.txt"'),
    "begin parts": (Refusing(b"POST ", b"?uploads="), 'beginning a large file "benchling/EXP24000047/big.bin"'),
    "part": (Refusing(b"PUT ", b"partNumber="), "storing a part of a large file"),
    "complete parts": (Refusing(b"POST ", b"?uploadId="), "completing a large file"),
    "entry.json": (Refusing(b"PUT ", b"/entry.json "), 'storing a file "benchling/EXP24000047/entry.json"'),
    "list": (Refusing(b"GET ", b"list-type=2"), "listing the package"),
    "list uploads": (Refusing(b"GET ", b"uploads="), "listing unfinished uploads"),
    "versioning": (Refusing(b"GET ", b"versioning="), "asking for versioning"),
    "delete": (Refusing(b"DELETE ", b"/old.txt "), 'removing a file "benchling/EXP24000047/old.txt"'),
    "look": (Refusing(b"HEAD ", b"/same.txt "), 'looking at a file "benchling/EXP24000047/same.txt"'),
    "read the inventory": (Refusing(b"GET ", b"/.entrypackage/"), f'reading a file "{INVENTORY}"'),
    "write the inventory": (Refusing(b"PUT ", b"/.entrypackage/"), f'writing the inventory "{INVENTORY}"'),
    "read entry.json": (Refusing(b"GET ", b"/entry.json "), 'reading a file "benchling/EXP24000047/entry.json"'),
}


@pytest.mark.parametrize("right", REFUSALS)
async def test_a_right_that_is_missing_is_told_at_once(right: str, place: Place) -> None:
    fault, sentence = REFUSALS[right]
    fault.refused = 0
    await place.packed({"EXP24000047.pdf": b"%PDF", "old.txt": b"old", "same.txt": b"same"})
    before = place.s3.contents(place.bucket, PACKAGE)
    place.line.fault = fault

    failure, _ = await place.pack({**FILES, "same.txt": b"same"})

    assert failure is not None
    assert failure.failure is FailureClass.DESTINATION_DENIED
    assert f"403 AccessDenied to {sentence}" in failure.message
    assert not failure.message.rstrip().endswith(":")
    # Not once more of the same: what is refused for want of a right is refused again. Settling the claim may ask twice.
    assert 1 <= fault.refused <= 2
    if right in {"list", "list uploads", "look", "read the inventory", "write the inventory", "read entry.json"}:
        assert place.s3.contents(place.bucket, PACKAGE) == before

    place.line.fault = NoFault()
    assert place.s3.uploads(place.bucket) == 0
    await place.packed({**FILES, "same.txt": b"same"})


@pytest.mark.parametrize(
    ("status", "code", "failure"),
    [
        (403, "AccessDenied", FailureClass.DESTINATION_DENIED),
        (400, "com.amazon.coral.service#AccessDeniedException", FailureClass.DESTINATION_DENIED),
        (400, "com.amazonaws.sqs#KmsAccessDenied", FailureClass.DESTINATION_DENIED),
        (403, "com.amazon.coral.service#InvalidClientTokenId", FailureClass.DESTINATION_DENIED),
        (400, "com.amazonaws.sqs#QueueDoesNotExist", FailureClass.NOTIFICATION_FAILED),
    ],
)
async def test_a_queue_that_refuses_is_told_from_one_that_is_gone(
    place: Place, moto_server: S3Server, status: int, code: str, failure: FailureClass
) -> None:
    said = json.dumps({"__type": code, "message": "User is not authorized"}).encode()
    answer = f"HTTP/1.1 {status} No\r\nContent-Length: {len(said)}\r\nConnection: close\r\n\r\n".encode() + said

    class Denied(NoFault):
        def before(self, number: int, head: bytes) -> bytes | None:
            return answer

    with Line(moto_server.url, Denied()) as line:
        told, _ = await place.pack(FILES, queue_url="https://sqs.us-east-1.amazonaws.com/1/q", sqs_endpoint=line.url)

    assert told is not None
    assert told.failure is failure
    assert "User is not authorized" in told.message
    assert len(line.heads) == 1


async def test_a_role_that_may_not_be_assumed_ends_the_attempt(place: Place) -> None:
    """The pod's own rights would do here; they must not be used."""
    said = (
        b"<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code>"
        b"<Message>User is not authorized to perform: sts:AssumeRole</Message></Error></ErrorResponse>"
    )

    class Denied(NoFault):
        def before(self, number: int, head: bytes) -> bytes | None:
            return f"HTTP/1.1 403 No\r\nContent-Length: {len(said)}\r\nConnection: close\r\n\r\n".encode() + said

    with Line(place.s3.url, Denied()) as sts:
        failure, _ = await place.pack(
            FILES, extra={"role_arn": "arn:aws:iam::123456789012:role/writer"},
            variables={"AWS_ENDPOINT_URL_STS": sts.url},
        )  # fmt: skip

    assert failure is not None
    assert failure.failure is FailureClass.DESTINATION_DENIED
    assert "taking on the role" in failure.message
    assert "sts:AssumeRole" in failure.message
    assert len(sts.heads) == 1
    assert place.line.heads == []
    assert place.s3.keys(place.bucket) == set()


async def test_an_assumed_role_signs_every_request(moto_place: Place, moto_server: S3Server) -> None:
    with Line(moto_server.url) as sts:
        await moto_place.packed(
            FILES, extra={"role_arn": "arn:aws:iam::123456789012:role/writer"},
            variables={"AWS_ENDPOINT_URL_STS": sts.url},
        )  # fmt: skip

    assert len(sts.heads) == 1
    assert moto_place.line.heads
    for head in moto_place.line.heads:
        assert b"x-amz-security-token:" in head.lower()
        assert b"Credential=testing-access/" not in head


async def test_a_fifo_queue_gets_group_and_deduplication_id(place: Place, moto_server: S3Server) -> None:
    queue = Queue(moto_server, f"fifo-{os.getpid()}-{next(_NUMBERS)}.fifo", FifoQueue="true")
    changes: dict[str, Any] = {"queue_url": queue.url, "sqs_endpoint": queue.endpoint, "event_id": "evt_x"}
    await place.packed(FILES, **changes)
    # The record of the message is lost, as by a kill between sending and recording: the same is sent again.
    inventory = read_json(place.s3.contents(place.bucket), INVENTORY)
    inventory["notified"] = None
    place.s3.client.put_object(Bucket=place.bucket, Key=INVENTORY, Body=json.dumps(inventory).encode())
    outcome = await place.packed(FILES, **changes)
    assert outcome.package is not None
    assert outcome.package.notified

    rows = sqs_client(moto_server.url).receive_message(
        QueueUrl=queue.url, MaxNumberOfMessages=10, AttributeNames=["All"]
    )["Messages"]  # fmt: skip
    assert len(rows) == 1, "the second one within five minutes is dropped"
    attributes = rows[0]["Attributes"]
    assert attributes["MessageGroupId"] == "benchling/EXP24000047"
    checksum = outcome.package.manifest_checksum
    identity = json.dumps(["benchling/EXP24000047", "evt_x", None, checksum])
    assert attributes["MessageDeduplicationId"] == hashlib.sha256(identity.encode()).hexdigest()


async def test_a_fifo_queue_sends_what_differs(place: Place, moto_server: S3Server) -> None:
    queue = Queue(moto_server, f"fifo-{os.getpid()}-{next(_NUMBERS)}.fifo", FifoQueue="true")
    changes: dict[str, Any] = {"queue_url": queue.url, "sqs_endpoint": queue.endpoint}
    await place.packed(FILES, **changes)
    await place.packed({**FILES, "a.txt": b"other"}, **changes)
    await place.packed({**FILES, "a.txt": b"other"}, **changes, request_id="click", notify_always=True)

    # One group is one order: the next is handed out once the one before is done with.
    assert len(queue.bodies()) == 3


@pytest.mark.parametrize("display_id", ["EXP ü", "\u65e5\u672c", "E" * 130])
async def test_a_fifo_queue_takes_a_name_that_its_ids_cannot_hold(
    place: Place, moto_server: S3Server, display_id: str
) -> None:
    queue = Queue(moto_server, f"fifo-{os.getpid()}-{next(_NUMBERS)}.fifo", FifoQueue="true")
    await place.packed(
        FILES, entry={**ENTRY, "displayId": display_id}, queue_url=queue.url, sqs_endpoint=queue.endpoint
    )

    rows = sqs_client(moto_server.url).receive_message(QueueUrl=queue.url, AttributeNames=["All"])["Messages"]
    assert rows[0]["Attributes"]["MessageGroupId"] == hashlib.sha256(f"benchling/{display_id}".encode()).hexdigest()
    body = json.loads(rows[0]["Body"])
    assert body["package_name"] == f"benchling/{display_id}"
    assert body["source_prefix"] == f"s3://{place.bucket}/benchling/{display_id}/"


async def test_a_standard_queue_gets_the_workflow_and_no_ids(place: Place, queue: Queue) -> None:
    with Line(queue.endpoint) as line:
        await place.packed(FILES, queue_url=queue.url, sqs_endpoint=line.url, extra={"workflow": "alpha"})
    rows = sqs_client(queue.endpoint).receive_message(QueueUrl=queue.url, AttributeNames=["All"])["Messages"]

    assert not {"MessageGroupId", "MessageDeduplicationId"} & set(rows[0]["Attributes"])
    assert json.loads(rows[0]["Body"]) == {
        "source_prefix": f"s3://{place.bucket}/{PACKAGE}",
        "registry": place.bucket,
        "package_name": "benchling/EXP24000047",
        "metadata_uri": "entry.json",
        "commit_message": "Benchling v2.entry.updated.fields at 2026-02-03T04:05:07Z",
        "workflow": "alpha",
    }


async def test_a_queue_may_be_in_another_region_than_the_bucket(place: Place, moto_server: S3Server) -> None:
    import boto3

    name = f"far-{os.getpid()}-{next(_NUMBERS)}"
    far = boto3.Session("testing-access", "testing-secret-key", region_name="eu-west-1").client(
        "sqs", endpoint_url=moto_server.url
    )
    url = far.create_queue(QueueName=name)["QueueUrl"]
    with Line(moto_server.url) as line:
        await place.packed(
            FILES, queue_url=f"https://sqs.eu-west-1.amazonaws.com/123456789012/{name}", sqs_endpoint=line.url
        )

    assert [region(head) for head in line.heads] == ["eu-west-1/sqs"]
    assert {region(head) for head in place.line.heads} == {"us-east-1/s3"}
    assert len(far.receive_message(QueueUrl=url)["Messages"]) == 1


def region(head: bytes) -> str:
    """Return region and service that a request was signed for."""
    found = re.search(rb"Credential=[^/]+/\d+/([^/]+/[^/]+)/aws4_request", head)
    assert found is not None
    return found.group(1).decode()


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://sqs.eu-west-1.amazonaws.com/1/q", "eu-west-1"),
        ("https://eu-west-1.queue.amazonaws.com/1/q", "eu-west-1"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/1/q", "cn-north-1"),
        ("https://sqs-fips.us-gov-west-1.amazonaws.com/1/q", "us-gov-west-1"),
        ("https://sqs.eu-west-1.api.aws/1/q", "eu-west-1"),
        ("https://vpce-0a1-b2c.sqs.eu-west-1.vpce.amazonaws.com/1/q", "eu-west-1"),
        ("https://queue.amazonaws.com/1/q", None),
        ("http://127.0.0.1:5000/1/q", None),
        ("https://sqs.eu-west-1.amazonaws.com.evil.example/1/q", None),
    ],
)
def test_the_queues_region_stands_in_its_url(url: str, found: str | None) -> None:
    assert queue_region(url) == found


class Redirecting:
    """As much of S3 as tells where a bucket is: the statuses and headers that AWS documents for HEAD of a bucket."""

    def __init__(self, *answers: tuple[int, str | None]) -> None:
        self.answers = list(answers)
        self.paths: list[str] = []

    def __enter__(self) -> Self:
        told = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                pass

            def do_HEAD(self) -> None:
                told.paths.append(self.path)
                status, found = told.answers.pop(0)
                self.send_response(status)
                if found:
                    self.send_header("x-amz-bucket-region", found)
                if status == 301:
                    self.send_header("Content-Type", "application/xml")
                    self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/"


AT_ONCE = Retrying(tries=3, backoff=Backoff(base_seconds=0.001, cap_seconds=8.0))


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        ([(200, "us-east-1")], "us-east-1"),
        ([(301, "eu-west-1")], "eu-west-1"),
        ([(403, "eu-west-1")], "eu-west-1"),
        ([(400, "me-south-1")], "me-south-1"),
        ([(404, None)], "us-west-2"),
        ([(503, None), (500, None), (301, "eu-west-1")], "eu-west-1"),
    ],
)
async def test_the_buckets_region_is_found(answers: list[tuple[int, str | None]], found: str) -> None:
    client = Client()
    with Redirecting(*answers) as server:
        assert await ask_region(client, server.url, "us-west-2", AT_ONCE) == found
        assert server.answers == []
        client.close()


async def test_a_region_that_cannot_be_found_is_an_outage() -> None:
    """And not taken for the default one, where every request would be refused for good."""
    client = Client()
    with Redirecting((503, None), (503, None), (503, None)) as server:
        with pytest.raises(Failure, match="finding the bucket's region") as caught:
            await ask_region(client, server.url, "us-west-2", AT_ONCE)
        client.close()
    assert caught.value.failure is FailureClass.DESTINATION_DOWN


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (
            301,
            "PermanentRedirect",
            "The bucket must be addressed at s3.eu-west-1.amazonaws.com",
        ),
        (400, "AuthorizationHeaderMalformed", "the region 'us-east-1' is wrong; expecting 'eu-west-1'"),
    ],
)
async def test_a_wrong_region_by_setting_is_told(place: Place, status: int, code: str, message: str) -> None:
    class Elsewhere(NoFault):
        def before(self, number: int, head: bytes) -> bytes | None:
            body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
            return f"HTTP/1.1 {status} No\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body

    place.line.fault = Elsewhere()
    failure, _ = await place.pack(FILES)

    assert failure is not None
    assert failure.failure is FailureClass.DESTINATION_DENIED
    assert "eu-west-1" in failure.message
