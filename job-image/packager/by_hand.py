"""An order for a person who packs a ZIP without Benchling and without a controller."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr, ValidationError

from entrypackage.failures import Failure, FailureClass
from entrypackage.order import Archive, Destination, Order, Owner
from entrypackage.trigger import Taken, Trigger
from packager.aws.client import check_address


def make_order(
    archive: str, destination: str, entry: Path | None, queue_url: str | None, endpoint: str | None
) -> Order:
    """Return an order with defaults for what a person does not give; raises `Failure` (`OrderInvalid`)."""
    parts = urlsplit(destination)
    prefix, _, display_id = parts.path.strip("/").rpartition("/")
    if parts.scheme != "s3" or not parts.netloc or not prefix or not display_id:
        raise Failure(FailureClass.ORDER_INVALID, "The destination must look like s3://bucket/prefix/display-id.")
    check_address("--queue-url", queue_url)
    check_address("--endpoint-url", endpoint)
    now = datetime.now(UTC).replace(microsecond=0)
    is_url = archive.startswith(("http://", "https://"))
    try:
        return Order(
            owner=Owner(namespace="", name="", uid=""),
            attempt=0,
            trigger=Trigger(id=f"hand-{now.isoformat()}", type="by-hand", occurred_at=now),
            taken=Taken(request_id=f"hand-{now.isoformat()}"),
            notify_always=True,
            entry=_entry(entry, display_id, archive, now),
            benchling_base_url="https://benchling.com",
            archive=Archive(url=SecretStr(archive if is_url else Path(archive).absolute().as_uri())),
            destination=Destination(
                bucket=parts.netloc,
                prefix=prefix,
                display_id=display_id,
                queue_url=queue_url or "",
                s3_endpoint_url=endpoint,
            ),
        )
    except ValidationError as error:
        raise Failure(FailureClass.ORDER_INVALID, f"That cannot be packed: {error.errors()[0]['msg']}.") from None


def _entry(path: Path | None, display_id: str, archive: str, now: datetime) -> dict[str, Any]:
    if path is None:
        time = now.isoformat().replace("+00:00", "Z")
        name = Path(urlsplit(archive).path).stem
        return {
            "id": f"by-hand-{display_id}", "displayId": display_id, "name": name, "webURL": "", "createdAt": time,
            "modifiedAt": time,
        }  # fmt: skip
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise Failure(FailureClass.ORDER_INVALID, f"The entry in {path} cannot be read: {error}.") from None
    entry = document.get("entry", document) if isinstance(document, dict) else None
    if not isinstance(entry, dict):
        raise Failure(FailureClass.ORDER_INVALID, f"The file {path} holds no entry.")
    return entry
