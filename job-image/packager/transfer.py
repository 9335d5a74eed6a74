"""From the archive to the bucket: members are read in runs, several at a time, and put while the next are read."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from entrypackage.failures import Failure, FailureClass
from packager.archive.format import (
    LOCAL_HEADER_BYTES,
    LocalHeader,
    check_gap,
    check_local_header,
    parse_local_header,
    quoted,
    refused,
)
from packager.archive.unpack import PIECE_BYTES, Unpacker, crc32, unpack
from packager.capacity import PUT_BYTES, Capacity, ConcurrencyLimits, PartBuffer, PartBuffers, part_bytes
from packager.content_types import content_type
from packager.tasks import flat

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from packager.archive.source import ArchiveSource, ByteReader
    from packager.aws.client import Fence
    from packager.aws.store import Part, Store
    from packager.decisions.policy import File
    from packager.progress import Progress


_UNREADABLE: Final = frozenset({FailureClass.ARCHIVE_EXPIRED, FailureClass.ARCHIVE_UNREACHABLE})
"""Failures that say no more than that nothing further can be read."""

_LATE_ID_SECONDS: Final = 2.0
"""How long a stop waits for the id of an upload that was being begun; the next attempt finds it otherwise."""

_READY_PARTS: Final = 20_000
"""Parts that may be uploaded and not completed at the end of the first pass; what is known of each takes memory."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A multipart upload, and its parts that S3 has."""

    id: str
    parts: list[Part]


class Transfer:
    """Moves members; one per attempt."""

    def __init__(
        self,
        archive: ArchiveSource,
        store: Store,
        fence: Fence,
        limits: ConcurrencyLimits,
        key_prefix: str,
        progress: Progress,
    ) -> None:
        """Put objects under `key_prefix`, behind `fence`."""
        self._archive = archive
        self._store = store
        self._fence = fence
        self._limits = limits
        self._prefix = key_prefix
        self._progress = progress
        self._capacity = Capacity(limits.buffer_bytes)
        self._buffers = PartBuffers(self._capacity)
        self._slots = asyncio.Semaphore(limits.puts)
        self._kept: dict[str, bytes] = {}
        self._kept_bytes = 0
        self._ready: dict[str, Upload] = {}
        self._ready_parts = 0
        self._uploads: dict[str, str] = {}
        self.uploads_begun = 0
        self.proven: set[str] = set()
        """Names of files that are good, and are not at their place yet because they replace something."""

    async def run(self, put: Sequence[File], replace: Sequence[File] = ()) -> None:
        """Put some files; prove others, which `replace` something, and prepare them without changing anything visible.

        Of those, large ones are uploaded and not completed, small ones kept within `kept_bytes`, the rest only read;
        the method `replace` does what is left. Raises the first `Failure`, all else being stopped.
        """
        wanted = sorted([*put, *replace], key=lambda file: file.member.offset)
        prepared = {file.name for file in replace}
        if self._progress.moving_since is None:
            self._progress.moving_since = asyncio.get_running_loop().time()
            self._progress.bytes_skipped = self._progress.bytes_done
        runs = self._archive.runs(wanted, self._limits.readers)
        queue = iter(runs)
        unreadable: list[Failure] = []
        async with asyncio.TaskGroup() as puts, asyncio.TaskGroup() as readers:
            for _ in range(min(self._limits.readers, len(runs))):
                readers.create_task(self._read_runs(queue, prepared, puts, unreadable))
        if unreadable:
            raise unreadable[0]

    async def _read_runs(
        self, queue: Iterator[list[File]], prepared: set[str], puts: asyncio.TaskGroup, unreadable: list[Failure]
    ) -> None:
        """Read runs until there are no more, or one reader finds that the archive is `unreadable` from now on.

        What other readers have begun by then, and what is being put, is finished: it was fetched, and the next attempt
        need not fetch it again.
        """
        for run in queue:
            reader = self._archive.read(run[0].member.offset, run[-1].until)
            try:
                for file in run:
                    if unreadable:
                        return
                    await reader.skip(file.member.offset - reader.at)
                    await self._file(reader, file, prepare=file.name in prepared, puts=puts)
            except Failure as failure:
                if failure.failure not in _UNREADABLE:
                    raise
                unreadable.append(failure)
                return
            finally:
                reader.close()

    async def _file(self, reader: ByteReader, file: File, *, prepare: bool, puts: asyncio.TaskGroup) -> None:
        header = await open_member(reader, file)
        if prepare:
            await self._prepare(reader, file)
        elif file.member.size <= PUT_BYTES:
            charge = await self._capacity.acquire(file.member.size)
            try:
                body = await self._whole(reader, file)
                await self._slots.acquire()
            except BaseException:
                self._capacity.release(charge)
                raise
            puts.create_task(self._put(file, body, charge))
        else:
            await self._complete(file, await self._upload(reader, file))
        await close_member(reader, file, header)
        if prepare:
            self.proven.add(file.name)

    async def _whole(self, reader: ByteReader, file: File) -> list[bytes]:
        if file.member.packed <= PIECE_BYTES:
            return [unpack(file.member, await reader.exactly(file.member.packed))]
        return [piece async for piece in member_pieces(reader, file)]

    async def _put(self, file: File, body: list[bytes], charge: int) -> None:
        try:
            await self._store.put(
                self._prefix + file.name,
                body,
                crc=file.member.crc32,
                content_type=content_type(file.name),
                fence=self._fence,
            )
        finally:
            self._capacity.release(charge)
            self._slots.release()
        self._progress.bytes_done += file.member.size
        self._count(file)

    def _count(self, file: File) -> None:
        self.proven.discard(file.name)
        self._progress.files_done += 1
        self._progress.files_uploaded += 1
        self._progress.bytes_uploaded += file.member.size

    async def _prepare(self, reader: ByteReader, file: File) -> None:
        size = file.member.size
        parts = -(-size // part_bytes(size))
        if size > PUT_BYTES and self._ready_parts + parts <= _READY_PARTS:
            self._ready_parts += parts
            self._ready[file.name] = await self._upload(reader, file)
        elif size <= self._limits.kept_bytes - self._kept_bytes:
            self._kept_bytes += size
            self._kept[file.name] = b"".join(await self._whole(reader, file))
        else:
            self._progress.bytes_total += size  # it will be moved a second time
            async for piece in member_pieces(reader, file):
                self._progress.bytes_done += len(piece)

    async def replace(self, files: Sequence[File]) -> None:
        """Complete the files that were prepared, and put the others; raises the first `Failure`."""
        prepared = {*self._kept, *self._ready}
        async with asyncio.TaskGroup() as group:
            for file in files:
                if file.name in self._kept:
                    charge = await self._capacity.acquire(0)  # kept files have a capacity of their own
                    await self._slots.acquire()
                    group.create_task(self._put(file, [self._kept.pop(file.name)], charge))
                elif file.name in self._ready:
                    await self._slots.acquire()
                    group.create_task(self._complete_ready(file, self._ready.pop(file.name)))
        await self.run([file for file in files if file.name not in prepared])

    async def _upload(self, reader: ByteReader, file: File) -> Upload:
        """Upload a member in parts, without completing it."""
        key = self._prefix + file.name
        self.uploads_begun += 1
        upload = Upload(await self._begin_upload(key, content_type(file.name)), [])
        await flat(self._put_parts(reader, file, key, upload))  # the caller distinguishes failures by their class
        return upload

    async def _put_parts(self, reader: ByteReader, file: File, key: str, upload: Upload) -> None:
        async with asyncio.TaskGroup() as group:
            number = 0
            async for buffer, filled in self._parts(reader, file):
                number += 1
                group.create_task(self._put_part(key, upload, number, buffer, filled))

    async def _complete_ready(self, file: File, upload: Upload) -> None:
        try:
            await self._complete(file, upload)
        finally:
            self._slots.release()

    async def _complete(self, file: File, upload: Upload) -> None:
        key = self._prefix + file.name
        await self._store.complete_upload(key, upload.id, upload.parts, crc=file.member.crc32, fence=self._fence)
        del self._uploads[upload.id]
        self._count(file)

    async def _begin_upload(self, key: str, kind: str) -> str:
        """Begin an upload and record its id, also when this is cancelled: without the id it could not be aborted."""
        begun = asyncio.ensure_future(self._store.begin_upload(key, content_type=kind, fence=self._fence))
        try:
            upload = await asyncio.shield(begun)
        except asyncio.CancelledError:
            with contextlib.suppress(Failure, TimeoutError):
                self._uploads[await asyncio.wait_for(begun, _LATE_ID_SECONDS)] = key
            raise
        self._uploads[upload] = key
        return upload

    async def _parts(self, reader: ByteReader, file: File) -> AsyncIterator[tuple[PartBuffer, int]]:
        """Yield each part's buffer, to be released, and how many bytes of it are filled."""
        buffer: PartBuffer | None = None
        filled = 0
        left = file.member.size
        try:
            async for whole in member_pieces(reader, file):
                piece = memoryview(whole)
                while piece:
                    if buffer is None:
                        buffer = await self._buffers.acquire(part_bytes(file.member.size))
                    took = buffer.fill(filled, piece)
                    piece = piece[took:]
                    filled += took
                    left -= took
                    if filled == buffer.size or not left:
                        full, length, buffer, filled = buffer, filled, None, 0
                        yield full, length
        finally:
            if buffer is not None:
                self._buffers.release(buffer)

    async def _put_part(self, key: str, upload: Upload, number: int, buffer: PartBuffer, filled: int) -> None:
        try:
            async with self._slots:
                body = buffer.content(filled)
                upload.parts.append(
                    await self._store.put_part(key, upload.id, number, [body], crc=crc32(body), fence=self._fence)
                )
                self._progress.bytes_done += filled
        finally:
            self._buffers.release(buffer)

    async def give_up(self) -> None:
        """Abort the uploads that were begun and not completed; the next attempt aborts those that remain."""
        slots = asyncio.Semaphore(self._limits.puts)  # what was cancelled may not have released its own

        async def abort(upload: str, key: str) -> None:
            async with slots:
                await self._store.abort_upload(key, upload)
            del self._uploads[upload]

        aborts = [abort(upload, key) for upload, key in self._uploads.items()]
        await asyncio.gather(*aborts, return_exceptions=True)


async def open_member(reader: ByteReader, file: File) -> LocalHeader:
    """Read a member's own header and compare it with the directory."""
    header = parse_local_header(await reader.exactly(LOCAL_HEADER_BYTES), file.member.name)
    check_local_header(file.member, header, await reader.exactly(header.trailing_bytes))
    return header


async def close_member(reader: ByteReader, file: File, header: LocalHeader) -> None:
    """Read what stands behind a member's content and prove that nothing is hidden there."""
    check_gap(file.member, header, await reader.exactly(max(0, file.until - reader.at)))


async def member_pieces(reader: ByteReader, file: File) -> AsyncIterator[bytes]:
    """Yield a member's content, verified as a whole only once the last piece was taken."""
    unpacker = Unpacker(file.member)
    left = file.member.packed
    while left:
        packed = await reader.some(min(left, PIECE_BYTES))
        if not packed:
            raise refused(f"The content of {quoted(file.member.name)} reaches into what follows it.")
        left -= len(packed)
        for piece in unpacker.feed(packed):
            yield piece
    for piece in unpacker.finish():
        yield piece
