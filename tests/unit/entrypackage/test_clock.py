"""The boot clock is the machine's own."""

from __future__ import annotations

import time

from entrypackage.clock import boot_seconds


def test_clock_counts_on_from_the_start_of_the_machine() -> None:
    before = time.monotonic()
    first, second = boot_seconds(), boot_seconds()
    assert before <= first <= second
