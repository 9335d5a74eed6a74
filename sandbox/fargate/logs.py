"""Container logs: written as container runtimes do (CRI), cut as a kubelet does.

Each line of a log file is `<time> <stdout|stderr> <P|F> <text>`; `P` marks a part of an over-long line.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from sandbox.fargate.clock import parse_rfc3339, rfc3339_nano

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator
    from pathlib import Path

LONGEST_PART = 16 * 1024
_CHUNK = 64 * 1024


class ContainerLog:
    """The log of one run of a container, open for writing."""

    def __init__(self, file: Path) -> None:
        """Start a new file here; what an earlier run left is moved aside (see `previous_log`)."""
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.exists():
            file.rename(_aside(file, _runs_before(file)))
        self.file = file
        self._writer: IO[bytes] = file.open("ab", buffering=0)
        self._rest: dict[str, bytes] = {}
        self._changed = asyncio.Event()
        self.closed = False

    def write(self, stream: str, chunk: bytes) -> None:
        """Append what the container wrote; a line without an end waits for the rest."""
        pieces = (self._rest.pop(stream, b"") + chunk).split(b"\n")
        rest = pieces.pop()
        out = [_line(stream, part, last) for line in pieces for part, last in _parts(line)]
        while len(rest) >= LONGEST_PART:
            out.append(_line(stream, rest[:LONGEST_PART], last=False))
            rest = rest[LONGEST_PART:]
        if rest:
            self._rest[stream] = rest
        if out:
            self._append(out)

    def close(self) -> None:
        """End the log; followers come to an end."""
        if self.closed:
            return
        self._append([_line(stream, rest, last=True) for stream, rest in self._rest.items()])
        self._rest.clear()
        self.closed = True
        self._writer.close()
        self._changed.set()

    async def changed(self) -> None:
        """Wait until something was written or the log ended."""
        if not self.closed:
            await self._changed.wait()

    def _append(self, lines: list[bytes]) -> None:
        if lines:
            self._writer.write(b"".join(lines))
        woken, self._changed = self._changed, asyncio.Event()
        woken.set()


def _line(stream: str, text: bytes, last: bool) -> bytes:
    return b"%s %s %s %s\n" % (rfc3339_nano().encode(), stream.encode(), b"F" if last else b"P", text)


def _parts(line: bytes) -> Iterator[tuple[bytes, bool]]:
    for start in range(0, max(len(line), 1), LONGEST_PART):
        yield line[start : start + LONGEST_PART], start + LONGEST_PART >= len(line)


def _aside(file: Path, number: int) -> Path:
    return file.with_name(f"{file.stem}.{number}.log")


def _runs_before(file: Path) -> int:
    number = 0
    while _aside(file, number).exists():
        number += 1
    return number


def previous_log(file: Path) -> Path | None:
    """The log of the run before the one that `file` holds, if it is there."""
    number = _runs_before(file)
    return _aside(file, number - 1) if number else None


def move_aside(folder: Path) -> None:
    """Keep the logs of an earlier pod of the same name, as `<pod>~<number>`."""
    if not folder.exists():
        return
    number = 1
    while (other := folder.with_name(f"{folder.name}~{number}")).exists():
        number += 1
    folder.rename(other)


@dataclass(frozen=True)
class LogQuery:
    """What `kubectl logs` asks for; times are Unix seconds."""

    tail_lines: int | None = None
    since: float | None = None
    limit_bytes: int | None = None
    timestamps: bool = False
    follow: bool = False


def _render(line: bytes, query: LogQuery) -> bytes:
    """One CRI line as `kubectl logs` shows it; empty when it is too old or not whole."""
    fields = line.split(b" ", 3)
    if len(fields) < 4 or not line.endswith(b"\n"):
        return b""
    time, _stream, tag, text = fields
    if query.since is not None and parse_rfc3339(time.decode()) < query.since:
        return b""
    shown = text if tag == b"F" else text[:-1]
    return time + b" " + shown if query.timestamps else shown


def _tail_offset(file: IO[bytes], lines: int) -> int:
    """Where the last so many whole lines begin; read from the end, in blocks."""
    position = file.seek(0, 2)
    found, need = 0, lines + 1
    while position > 0:
        size = min(_CHUNK, position)
        position -= size
        file.seek(position)
        block = file.read(size)
        for index in range(len(block) - 1, -1, -1):
            if block[index] == 0x0A:
                found += 1
                if found == need:
                    return position + index + 1
    return 0


async def read_log(path: Path, query: LogQuery, live: ContainerLog | None) -> AsyncIterator[bytes]:
    """The log as `kubectl logs` prints it, in pieces; with `follow` until the container's end."""
    left = query.limit_bytes
    with path.open("rb") as file:
        start = 0 if query.tail_lines is None else _tail_offset(file, query.tail_lines)
        file.seek(start)
        while True:
            ended = live is None or live.closed or not query.follow
            for piece in _pieces(_whole_lines(file), query):
                part = piece if left is None else piece[:left]
                yield part
                if left is not None and (left := left - len(part)) <= 0:
                    return
            if ended:
                return
            assert live is not None
            await live.changed()


def _whole_lines(file: IO[bytes]) -> Iterator[bytes]:
    for line in iter(file.readline, b""):
        if not line.endswith(b"\n"):
            file.seek(-len(line), 1)
            return
        yield line


def _pieces(lines: Iterable[bytes], query: LogQuery) -> Iterator[bytes]:
    gathered: list[bytes] = []
    size = 0
    for line in lines:
        shown = _render(line, query)
        gathered.append(shown)
        size += len(shown)
        if size >= _CHUNK:
            yield b"".join(gathered)
            gathered, size = [], 0
    if size:
        yield b"".join(gathered)


def last_text(path: Path, most: int) -> str:
    """The end of a log as text: at most 80 lines and `most` bytes, as a termination message has it."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(_tail_offset(file, 80))
        text = b"".join(_render(line, LogQuery()) for line in file)
    return text[-most:].decode(errors="replace")
