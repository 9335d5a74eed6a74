"""Time as the packager needs it: a clock that also runs while the process is paused, and jittered waits."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random


def boot_seconds() -> float:
    """Return seconds of a clock that never goes back and that counts suspension (the fence depends on that)."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@dataclass(frozen=True, slots=True)
class Retrying:
    """How often a single request is tried, and how long is waited in between.

    Whole attempts are tried again by the controller alone; this is for the odd lost connection or 503.
    """

    tries: int = 8
    base_seconds: float = 0.1
    cap_seconds: float = 8.0

    def delay_seconds(self, failures: int, random: Random) -> float:
        """Return the wait after `failures` failures in a row: full jitter up to a ceiling that doubles."""
        ceiling = min(self.cap_seconds, self.base_seconds * 2.0 ** min(failures - 1, 30))
        return random.uniform(ceiling / 2, ceiling)
