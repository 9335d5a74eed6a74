"""Time as this package sees it: monotonic seconds, given from outside so that tests can run hours in a moment."""

from __future__ import annotations

import asyncio
from typing import Protocol


class Clock(Protocol):
    """A monotonic clock that can be slept on."""

    def now(self) -> float:
        """Return seconds since some fixed moment; never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after so many seconds; at once if there are none."""
        ...


class LoopClock:
    """The running event loop's own clock; a loop that keeps virtual time makes everything here virtual."""

    def now(self) -> float:
        """Return the loop's time in seconds."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        """Sleep on the loop."""
        await asyncio.sleep(max(0.0, seconds))
