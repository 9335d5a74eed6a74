"""Archives for measurements: the same bytes in every run, made in constant memory."""

from __future__ import annotations

import random
import zipfile
from typing import TYPE_CHECKING

from sandbox.simulator.content import Deflated, Noise
from sandbox.simulator.zipstream import Member, ZipStream

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
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


def write_archive(path: Path, members: Iterator[tuple[str, int, bool]], level: int = 1, seed: int = 0) -> Path:
    """Write members of ``(name, size, deflated)``, other bytes with another seed; keeps a file that is there."""
    if path.exists():
        return path
    partial = path.with_suffix(".partial")
    with zipfile.ZipFile(partial, "w", allowZip64=True) as archive:
        for number, (name, size, deflated) in enumerate(members, seed):
            entry = zipfile.ZipInfo(name, (2026, 1, 2, 3, 4, 6))
            entry.compress_type = zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED
            entry._compresslevel = level  # type: ignore[attr-defined]
            with archive.open(entry, "w", force_zip64=size > 1 << 31) as member:
                for piece in (prose if deflated else noise)(number, size):
                    member.write(piece)
    return partial.rename(path)


class Virtual:
    """An archive that takes no room, however large: its bytes are made when they are read."""

    def __init__(self, members: Iterable[tuple[str, int, bool]]) -> None:
        """Take members of ``(name, size, deflated)``; the deflated ones shrink to about two fifths."""
        self._stream = ZipStream(
            [
                Member(name, Deflated(size, name, noise_share=0.4) if deflated else Noise(size, name))
                for name, size, deflated in members
            ]
        )

    def __len__(self) -> int:
        return self._stream.size

    def __getitem__(self, span: slice) -> bytes:
        start, stop, _ = span.indices(len(self))
        return self._stream.read(start, stop)
