"""Waiting for what other programs do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PAUSE_SECONDS = 0.05


async def until(holds: Callable[[], Awaitable[bool]], *, seconds: float = 60.0) -> None:
    """Ask until it holds; raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not await holds():  # noqa: ASYNC110 - another process is asked, not a task of ours
            await asyncio.sleep(PAUSE_SECONDS)
