"""From a member's packed bytes to its verified content.

The library is isal: it inflates and sums about twice as fast as zlib (docs/decisions/0011-inflate.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from isal import isal_zlib

from packager.archive.format import DEFLATED, Member, quoted, refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from entrypackage.failures import Failure

PIECE_BYTES: Final = 256 * 1024
"""The most that is unpacked at once, whatever the ratio."""


_Damaged: Any = isal_zlib.IsalError


def _inflater() -> Any:
    return isal_zlib.decompressobj(-15)


def crc32(body: bytes | bytearray | memoryview, start: int = 0) -> int:
    """Return the CRC-32 of `body`, continued from `start`."""
    return int(isal_zlib.crc32(body, start))


class Unpacker:
    """Unpacks one member piece by piece and proves size and CRC-32."""

    def __init__(self, member: Member) -> None:
        """`member` says the method, and what size and CRC-32 to expect."""
        self._member = member
        self._inflater = _inflater() if member.method == DEFLATED else None
        self._size = 0
        self._crc = 0
        self.behind = b""
        """What followed the packed bytes; only with `open_ended`."""

    @property
    def crc32(self) -> int:
        """The CRC-32 of what was unpacked so far."""
        return self._crc

    @property
    def ended(self) -> bool:
        """Whether the end of the packed bytes was reached (never for a stored member)."""
        return self._inflater is not None and self._inflater.eof

    def feed(self, packed: bytes, *, open_ended: bool = False) -> Iterator[bytes]:
        """Yield what some more packed bytes unpack to; raises `Failure` (`ArchiveRefused`) as soon as it is too much.

        With `open_ended`, bytes that follow the packed ones are kept as `behind` instead of being refused.
        """
        if self._inflater is None:
            yield self._counted(packed)
            return
        while packed:
            if self._inflater.eof:
                raise self._goes_on()
            try:
                piece = self._inflater.decompress(packed, PIECE_BYTES)
            except _Damaged:
                raise self._damaged() from None
            rest = self._inflater.unconsumed_tail
            if not piece and len(rest) >= len(packed):
                raise self._damaged()
            packed = rest
            if self._inflater.unused_data:
                if not open_ended:
                    raise self._goes_on()
                self.behind = self._inflater.unused_data
            if piece:
                yield self._counted(piece)

    def _goes_on(self) -> Failure:
        return refused(f"The packed bytes of {quoted(self._member.name)} go on behind their end.")

    def _damaged(self) -> Failure:
        return refused(f"The packed bytes of {quoted(self._member.name)} are damaged.")

    def _counted(self, piece: bytes) -> bytes:
        self._size += len(piece)
        if self._size > self._member.size:
            raise refused(
                f"The member {quoted(self._member.name)} unpacks to more than the {self._member.size} bytes claimed."
            )
        self._crc = crc32(piece, self._crc)
        return piece

    def rest(self) -> Iterator[bytes]:
        """Yield what is left once all packed bytes were fed; raises `Failure` if they ended too early."""
        while self._inflater is not None and not self._inflater.eof:
            try:
                piece = self._inflater.decompress(b"", PIECE_BYTES)
            except _Damaged:
                piece = b""
            if piece:
                yield self._counted(piece)
            elif not self._inflater.eof:
                raise refused(f"The packed bytes of {quoted(self._member.name)} end too early.")

    def finish(self) -> Iterator[bytes]:
        """Yield the rest; raises `Failure` unless size and CRC-32 are the claimed ones."""
        yield from self.rest()
        if self._size != self._member.size:
            raise refused(
                f"The member {quoted(self._member.name)} unpacks to {self._size} bytes, not to the {self._member.size} "
                "claimed."
            )
        if self._crc != self._member.crc32:
            raise refused(
                f"The content of {quoted(self._member.name)} does not have the CRC-32 that the archive claims."
            )


def unpack(member: Member, packed: bytes) -> bytes:
    """Return the content of a small member; raises `Failure` (`ArchiveRefused`)."""
    unpacker = Unpacker(member)
    pieces = [*unpacker.feed(packed), *unpacker.finish()]
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
