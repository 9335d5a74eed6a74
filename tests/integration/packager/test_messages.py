"""Kills around the message: whatever was announced last, the package that is there now is announced."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.integration.packager.conftest import Queue
from tests.support.archive_origin import Origin
from tests.support.archives import make_zip
from tests.support.faulty_line import Line, NoFault, is_message
from tests.support.packager_process import Attempt, Running, pack_here, start

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.s3_servers import S3Server


class KillAfterTheMessage(NoFault):
    """SIGKILL once the message was sent, before anything can be recorded."""

    process: Running

    def after(self, number: int, head: bytes) -> bool:
        if is_message(head):
            self.process.signal(signal.SIGKILL)
            return False
        return True


async def test_a_package_that_returns_after_a_killed_one_is_announced_again(
    versitygw_server: S3Server, moto_server: S3Server, tmp_path: Path
) -> None:
    """X is on record; Y's message went out unrecorded; then X is exported again, and Quilt stands at Y."""
    name = f"message-{os.getpid()}"
    bucket, queue = versitygw_server.new_bucket(name), Queue(moto_server, name)
    fault = KillAfterTheMessage()
    with (
        Origin(make_zip({"a.txt": b"X"})) as one,
        Origin(make_zip({"a.txt": b"Y"})) as other,
        Line(versitygw_server.url, fault, queue.endpoint) as line,
    ):
        first = Attempt(
            one.url, bucket, versitygw_server.url, queue.url, queue.endpoint, trigger_type="first", event_id="evt_1"
        )
        assert (await pack_here(first))[0] is None
        killed = replace(
            first, url=other.url, endpoint=line.url, sqs_endpoint=line.url, number=2, trigger_type="killed",
            event_id="evt_2",
        )  # fmt: skip
        fault.process = start(killed.order(), tmp_path / "killed")
        assert fault.process.ended().code == -signal.SIGKILL
        again = replace(first, number=3, trigger_type="again", event_id="evt_3")
        failure, outcome = await pack_here(again)
        unchanged, quiet = await pack_here(replace(again, number=4, event_id="evt_4"))

    assert failure is None
    assert outcome.package is not None
    assert outcome.package.notified
    assert unchanged is None
    assert quiet.package is not None
    assert not quiet.package.notified
    types = [json.loads(body)["commit_message"].split()[1] for body in queue.bodies()]
    assert sorted(types) == ["again", "first", "killed"]


async def test_a_package_without_a_queue_keeps_the_record_of_the_last_message(
    versitygw_server: S3Server, moto_server: S3Server
) -> None:
    name = f"message-none-{os.getpid()}"
    bucket, queue = versitygw_server.new_bucket(name), Queue(moto_server, name)
    with Origin(make_zip({"a.txt": b"X"})) as one, Origin(make_zip({"a.txt": b"Y"})) as other:
        first = Attempt(one.url, bucket, versitygw_server.url, queue.url, queue.endpoint)
        for attempt in (first, replace(first, url=other.url, queue_url="", number=2), replace(first, number=3)):
            assert (await pack_here(attempt))[0] is None

    assert len(queue.bodies()) == 1, "nobody was told of another, so the first is still the last"
