"""When the SQS message is sent, what goes into it, and by which ids a FIFO queue orders and deduplicates it."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from entrypackage.model import render_time

if TYPE_CHECKING:
    from entrypackage.order import Order
    from packager.decisions.inventory import Notified


@dataclass(frozen=True, slots=True)
class Announcement:
    """Whether a message is sent, and if not, which earlier one makes it needless."""

    needed: bool
    earlier_message_id: str | None = None


def decide_announcement(
    notified: Notified | None, manifest_checksum: str, request_id: str | None, *, always: bool
) -> Announcement:
    """Decide whether a message is sent.

    It is for a manifest that was not announced, and with `always` for a request that was not answered yet.
    """
    if notified is None or notified.manifest_checksum != manifest_checksum:
        return Announcement(needed=True)
    if always and request_id is not None and request_id != notified.request_id:
        return Announcement(needed=True)
    return Announcement(needed=False, earlier_message_id=notified.message_id)


def message_body(order: Order) -> str:
    """Return the message that Quilt's packager reads."""
    destination = order.destination
    message = {
        "source_prefix": destination.uri,
        "registry": destination.bucket,
        "package_name": destination.package_name,
        "metadata_uri": "entry.json",
        "commit_message": f"Benchling {order.trigger.type} at {render_time(order.trigger.occurred_at)}",
    }
    if destination.workflow:
        message["workflow"] = destination.workflow
    return json.dumps(message, ensure_ascii=False)


def fifo_attributes(order: Order, manifest_checksum: str) -> dict[str, str]:
    """Return group and deduplication id for a FIFO queue; nothing for a standard one."""
    if not urlsplit(order.destination.queue_url).path.endswith(".fifo"):
        return {}
    name = order.destination.package_name
    taken = order.taken
    identity = json.dumps([name, taken.event_id, taken.request_id, manifest_checksum])
    # SQS takes at most 128 letters, digits and punctuation marks of ASCII as a group id.
    group = name if re.fullmatch(r"[\x21-\x7e]{1,128}", name) else hashlib.sha256(name.encode()).hexdigest()
    return {"MessageGroupId": group, "MessageDeduplicationId": hashlib.sha256(identity.encode()).hexdigest()}
