"""The packager as a process: what it leaves in the bucket and the queue, and what it reports."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from entrypackage.failures import POLICIES, FailureClass
from tests.support.archive_origin import Origin
from tests.support.archives import make_zip
from tests.support.packager_process import ENTRY, Attempt, Ended, read_json, run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.packager.conftest import Queue
    from tests.support.s3_servers import S3Server

PACKAGE = "benchling/EXP24000047/"
INVENTORY = "benchling/.entrypackage/EXP24000047.json"
METADATA = {f"{PACKAGE}{name}" for name in ("README.md", "entry.json", "entry_data.json", "input.json", "links.json")}

BIG = bytes(range(256)) * 45_000  # more than two parts
FIRST = {"EXP24000047.pdf": b"%PDF first", "data/a.csv": b"1,2\n" * 500, "data/b c+d ü.txt": b"b", "big.bin": BIG}
SECOND = {"EXP24000047.pdf": b"%PDF second", "data/a.csv": b"1,2\n" * 500, "new.txt": b"new"}


def members(contents: dict[str, bytes]) -> dict[str, bytes]:
    """Return the package's objects that came from the archive, by member name."""
    return {
        key.removeprefix(PACKAGE): body
        for key, body in contents.items()
        if key.startswith(PACKAGE) and key not in METADATA
    }


def exit_code(failure: FailureClass) -> int:
    """Return the documented code."""
    code = POLICIES[failure].exit_code
    assert code is not None
    return code


class Lab:
    """One destination, and attempts upon it."""

    def __init__(self, s3: S3Server, bucket: str, queue: Queue, folder: Path) -> None:
        self.s3, self.bucket, self.queue, self.folder = s3, bucket, queue, folder
        self.attempts = 0

    def attempt(self, url: str) -> Attempt:
        """Return the next attempt, with an event of its own."""
        self.attempts += 1
        number = self.attempts
        return Attempt(
            url, self.bucket, self.s3.url, self.queue.url, self.queue.endpoint, number=number,
            trigger_id=f"evt_{number}", event_id=f"evt_{number}",
        )  # fmt: skip

    def pack(self, files: dict[str, bytes], **changes: object) -> Ended:
        """Pack an archive of these files."""
        with Origin(make_zip(files)) as origin:
            return self.run(replace(self.attempt(origin.url), **changes))  # type: ignore[arg-type]

    def run(self, attempt: Attempt) -> Ended:
        """Run one attempt."""
        return run(attempt, self.folder / f"run-{attempt.number}")

    @property
    def contents(self) -> dict[str, bytes]:
        """Everything in the bucket."""
        return self.s3.contents(self.bucket)


@pytest.fixture
def lab(s3: S3Server, bucket: str, queue: Queue, tmp_path: Path) -> Lab:
    """A fresh destination on each S3 server in turn."""
    return Lab(s3, bucket, queue, tmp_path)


def test_a_package_is_made_and_announced(lab: Lab) -> None:
    ended = lab.pack(FIRST)

    contents = lab.contents
    assert ended.code == 0
    assert members(contents) == FIRST
    assert set(contents) >= METADATA
    assert set(contents) == METADATA | {PACKAGE + name for name in FIRST} | {INVENTORY}
    bodies = [json.loads(body) for body in lab.queue.bodies()]
    assert [body["source_prefix"] for body in bodies] == [f"s3://{lab.bucket}/{PACKAGE}"]
    package = ended.report.package
    assert package is not None
    assert package.notified
    assert package.files == len(FIRST) + 5
    assert package.bytes == sum(len(body) for key, body in contents.items() if key.startswith(PACKAGE))
    assert lab.s3.uploads(lab.bucket) == 0


def test_no_secret_is_seen_anywhere(lab: Lab) -> None:
    ended = lab.pack(FIRST)

    seen = (
        ended.log + ended.report.model_dump_json() + "".join(body.decode("latin-1") for body in lab.contents.values())
    )
    assert "topsecretsignature" not in seen
    assert "X-Amz-Signature" not in seen


def test_no_authorization_is_sent_to_the_origin(lab: Lab) -> None:
    with Origin(make_zip(FIRST)) as origin:
        lab.run(lab.attempt(origin.url))

        assert origin.seen_headers
        assert not any("authorization" in headers for headers in origin.seen_headers)


def test_content_types_follow_names(lab: Lab) -> None:
    lab.pack(FIRST)

    def content_type(name: str) -> str:
        return str(lab.s3.client.head_object(Bucket=lab.bucket, Key=PACKAGE + name)["ContentType"])

    assert content_type("EXP24000047.pdf") == "application/pdf"
    assert content_type("data/a.csv") == "text/csv"
    assert content_type("big.bin") == "application/octet-stream"
    assert content_type("entry.json") == "application/json"


def test_every_object_has_the_crc32_of_its_member(lab: Lab) -> None:
    lab.pack(FIRST)

    for name in FIRST:
        head = lab.s3.client.head_object(Bucket=lab.bucket, Key=PACKAGE + name, ChecksumMode="ENABLED")
        assert head["ChecksumCRC32"]
        assert "-" not in head["ChecksumCRC32"]


def test_a_new_version_replaces_adds_and_removes(lab: Lab) -> None:
    lab.pack(FIRST)
    ended = lab.pack(SECOND)

    assert ended.code == 0
    assert members(lab.contents) == SECOND
    assert ended.report.files_skipped == 1
    assert ended.report.touched
    assert len(lab.queue.bodies()) == 2


def test_an_unversioned_bucket_keeps_what_is_gone_and_says_so(s3: S3Server, lab: Lab) -> None:
    lab.bucket = s3.new_bucket(f"{lab.bucket}-plain", versioned=False)
    lab.pack(FIRST)
    ended = lab.pack(SECOND)

    assert members(lab.contents) == FIRST | SECOND
    assert any("kept" in notice for notice in ended.report.notices)

    ended = lab.pack(SECOND, delete_unversioned=True)

    assert members(lab.contents) == SECOND
    assert not ended.report.notices


def test_an_equal_package_is_neither_uploaded_nor_announced_again(lab: Lab) -> None:
    first = lab.pack(FIRST)
    lab.queue.bodies()
    again = lab.pack(FIRST)

    assert again.report.files_skipped == len(FIRST)
    assert again.report.bytes_uploaded < 20_000
    assert lab.queue.bodies() == []
    assert first.report.package is not None
    assert again.report.package is not None
    assert not again.report.package.notified
    assert again.report.package.message_id == first.report.package.message_id
    assert again.report.package.manifest_checksum == first.report.package.manifest_checksum


def test_a_click_on_an_unchanged_entry_notifies_once(lab: Lab) -> None:
    lab.pack(FIRST)
    lab.queue.bodies()

    clicked = lab.pack(FIRST, request_id="click_1", notify_always=True)
    same_click = lab.pack(FIRST, request_id="click_1", notify_always=True)
    other_click = lab.pack(FIRST, request_id="click_2", notify_always=True)

    notified = [ended.report.package and ended.report.package.notified for ended in (clicked, same_click, other_click)]
    assert notified == [True, False, True]
    assert len(lab.queue.bodies()) == 2


def test_a_failed_attempt_in_between_does_not_make_a_skip_corrupt(lab: Lab) -> None:
    """X, then Y fails half way, then X again: the files that Y had replaced must be put again."""
    x, y = ({f"{number:02}.bin": letter * 2_000_000 for number in range(16)} for letter in (b"x", b"y"))
    lab.pack(x)
    body = make_zip(y, 0)
    with Origin(body) as origin:
        # It expires while it is being read for the second time: everything was proven, some was replaced.
        origin.expire_after_bytes = len(body) + 10_000_000
        failed = lab.run(lab.attempt(origin.url))
    assert failed.code == exit_code(FailureClass.ARCHIVE_EXPIRED)
    assert failed.report.touched
    assert lab.s3.uploads(lab.bucket) == 0

    ended = lab.pack(x)

    assert ended.code == 0
    assert members(lab.contents) == x


def test_an_expired_address_loses_nothing_that_was_stored(lab: Lab) -> None:
    files = {f"{number:03}.bin": bytes([number]) * 300_000 for number in range(40)}
    body = make_zip(files, 0)
    with Origin(body) as origin:
        origin.expire_after_bytes = len(body) // 2
        failed = lab.run(lab.attempt(origin.url))
        assert failed.code == exit_code(FailureClass.ARCHIVE_EXPIRED)
        origin.expire_after_bytes = None
        ended = lab.run(lab.attempt(origin.url))

        assert ended.code == 0
        assert ended.report.files_skipped > 5
        assert members(lab.contents) == files
        assert origin.sent <= 1.5 * len(body)


def test_broken_connections_are_resumed(lab: Lab) -> None:
    with Origin(make_zip(FIRST, 0), cut_every_bytes=700_000) as origin:
        ended = lab.run(lab.attempt(origin.url))

        assert ended.code == 0
        assert members(lab.contents) == FIRST
        assert any("if-range" in headers for headers in origin.seen_headers)


def test_errors_of_the_origin_pass(lab: Lab) -> None:
    with Origin(make_zip(FIRST), fail_next=[503, 500, 429]) as origin:
        assert lab.run(lab.attempt(origin.url)).code == 0


@pytest.mark.parametrize("lengths", [True, False], ids=["with-length", "without-length"])
def test_an_origin_without_ranges_is_read_as_a_stream(lab: Lab, lengths: bool) -> None:
    with Origin(make_zip(FIRST), ranges=False, lengths=lengths) as origin:
        ended = lab.run(lab.attempt(origin.url))

    assert ended.code == 0, ended.log
    assert members(lab.contents) == FIRST


def test_an_origin_without_ranges_is_read_twice_also_where_all_is_replaced(lab: Lab) -> None:
    lab.pack(FIRST)
    other = {name: body[::-1] + b"other" for name, body in FIRST.items()} | {"new.txt": b"new"}
    body = make_zip(other, 0)
    with Origin(body, ranges=False) as origin:
        ended = lab.run(lab.attempt(origin.url))

        assert ended.code == 0, ended.log
        assert members(lab.contents) == other
        assert origin.sent <= 2 * len(body)


def test_a_changed_archive_is_noticed(lab: Lab) -> None:
    lab.pack(FIRST)
    before = lab.contents
    with Origin(make_zip({**FIRST, "x.bin": BIG[::-1]}, 0)) as origin:

        def change(number: int) -> None:
            if number == 2:
                origin.etag = '"two"'

        origin.on_request = change
        ended = lab.run(lab.attempt(origin.url))

    assert ended.code == exit_code(FailureClass.ARCHIVE_REFUSED)
    assert "changed" in ended.report.message
    assert package_of(lab.contents) == package_of(before)


def package_of(contents: dict[str, bytes]) -> dict[str, bytes]:
    """Return the objects under the package's prefix."""
    return {key: body for key, body in contents.items() if key.startswith(PACKAGE)}


def test_a_damaged_member_leaves_the_previous_package_as_it_was(lab: Lab) -> None:
    lab.pack(FIRST)
    before = lab.contents
    body = bytearray(make_zip({"EXP24000047.pdf": b"%PDF other", "added.bin": BIG, "data/a.csv": b"changed"}, 0))
    body[body.rindex(b"changed")] ^= 1
    with Origin(body) as origin:
        ended = lab.run(lab.attempt(origin.url))

    assert ended.code == exit_code(FailureClass.ARCHIVE_REFUSED)
    assert '"data/a.csv"' in ended.report.message
    assert not ended.report.touched
    assert package_of(lab.contents) == package_of(before)
    assert lab.s3.uploads(lab.bucket) == 0

    assert lab.pack(FIRST).report.files_skipped == len(FIRST)


def test_a_damaged_archive_leaves_an_empty_destination_empty(lab: Lab) -> None:
    body = bytearray(make_zip({"a.bin": b"x" * 100_000, "b.txt": b"damaged"}, 0))
    body[body.rindex(b"damaged")] ^= 1
    with Origin(body) as origin:
        ended = lab.run(lab.attempt(origin.url))

    assert ended.code == exit_code(FailureClass.ARCHIVE_REFUSED)
    assert package_of(lab.contents) == {}


def test_the_package_of_another_entry_is_not_touched(lab: Lab) -> None:
    lab.pack(FIRST)
    before = lab.contents

    ended = lab.pack(SECOND, entry={**ENTRY, "id": "etr_other"})

    assert ended.code == exit_code(FailureClass.DESTINATION_TAKEN)
    assert lab.contents == before


def test_a_package_of_the_predecessor_is_adopted(lab: Lab) -> None:
    old = {"old.pdf": b"old", "data/a.csv": b"old"}
    document = {
        "entry_id": ENTRY["id"],
        "canvas_id": "cnvs_old",
        "files": {name: {"s3_key": PACKAGE + name, "size": len(body)} for name, body in old.items()},
    }
    for name, body in {**old, "entry.json": json.dumps(document).encode(), "mine.txt": b"a person's"}.items():
        lab.s3.client.put_object(Bucket=lab.bucket, Key=PACKAGE + name, Body=body)

    ended = lab.pack(FIRST)

    assert ended.code == 0
    assert members(lab.contents) == {**FIRST, "mine.txt": b"a person's"}
    assert read_json(lab.contents, f"{PACKAGE}entry.json")["canvas_id"] == "cnvs_old"


def test_an_entry_json_that_is_no_json_means_put_all_and_delete_nothing(lab: Lab) -> None:
    for name in ("entry.json", "old.txt"):
        lab.s3.client.put_object(Bucket=lab.bucket, Key=PACKAGE + name, Body=b"{broken")

    ended = lab.pack(FIRST)

    assert ended.code == 0
    assert members(lab.contents) == {**FIRST, "old.txt": b"{broken"}
    assert any("unreadable" in notice for notice in ended.report.notices)


def test_a_member_called_like_a_metadata_file_moves(lab: Lab) -> None:
    lab.pack({"README.md": b"mine", "entry.json": b"{}"})

    contents = lab.contents
    assert contents[f"{PACKAGE}attachments/README.md"] == b"mine"
    assert contents[f"{PACKAGE}attachments/entry.json"] == b"{}"
    files = read_json(contents, f"{PACKAGE}entry.json")["files"]
    assert files["README.md"] == {"s3_key": f"{PACKAGE}attachments/README.md", "size": 4}
    assert b"`README.md` is now `attachments/README.md`" in contents[f"{PACKAGE}README.md"]


def test_an_incomplete_export_is_published_and_says_what_is_missing(lab: Lab) -> None:
    notes = [{"type": "external_file", "externalFileId": f"exf_{number}"} for number in (1, 2, 2, 3)]
    entry = {**ENTRY, "days": [{"notes": notes}]}
    ended = lab.pack(
        {"EXP24000047.pdf": b"%PDF", "a.txt": b"12345"}, entry=entry, sizes={"exf_1": 5, "exf_2": 6, "exf_3": 7}
    )

    assert ended.code == 0
    assert (ended.report.missing_count, ended.report.missing) == (2, ["exf_2", "exf_3"])
    assert b"**Incomplete**" in lab.contents[f"{PACKAGE}README.md"]
    assert read_json(lab.contents, INVENTORY)["missing"] == ["exf_2", "exf_3"]
    assert len(lab.queue.bodies()) == 1


def test_a_later_attempt_is_not_overtaken_by_an_earlier_one(lab: Lab) -> None:
    lab.pack(FIRST, number=7)
    before = lab.contents

    ended = lab.pack(SECOND, number=3)

    assert ended.code == exit_code(FailureClass.SUPERSEDED)
    assert lab.contents == before


def test_a_queue_that_is_gone_is_a_failed_notification(lab: Lab) -> None:
    ended = lab.pack(FIRST, queue_url=lab.queue.url + "-gone")

    assert ended.code == exit_code(FailureClass.NOTIFICATION_FAILED)
    assert members(lab.contents) == FIRST

    assert lab.pack(FIRST).report.files_skipped == len(FIRST)
    assert len(lab.queue.bodies()) == 1


def test_a_bucket_that_is_gone_is_a_denied_destination(lab: Lab) -> None:
    ended = lab.pack(FIRST, bucket="no-such-bucket")

    assert ended.code == exit_code(FailureClass.DESTINATION_DENIED)
    assert "NoSuchBucket" in ended.report.message
