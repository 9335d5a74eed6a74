"""What a member of an archive contains: bytes that can be read at any offset without having been made before."""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass, field
from functools import cache, cached_property
from random import Random
from typing import TYPE_CHECKING, Protocol

from sandbox.simulator import crc

if TYPE_CHECKING:
    from collections.abc import Callable

STORED = 0
DEFLATED = 8
BLOCK = 64 * 1024
"""Bytes of one stamped block. Every block of every content differs from every other in its first 16 bytes."""


class Content(Protocol):
    """The packed form of one member, readable at any offset."""

    @property
    def size(self) -> int:
        """Bytes after unpacking."""

    @property
    def packed(self) -> int:
        """Bytes in the archive."""

    @property
    def method(self) -> int:
        """ZIP's number of the packing method."""

    @property
    def crc(self) -> int:
        """CRC-32 of the unpacked bytes."""

    def read(self, start: int, stop: int) -> bytes:
        """Packed bytes [start, stop); the caller keeps both inside [0, packed]."""


@dataclass(frozen=True)
class Plain:
    """Given bytes, stored as they are."""

    payload: bytes
    method: int = STORED

    @property
    def size(self) -> int:
        """Bytes after unpacking."""
        return len(self.payload)

    @property
    def packed(self) -> int:
        """Bytes in the archive."""
        return len(self.payload)

    @cached_property
    def crc(self) -> int:
        """CRC-32 of the unpacked bytes."""
        return zlib.crc32(self.payload)

    def read(self, start: int, stop: int) -> bytes:
        """Packed bytes [start, stop)."""
        return self.payload[start:stop]


@dataclass(frozen=True)
class Squeezed:
    """Given bytes, deflated at once; for small things."""

    payload: bytes
    method: int = DEFLATED

    @property
    def size(self) -> int:
        """Bytes after unpacking."""
        return len(self.payload)

    @cached_property
    def _deflated(self) -> bytes:
        packer = zlib.compressobj(6, zlib.DEFLATED, -15)
        return packer.compress(self.payload) + packer.flush()

    @property
    def packed(self) -> int:
        """Bytes in the archive."""
        return len(self._deflated)

    @cached_property
    def crc(self) -> int:
        """CRC-32 of the unpacked bytes."""
        return zlib.crc32(self.payload)

    def read(self, start: int, stop: int) -> bytes:
        """Packed bytes [start, stop)."""
        return self._deflated[start:stop]


def salt_of(seed: str) -> int:
    """The 64 bits by which the blocks of one content differ from those of another."""
    return int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "big")


@cache
def _noise() -> bytes:
    """One block of incompressible bytes, the same in every run."""
    return Random("noise").randbytes(BLOCK)


@dataclass(frozen=True)
class Noise:
    """Incompressible bytes of any size, determined by the seed, stored."""

    size: int
    seed: str
    method: int = STORED
    _salt: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_salt", salt_of(self.seed))

    @property
    def packed(self) -> int:
        """Bytes in the archive."""
        return self.size

    @cached_property
    def crc(self) -> int:
        """CRC-32 of the unpacked bytes."""
        whole, rest = divmod(self.size, BLOCK)
        total = crc.stamped_blocks(zlib.crc32(self._block(0)), BLOCK, whole)
        return crc.combine(total, zlib.crc32(self._block(whole)[:rest]), rest)

    def _block(self, counter: int) -> bytes:
        base = _noise()
        head = int.from_bytes(base[: crc.STAMP_BYTES], "big")
        mark = int.from_bytes(crc.stamp(self._salt, counter), "big")
        return (head ^ mark).to_bytes(crc.STAMP_BYTES, "big") + base[crc.STAMP_BYTES :]

    def read(self, start: int, stop: int) -> bytes:
        """Packed bytes [start, stop)."""
        return _from_blocks(self._block, BLOCK, start, stop)


def _from_blocks(block_at: Callable[[int], bytes], length: int, start: int, stop: int) -> bytes:
    """Bytes [start, stop) of an endless row of equally long blocks."""
    if stop <= start:
        return b""
    first, last = start // length, (stop - 1) // length
    joined = b"".join(block_at(counter) for counter in range(first, last + 1))
    return joined[start - first * length : stop - first * length]


@cache
def _text_body(noise_share: float) -> bytes:
    """A block's body that deflate shrinks to about `noise_share` of it."""
    noise = _noise()[: int((BLOCK - crc.STAMP_BYTES) * noise_share)]
    row = b"plate,well,sample,reading\n" if noise_share else b"\0"
    missing = BLOCK - crc.STAMP_BYTES - len(noise)
    return noise + (row * (missing // len(row) + 1))[:missing]


@cache
def _squeezed_body(noise_share: float) -> bytes:
    """The body as a run of deflate blocks that ends on a byte boundary and refers to nothing outside."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(_text_body(noise_share)) + packer.flush(zlib.Z_FULL_FLUSH)


_LAST_BLOCK = b"\x03\x00"


@dataclass(frozen=True)
class Deflated:
    """Compressible bytes of any size, determined by the seed, deflated.

    Each block is a stored deflate block with the 16-byte stamp, followed by one precompressed body: equally long,
    so any offset is a division away. `noise_share` 0 gives a bomb (about 600 : 1), 0.5 about 2 : 1.
    """

    size: int
    seed: str
    noise_share: float = 0.3
    method: int = DEFLATED
    _salt: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_salt", salt_of(self.seed))

    @cached_property
    def _tail(self) -> bytes:
        """The packed rest that doesn't fill a block, and the end of the deflate stream."""
        whole, rest = divmod(self.size, BLOCK)
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        plain = self._plain(whole)[:rest]
        return packer.compress(plain) + packer.flush(zlib.Z_FULL_FLUSH) + _LAST_BLOCK

    @cached_property
    def _packed_blocks(self) -> int:
        return (self.size // BLOCK) * len(self._block(0))

    @property
    def packed(self) -> int:
        """Bytes in the archive."""
        return self._packed_blocks + len(self._tail)

    def _plain(self, counter: int) -> bytes:
        return crc.stamp(self._salt, counter) + _text_body(self.noise_share)

    def _block(self, counter: int) -> bytes:
        stored = struct.pack("<BHH", 0, crc.STAMP_BYTES, crc.STAMP_BYTES ^ 0xFFFF)
        return stored + crc.stamp(self._salt, counter) + _squeezed_body(self.noise_share)

    @cached_property
    def crc(self) -> int:
        """CRC-32 of the unpacked bytes."""
        whole, rest = divmod(self.size, BLOCK)
        total = crc.stamped_blocks(zlib.crc32(self._plain(0)), BLOCK, whole)
        return crc.combine(total, zlib.crc32(self._plain(whole)[:rest]), rest)

    def read(self, start: int, stop: int) -> bytes:
        """Packed bytes [start, stop)."""
        border = self._packed_blocks
        head = _from_blocks(self._block, len(self._block(0)), start, min(stop, border))
        return head + self._tail[max(0, start - border) : max(0, stop - border)]

    def unpacked(self, start: int, stop: int) -> bytes:
        """Unpacked bytes [start, stop)."""
        return _from_blocks(self._plain, BLOCK, start, min(stop, self.size))


@dataclass(frozen=True)
class Unpacked:
    """The bytes of a deflated content as the file that they are, stored."""

    inner: Deflated
    method: int = STORED

    @property
    def size(self) -> int:
        """Bytes after unpacking."""
        return self.inner.size

    @property
    def packed(self) -> int:
        """Bytes in the archive."""
        return self.inner.size

    @property
    def crc(self) -> int:
        """CRC-32 of the unpacked bytes."""
        return self.inner.crc

    def read(self, start: int, stop: int) -> bytes:
        """Packed bytes [start, stop)."""
        return self.inner.unpacked(start, stop)
