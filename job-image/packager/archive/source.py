"""The archive where Benchling keeps it: read by ranges where the origin allows it, resumed after a broken connection.

No Authorization header is ever sent there, and its address appears in no log and no message: it is a bearer secret.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final
from urllib.parse import urljoin

from entrypackage.failures import Failure, FailureClass
from packager.archive.format import TAIL_BYTES, refused
from packager.http1 import Address, Client, ConnectionBroken, HttpResponse
from packager.retrying import Retrying

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import BinaryIO

    from packager.decisions.policy import File

log = logging.getLogger("packager.archive.source")

_EXPIRED_STATUS: Final = frozenset({401, 403, 404, 410})
_BUSY_STATUS: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_REDIRECT_STATUS: Final = frozenset({301, 302, 303, 307, 308})
_READ_THROUGH_BYTES: Final = 128 * 1024
"""Unwanted bytes between two wanted members up to this many are read and dropped: cheaper than another request."""
_RUN_BYTES: Final = 8 * 1024 * 1024
_LEAST_RUN_BYTES: Final = 256 * 1024


class ArchiveSource:
    """One archive, proven to stay the same while it is read."""

    def __init__(
        self, client: Client, url: str, *, size: int | None, etag: str | None, tail: bytes, ranged: bool,
        retrying: Retrying, first: HttpResponse | None = None,
    ) -> None:  # fmt: skip
        """`open_archive` makes one."""
        self.size = size
        """In bytes; None where the origin does not say."""
        self.etag = etag
        self.tail = tail
        self.ranged = ranged
        self.fetched = len(tail)
        """Bytes that were read and used so far."""
        self.identity = f"{etag} {size}" if ranged and etag and not etag.startswith("W/") else None
        """Equal for the same bytes, wherever and whenever they are read; None where that is unknown."""
        self._client = client
        self._url = url
        self._retrying = retrying
        self._random = Random()  # noqa: S311 - jitter
        self._first = first

    def read(self, start: int, end: int | None) -> ByteReader:
        """Return a reader of the bytes from `start` to before `end` (None: to the archive's end, wherever it is)."""
        return ByteReader(self, start, end)

    async def ask(self, start: int, end: int | None) -> HttpResponse:
        """Request a range; the response's body begins at `start`.

        Raises `Failure`, or `ConnectionBroken` for what may be tried again.
        """
        if self._first is not None:
            first, self._first = self._first, None
            if start == 0:
                return first
            first.close()
        headers = {"accept-encoding": "identity"}
        if self.ranged:
            headers["range"] = f"bytes={start}-{'' if end is None else end - 1}"
            if self.etag and not self.etag.startswith("W/"):
                headers["if-range"] = self.etag
        response = await _get(self._client, self._url, headers)
        try:
            await self._check(response, start)
        except BaseException:
            response.close()
            raise
        return response

    async def _check(self, response: HttpResponse, start: int) -> None:
        await _raise_for_status(response)
        etag = response.headers.get("etag")
        if self.etag and etag and etag != self.etag:
            raise refused("The archive changed while it was being read.")
        if not self.ranged:
            await _drop(response, start)
            return
        if response.status != 206:
            raise refused("The archive changed while it was being read.")
        first, _, size = _content_range(response)
        if size != self.size:
            raise refused("The archive changed while it was being read.")
        if first != start:
            raise ConnectionBroken("it answered with a range that was not asked for.")

    def runs(self, files: Sequence[File], readers: int) -> list[list[File]]:
        """Cut files (in the archive's order) into runs that can be read at once, each by one request."""
        if not self.ranged:
            return [list(files)] if files else []
        total = sum(file.until - file.member.offset for file in files)
        least = min(max(total // (readers * 2), _LEAST_RUN_BYTES), _RUN_BYTES)
        runs: list[list[File]] = []
        begun = 0
        for file in files:
            last = runs[-1][-1] if runs else None
            if last is None or file.member.offset - last.until > _READ_THROUGH_BYTES or file.until - begun > least:
                runs.append([])
                begun = file.member.offset
            runs[-1].append(file)
        return runs

    async def pause(self, failures: int, problem: str) -> None:
        """Wait before the next try; raises `Failure` (`ArchiveUnreachable`) when there were enough."""
        if failures >= self._retrying.tries:
            raise Failure(
                FailureClass.ARCHIVE_UNREACHABLE,
                f"{Address.parse(self._url).origin} sent nothing {failures} times in a row; the last time: {problem}",
            )
        await asyncio.sleep(self._retrying.backoff.delay_seconds(failures, self._random.random()))


class ByteReader:
    """Some consecutive bytes of the archive, read on demand and across broken connections."""

    def __init__(self, archive: ArchiveSource, start: int, end: int | None) -> None:
        """`ArchiveSource.read` makes one, of the bytes from `start` to before `end`."""
        self.at = start
        """Where the next byte handed out stands in the archive."""
        self._archive = archive
        self._end = end
        self._next = start
        self._response: HttpResponse | None = None
        self._rest = memoryview(b"")
        self._failures = 0

    async def some(self, most: int) -> bytes:
        """Return at least one and at most `most` bytes; nothing at the end."""
        if not self._rest:
            pulled = await self._pull()
            if len(pulled) <= most:
                self.at += len(pulled)
                return pulled
            self._rest = memoryview(pulled)
        piece = self._rest[:most]
        self._rest = self._rest[len(piece) :]
        self.at += len(piece)
        return bytes(piece)

    async def exactly(self, count: int) -> bytes:
        """Return `count` bytes; raises `Failure` (`ArchiveRefused`) if the archive ends before."""
        pieces = []
        missing = count
        while missing:
            piece = await self.some(missing)
            if not piece:
                raise refused("The archive ends too early.")
            pieces.append(piece)
            missing -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def skip(self, count: int) -> None:
        """Read bytes and drop them."""
        while count:
            piece = await self.some(count)
            if not piece:
                raise refused("The archive ends too early.")
            count -= len(piece)

    def unread(self, piece: bytes) -> None:
        """Put bytes back; the next read returns them."""
        self._rest = memoryview(piece + bytes(self._rest))
        self.at -= len(piece)

    async def _pull(self) -> bytes:
        archive = self._archive
        tail_start = (archive.size or 0) - len(archive.tail)
        while self._end is None or self._next < self._end:
            if archive.tail and self._next >= tail_start:
                stop = None if self._end is None else self._end - tail_start
                piece = archive.tail[self._next - tail_start : stop]
                self._next += len(piece)
                return piece
            try:
                if self._response is None:
                    until = min(self._end or tail_start, tail_start) if archive.tail else self._end
                    self._response = await archive.ask(self._next, until)
                piece = await self._response.piece()
            except ConnectionBroken as problem:
                self._drop_response()
                self._failures += 1
                await archive.pause(self._failures, str(problem))
                continue
            if not piece:
                self._response = None
                if self._end is None:
                    return b""
                self._failures += 1
                await archive.pause(self._failures, "it sent less than it was asked for.")
                continue
            self._failures = 0
            if self._end is not None and len(piece) > self._end - self._next:
                piece = piece[: self._end - self._next]
                self._drop_response()
            self._next += len(piece)
            archive.fetched += len(piece)
            return piece
        return b""

    def _drop_response(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None

    def close(self) -> None:
        """Drop the connection."""
        self._drop_response()


async def open_archive(client: Client, url: str, retrying: Retrying | None = None) -> ArchiveSource:
    """Request the archive's last bytes and return the archive.

    Raises `Failure` (`ArchiveExpired`, `ArchiveUnreachable`, `ArchiveRefused`, `OrderInvalid`).
    """
    retrying = retrying or Retrying()
    random = Random()  # noqa: S311 - jitter
    failures = 0
    while True:
        try:
            return await _open(client, url, retrying)
        except ConnectionBroken as error:
            failures += 1
            if failures >= retrying.tries:
                raise Failure(FailureClass.ARCHIVE_UNREACHABLE, f"The archive's origin: {error}") from None
            await asyncio.sleep(retrying.backoff.delay_seconds(failures, random.random()))
        except ValueError:
            raise Failure(FailureClass.ORDER_INVALID, "The archive's address is not an http or https URL.") from None


async def _open(client: Client, url: str, retrying: Retrying) -> ArchiveSource:
    headers = {"accept-encoding": "identity", "range": f"bytes=-{TAIL_BYTES}"}
    response = await _get(client, url, headers)
    etag = response.headers.get("etag")
    try:
        await _raise_for_status(response, empty="The archive is empty.")
        size, tail = await _tail(response) if response.status == 206 else (0, b"")
    except BaseException:
        response.close()
        raise
    if response.status == 206:
        return ArchiveSource(client, url, size=size, etag=etag, tail=tail, ranged=True, retrying=retrying)
    length = response.headers.get("content-length", "")
    whole = int(length) if length.isdigit() else None
    return ArchiveSource(client, url, size=whole, etag=etag, tail=b"", ranged=False, retrying=retrying, first=response)


async def _tail(response: HttpResponse) -> tuple[int, bytes]:
    """Return the archive's size and last bytes; reads no more than requested, whatever the origin claims."""
    first, last, size = _content_range(response)
    if last + 1 != size or not 0 < size - first <= TAIL_BYTES:
        raise ConnectionBroken("it answered with a range that was not asked for.")
    tail = await response.read(size - first)
    if len(tail) != size - first:
        raise ConnectionBroken("it ended early.")
    return size, tail


async def _get(client: Client, url: str, headers: dict[str, str]) -> HttpResponse:
    address = Address.parse(url)
    for _ in range(4):
        response = await client.request("GET", address, headers)
        if response.status not in _REDIRECT_STATUS or "location" not in response.headers:
            return response
        response.close()
        url, address = _followed(url, address, response.headers["location"])
    raise Failure(FailureClass.ARCHIVE_UNREACHABLE, "The archive's address leads in circles.")


def _followed(url: str, before: Address, location: str) -> tuple[str, Address]:
    try:
        url = urljoin(url, location)
        address = Address.parse(url)
    except ValueError:
        raise Failure(
            FailureClass.ARCHIVE_UNREACHABLE, f"{before.origin} redirects to what is no http or https URL."
        ) from None
    if before.secure and not address.secure:
        raise Failure(FailureClass.ARCHIVE_UNREACHABLE, f"{before.origin} redirects to an address without TLS.")
    return url, address


async def _raise_for_status(
    response: HttpResponse, empty: str = "The archive changed while it was being read."
) -> None:
    status = response.status
    if status in {200, 206}:
        return
    said = await response.read(1024 * 1024)
    # S3 says 403 when a presigned URL has expired, and 400 ExpiredToken when the session that signed it is.
    if status in _EXPIRED_STATUS or (status == 400 and b"xpired" in said):
        raise Failure(FailureClass.ARCHIVE_EXPIRED, f"The archive's origin answered {status}: the address is over.")
    if status in _BUSY_STATUS:
        raise ConnectionBroken(f"it answered {status}.")
    if status in {412, 416}:
        raise refused(empty)
    raise Failure(FailureClass.ARCHIVE_UNREACHABLE, f"The archive's origin answered {status}.")


async def _drop(response: HttpResponse, count: int) -> None:
    dropped = 0
    while dropped < count:
        piece = await response.piece()
        if not piece:
            raise ConnectionBroken("it ended early.")
        if len(piece) > count - dropped:
            response.unread(piece[count - dropped :])
        dropped += len(piece)


def _content_range(response: HttpResponse) -> tuple[int, int, int]:
    unit, _, rest = response.headers.get("content-range", "").partition(" ")
    span, _, size = rest.partition("/")
    first, _, last = span.partition("-")
    if unit != "bytes" or not (first.isdigit() and last.isdigit() and size.isdigit()):
        raise ConnectionBroken("it answered with a range that cannot be read.")
    return int(first), int(last), int(size)


class LocalArchiveSource(ArchiveSource):
    """An archive in a file, for a person who packs by hand."""

    def __init__(self, file: BinaryIO | str) -> None:
        """Open it and read its end; raises `OSError`."""
        self._file: BinaryIO = Path(file).open("rb") if isinstance(file, str) else file  # noqa: SIM115
        size = self._file.seek(0, 2)
        self._file.seek(max(0, size - TAIL_BYTES))
        tail = self._file.read()
        client = Client()
        super().__init__(client, "http://localhost/", size=size, etag=None, tail=tail, ranged=True, retrying=Retrying())

    def read_at(self, start: int, count: int) -> bytes:
        """Read some bytes."""
        self._file.seek(start)
        return self._file.read(count)

    def read(self, start: int, end: int | None) -> ByteReader:
        return _LocalByteReader(self, start, self.size or 0 if end is None else end)


class _LocalByteReader(ByteReader):
    def __init__(self, archive: LocalArchiveSource, start: int, end: int) -> None:
        super().__init__(archive, start, end)
        self._local = archive
        self._until = end

    async def _pull(self) -> bytes:
        await asyncio.sleep(0)
        piece = self._local.read_at(self._next, min(256 * 1024, self._until - self._next))
        self._next += len(piece)
        self._local.fetched += len(piece)
        return piece
