"""What the notes of a Benchling entry hold: attachments, links and canvases.

An entry is JSON from outside: whatever in it has another shape than Benchling documents is passed over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def notes(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the notes of all days, in the entry's order."""
    days = (day for day in _list(entry.get("days")) if isinstance(day, dict))
    return [note for day in days for note in _list(day.get("notes")) if isinstance(note, dict)]


def external_file_ids(entry: Mapping[str, Any]) -> list[str]:
    """Return the ids of the attachments, each once, in the entry's order."""
    return _ids(entry, "external_file", "externalFileId")


def canvas_ids(entry: Mapping[str, Any]) -> list[str]:
    """Return the ids of the canvases, each once, in the entry's order."""
    return _ids(entry, "app_canvas", "canvasId")


def links(entry: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the links of the notes, repeated ones too; each has `id`, `type` and `webURL`, and any may lack."""
    for note in notes(entry):
        yield from (link for link in _list(note.get("links")) if isinstance(link, dict))


def _ids(entry: Mapping[str, Any], note_type: str, member: str) -> list[str]:
    found = (note.get(member) for note in notes(entry) if note.get("type") == note_type)
    return list(dict.fromkeys(item for item in found if isinstance(item, str) and item))


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
