"""The inventory: what may lie under a package's prefix, which packager writes there, and what was last announced.

It lies outside the prefix, at ``<prefix>/.entrypackage/<display id>.json``. Pure; `packager.claim` reads and writes it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FORMAT_VERSION: Final = 1


class Standing(StrEnum):
    """How a key belongs to the package."""

    PUBLISHED = "published"
    """Part of the last complete package."""
    NEW = "new"
    """Put, or about to be, by an attempt that has not been completed; it was never part of a package."""
    STALE = "stale"
    """Of an older package, not of the last one: to be deleted, or kept because the bucket has no versions."""


@dataclass(frozen=True, slots=True)
class InventoryKey:
    """One key's row of the inventory."""

    size: int | None
    crc32: int | None
    """Size and sum that the key has or is about to have; None: unknown, as for what others put there."""
    standing: Standing


@dataclass(frozen=True, slots=True)
class ClaimMark:
    """Which attempt of which EntryPackage may write."""

    order_digest: str
    pod_uid: str
    owner_uid: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Notified:
    """The last manifest that a message was sent for."""

    manifest_checksum: str
    event_id: str | None
    request_id: str | None
    message_id: str


@dataclass(frozen=True, slots=True)
class Proven:
    """Members that were read to the end and found good, and are not put yet because they replace something."""

    archive: str
    """The identity of the archive; the proof holds for no other."""
    names: frozenset[str]
    """By name relative to the package."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """The inventory of one package."""

    entry_id: str
    claim: ClaimMark | None = None
    keys: Mapping[str, InventoryKey] = field(default_factory=dict)
    """By name relative to the package."""
    missing: Sequence[str] = ()
    missing_count: int = 0
    notified: Notified | None = None
    canvas_id: str | None = None
    """The package's canvas, as ``entry.json`` says it too; here it survives a damaged ``entry.json``."""
    proven: Proven | None = None
    """What an attempt found good before its archive's address ended; None once there is a package."""
    settled: bool = False
    """Whether the claim's holder writes no more."""

    def to_json(self) -> bytes:
        """Return it as JSON; the same inventory always gives the same bytes."""
        document = {
            "format_version": FORMAT_VERSION,
            "entry_id": self.entry_id,
            "settled": self.settled,
            "canvas_id": self.canvas_id,
            "claim": _mark(self.claim),
            "notified": _notified(self.notified),
            "proven": {"archive": self.proven.archive, "names": sorted(self.proven.names)} if self.proven else None,
            "missing": list(self.missing),
            "missing_count": self.missing_count,
        }
        head = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
        # Each row is encoded by itself: one wide letter would make a text of all rows take four bytes for every letter.
        rows = b",\n".join(
            (
                f'{json.dumps(name, ensure_ascii=False)}:[{_number(key.size)},{_hex(key.crc32)},"{key.standing.value}"]'
            ).encode("utf-8", "surrogatepass")
            for name, key in sorted(self.keys.items())
        )
        return b"".join((head[:-1].encode("utf-8", "surrogatepass"), b',"keys":{\n', rows, b"}}\n"))


def _mark(claim: ClaimMark | None) -> dict[str, Any] | None:
    if claim is None:
        return None
    return {
        "order_digest": claim.order_digest, "pod_uid": claim.pod_uid,
        "owner_uid": claim.owner_uid, "attempt": claim.attempt,
    }  # fmt: skip


def _notified(notified: Notified | None) -> dict[str, Any] | None:
    if notified is None:
        return None
    return {
        "manifest_checksum": notified.manifest_checksum, "event_id": notified.event_id,
        "request_id": notified.request_id, "message_id": notified.message_id,
    }  # fmt: skip


def _number(size: int | None) -> str:
    return "null" if size is None else str(size)


def _hex(crc: int | None) -> str:
    return "null" if crc is None else f'"{crc:08x}"'


class InventoryDamagedError(ValueError):
    """The object at the inventory's key is no inventory that this release can read."""


def parse_inventory(raw: bytes) -> Inventory:
    """Read an inventory back; raises `InventoryDamagedError`."""
    try:
        document = json.loads(raw)
        _check_version(document["format_version"])
        claim, notified = document["claim"], document["notified"]
        return Inventory(
            entry_id=str(document["entry_id"]),
            claim=None
            if claim is None
            else ClaimMark(
                str(claim["order_digest"]), str(claim["pod_uid"]), str(claim["owner_uid"]), int(claim["attempt"])
            ),
            keys={str(name): _key(row) for name, row in document["keys"].items()},
            missing=tuple(str(item) for item in document["missing"]),
            missing_count=int(document["missing_count"]),
            notified=None
            if notified is None
            else Notified(
                str(notified["manifest_checksum"]),
                notified["event_id"],
                notified["request_id"],
                str(notified["message_id"]),
            ),
            proven=_proven(document.get("proven")),
            canvas_id=document.get("canvas_id"),
            settled=bool(document["settled"]),
        )
    except InventoryDamagedError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InventoryDamagedError("it is not an inventory") from error


def _check_version(version: object) -> None:
    if version != FORMAT_VERSION:
        raise InventoryDamagedError("it is of another format version")


def _key(row: Sequence[Any]) -> InventoryKey:
    size, crc, standing = row
    return InventoryKey(
        None if size is None else int(size), None if crc is None else int(crc, 16), _STANDINGS[standing]
    )


def _proven(row: Mapping[str, Any] | None) -> Proven | None:
    return None if row is None else Proven(str(row["archive"]), frozenset(str(name) for name in row["names"]))


_STANDINGS: Final = {standing.value: standing for standing in Standing}
