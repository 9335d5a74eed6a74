"""Archives made in memory, and reading them as the packager does."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING

from entrypackage.order import Limits
from packager.archive.directory import read_content
from packager.archive.format import find_end, parse_directory
from packager.archive.source import LocalArchiveSource
from packager.decisions.policy import Content, examine
from packager.transfer import close_member, member_pieces, open_member

if TYPE_CHECKING:
    from collections.abc import Mapping

SMALL = Limits(max_member_bytes=1 << 20, max_total_bytes=1 << 22, max_members=1000)


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


async def read_everything(
    raw: bytes, *, ranged: bool = True, limits: Limits = SMALL
) -> tuple[Content, dict[str, bytes]]:
    """Read a whole archive as the packager does."""
    archive = LocalArchiveSource(io.BytesIO(raw))
    archive.ranged = ranged
    content = await read_content(archive, "p/E/", limits)
    found = {}
    for file in content.files:
        reader = archive.read(file.member.offset, file.until)
        header = await open_member(reader, file)
        found[file.name] = b"".join([bytes(piece) async for piece in member_pieces(reader, file)])
        await close_member(reader, file, header)
    return content, found
