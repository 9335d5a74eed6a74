"""Addresses that end before the archive was read: what is stored stays, what replaces something is proven first."""

from __future__ import annotations

import itertools
import os
import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest

from entrypackage.failures import POLICIES, FailureClass
from packager.capacity import ConcurrencyLimits
from tests.integration.packager.conftest import Queue
from tests.support.archive_origin import Origin, Spoilt
from tests.support.archives import make_zip
from tests.support.packager_process import Attempt, Ended, run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.s3_servers import S3Server

PACKAGE = "benchling/EXP24000047/"
METADATA = {"README.md", "entry.json", "entry_data.json", "input.json", "links.json"}
EXPIRED = POLICIES[FailureClass.ARCHIVE_EXPIRED].exit_code
SMALL_POD = str(128 * 1024 * 1024)
"""Little memory, so that not all that replaces something can be kept between its proof and its put."""
LIVES = 3
"""So many lives of its address a transfer takes."""
_NUMBERS = itertools.count(1)


@dataclass
class Transfer:
    """An archive, its destination, and attempts that each get a fresh address."""

    s3: S3Server
    queue: Queue
    folder: Path
    origin: Origin
    bucket: str
    settings: dict[str, object] = field(default_factory=dict)
    """Of the destination."""
    ends: list[Ended] = field(default_factory=list)

    def attempt(self, life_bytes: int | None) -> Ended:
        """Make the next attempt with an address that ends after so many bytes."""
        self.origin.expire_after_bytes = None if life_bytes is None else self.origin.sent + life_bytes
        number = len(self.ends) + 1
        attempt = Attempt(
            self.origin.url, self.bucket, self.s3.url, self.queue.url, self.queue.endpoint, number=number,
            extra=self.settings,
        )  # fmt: skip
        given = {"POD_UID": f"pod-{number}", "MEMORY_LIMIT_BYTES": SMALL_POD}
        self.ends.append(run(attempt, self.folder / f"run-{number}", **given))
        assert self.s3.uploads(self.bucket) == 0
        return self.ends[-1]

    def until_done(self, life_bytes: int) -> None:
        """Make attempts, each with a fresh address, until one ends well; every other has to have come further."""
        progress = 0
        while self.attempt(life_bytes).code:
            ended = self.ends[-1]
            assert ended.code == EXPIRED, ended.log
            assert ended.report.failure is FailureClass.ARCHIVE_EXPIRED
            assert ended.report.progress > progress, "no progress"
            progress = ended.report.progress

    @property
    def package(self) -> dict[str, bytes]:
        """Everything under the prefix, by relative name."""
        found = self.s3.contents(self.bucket, PACKAGE)
        return {key.removeprefix(PACKAGE): body for key, body in found.items()}

    @property
    def members(self) -> dict[str, bytes]:
        """What came from the archive."""
        return {name: body for name, body in self.package.items() if name not in METADATA}


def set_up(s3: S3Server, moto: S3Server, folder: Path, origin: Origin) -> Transfer:
    """Make an empty destination."""
    name = f"expiry-{os.getpid()}-{next(_NUMBERS)}"
    return Transfer(s3, Queue(moto, name), folder, origin, s3.new_bucket(name))


@pytest.mark.parametrize(
    "cuts", [pytest.param(False, marks=pytest.mark.slow, id="answers-go-on"), pytest.param(True, id="answers-are-cut")]
)
def test_a_hundred_members_outlast_their_address_three_times(
    cuts: bool, versitygw_server: S3Server, moto_server: S3Server, tmp_path: Path
) -> None:
    files = {f"{number:03}.bin": bytes([number]) * 400_000 for number in range(100)}
    body = make_zip(files, 0)
    with Origin(body, expiry_cuts=cuts) as origin:
        transfer = set_up(versitygw_server, moto_server, tmp_path, origin)
        transfer.until_done(len(body) // LIVES)

        assert len(transfer.ends) >= LIVES
        assert origin.sent <= 1.5 * len(body), f"{origin.sent / len(body):.2f} times the archive was fetched"
        assert transfer.members == files
        assert len(transfer.queue.bodies()) == 1


def test_one_member_that_alone_outlasts_the_address_ends_as_expired(
    versitygw_server: S3Server, moto_server: S3Server, tmp_path: Path
) -> None:
    files = {"a.txt": b"a", "huge.bin": b"h" * 12_000_000, "z.txt": b"z"}
    with Origin(make_zip(files, 0), expiry_cuts=True) as origin:
        transfer = set_up(versitygw_server, moto_server, tmp_path, origin)
        ends = [transfer.attempt(4_000_000) for _ in range(2)]

        assert [ended.code for ended in ends] == [EXPIRED] * 2
        assert {ended.report.failure for ended in ends} == {FailureClass.ARCHIVE_EXPIRED}
        assert all("the address is over" in ended.report.message for ended in ends)
        # The first stores the small ones; after it nobody comes further, by which the controller tells.
        assert ends[0].report.files_stored <= 2
        assert ends[1].report.files_stored == 2
        assert transfer.members == {"a.txt": b"a", "z.txt": b"z"}
        assert transfer.queue.bodies() == []

        assert transfer.attempt(None).code == 0
        assert transfer.members == files
        assert len(transfer.queue.bodies()) == 1


MEMBER_BYTES = 400_000
READERS = ConcurrencyLimits.of_pod(int(SMALL_POD), None).readers
"""Members that are in flight at most: each is lost, in part or whole, when its address ends."""
OLD = {f"{number:02}.bin": b"x" * MEMBER_BYTES for number in range(16)} | {"gone.txt": b"gone", "same.txt": b"same"}
NEW = {f"{number:02}.bin": b"y" * MEMBER_BYTES for number in range(16)} | {"added.txt": b"added", "same.txt": b"same"}


def set_up_over_old(s3: S3Server, moto: S3Server, folder: Path, origin: Origin) -> Transfer:
    """Make a destination that holds the old package, whose files are all replaced but one."""
    transfer = set_up(s3, moto, folder, origin)
    with Origin(make_zip(OLD, 0)) as old:
        first = Attempt(old.url, transfer.bucket, s3.url, transfer.queue.url, transfer.queue.endpoint, number=0)
        assert run(replace(first, event_id="evt_0"), folder / "old", POD_UID="pod-0").code == 0
    transfer.queue.bodies()
    return transfer


# Everything is read once to be proven, and then most of it again, because it does not fit into what may be held.
@pytest.mark.parametrize(
    "share",
    [
        pytest.param(share, marks=[] if share == 1.2 else [pytest.mark.slow])
        for share in (0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 1.1, 1.2, 1.3, 1.4, 1.5)
    ],
)
def test_an_address_that_ends_while_proving_or_replacing(
    share: float, versitygw_server: S3Server, moto_server: S3Server, tmp_path: Path
) -> None:
    body = make_zip(NEW, 0)
    with Origin(body, expiry_cuts=True) as origin:
        transfer = set_up_over_old(versitygw_server, moto_server, tmp_path, origin)
        before = transfer.package
        ended = transfer.attempt(round(len(body) * share))
        after = transfer.package

        assert ended.code == EXPIRED
        assert ended.report.touched == (share >= 1.1), "nothing is replaced before everything was proven"
        if not ended.report.touched:
            assert {name: after[name] for name in before} == before
        assert transfer.queue.bodies() == []

        again = transfer.attempt(None)

        assert again.code == 0, again.log
        assert again.report.files_skipped >= ended.report.files_stored
        assert transfer.members == NEW
        assert len(transfer.queue.bodies()) == 1


def test_replacing_goes_on_where_it_stood(versitygw_server: S3Server, moto_server: S3Server, tmp_path: Path) -> None:
    body = make_zip(NEW, 0)
    with Origin(body, expiry_cuts=True) as origin:
        transfer = set_up_over_old(versitygw_server, moto_server, tmp_path, origin)
        transfer.until_done(round(len(body) * 1.2))

        assert len(transfer.ends) >= 2
        assert transfer.members == NEW
        assert len(transfer.queue.bodies()) == 1


def test_what_replaces_may_outlast_its_address_many_times(
    versitygw_server: S3Server, moto_server: S3Server, tmp_path: Path
) -> None:
    """What was proven once need not be proven again in the same archive; nothing is replaced before all is.

    It takes long because it makes many attempts, each of them a process of its own.
    """
    body = make_zip(NEW, 0)
    with Origin(body, expiry_cuts=True) as origin:
        transfer = set_up_over_old(versitygw_server, moto_server, tmp_path, origin)
        before = transfer.members
        first = transfer.attempt(len(body) // LIVES)
        assert first.code == EXPIRED
        assert first.report.files_proven > 0
        assert not first.report.touched
        assert {name: transfer.members[name] for name in before} == before

        transfer.until_done(len(body) // LIVES)

        lost = (len(transfer.ends) - 1) * READERS * MEMBER_BYTES
        assert origin.sent <= 2 * len(body) + lost, "read to be proven, read to be put; at an address's end in flight"
        assert transfer.members == NEW
        assert len(transfer.queue.bodies()) == 1


def test_changed_settings_reach_a_package_that_outlasts_its_address(moto_server: S3Server, tmp_path: Path) -> None:
    """Every object is put anew, because of its tags alone; what has them already is not put again and again.

    It takes long because it makes many attempts, each of them a process of its own.
    """
    body = make_zip(OLD, 0)
    with Origin(body, expiry_cuts=True) as origin:
        transfer = set_up_over_old(moto_server, moto_server, tmp_path, origin)
        transfer.settings = {"tags": {"lab": "C"}}

        transfer.until_done(len(body) // LIVES)

        assert len(transfer.ends) > LIVES
        assert transfer.members == OLD
        for name in OLD:
            tags = moto_server.client.get_object_tagging(Bucket=transfer.bucket, Key=PACKAGE + name)["TagSet"]
            assert tags == [{"Key": "lab", "Value": "C"}]


def test_large_members_that_are_read_already_are_stored_when_the_address_ends(
    versitygw_server: S3Server, moto_server: S3Server, tmp_path: Path
) -> None:
    """One answer is cut off and cannot be asked for again; what the others bring is fetched and must not be lost."""
    files = {f"{number}.bin": bytes([number]) * 7_000_000 for number in range(3)}
    spoilt = {2: Spoilt(cut_after=3_000_000)}
    all_asked = threading.Event()

    def sent(number: int, _: int) -> None:
        if number == 2:
            all_asked.wait(30)

    with Origin(make_zip(files, 0), spoilt=spoilt, on_piece=sent) as origin:
        origin.on_request = lambda number: all_asked.set() if number == 4 else None
        transfer = set_up(versitygw_server, moto_server, tmp_path, origin)

        ended = transfer.attempt(3_000_000)

        assert ended.code == EXPIRED
        assert ended.report.files_stored >= 1
        assert len(transfer.members) == ended.report.files_stored


def test_a_proof_is_of_one_archive_only(versitygw_server: S3Server, moto_server: S3Server, tmp_path: Path) -> None:
    """Another export names the same files, but one of them is broken: it must still change nothing."""
    body = make_zip(NEW, 0)
    with Origin(body, expiry_cuts=True) as origin:
        transfer = set_up_over_old(versitygw_server, moto_server, tmp_path, origin)
        before = transfer.members
        proven = transfer.attempt(round(len(body) * 0.9))
        assert proven.report.files_proven > 8
        broken = bytearray(body)
        broken[body.index(b"y" * 400_000) + 5] ^= 1
        origin.body, origin.etag = bytes(broken), '"two"'

        refused = transfer.attempt(None)

        assert refused.code == POLICIES[FailureClass.ARCHIVE_REFUSED].exit_code
        assert transfer.members == before


def test_another_export_after_an_expired_one(versitygw_server: S3Server, moto_server: S3Server, tmp_path: Path) -> None:
    """Its document differs in every export; what else was stored is not fetched again, and nothing old stays."""
    files = {f"{number:02}.bin": bytes([number]) * 1_000_000 for number in range(12)}
    first, second = ({"EXP24000047.pdf": mark * 50_000, **files} for mark in (b"1", b"2"))
    dropped = first | {"dropped.txt": b"only in the first export"}
    with Origin(make_zip(dropped, 0), expiry_cuts=True) as origin:
        transfer = set_up(versitygw_server, moto_server, tmp_path, origin)
        assert transfer.attempt(6_000_000).code == EXPIRED
        kept = transfer.ends[0].report.files_stored
        assert kept >= 3
        sent = origin.sent
        origin.body, origin.etag = make_zip(second, 0), '"two"'

        assert transfer.attempt(None).code == 0

        assert transfer.members == second
        assert transfer.ends[1].report.files_skipped >= kept - 2
        assert origin.sent - sent <= len(origin.body) - 2_000_000
        assert len(transfer.queue.bodies()) == 1
