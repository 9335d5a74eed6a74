"""The clock of leases and claims, which a process that was paused must not find where it left it."""

from __future__ import annotations

import time


def boot_seconds() -> float:
    """Return seconds since the machine started, those of suspension included; never goes back."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
