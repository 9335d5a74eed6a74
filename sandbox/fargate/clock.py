"""Time: durations are monotonic, and timestamps are derived from them so that they never run backwards."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from datetime import UTC, datetime

_EPOCH = time.time() - time.monotonic()


def unix_now() -> float:
    """Seconds since 1970, moving with the monotonic clock of this process."""
    return _EPOCH + time.monotonic()


def rfc3339(unix: float | None = None) -> str:
    """A timestamp as the Kubernetes API writes it, to the second."""
    return datetime.fromtimestamp(unix_now() if unix is None else unix, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rfc3339_nano() -> str:
    """A timestamp as a container runtime writes it before each line of a log."""
    return datetime.fromtimestamp(unix_now(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")


def parse_rfc3339(text: str) -> float:
    """Unix seconds of a timestamp; raises ValueError when it is not one."""
    head, dot, tail = text.strip().removesuffix("Z").partition(".")
    if not dot:
        return datetime.fromisoformat(text.strip()).timestamp()
    digits = _leading_digits(tail)
    zone = tail[len(digits) :] or "+00:00"
    return datetime.fromisoformat(f"{head}{zone}").timestamp() + float(f"0.{digits or '0'}")


def _leading_digits(text: str) -> str:
    return text[: len(text) - len(text.lstrip("0123456789"))]


class Grace:
    """The seconds that containers have to end; a second deletion with a shorter grace brings the end forward."""

    def __init__(self, seconds: float) -> None:
        """Start the clock."""
        self._at = time.monotonic() + seconds
        self._moved = asyncio.Event()

    def shorten(self, seconds: float) -> None:
        """End it so many seconds from now, if that is earlier."""
        self._at = min(self._at, time.monotonic() + seconds)
        self._moved.set()

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
