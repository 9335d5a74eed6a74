"""Setting an attempt up from order and environment, carrying it out, and reporting it.

Everything that takes long to import hangs below this module (see `packager.cli`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import sys
import uuid
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from entrypackage.failures import Failure, FailureClass
from entrypackage.telemetry import configure_logging
from packager.archive.format import quoted
from packager.aws.client import check_address
from packager.aws.credentials import find_credentials
from packager.aws.queue import Queue
from packager.aws.store import ObjectOptions, open_store
from packager.capacity import ConcurrencyLimits
from packager.packing import Packing, PackingResult, Tools
from packager.progress import Progress, show_progress, summary_lines

if TYPE_CHECKING:
    from collections.abc import Mapping

    from entrypackage.order import Destination, Order, Report
    from packager.archive.source import ArchiveSource
    from packager.http1 import Client

__all__ = ["carry_out", "configure_logging", "dry_run", "log_defect", "make_report", "prepare", "write_report"]

log = logging.getLogger("packager")

_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_ENDPOINTS: Final = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_SQS", "AWS_ENDPOINT_URL_STS")


async def prepare(
    order: Order, digest: str, archive: ArchiveSource, client: Client, environment: Mapping[str, str]
) -> Packing:
    """Find credentials, bucket and queue; raises `Failure`."""
    destination = order.destination
    _check_addresses(destination, environment)
    shared = environment.get("AWS_ENDPOINT_URL")
    default_region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or "us-east-1"
    credentials = find_credentials(
        client,
        environment,
        default_region,  # a session that the pod's own region gives out is good in all
        role_arn=destination.role_arn,
        session_name=f"entrypackage-{destination.display_id}",
    )
    store = await open_store(
        client,
        credentials,
        destination.bucket,
        region=destination.region,
        default_region=default_region,
        endpoint_url=destination.s3_endpoint_url or environment.get("AWS_ENDPOINT_URL_S3") or shared,
        options=ObjectOptions(destination.kms_key_id, destination.tags, destination.metadata),
    )
    queue = None
    if destination.queue_url:
        endpoint = destination.sqs_endpoint_url or environment.get("AWS_ENDPOINT_URL_SQS") or shared
        queue = Queue(client, credentials, destination.queue_url, endpoint, destination.region or default_region)
    tools = Tools(
        store=store,
        queue=queue,
        limits=ConcurrencyLimits.of_environment(environment),
        pod_uid=environment.get("POD_UID") or str(uuid.uuid4()),
        progress=Progress(),
    )
    return Packing(order, digest, archive, tools)


def _check_addresses(destination: Destination, environment: Mapping[str, str]) -> None:
    """Raise `Failure` (`OrderInvalid`) for what is no address, before a request is sent to any."""
    if not _BUCKET.fullmatch(destination.bucket):
        raise Failure(FailureClass.ORDER_INVALID, f"No bucket can be called {quoted(destination.bucket)}.")
    check_address("The queue's URL", destination.queue_url)
    check_address("S3's endpoint", destination.s3_endpoint_url)
    check_address("SQS's endpoint", destination.sqs_endpoint_url)
    for name in _ENDPOINTS:
        check_address(f"The variable {name}", environment.get(name))


async def carry_out(packing: Packing) -> None:
    """Pack and show the progress; raises `Failure`."""
    showing = asyncio.create_task(show_progress(packing.progress))
    try:
        await packing.run()
    finally:
        showing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await showing


async def dry_run(packing: Packing, stream: IO[str]) -> None:
    """Print as JSON what would be put, replaced and skipped."""
    plan = await packing.dry_run()
    stream.write(
        json.dumps(
            {
                "put": [file.name for file in plan.new],
                "replace": [file.name for file in plan.replaced],
                "skip": [file.name for file in plan.skipped],
                "notices": packing.result.notices,
            },
            ensure_ascii=False,
            indent=2,
        )
        + "\n"
    )


def log_defect(error: Exception) -> None:
    """Log an error that has no row in the table."""
    log.error("a defect ended the attempt", exc_info=error)


def make_report(digest: str, failure: Failure | None, packing: Packing | None, archive: ArchiveSource | None) -> Report:
    """Return the report on the order, however far the attempt came."""
    result = packing.result if packing else PackingResult()
    progress = packing.progress if packing else Progress()
    report = result.report(digest, failure, progress, archive.fetched if archive else 0)
    return report.model_copy(update={"peak_memory_bytes": peak_memory_bytes()})


def peak_memory_bytes() -> int:
    """Return the most memory that this process had resident, in bytes; 0 where the system does not say."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def write_report(report: Report, termination_log: Path | None, *, dry_run: bool = False) -> None:
    """Log the report, and write it where Kubernetes takes it from."""
    done = "this was a dry run: nothing was changed" if dry_run else "the package is complete"
    level = logging.ERROR if report.failure else logging.INFO
    if sys.stderr.isatty():
        log.log(level, "%s", "\n".join([report.message or done, *summary_lines(report)]))
    else:
        document = report.model_dump(mode="json", by_alias=True, exclude_none=True)
        log.log(level, report.message or done, extra={"report": document})
    if termination_log is None:
        return
    try:
        termination_log.write_bytes(report.to_bytes())
    except OSError as error:
        if str(termination_log) != "/dev/termination-log":
            sys.stderr.write(f"The report cannot be written to {termination_log}: {error.strerror}.\n")
