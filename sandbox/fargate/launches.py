"""The rate at which Fargate starts pods: a bucket of 20 that fills at 20 a second by default."""

from __future__ import annotations

import asyncio
import time


class LaunchBucket:
    """A token bucket in which pods queue in order."""

    def __init__(self, rate: float, burst: int) -> None:
        """`rate` pods per second, `burst` at once after a pause."""
        self._rate, self._burst = rate, float(burst)
        self._tokens = float(burst)
        self._at = time.monotonic()

    async def take(self) -> None:
        """Wait for this pod's turn."""
        now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate) - 1
        self._at = now
        if self._tokens < 0:
            await asyncio.sleep(-self._tokens / self._rate)
