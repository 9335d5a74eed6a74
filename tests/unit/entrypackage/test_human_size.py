"""Sizes as people read them."""

from __future__ import annotations

import pytest

from entrypackage.human_size import human_size


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (12_900_000, "12.3 MiB"),
        (1024**3, "1.0 GiB"),
        (1024**4, "1.0 TiB"),
        (5000 * 1024**4, "5000.0 TiB"),
        (1536.5, "1.5 KiB"),
    ],
)
def test_size(count: float, text: str) -> None:
    assert human_size(count) == text
