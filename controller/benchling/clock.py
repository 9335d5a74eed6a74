"""The clock of this package: monotonic seconds. It is passed in, so that tests can use virtual time."""

from __future__ import annotations

import asyncio
from typing import Protocol


class Clock(Protocol):
    """A monotonic clock with a sleep."""

    def now(self) -> float:
        """Return the seconds since some fixed moment."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`; at once if they are not above 0."""
        ...


class LoopClock:
    """The clock of the running event loop, which a test may make virtual."""

    def now(self) -> float:
        """Return the loop's time in seconds."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        """Sleep on the event loop."""
        await asyncio.sleep(max(0.0, seconds))
