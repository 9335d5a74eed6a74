"""CRC-32 as linear algebra over GF(2), so that the checksum of a 20 GiB member costs milliseconds.

CRC-32 of a concatenation is an operator applied to the first part's sum, XOR the second part's sum. That lets
the sum of n stamped copies of one block be computed in O(log n) steps, without making a single one of them.
"""

from __future__ import annotations

import struct
import zlib
from functools import cache

Operator = tuple[int, ...]
"""A 32x32 matrix over GF(2): the image of each bit, lowest bit first."""

STAMP_BYTES = 16
_COUNTER_BITS = 48
_IDENTITY: Operator = tuple(1 << bit for bit in range(32))


def apply(operator: Operator, value: int) -> int:
    """The operator's image of a 32-bit value."""
    result = 0
    bit = 0
    while value:
        if value & 1:
            result ^= operator[bit]
        value >>= 1
        bit += 1
    return result


def compose(outer: Operator, inner: Operator) -> Operator:
    """The operator that applies `inner`, then `outer`."""
    return tuple(apply(outer, column) for column in inner)


@cache
def _zero_bytes(power: int) -> Operator:
    """The operator of appending 2**power zero bytes."""
    if power == 0:
        one_bit: Operator = (0xEDB88320, *(1 << bit for bit in range(31)))
        operator = one_bit
        for _ in range(3):
            operator = compose(operator, operator)
        return operator
    half = _zero_bytes(power - 1)
    return compose(half, half)


def advance(crc: int, length: int) -> int:
    """`crc` after `length` zero bytes, without CRC-32's final inversions: the first half of `combine`."""
    power = 0
    while length:
        if length & 1:
            crc = apply(_zero_bytes(power), crc)
        length >>= 1
        power += 1
    return crc


def combine(first: int, second: int, second_length: int) -> int:
    """CRC-32 of a + b, given the sums of both and the length of b."""
    return advance(first, second_length) ^ second


@cache
def _doubling(block: int, power: int) -> tuple[Operator, Operator]:
    """(operator of 2**power blocks, sum of the operators of 0 .. 2**power - 1 blocks)."""
    if power == 0:
        shift = _IDENTITY
        for bit in range(block.bit_length()):
            if block >> bit & 1:
                shift = compose(_zero_bytes(bit), shift)
        return shift, _IDENTITY
    shift, series = _doubling(block, power - 1)
    return compose(shift, shift), tuple(a ^ b for a, b in zip(compose(shift, series), series, strict=True))


@cache
def _counter_bits(block: int) -> tuple[int, ...]:
    """What each bit of the stamp's counter changes in the sum of a block."""
    blank = zlib.crc32(bytes(block))
    rest = bytes(block - STAMP_BYTES)
    return tuple(zlib.crc32(stamp(0, 1 << bit) + rest) ^ blank for bit in range(_COUNTER_BITS))


def stamp(salt: int, counter: int) -> bytes:
    """The 16 bytes that are XORed onto the head of block `counter` of the content with this salt."""
    return struct.pack(">QQ", salt, counter)


def stamped_blocks(base_crc: int, block: int, count: int) -> int:
    """CRC-32 of `count` blocks of `block` bytes whose heads carry the counters 0, 1, 2, ...

    `base_crc` is the sum of block 0 (with its salt).
    """
    bits = _counter_bits(block)

    def counter_change(counter: int) -> int:
        change = 0
        for bit in range(counter.bit_length()):
            if counter >> bit & 1:
                change ^= bits[bit]
        return change

    groups = [base_crc]
    for power in range(count.bit_length()):
        shift, series = _doubling(block, power)
        half = groups[power]
        groups.append(apply(shift, half) ^ half ^ apply(series, counter_change(1 << power)))
    total = 0
    done = 0
    for power in reversed(range(count.bit_length())):
        if count >> power & 1:
            shift, series = _doubling(block, power)
            total = apply(shift, total) ^ groups[power] ^ apply(series, counter_change(done))
            done += 1 << power
    return total
