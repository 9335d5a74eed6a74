"""Checksums by arithmetic."""

from __future__ import annotations

import zlib

from hypothesis import given
from hypothesis import strategies as st

from sandbox.simulator import crc


@given(first=st.binary(max_size=300), second=st.binary(max_size=300))
def test_sums_combine(first: bytes, second: bytes) -> None:
    combined = crc.combine(zlib.crc32(first), zlib.crc32(second), len(second))
    assert combined == zlib.crc32(first + second)
