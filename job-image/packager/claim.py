"""The claim on a destination: held by a conditional put of the inventory, tested before everything that changes it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from entrypackage.clock import boot_seconds
from entrypackage.failures import Failure, FailureClass
from packager.aws.client import Fence, StaleClaim, Superseded

if TYPE_CHECKING:
    from collections.abc import Callable

    from packager.aws.store import Store
    from packager.decisions.inventory import Inventory

FRESH_SECONDS: Final = 5.0
"""How old the last check of the claim may be when something is written."""

WIRE_SECONDS: Final = 1.0
"""How long after a request was cut off it may still be carried out."""

_RENEW_SECONDS: Final = 3.0

_ROUNDS: Final = 5
"""How often a check that took too long is made again; a pause of the process explains one such."""


class Claim(Fence):
    """The right to write one package; lost as soon as another packager puts the inventory."""

    def __init__(self, store: Store, key: str, etag: str | None, clock: Callable[[], float] = boot_seconds) -> None:
        """`key` is the inventory's, `etag` what it had when it was read (None: there was none)."""
        self.inventory: Inventory | None = None
        """As last written by this claim."""
        self._store = store
        self._key = key
        self._etag = etag
        self._clock = clock
        self._checked = -FRESH_SECONDS * 2
        self._cut_off: float | None = None
        self._lock = asyncio.Lock()

    def test(self) -> None:
        """Raise `StaleClaim` unless the claim was seen to be ours within `FRESH_SECONDS`."""
        if self._clock() - self._checked > FRESH_SECONDS:
            raise StaleClaim

    async def refresh(self) -> None:
        """Check the claim unless that was done a moment ago; raises `Superseded` if it is lost."""
        if self._clock() - self._checked < _RENEW_SECONDS:
            return
        async with self._lock:
            if self._clock() - self._checked < _RENEW_SECONDS:
                return
            await self._check()

    async def confirm(self) -> None:
        """Check the claim now; raises `Superseded` if it is lost."""
        async with self._lock:
            await self._check()

    def cut_off(self) -> None:
        """Record that a write was sent and its response will not be read: it may be carried out a moment later."""
        self._cut_off = self._clock()

    async def _outwait(self) -> None:
        if self._cut_off is not None:
            await asyncio.sleep(max(0.0, self._cut_off + WIRE_SECONDS - self._clock()))

    async def _check(self) -> None:
        for _ in range(_ROUNDS):
            began = self._clock()
            facts = await self._store.head(self._key)
            if facts is None or facts.etag != self._etag:
                raise Superseded
            self._checked = began
            if self._clock() - began <= FRESH_SECONDS:  # else it took too long, or the process was paused in it
                return
        raise Failure(
            FailureClass.DESTINATION_DOWN,
            f"S3 took longer than {FRESH_SECONDS:g} s to say whose the package is, {_ROUNDS} times in a row.",
        )

    async def write(self, inventory: Inventory) -> None:
        """Put the inventory over the one that was read or written last; raises `Superseded` if another is there.

        A try whose answer was lost may have been carried out; then what is there is ours, and that is fine.

        A settled one is put only once nothing of this claim's can be on the wire: a packager that reads it does not
        wait, and what was cut off here might be carried out over what the next attempt puts.
        """
        if inventory.settled:
            await self._outwait()
        body = inventory.to_json()
        async with self._lock:
            began = self._clock()
            etag = await self._store.put_if(self._key, body, etag=self._etag)
            if etag is None:
                etag = await self._settle(body)
            self._etag = etag
            self._checked = began
            self.inventory = inventory

    async def _settle(self, body: bytes) -> str:
        found = await self._store.get(self._key)
        if found is None or found[0] != body:
            raise Superseded
        return found[1]
