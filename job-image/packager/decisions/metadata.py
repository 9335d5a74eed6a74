"""The five files next to an archive's members, exact in keys and headings to what Quilt's users search for.

Pure: the same order and the same files give the same bytes. The only times are the trigger's and the entry's own.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit, urlunsplit

from entrypackage import entry_notes
from entrypackage.failures import Failure, FailureClass
from entrypackage.model import render_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from entrypackage.order import Order
    from packager.decisions.plan import Missing
    from packager.decisions.policy import File

_ENTITY_LINKS: Final = frozenset({"custom_entity", "dna_sequence", "aa_sequence", "batch"})
_LISTED_FILES: Final = 1000
_REQUIRED: Final = {
    "display_id": "displayId", "name": "name", "web_url": "webURL", "created_at": "createdAt",
    "modified_at": "modifiedAt",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class PackageFacts:
    """What the files are rendered from, besides the order."""

    files: Sequence[File]
    missing: Missing
    canvas_id: str | None
    notices: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class _Times:
    """The times that a package shows; blank ones make the part of it that its checksum covers."""

    occurred: str
    modified: str


def render(order: Order, facts: PackageFacts) -> dict[str, list[bytes]]:
    """Return the five files by name, each in pieces, ``entry.json`` last, as they are put."""
    times = _Times(render_time(order.trigger.occurred_at), str(_fields(order)["modified_at"]))
    return {
        "entry_data.json": [_json(entry_data(order))],
        "links.json": [_json(links(order.entry))],
        "input.json": [_json(input_record(order, facts))],
        "README.md": [readme(order, facts, times).encode("utf-8", "replace")],
        "entry.json": list(entry_json(order, facts)),
    }


def manifest_checksum(order: Order, facts: PackageFacts) -> str:
    """Return the SHA-256 over what makes two packages different: every file, except trigger, times and input.json.

    Raises `Failure` (`OrderInvalid`) for an entry that cannot be rendered.
    """
    record = entry_record(order, facts)
    for key in ("webhook_data", "export_timestamp", "modified_at"):
        del record[key]
    whole = entry_data(order)
    for key in ("modifiedAt", "modified_at"):
        whole.pop(key, None)
    digest = hashlib.sha256()
    for file in facts.files:
        row = f"{file.member.name}\0{file.name}\0{file.member.size}\0{file.member.crc32:08x}\n"
        digest.update(row.encode("utf-8", "replace"))
    for document in (record, whole, links(order.entry)):
        digest.update(_json(document, sort=True))
    digest.update(readme(order, facts, _Times("", "")).encode("utf-8", "replace"))
    return digest.hexdigest()


def _json(document: object, *, sort: bool = False) -> bytes:
    text = json.dumps(document, ensure_ascii=False, indent=2, sort_keys=sort)
    return (text + "\n").encode("utf-8", "replace")


def _fields(order: Order) -> dict[str, Any]:
    fields = {snake: order.entry.get(camel) for snake, camel in _REQUIRED.items()}
    absent = [_REQUIRED[snake] for snake, value in fields.items() if not isinstance(value, str)]
    if absent or not isinstance(order.entry.get("id"), str):
        raise Failure(FailureClass.ORDER_INVALID, f"The order's entry lacks {', '.join(absent or ['id'])}.")
    return fields


def entry_json(order: Order, facts: PackageFacts) -> Iterator[bytes]:
    """Yield ``entry.json`` in pieces; one text of all files would take several times its size in memory."""
    head, files, tail = _json(entry_record(order, facts)).partition(_NO_FILES)
    if not facts.files:
        yield head + files + tail
        return
    yield head + files.removesuffix(b"}") + b"\n"
    prefix = order.destination.key_prefix
    for at in range(0, len(facts.files), _ROWS):
        rows = ",\n".join(
            f'    {_text(file.member.name)}: {{\n      "s3_key": {_text(prefix + file.name)},\n'
            f'      "size": {file.member.size}\n    }}'
            for file in facts.files[at : at + _ROWS]
        )
        last = at + _ROWS >= len(facts.files)
        yield (rows + ("\n" if last else ",\n")).encode("utf-8", "replace")
    yield b"  }" + tail


_ROWS: Final = 500
_NO_FILES: Final = b'\n  "files": {}'
"""Where the files belong: this far to the left only the record's own members begin a line."""


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def entry_record(order: Order, facts: PackageFacts) -> dict[str, Any]:
    """Return what ``entry.json`` holds, except the files; it also becomes the Quilt package's metadata."""
    fields = _fields(order)
    record: dict[str, Any] = {
        "package_name": order.destination.package_name,
        "entry_id": order.entry["id"],
        "display_id": fields["display_id"],
        "name": fields["name"],
        "web_url": fields["web_url"],
        "creator": person(order.entry.get("creator")),
        "authors": people(order.entry.get("authors")),
        "created_at": fields["created_at"],
        "modified_at": fields["modified_at"],
        "export_timestamp": render_time(order.trigger.occurred_at),
        "benchling_base_url": order.benchling_base_url,
        "webhook_data": _message(order),
        "files": {},
    }
    if facts.canvas_id:
        record["canvas_id"] = facts.canvas_id
    record["links"] = _named_links(order)
    return record


def _message(order: Order) -> object:
    try:
        return json.loads(order.trigger.message) if order.trigger.message else {}
    except ValueError:
        raise Failure(FailureClass.ORDER_INVALID, "The order's trigger message is not JSON.") from None


def _named_links(order: Order) -> list[dict[str, Any]]:
    unique = {(link.type, link.id): link for link in reversed(order.links)}
    first_seen = dict.fromkeys((link.type, link.id) for link in order.links)
    return [
        {"type": link.type, "id": link.id, "name": link.name, "slug": link.slug}
        for link in (unique[key] for key in first_seen)
    ]


def person(user: object) -> str:
    """Write a Benchling user as ``Name <handle@user_id>``; nothing if it is none."""
    if not isinstance(user, dict) or not user.get("id"):
        return ""
    return f"{user.get('name') or ''} <{user.get('handle') or ''}@{user['id']}>".strip()


def people(users: object) -> list[str]:
    """Write each Benchling user of a list; what is none is left out."""
    return [shown for user in (users if isinstance(users, list) else []) if (shown := person(user))]


def entry_data(order: Order) -> dict[str, Any]:
    """Return the entry as the API gives it, and four of its members under the names that older packages used."""
    fields = _fields(order)
    return {**order.entry, **{key: fields[key] for key in ("display_id", "web_url", "created_at", "modified_at")}}


def links(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the entry refers to, as its notes and fields say it."""
    found = list(_unique(_note_links(entry)))
    entities = {
        str(link["id"]): {**link, "source": "note_link"}
        for link in reversed(found)
        if link["type"] in _ENTITY_LINKS and link["id"]
    }
    ordered = {str(link["id"]): entities[str(link["id"])] for link in found if str(link["id"]) in entities}
    for identity, kind in _field_entities(entry):
        ordered.setdefault(identity, {"id": identity, "type": kind, "web_url": None, "source": "entity_field"})
    return {
        "schema_version": 2,
        "entities": list(ordered.values()),
        "links": found,
        "results_tables": _results_tables(entry),
    }


def _note_links(entry: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for link in entry_notes.links(entry):
        yield {"id": link.get("id"), "type": link.get("type"), "web_url": link.get("webURL")}


def _unique(rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    seen = set()
    for link in rows:
        identity = link["id"] or link["web_url"]
        if identity and identity not in seen:
            seen.add(identity)
            yield link


def _field_entities(entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    fields = entry.get("fields")
    rows = fields.values() if isinstance(fields, dict) else fields if isinstance(fields, list) else []
    for field in rows:
        kind = field.get("type") if isinstance(field, dict) else None
        if not isinstance(kind, str) or "entity" not in kind:
            continue
        value = field.get("value")
        for identity in value if isinstance(value, list) else [value]:
            if isinstance(identity, str) and identity:
                yield identity, kind


def _results_tables(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    tables: dict[tuple[object, object], dict[str, Any]] = {}
    for note in entry_notes.notes(entry):
        schema = note.get("assayResultSchemaId")
        if note.get("type") == "results_table" and isinstance(schema, str) and schema:
            api_id = note.get("apiId")
            key = (api_id if isinstance(api_id, str) else None, schema)
            tables.setdefault(
                key, {"assay_result_schema_id": schema, "api_id": note.get("apiId"), "name": note.get("name")}
            )
    return list(tables.values())


def input_record(order: Order, facts: PackageFacts) -> dict[str, Any]:
    """Return where the package came from, without the signature that made the address a secret."""
    return {
        "source": "benchling_webhook",
        "export_url": bare_url(order.archive.url.get_secret_value()),
        "processing_timestamp": render_time(order.trigger.occurred_at),
        "package_metadata": {
            "name": order.destination.package_name,
            "registry": order.destination.bucket,
            "total_files": len(facts.files),
        },
    }


def bare_url(url: str) -> str:
    """Return an address without user, query and fragment."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    port = f":{parts.port}" if parts.port else ""
    return urlunsplit((parts.scheme, host + port, parts.path, "", ""))


def choose_canvas(order: Order, previous_id: str | None) -> str | None:
    """Return the canvas id for ``entry.json``: the order's, else the previous package's, else the notes' first."""
    return order.canvas_id or previous_id or next(iter(entry_notes.canvas_ids(order.entry)), None)


_MARKUP: Final = re.compile(r"([\\`*_{}\[\]<>()#+\-.!|~&$@:=^\"'])")


def escape(text: str) -> str:
    """Return Markdown that shows any text as itself, on one line."""
    flat = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return _MARKUP.sub(r"\\\1", flat)


def code(text: str) -> str:
    """Return Markdown that shows any text as code, on one line."""
    flat = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    longest = max((len(run) for run in re.findall("`+", flat)), default=0)
    fence = "`" * (longest + 1)
    space = " " if flat.startswith("`") or flat.endswith("`") or not flat.strip() else ""
    return f"{fence}{space}{flat}{space}{fence}"


def web_link(text: str, url: str) -> str:
    """Return a Markdown link, or only its text where the address is no web address."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        return escape(text)
    quoted = "".join(
        c if c.isprintable() and c not in ' <>()\\"`' else "".join(f"%{b:02X}" for b in c.encode("utf-8", "replace"))
        for c in url
    )
    return f"[{escape(text)}]({quoted})"


def readme(order: Order, facts: PackageFacts, times: _Times) -> str:
    """Return ``README.md``."""
    fields = _fields(order)
    sections = [
        f"# {escape(fields['display_id'])} - {escape(fields['name'])}",
        "## Overview",
        "This package holds the export of a Benchling notebook entry: the entry as a document, its attachments, and "
        "metadata about both.",
        web_link("View in Benchling", fields["web_url"]),
        "## Entry Information",
        _bullets(_entry_rows(order, fields, times)),
        "## Export Information",
        _bullets(
            [
                ("Export Timestamp", code(times.occurred) if times.occurred else ""),
                ("Benchling Base URL", code(order.benchling_base_url)),
                ("Total Files", str(len(facts.files))),
            ]
        ),
        *_remarks(facts),
        "## Files Included",
        "\n".join(_file_lines(facts.files)) or "None.",
        "## Metadata Files",
        _METADATA_LINES,
        "## Usage",
        _usage(order),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _entry_rows(order: Order, fields: Mapping[str, Any], times: _Times) -> list[tuple[str, str]]:
    return [
        ("Display ID", code(fields["display_id"])),
        ("Entry ID", code(order.entry["id"])),
        ("Name", escape(fields["name"])),
        ("Creator", escape(person(order.entry.get("creator")))),
        ("Authors", ", ".join(escape(author) for author in people(order.entry.get("authors")))),
        ("Created", code(fields["created_at"])),
        ("Modified", code(times.modified) if times.modified else ""),
    ]


def _bullets(rows: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"- **{label}**: {text}" for label, text in rows if text)


def _remarks(facts: PackageFacts) -> Iterator[str]:
    moved = [file for file in facts.files if file.moved]
    if facts.missing.count:
        some = f": {', '.join(code(identity) for identity in facts.missing.ids[:100])}" if facts.missing.ids else ""
        yield (
            f"> **Incomplete**: Benchling left {facts.missing.count} of the entry's attachments out of this export, as "
            f"it does while they are scanned for viruses{some}. The entry is exported again soon."
        )
    if moved:
        rows = "\n".join(f"> - {code(file.member.name)} is now {code(file.name)}" for file in moved)
        yield f"> These attachments have the names of metadata files and were moved:\n{rows}"
    for notice in facts.notices:
        yield f"> {escape(notice)}"


def _file_lines(files: Sequence[File]) -> Iterator[str]:
    for file in files[:_LISTED_FILES]:
        yield f"- {code(file.name)} ({file.member.size:,} bytes)"
    if len(files) > _LISTED_FILES:
        yield f"- {len(files) - _LISTED_FILES:,} more"


_METADATA_LINES: Final = """\
- `README.md`: this overview
- `entry.json`: the entry's key facts and the list of files; it is the package's metadata
- `entry_data.json`: the whole entry as Benchling's API gives it
- `input.json`: where the export came from
- `links.json`: what the entry refers to"""


def _usage(order: Order) -> str:
    destination = order.destination
    name, registry = (
        json.dumps(text, ensure_ascii=False) for text in (destination.package_name, f"s3://{destination.bucket}")
    )
    program = f"import quilt3\n\npackage = quilt3.Package.browse({name}, registry={registry})\npackage.fetch()"
    return f"Browse the package in the Quilt catalog, or fetch it with Python:\n\n```python\n{program}\n```"
