"""Builds an order: the entry's facts, its links and the destination of its package. Pure."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Final

from entrypackage.order import Archive, Destination, Order, Owner
from entrypackage.resource import EntryFacts
from entrypackage.trigger import Taken

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import SecretStr

    from controller.benchling.models import Entry
    from controller.settings import ControllerSettings
    from entrypackage.order import NamedLink
    from entrypackage.resource import EntryPackage


DISPLAY_ID_CHARS: Final = 256


def is_usable_display_id(text: str) -> bool:
    """Whether a display id can be one segment of an S3 key: not empty, no slash, no control character, no leading dot.

    A package named ``.entrypackage`` would take the place of all inventories.
    """
    fits = 0 < len(text) <= DISPLAY_ID_CHARS and text.isprintable()
    return fits and "/" not in text and text.strip() != "" and not text.startswith(".")


def entry_facts(entry: Entry) -> EntryFacts:
    """Return the facts about an entry that the status records."""
    return EntryFacts(
        display_id=entry.display_id[:DISPLAY_ID_CHARS],
        name=(entry.name or "")[:1024],
        web_url=entry.web_url[:2048] if entry.web_url else None,
        modified_at=entry.modified_at,
    )


def entry_checksum(entry: Entry) -> str:
    """Return the SHA-256 of the entry's JSON without modifiedAt, which also changes with a canvas."""
    stable = {name: value for name, value in entry.raw.items() if name != "modifiedAt"}
    text = json.dumps(stable, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def build_order(
    package: EntryPackage,
    entry: Entry,
    links: Sequence[NamedLink],
    sizes: Mapping[str, int],
    url: SecretStr,
    settings: ControllerSettings,
) -> Order:
    """Return the order of the attempt in progress; `sizes` are those of the attachments, in bytes, as far as known."""
    attempt = package.status.attempt
    if attempt is None:
        raise ValueError("an order needs an attempt")
    return Order(
        owner=Owner(namespace=package.metadata.namespace, name=package.metadata.name, uid=package.metadata.uid),
        attempt=attempt.number,
        trigger=attempt.trigger,
        taken=package.status.taken or Taken(),
        notify_always=attempt.notify_always,
        entry=dict(entry.raw),
        benchling_base_url=settings.benchling.base_url,
        archive=Archive(url=url),
        destination=Destination(display_id=entry.display_id, **settings.destination.model_dump()),
        links=list(links),
        canvas_id=attempt.canvas_id,
        external_file_sizes=dict(sizes),
        limits=settings.packager.limits,
    )
