"""The object store that the presigned URLs lead to: another origin, ranges, XML errors, broken in many ways."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sandbox.simulator import presign
from sandbox.simulator.archives import Archive
from sandbox.simulator.wire import Call, Reply, xml_error

if TYPE_CHECKING:
    from sandbox.simulator.clock import Clock
    from sandbox.simulator.faults import Rule, Switchboard
    from sandbox.simulator.presign import Signer

Build = Callable[[int], Archive]
"""Makes the archive of a key; the number is 0, or counts up where the object changes between two reads."""

_BUILT_AT_ONCE = 32


@dataclass(frozen=True)
class Blob:
    """One stored object."""

    path: str
    filename: str
    media_type: str
    subject: str
    """The entry that it belongs to: what faults and the request log are told by."""
    build: Build


class BlobStore:
    """All objects. Archives are built when they are read; the newest few stay built."""

    def __init__(self, clock: Clock, faults: Switchboard, signer: Signer) -> None:
        self._clock = clock
        self._faults = faults
        self._signer = signer
        self._blobs: dict[str, Blob] = {}
        self._built: OrderedDict[tuple[str, int], Archive] = OrderedDict()
        self._changes = 0
        self._spent: Counter[str] = Counter()
        """Bytes that were served by URL, as far as that is limited; a URL is known by its query."""

    def put(self, blob: Blob) -> None:
        """Store an object."""
        self._blobs[blob.path] = blob

    def sign(self, path: str, origin: str, life: float) -> str:
        """A presigned URL for an object."""
        filename = self._blobs[path].filename
        return self._signer.url(origin, path, now=self._clock.now(), life=life, filename=filename)

    @property
    def signed(self) -> int:
        """How many URLs were signed."""
        return self._signer.signed

    def subject(self, path: str) -> str | None:
        """The entry to which the object belongs."""
        blob = self._blobs.get(path)
        return None if blob is None else blob.subject

    def _archive(self, blob: Blob, change: int) -> Archive:
        key = (blob.path, change)
        if key not in self._built:
            self._built[key] = blob.build(change)
            while len(self._built) > _BUILT_AT_ONCE:
                self._built.popitem(last=False)
        self._built.move_to_end(key)
        return self._built[key]

    def archive(self, path: str) -> Archive:
        """The object behind a path, for tests that compare bytes. Raises KeyError."""
        return self._archive(self._blobs[path], 0)

    def answer(self, call: Call) -> tuple[Reply, str | None]:
        """The answer to a GET, and the fault that struck."""
        refusal = self._refusal(call)
        if refusal is not None:
            return refusal, None
        blob = self._blobs.get(call.path)
        if blob is None:
            return xml_error(404, "NoSuchKey", "The specified key does not exist."), None
        if self._take("url_expired", blob):
            return presign.expired(self._clock.now()), "url_expired"
        if rule := self._take("url_spent", blob):
            return self._served_in_part(call, blob, int(rule.number("bytes", 1 << 20))), "url_spent"
        if self._take("archive_503", blob):
            return xml_error(503, "SlowDown", "Please reduce your request rate."), "archive_503"
        if self._take("archive_changed", blob):
            self._changes += 1
            return ranged(call, blob, self._archive(blob, self._changes)), "archive_changed"
        return self._served(call, blob, self._archive(blob, 0))

    def _refusal(self, call: Call) -> Reply | None:
        if "authorization" in call.headers and "X-Amz-Algorithm" in call.query:
            message = (
                "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, "
                "Signature query string parameter or the Authorization header should be specified"
            )
            return xml_error(400, "InvalidArgument", message, ArgumentName="Authorization")
        return self._signer.refuse(call.method, call.path, call.query, now=self._clock.now())

    def _take(self, name: str, blob: Blob) -> Rule | None:
        return self._faults.take(name, self._clock.real(), subject=blob.subject, operation="archive")

    def _served_in_part(self, call: Call, blob: Blob, most: int) -> Reply:
        """A good answer that ends where the URL does: expiry in mid-transfer, told by bytes and not by time."""
        if self._spent[call.query] >= most:
            return presign.expired(self._clock.now())
        reply = ranged(call, blob, self._archive(blob, 0))
        if reply.stream is not None:
            reply.stream = self._until_spent(reply, reply.stream, call.query, most)
        return reply

    def _until_spent(self, reply: Reply, stream: Iterator[bytes], url: str, most: int) -> Iterator[bytes]:
        """Count what all answers to one URL serve together, and break this one off when that is enough."""
        sent = 0
        for piece in _repieced(stream, 16 * 1024):
            if self._spent[url] >= most:
                reply.cut_after = sent
                yield b""
                return
            self._spent[url] += len(piece)
            sent += len(piece)
            yield piece

    def _served(self, call: Call, blob: Blob, archive: Archive) -> tuple[Reply, str | None]:
        """A good answer, spoilt by the transfer faults that are set."""
        struck: str | None = None
        for name in ("archive_no_ranges", "archive_no_length"):
            if self._take(name, blob):
                struck = name
        if struck is None:
            reply = ranged(call, blob, archive)
        else:
            reply = entire(blob, archive)
            reply.headers.pop("accept-ranges")
            if struck == "archive_no_length":
                reply.length = None
                reply.headers.pop("etag")
        if reply.status not in (200, 206):
            return reply, struck
        if rule := self._take("archive_slow", blob):
            reply.pause_each_piece, struck = rule.number("seconds", 0.2), rule.name
            reply.stream = None if reply.stream is None else _repieced(reply.stream, 64 * 1024)
        if rule := self._take("archive_cut", blob):
            length = reply.length or archive.size
            reply.cut_after, struck = int(rule.number("bytes", length // 2)), rule.name
        if rule := self._take("archive_wrong_length", blob):
            length, struck = reply.length or archive.size, rule.name
            reply.length, reply.cut_after = length + int(rule.number("bytes", 1000)), length
        if (rule := self._take("archive_corrupt", blob)) and reply.stream is not None:
            reply.stream, struck = _flipped(reply.stream, (reply.length or archive.size) // 2), rule.name
        return reply, struck


def _repieced(stream: Iterator[bytes], size: int) -> Iterator[bytes]:
    for piece in stream:
        for start in range(0, len(piece), size):
            yield piece[start : start + size]


def _flipped(stream: Iterator[bytes], place: int) -> Iterator[bytes]:
    done = 0
    for piece in stream:
        if done <= place < done + len(piece):
            spoilt = bytearray(piece)
            spoilt[place - done] ^= 0xFF
            yield bytes(spoilt)
        else:
            yield piece
        done += len(piece)


def _headers(blob: Blob, archive: Archive) -> dict[str, str]:
    mark = hashlib.sha1(blob.path.encode(), usedforsecurity=False).hexdigest()[:16].upper()
    return {
        "content-type": blob.media_type,
        "accept-ranges": "bytes",
        "etag": f'"{archive.etag}"',
        "last-modified": "Mon, 05 Jan 2026 12:00:00 GMT",
        "x-amz-request-id": mark,
        "server": "AmazonS3",
    }


def entire(blob: Blob, archive: Archive) -> Reply:
    """The whole object."""
    return Reply(200, headers=_headers(blob, archive), stream=archive.pieces(), length=archive.size)


_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def ranged(call: Call, blob: Blob, archive: Archive) -> Reply:
    """The object, or the single range that is asked for (several ranges give the whole, as in S3)."""
    etag = f'"{archive.etag}"'
    if (wanted := call.headers.get("if-match")) not in (None, "*", etag, archive.etag):
        return xml_error(412, "PreconditionFailed", "A pre-condition did not hold.", Condition=f"If-Match {wanted}")
    if call.headers.get("if-none-match") in ("*", etag):
        return Reply(304, headers=_headers(blob, archive))
    match = _RANGE.fullmatch(call.headers.get("range", "").strip())
    if match is None or match.group(0) == "bytes=-" or call.headers.get("if-range", etag) != etag:
        return entire(blob, archive)
    low, high = match.groups()
    if low:
        start, stop = int(low), min(int(high) + 1 if high else archive.size, archive.size)
    else:
        start, stop = max(0, archive.size - int(high)), archive.size
    if low and high and int(high) < int(low):
        return entire(blob, archive)
    if start >= archive.size or stop <= start:
        message = "The requested range is not satisfiable"
        return xml_error(416, "InvalidRange", message, ActualObjectSize=str(archive.size))
    headers = {**_headers(blob, archive), "content-range": f"bytes {start}-{stop - 1}/{archive.size}"}
    return Reply(206, headers=headers, stream=archive.pieces(start, stop), length=stop - start)
