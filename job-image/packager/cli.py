"""The command line: ``run`` for the Job, ``run`` and ``pack`` for a person.

Start-up is kept cheap: the archive is requested before anything is imported that takes long (pydantic, the AWS
runtime), so that a small pod waits for the network and not for Python.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import hashlib
import json
import os
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from entrypackage.failures import POLICIES, Failure, FailureClass
from packager.archive.source import ArchiveSource, LocalArchiveSource, open_archive
from packager.http1 import Client
from packager.stopping import Stop

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from entrypackage.order import Order
    from packager.packing import Packing

    Preparing = Coroutine[Any, Any, tuple[Order, ArchiveSource]]

TERMINATION_LOG: Final = "/dev/termination-log"
_ORDER_BYTES: Final = 256 * 1024 * 1024


def main(arguments: list[str], stop: Stop | None = None) -> int:
    """Run one command and return the exit code: 0, or that of the failure's row in the table."""
    if stop is None:
        stop = Stop()
        stop.listen()
    options = _parser().parse_args(arguments)
    if options.command == "pack":
        return asyncio.run(_pack_by_hand(options, os.environ, stop))
    return asyncio.run(_run(options, os.environ, stop))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="packager", description="Put a Benchling export on S3 as a package.")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="pack what an order says", description="Pack what an order says.")
    run.add_argument("--order", required=True, type=Path, help="folder with part-000, part-001 …, or one JSON file")
    run.add_argument("--digest", help="SHA-256 of the order's JSON in hex; required in a Job")
    run.add_argument("--termination-log", type=Path, default=Path(TERMINATION_LOG), help="where the report goes")
    run.add_argument("--dry-run", action="store_true", help="say what would be done and change nothing")
    pack = commands.add_parser("pack", help="pack a ZIP by hand", description="Pack a ZIP file by hand.")
    pack.add_argument("archive", help="path of a ZIP file, or its http(s) address")
    pack.add_argument("destination", help="s3://bucket/prefix/display-id")
    pack.add_argument("--entry", type=Path, help="the entry's JSON as Benchling's API gives it")
    pack.add_argument("--queue-url", help="the SQS queue that the message is sent to; without it none is sent")
    pack.add_argument("--endpoint-url", help="another S3 than AWS's")
    pack.add_argument("--dry-run", action="store_true", help="say what would be done and change nothing")
    return parser


def read_order(path: Path, digest: str | None) -> tuple[bytes, str]:
    """Read an order's JSON and its digest; raises `Failure` (`OrderInvalid`)."""
    try:
        packed = b"".join(part.read_bytes() for part in _parts(path))
        inflater = zlib.decompressobj(31)
        plain = packed if packed[:1] == b"{" else inflater.decompress(packed, _ORDER_BYTES)
    except (OSError, zlib.error) as error:
        raise Failure(FailureClass.ORDER_INVALID, f"The order at {path} cannot be read: {error}.") from None
    if packed[:1] != b"{" and not inflater.eof:
        raise Failure(FailureClass.ORDER_INVALID, "A part of the order is missing or the order is too long.")
    found = hashlib.sha256(plain).hexdigest()
    if digest is not None and found != digest:
        raise Failure(FailureClass.ORDER_INVALID, "The order's digest differs from the one that the Job names.")
    return plain, found


def _parts(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    # A part is mounted from its own Secret, as a file or as a folder with the file in it.
    parts = sorted(path.glob("part-*"))
    if not parts:
        raise Failure(FailureClass.ORDER_INVALID, f"The folder {path} holds no part of an order.")
    return [part / part.name if part.is_dir() else part for part in parts]


def _address_of(plain: bytes) -> str:
    try:
        url = json.loads(plain)["archive"]["url"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Failure(FailureClass.ORDER_INVALID, "The order names no archive.") from None
    return str(url)


async def _run(options: argparse.Namespace, environment: Mapping[str, str], stop: Stop) -> int:
    client = Client()
    job = _Job(options.digest or "", None if options.dry_run else options.termination_log, stop)

    async def prepared() -> tuple[Order, ArchiveSource]:
        plain, job.digest = read_order(options.order, options.digest)
        opening = asyncio.create_task(open_archive(client, _address_of(plain)))
        try:
            with contextlib.suppress(Exception):
                await asyncio.get_running_loop().run_in_executor(None, _import_the_rest)
            from entrypackage.order import parse_order

            order = parse_order(plain)
        except BaseException:
            opening.cancel()
            raise
        return order, await opening

    return await job.finish(prepared(), client, environment, dry_run=options.dry_run)


def _import_the_rest() -> None:
    import packager.attempt  # noqa: F401


async def _pack_by_hand(options: argparse.Namespace, environment: Mapping[str, str], stop: Stop) -> int:
    client = Client()
    job = _Job("", None, stop)

    async def prepared() -> tuple[Order, ArchiveSource]:
        from packager.by_hand import make_order

        order = make_order(options.archive, options.destination, options.entry, options.queue_url, options.endpoint_url)
        if options.archive.startswith(("http://", "https://")):
            return order, await open_archive(client, options.archive)
        try:
            return order, LocalArchiveSource(options.archive)
        except OSError as error:
            raise Failure(
                FailureClass.ORDER_INVALID, f"The archive {options.archive} cannot be read: {error.strerror}."
            ) from None

    return await job.finish(prepared(), client, environment, dry_run=options.dry_run)


class _Job:
    """The process around one attempt: signals, report, exit code."""

    def __init__(self, digest: str, termination_log: Path | None, stop: Stop) -> None:
        self.digest = digest
        self._termination_log = termination_log
        self._stop = stop
        self._packing: Packing | None = None
        self._archive: ArchiveSource | None = None
        self._code: int | None = None
        """The exit code, once the report is written."""

    async def finish(
        self, preparing: Preparing, client: Client, environment: Mapping[str, str], *,
        dry_run: bool,
    ) -> int:  # fmt: skip
        """Pack; write the report and return the exit code, whatever happens."""
        task = asyncio.current_task()
        assert task is not None
        self._stop.watch(task, functools.partial(self._exit_now, environment))
        failure: Failure | None = None
        try:
            await self._work(preparing, client, environment, dry_run=dry_run)
        except Failure as known:
            failure = known
        except asyncio.CancelledError:
            failure = _stopped()
        except Exception as error:  # noqa: BLE001 - the last line of defence: a report, not a traceback
            failure = _defect(error, environment)
        finally:
            preparing.close()
            client.close()
        self._stop.ignore()  # before the report, so that no signal can come between that and the exit code
        if failure is not None and self._stop.requested:
            failure = _stopped()  # a failure while the work is cancelled says nothing about the destination
        self._code = self._end(failure, environment, dry_run=dry_run)
        return self._code

    async def _work(
        self, preparing: Preparing, client: Client, environment: Mapping[str, str], *,
        dry_run: bool,
    ) -> None:  # fmt: skip
        await asyncio.sleep(0)  # lets an earlier signal take effect before the first request
        order, self._archive = await preparing
        from packager import attempt

        attempt.configure_logging(environment.get("LOG_LEVEL", "INFO"))
        self._packing = await attempt.prepare(order, self.digest, self._archive, client, environment)
        if dry_run:
            await attempt.dry_run(self._packing, sys.stdout)
        else:
            await attempt.carry_out(self._packing)

    def _exit_now(self, environment: Mapping[str, str]) -> None:
        """End with a report although the clean-up hangs: the next attempt cleans up, and a lost report costs a try."""
        code = self._end(_stopped(), environment) if self._code is None else self._code
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)

    def _end(self, failure: Failure | None, environment: Mapping[str, str], *, dry_run: bool = False) -> int:
        try:
            from packager import attempt

            attempt.configure_logging(environment.get("LOG_LEVEL", "INFO"))
            report = attempt.make_report(self.digest, failure, self._packing, self._archive)
            attempt.write_report(report, self._termination_log, dry_run=dry_run)
        except Exception as error:  # noqa: BLE001 - a report that cannot be made must not hide what happened
            failure = failure or _defect(error, environment)
            self._write_minimal_report(failure)
        if failure is None:
            return 0
        return POLICIES[failure.failure].exit_code or 1

    def _write_minimal_report(self, failure: Failure) -> None:
        """Write a report with only what is imported already."""
        words = json.dumps({"orderDigest": self.digest[:64], "failure": failure.failure.value})
        sys.stderr.write(f"{words}\n")
        if self._termination_log is not None:
            with contextlib.suppress(OSError):
                self._termination_log.write_text(words)


def _stopped() -> Failure:
    return Failure(FailureClass.DISRUPTED, "The packager was told to stop.")


def _defect(error: Exception, environment: Mapping[str, str]) -> Failure:
    with contextlib.suppress(Exception):
        from packager import attempt

        attempt.configure_logging(environment.get("LOG_LEVEL", "INFO"))  # what logs redacts addresses, so it goes first
        attempt.log_defect(error)
    return Failure(FailureClass.INTERNAL, f"A defect: {type(error).__name__}. The pod's log has the details.")
