"""How much is done at once: bytes in memory and requests, computed from the pod's own limits.

Never from the node: on Fargate the node that a pod sees is larger than the pod.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MIB: Final = 1024 * 1024
_DEFAULT_MEMORY: Final = 512 * MIB
_DEFAULT_CPU: Final = 1000
_PROGRAM_BYTES: Final = 96 * MIB
"""What the program itself takes, with a directory of some ten thousand members."""

PUT_BYTES: Final = 5 * MIB
"""Members up to this size are put by one request; larger ones in parts of at least this size."""

_MOST_PARTS: Final = 10_000
_LEAST_CHARGE: Final = 16 * 1024


@dataclass(frozen=True, slots=True)
class ConcurrencyLimits:
    """What may be in flight at once."""

    buffer_bytes: int
    """Bytes of content in memory between archive and bucket."""
    puts: int
    """Concurrent requests to S3."""
    readers: int
    """Concurrent requests to the archive's origin."""

    @classmethod
    def of_pod(cls, memory_bytes: int | None, cpu_millis: int | None) -> Self:
        """Return the limits for a pod with these; None where the pod does not say."""
        memory = memory_bytes or _DEFAULT_MEMORY
        cpu = cpu_millis or _DEFAULT_CPU
        return cls(
            buffer_bytes=min(max((memory - _PROGRAM_BYTES) // 20, 2 * PUT_BYTES), 256 * MIB),
            puts=min(max(64 * cpu // 1000, 16), 256),
            readers=min(max(4 * cpu // 1000, 3), 16),
        )

    @classmethod
    def of_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read ``MEMORY_LIMIT_BYTES`` and ``CPU_LIMIT_MILLIS``, which the Job fills in by the downward API."""
        return cls.of_pod(*(_whole(environment.get(name)) for name in ("MEMORY_LIMIT_BYTES", "CPU_LIMIT_MILLIS")))

    @property
    def kept_bytes(self) -> int:
        """Bytes of content that may be kept between verifying and replacing."""
        return self.buffer_bytes // 4


def _whole(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and int(text) > 0 else None


def part_bytes(size: int) -> int:
    """Return the part size for a member of `size` bytes: S3 takes 10,000 parts at most."""
    return max(PUT_BYTES, -(-size // _MOST_PARTS // MIB) * MIB)


class Capacity:
    """A semaphore of bytes, first come, first served; a request for more than the total is granted the total."""

    def __init__(self, total: int) -> None:
        self.free = total
        self.on_acquired: Callable[[], None] | None = None
        """Called after each `acquire`, so that memory which is kept for later can be freed."""
        self._total = total
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def acquire(self, count: int) -> int:
        """Wait for `count` bytes; return how many were acquired, for `release`."""
        charge = await self.reserve(count)
        if self.on_acquired is not None:
            self.on_acquired()
        return charge

    async def reserve(self, count: int) -> int:
        """Acquire without calling `on_acquired`."""
        charge = min(max(count, _LEAST_CHARGE), self._total)
        if not self._waiting and self.free >= charge:
            self.free -= charge
            return charge
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((charge, turn))
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self.release(charge)
            else:
                self._waiting = deque(item for item in self._waiting if item[1] is not turn)
                self._serve()
            raise
        return charge

    def release(self, charge: int) -> None:
        """Return what `acquire` or `reserve` returned."""
        self.free += charge
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self.free >= self._waiting[0][0]:
            charge, turn = self._waiting.popleft()
            if not turn.done():
                self.free -= charge
                turn.set_result(None)


class PartBuffer:
    """Where one part of a large member is gathered.

    Used again and again: parts made of many small pieces leave holes in the heap that grow it by a third.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.charge = 0
        """What it takes of the capacity while it is in use."""
        self._memory = memoryview(bytearray(size))

    def fill(self, at: int, piece: memoryview) -> int:
        """Copy in as much of a piece as fits behind the first `at` bytes; return how much that was."""
        took = min(len(piece), self.size - at)
        self._memory[at : at + took] = piece[:took]
        return took

    def content(self, length: int) -> memoryview:
        """Return the first bytes; they are overwritten once the buffer is released."""
        return self._memory[:length]


class PartBuffers:
    """The buffers of parts, within the capacity that all content shares; idle ones are kept while it is free."""

    def __init__(self, capacity: Capacity) -> None:
        self._capacity = capacity
        self._idle: list[PartBuffer] = []
        capacity.on_acquired = self._trim

    async def acquire(self, size: int) -> PartBuffer:
        """Wait for capacity and return a buffer of `size` bytes, to be released."""
        charge = await self._capacity.reserve(size)
        buffer = next((idle for idle in self._idle if idle.size == size), None)
        if buffer is not None:
            self._idle.remove(buffer)
        else:
            self._trim()  # not above: others that were granted capacity meanwhile are about to use idle buffers
            buffer = PartBuffer(size)
        buffer.charge = charge
        return buffer

    @property
    def idle_bytes(self) -> int:
        """Bytes of the buffers that are not in use."""
        return sum(buffer.size for buffer in self._idle)

    def _trim(self) -> None:
        while self.idle_bytes > self._capacity.free:
            self._idle.pop(0)

    def release(self, buffer: PartBuffer) -> None:
        """Keep a buffer for reuse and free its capacity."""
        self._idle.append(buffer)
        self._capacity.release(buffer.charge)
