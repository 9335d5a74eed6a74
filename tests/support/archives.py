"""Archives and orders for tests, made in memory."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING

from entrypackage.order import Limits
from packager.archive.format import find_end, parse_directory
from packager.decisions.policy import Content, examine

if TYPE_CHECKING:
    from collections.abc import Mapping


def make_zip(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a ZIP whose bytes depend on nothing but the arguments."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, body in files.items():
            entry = zipfile.ZipInfo(name, (2026, 1, 2, 3, 4, 6))
            entry.compress_type = method
            archive.writestr(entry, body)
    return buffer.getvalue()


def content_of(raw: bytes, key_prefix: str = "benchling/EXP1/", limits: Limits | None = None) -> Content:
    """Examine an archive that is wholly in memory."""
    end = find_end(raw, len(raw))
    members = parse_directory(raw[end.directory_offset : end.end_offset], end)
    return examine(members, end, key_prefix, limits or Limits())
