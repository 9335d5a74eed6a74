"""The links of an entry, found in its notes without a request."""

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
    """One link of an entry."""

    type: str
    """Benchling's type of the linked object, such as dna_sequence."""
    id: str
    web_url: str | None = None

    @property
    def slug(self) -> str | None:
        """The text after the id in the address: the name when the link was made, in lower case with hyphens."""
        return slug_of(self.id, self.web_url)


def entry_links(entry: Entry) -> list[LinkRef]:
    """Return the links of the notes that have an id, each id once, in the order of the entry."""
    found: dict[str, LinkRef] = {}
    for ref in _in_notes(entry):
        found.setdefault(ref.id, ref)
    return list(found.values())


def slug_of(link_id: str, web_url: str | None) -> str | None:
    """Return the text after the id in an address; None if the address does not hold the id."""
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
