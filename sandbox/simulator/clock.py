"""The simulator's two clocks: the tenant's own time, which can run fast or stand still, and real time."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Clock:
    """Tenant time: `start + scale * real + everything advanced`. A scale of 0 is a clock moved by hand.

    Tenant time decides when an export is done, how long a task and a URL live, and every time stamp in the API.
    Real time (`real`, monotonic seconds) decides what a client measures itself: token life and rate windows.
    """

    def __init__(
        self, *, scale: float = 1.0, start: float | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.scale = scale
        self._monotonic = monotonic
        self._origin = monotonic()
        self._start = time.time() if start is None else start
        self._advanced = 0.0

    def now(self) -> float:
        """Tenant time, in seconds since the epoch."""
        return self._start + self._advanced + self.scale * (self._monotonic() - self._origin)

    def real(self) -> float:
        """Real seconds since the simulator started."""
        return self._monotonic() - self._origin

    def advance(self, seconds: float) -> None:
        """Move tenant time forward."""
        if seconds < 0:
            message = "the clock only moves forward"
            raise ValueError(message)
        self._advanced += seconds

    def rescale(self, scale: float) -> None:
        """Let tenant time run at another speed from now on; what has passed stays."""
        moment = self.now()
        self.scale = scale
        self._advanced += moment - self.now()

    async def sleep(self, seconds: float) -> None:
        """Wait real seconds."""
        await asyncio.sleep(seconds)


def iso(moment: float) -> str:
    """A moment as the API writes it: ISO 8601 with microseconds and offset."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="microseconds")


def parse_iso(text: str) -> float:
    """A moment that a client wrote; without an offset it is UTC. Raises ValueError."""
    moment = datetime.fromisoformat(text.strip().replace(" ", "T", 1) if "T" not in text else text.strip())
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
