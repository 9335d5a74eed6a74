"""Running the packager as the Job does: its own process, an order in a folder, a report in a file."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import multiprocessing.connection
import multiprocessing.process
import os
import sys
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from entrypackage.failures import Failure
from entrypackage.order import (
    Archive,
    Destination,
    Limits,
    NamedLink,
    Order,
    Owner,
    Report,
    encode_order,
    parse_report,
)
from entrypackage.trigger import Taken, Trigger
from packager.archive.source import open_archive
from packager.attempt import prepare
from packager.cli import main
from packager.http1 import Client
from packager.packing import PackingResult
from tests.support.s3_servers import KEYS, REGION

if TYPE_CHECKING:
    from pathlib import Path

ENTRY: dict[str, Any] = {
    "id": "etr_Xy12", "displayId": "EXP24000047", "name": "Titration of buffers", "webURL":
    "https://example.benchling.com/demo/f/lib_1/etr_Xy12-titration/edit", "createdAt": "2026-01-02T03:04:05+00:00",
    "modifiedAt": "2026-02-03T04:05:06.789+00:00", "creator": {"id": "ent_a", "name": "Ada Lovelace", "handle": "ada"},
    "authors": [{"id": "ent_a", "name": "Ada Lovelace", "handle": "ada"}], "days": [], "fields": {},
}  # fmt: skip


@dataclass
class Attempt:
    """Everything that an order may say, with defaults that pack."""

    url: str
    bucket: str
    endpoint: str
    queue_url: str = ""
    sqs_endpoint: str | None = None
    number: int = 1
    entry: dict[str, Any] = field(default_factory=lambda: dict(ENTRY))
    trigger_id: str = "evt_1"
    trigger_type: str = "v2.entry.updated.fields"
    occurred_at: datetime = datetime(2026, 2, 3, 4, 5, 7, tzinfo=UTC)
    message: str | None = '{"type": "v2.entry.updated.fields", "id": "evt_1"}'
    event_id: str | None = "evt_1"
    request_id: str | None = None
    notify_always: bool = False
    canvas_id: str | None = None
    prefix: str = "benchling"
    limits: Limits = field(default_factory=Limits)
    links: list[NamedLink] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    delete_unversioned: bool = False
    extra: dict[str, Any] = field(default_factory=dict)

    def order(self) -> Order:
        """Write it as the controller does."""
        return Order(
            owner=Owner(namespace="lab", name="etr-xy12-abcdef", uid="uid-1"),
            attempt=self.number,
            trigger=Trigger(
                id=self.trigger_id, type=self.trigger_type, occurred_at=self.occurred_at, message=self.message
            ),
            taken=Taken(event_id=self.event_id, request_id=self.request_id),
            notify_always=self.notify_always,
            entry=self.entry,
            benchling_base_url="https://example.benchling.com",
            archive=Archive(url=SecretStr(self.url)),
            destination=Destination(
                bucket=self.bucket,
                prefix=self.prefix,
                display_id=self.entry["displayId"],
                queue_url=self.queue_url,
                s3_endpoint_url=self.endpoint,
                sqs_endpoint_url=self.sqs_endpoint,
                delete_unversioned=self.delete_unversioned,
                **{"region": REGION, **self.extra},
            ),
            links=self.links,
            canvas_id=self.canvas_id,
            external_file_sizes=self.sizes,
            limits=self.limits,
        )


@dataclass(frozen=True)
class Ended:
    """A packager that has ended."""

    code: int
    report: Report
    log: str


def environment(**more: str) -> dict[str, str]:
    """Return the variables that a packager's pod has, and nothing of this process's AWS settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return {
        **kept,
        "AWS_ACCESS_KEY_ID": KEYS["aws_access_key_id"],
        "AWS_SECRET_ACCESS_KEY": KEYS["aws_secret_access_key"],
        "AWS_REGION": REGION,
        "MEMORY_LIMIT_BYTES": str(512 * 1024 * 1024),
        "CPU_LIMIT_MILLIS": "1000",
        **more,
    }


def write_order(order: Order, folder: Path, part_bytes: int = 900 * 1024) -> str:
    """Write an order as the parts that a Job mounts; return its digest."""
    encoded = encode_order(order, part_bytes)
    folder.mkdir(parents=True, exist_ok=True)
    for number, part in enumerate(encoded.parts):
        (folder / f"part-{number:03}").write_bytes(part)
    return encoded.digest


class Running:
    """A packager that runs: a process of its own, forked from one that has imported what it needs already."""

    def __init__(self, process: multiprocessing.process.BaseProcess, folder: Path) -> None:
        self._process = process
        self._folder = folder

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it has not ended yet."""
        with _PROCESSES:
            return self._process.is_alive()

    def signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def ended(self, seconds: float = 120) -> Ended:
        """Wait for its end and read what it left."""
        multiprocessing.connection.wait([self._process.sentinel], seconds)
        with _PROCESSES:
            self._process.join(0)
            code = self._process.exitcode
        log = (self._folder / "log").read_text()
        assert code is not None, f"still running:\n{log}"
        text = (self._folder / "report").read_text() if (self._folder / "report").exists() else ""
        report = parse_report(text)
        assert report is not None or code < 0, f"no report, exit code {code}:\n{log}"
        return Ended(code, report or Report(), log)


_PROCESSES = threading.Lock()
"""Starting a process also asks after all others, and of two threads that ask after one only the first is answered."""

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["packager.attempt", "packager.cli", "entrypackage.order"])


def _main(arguments: list[str], variables: dict[str, str], log: str) -> None:
    os.environ.clear()
    os.environ.update(variables)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.exit(main(arguments))


def start(order: Order, folder: Path, **variables: str) -> Running:
    """Start a packager; its report goes to ``folder/report``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("report", "log"):
        (folder / name).unlink(missing_ok=True)
    for part in (folder / "order").glob("part-*"):
        part.unlink()
    digest = write_order(order, folder / "order")
    arguments = [
        "run",
        "--order",
        str(folder / "order"),
        "--digest",
        digest,
        "--termination-log",
        str(folder / "report"),
    ]
    process = _CONTEXT.Process(
        target=_main, args=(arguments, environment(**variables), str(folder / "log")), daemon=True
    )
    (folder / "log").touch()
    with _PROCESSES:
        process.start()
    return Running(process, folder)


def run(attempt: Attempt, folder: Path, **variables: str) -> Ended:
    """Run a packager to its end."""
    return start(attempt.order(), folder, **variables).ended()


def read_json(contents: dict[str, bytes], key: str) -> Any:
    """Read one object as JSON."""
    return json.loads(contents[key])


async def pack_here(attempt: Attempt, **variables: str) -> tuple[Failure | None, PackingResult]:
    """Pack in this process: faster than a process of its own, for tests of many archives."""
    client = Client()
    order = attempt.order()
    packing = None
    try:
        archive = await open_archive(client, attempt.url)
        packing = await prepare(order, encode_order(order).digest, archive, client, environment(**variables))
        await packing.run()
    except Failure as failure:
        return failure, packing.result if packing else PackingResult()
    finally:
        client.close()
    return None, packing.result
