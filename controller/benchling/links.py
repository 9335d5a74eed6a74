"""What an entry links to: found in its notes, without asking anybody."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from entrypackage import entry_notes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from controller.benchling.models import Entry


@dataclass(frozen=True, slots=True)
class LinkRef:
    """Something that an entry links to."""

    type: str
    """Benchling's word, such as dna_sequence."""
    id: str
    web_url: str | None = None

    @property
    def slug(self) -> str | None:
        """What follows the id in the address: the name when the link was made, in small letters and hyphens."""
        return slug_of(self.id, self.web_url)


def entry_links(entry: Entry) -> list[LinkRef]:
    """Return what the notes link to and has an id, each id once, in the entry's order."""
    found: dict[str, LinkRef] = {}
    for ref in _in_notes(entry):
        found.setdefault(ref.id, ref)
    return list(found.values())


def slug_of(link_id: str, web_url: str | None) -> str | None:
    """Return the slug in an address, or None if the address does not name the id."""
    if not web_url or not link_id:
        return None
    try:
        segments = urlsplit(web_url).path.split("/")
    except ValueError:
        return None
    marker = _hyphened(link_id) + "-"
    for segment in segments:
        if _hyphened(segment).startswith(marker) and len(segment) > len(marker):
            return segment[len(marker) :]
    return None


def _hyphened(text: str) -> str:
    return re.sub("_", "-", text)


def _in_notes(entry: Entry) -> Iterator[LinkRef]:
    for link in entry_notes.links(entry.raw):
        if isinstance(link.get("id"), str) and isinstance(link.get("type"), str):
            url = link.get("webURL")
            yield LinkRef(link["type"], link["id"], url if isinstance(url, str) else None)
