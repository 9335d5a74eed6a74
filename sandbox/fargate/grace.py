"""A deadline that can be brought forward, as a second deletion with a shorter grace does."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress


class Grace:
    """The time that containers have to end, in seconds from its making."""

    def __init__(self, seconds: float) -> None:
        """Start the clock."""
        self._at = time.monotonic() + seconds
        self._moved = asyncio.Event()

    def shorten(self, seconds: float) -> None:
        """End it so many seconds from now, if that is earlier."""
        self._at = min(self._at, time.monotonic() + seconds)
        self._moved.set()

    def at_least(self, seconds: float) -> None:
        """Let it last so many seconds from now, as after a preStop action that took all of it."""
        self._at = max(self._at, time.monotonic() + seconds)

    @property
    def left(self) -> float:
        """Seconds left; never negative."""
        return max(0.0, self._at - time.monotonic())

    async def over(self) -> None:
        """Wait until it has passed."""
        while self.left > 0:
            self._moved.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self.left):
                    await self._moved.wait()
