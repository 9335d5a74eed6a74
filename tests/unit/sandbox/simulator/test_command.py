"""What a person writes on the command line, read."""

from __future__ import annotations

import pytest

from sandbox.simulator.command import size_of


@pytest.mark.parametrize(("text", "size"), [("17", 17), ("20M", 20_000_000), ("8GiB", 8 << 30), ("1.5 k", 1500)])
def test_sizes_of_people(text: str, size: int) -> None:
    assert size_of(text) == size
