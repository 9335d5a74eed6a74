"""A package's prefix in the bucket: its objects by their names relative to the package, several requests at once."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packager.archive.unpack import crc32
from packager.content_types import content_type
from packager.decisions.inventory import InventoryKey, Standing
from packager.tasks import both, each

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from entrypackage.order import Destination
    from packager.aws.client import Fence
    from packager.aws.store import Store
    from packager.decisions.objects import ListedObject, ObjectFacts


@dataclass(frozen=True, slots=True)
class FoundObjects:
    """What is at a destination before the first write, uninterpreted."""

    inventory: bytes | None
    inventory_etag: str | None
    entry_json: bytes | None
    listed: Mapping[str, ListedObject]
    versioned: bool
    """Whether a deleted object could be brought back; False without a request where that makes no difference."""


class PackagePrefix:
    """The objects of one package. Whatever changes them takes the fence; errors are `Failure`."""

    def __init__(self, store: Store, destination: Destination, requests: int) -> None:
        """Send at most `requests` at once."""
        self._store = store
        self._destination = destination
        self._prefix = destination.key_prefix
        self._requests = requests

    async def read(self) -> FoundObjects:
        """Read everything that any later step needs.

        So a missing right is noticed before the first put, and not in a package that is half written.
        """
        (inventory, document), (listed, versioned) = await both(
            both(self._store.get(self._destination.inventory_key), self._store.get(f"{self._prefix}entry.json")),
            both(self.listed(), self._versioned()),
        )
        return FoundObjects(
            inventory=inventory[0] if inventory else None,
            inventory_etag=inventory[1] if inventory else None,
            entry_json=document[0] if document else None,
            listed=listed,
            versioned=versioned,
        )

    async def _versioned(self) -> bool:
        return not self._destination.delete_unversioned and await self._store.versioned()

    async def listed(self) -> dict[str, ListedObject]:
        """Return every object of the package."""
        listed = await self._store.objects(self._prefix)
        return {key.removeprefix(self._prefix): found for key, found in listed.items()}

    async def heads(self, names: Iterable[str]) -> dict[str, ObjectFacts | None]:
        """Return what a HEAD says of each of these objects; None where there is none."""
        found: dict[str, ObjectFacts | None] = {}

        async def head(name: str) -> None:
            found[name] = await self._store.head(self._prefix + name)

        await each(names, head, self._requests)
        return found

    async def put(self, name: str, body: Sequence[bytes], fence: Fence) -> InventoryKey:
        """Put a file that is in memory and return its row of the inventory."""
        crc = functools.reduce(lambda crc, piece: crc32(piece, crc), body, 0)
        await self._store.put(self._prefix + name, body, crc=crc, content_type=content_type(name), fence=fence)
        return InventoryKey(sum(len(piece) for piece in body), crc, Standing.PUBLISHED)

    async def remove(self, names: Iterable[str], fence: Fence) -> None:
        """Delete these objects; one that is gone already is fine."""

        async def remove(name: str) -> None:
            await self._store.delete(self._prefix + name, fence=fence)

        await each(names, remove, self._requests)

    async def abort_uploads(self, fence: Fence) -> None:
        """Free what a killed attempt left half uploaded.

        Behind the fence: a packager that loses the claim while it lists the uploads would otherwise abort those that
        the winner has begun since.
        """
        uploads = {upload: key for key, upload in await self._store.uploads(self._prefix)}

        async def abort(upload: str) -> None:
            await self._store.abort_upload(uploads[upload], upload, fence=fence)

        await each(uploads, abort, self._requests)
