"""Bytes that follow from a seed and a size."""

from __future__ import annotations

import zlib

import pytest

from sandbox.simulator.content import BLOCK, Deflated, Noise, Plain, Squeezed, Unpacked

SIZES = [0, 1, 15, 16, 17, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7, 11 * BLOCK]


def _whole(content: Noise | Deflated | Unpacked | Squeezed | Plain) -> bytes:
    return content.read(0, content.packed)


@pytest.mark.parametrize("size", SIZES)
def test_sums_are_those_of_the_bytes(size: int) -> None:
    noise, deflated = Noise(size, "a"), Deflated(size, "a")
    assert noise.crc == zlib.crc32(_whole(noise))
    plain = zlib.decompress(_whole(deflated), wbits=-15)
    assert len(plain) == size
    assert deflated.crc == zlib.crc32(plain)
    assert _whole(Unpacked(deflated)) == plain


def test_noise_does_not_shrink_and_differs_by_seed_and_place() -> None:
    noise = _whole(Noise(4 * BLOCK, "a"))
    assert len(zlib.compress(noise)) > len(noise) * 0.99
    assert noise != _whole(Noise(4 * BLOCK, "b"))
    assert len({noise[start : start + BLOCK] for start in range(0, len(noise), BLOCK)}) == 4
