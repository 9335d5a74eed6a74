"""Archives for measurements: the same bytes in every run, made in constant memory."""

from __future__ import annotations

import random
import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BLOCK = 1024 * 1024


def noise(seed: int, count: int) -> Iterator[bytes]:
    """Yield bytes that cannot be compressed."""
    source = random.Random(seed)
    while count:
        piece = source.randbytes(min(count, _BLOCK))
        count -= len(piece)
        yield piece


def prose(seed: int, count: int) -> Iterator[bytes]:
    """Yield bytes that deflate to about two fifths."""
    source = random.Random(seed)
    words = [source.randbytes(source.randint(2, 9)).hex().encode() for _ in range(600)]
    while count:
        text = b" ".join(source.choices(words, k=_BLOCK // 24)) + source.randbytes(_BLOCK // 10)
        piece = text[: min(count, len(text))]
        count -= len(piece)
        yield piece


def write_archive(path: Path, members: Iterator[tuple[str, int, bool]], level: int = 1) -> Path:
    """Write members of ``(name, size, deflated)``; keeps a file that is there already."""
    if path.exists():
        return path
    partial = path.with_suffix(".partial")
    with zipfile.ZipFile(partial, "w", allowZip64=True) as archive:
        for number, (name, size, deflated) in enumerate(members):
            entry = zipfile.ZipInfo(name, (2026, 1, 2, 3, 4, 6))
            entry.compress_type = zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED
            entry._compresslevel = level  # type: ignore[attr-defined]
            with archive.open(entry, "w", force_zip64=size > 1 << 31) as member:
                for piece in (prose if deflated else noise)(number, size):
                    member.write(piece)
    return partial.rename(path)
