"""Which files are put, skipped, proven and removed, and what the inventory says then. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from entrypackage.entry_notes import external_file_ids
from entrypackage.failures import Failure, FailureClass
from packager.decisions.inventory import (
    ClaimMark,
    Inventory,
    InventoryDamagedError,
    InventoryKey,
    Standing,
    parse_inventory,
)
from packager.decisions.policy import METADATA_FILES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from packager.decisions.objects import ListedObject, ObjectFacts
    from packager.decisions.policy import File


@dataclass(frozen=True, slots=True)
class PreviousPackage:
    """What an attempt finds at its destination."""

    inventory: Inventory
    """As read, or with default values for a package without one."""
    known: bool
    """Whether it is known what belongs to the package; if not, nothing is deleted."""
    canvas_id: str | None = None
    notices: Sequence[str] = ()


def interpret_objects(
    entry_id: str,
    raw_inventory: bytes | None,
    raw_entry_json: bytes | None,
    existing: Mapping[str, ListedObject],
    prefix: str,
) -> PreviousPackage:
    """Return what lies at the destination; `existing` is by name relative to the package.

    Raises `Failure` (`DestinationTaken`) if it is the package of another entry.
    """
    notices = []
    document = _document(raw_entry_json)
    inventory = None
    known = True
    if raw_inventory is not None:
        try:
            inventory = parse_inventory(raw_inventory)
        except InventoryDamagedError as error:
            known = False
            notices.append(f"The inventory was unreadable ({error}), so everything was put and nothing deleted.")
    if inventory is not None and inventory.entry_id != entry_id:
        raise _taken(inventory.entry_id)
    owner = document.get("entry_id") if document is not None else None
    owner = owner if isinstance(owner, str) else ""
    if owner and owner != entry_id:
        raise _taken(owner)
    if raw_entry_json is not None and (document is None or (raw_inventory is None and not owner)):
        known = False
        notices.append("The entry.json found here was unreadable, so everything was put and nothing deleted.")
    if inventory is None:
        inventory = Inventory(entry_id, keys=_adopted(document, existing, prefix) if known and document else {})
    canvas_id = (document.get("canvas_id") if document is not None else None) or inventory.canvas_id
    if not (isinstance(canvas_id, str) and canvas_id.isprintable()):
        canvas_id = None  # no id of Benchling's; half a surrogate pair could not even be written down again
    return PreviousPackage(inventory, known, canvas_id or None, notices)


def _taken(owner: str) -> Failure:
    return Failure(FailureClass.DESTINATION_TAKEN, f"The destination holds the package of entry {owner[:80]!r}.")


def _document(raw: bytes | None) -> dict[str, Any] | None:
    if raw is None:
        return None
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _adopted(
    document: dict[str, Any] | None, existing: Mapping[str, ListedObject], prefix: str
) -> dict[str, InventoryKey]:
    """Return the keys of a package that was written without an inventory: those its entry.json lists and that exist."""
    files = document.get("files") if document is not None else None
    names = set(METADATA_FILES)
    for name, row in (files if isinstance(files, dict) else {}).items():
        key = row.get("s3_key") if isinstance(row, dict) else None
        if isinstance(key, str) and key.startswith(prefix):
            names.add(key.removeprefix(prefix))
        else:
            names.add(str(name))
    return {name: InventoryKey(existing[name].size, None, Standing.PUBLISHED) for name in names if name in existing}


@dataclass(frozen=True, slots=True)
class TransferPlan:
    """What happens to the archive's files."""

    new: Sequence[File]
    """Put at once: nothing is there."""
    replaced: Sequence[File]
    """Proven first and put when the whole archive is proven, because something is there."""
    skipped: Sequence[File]
    """There already, byte for byte."""


def skip_candidates(
    files: Sequence[File], previous: PreviousPackage, existing: Mapping[str, ListedObject]
) -> list[File]:
    """Return the files that inventory and listing say are there; a HEAD of each has the last word.

    None are where something unreadable was found.
    """
    if not previous.known:
        return []
    keys = previous.inventory.keys
    return [
        file
        for file in files
        if (key := keys.get(file.name)) is not None
        and (listed := existing.get(file.name)) is not None
        and (key.size, key.crc32) == (file.member.size, file.member.crc32)
        and listed.size == file.member.size
    ]


def plan_transfer(
    files: Sequence[File], existing: Mapping[str, ListedObject], facts: Mapping[str, ObjectFacts | None], options: str
) -> TransferPlan:
    """Sort the files; `facts` are the HEADs of the candidates for skipping, by name.

    What was stored with other settings than those of now (`options`) is replaced though its content is the same: a new
    key or tag is meant for the whole package.
    """
    new, replaced, skipped = [], [], []
    for file in files:
        found = facts.get(file.name)
        wanted = (file.member.size, file.member.crc32, options)
        if found is not None and (found.size, found.crc32, found.options) == wanted:
            skipped.append(file)
        elif file.name in existing:
            replaced.append(file)
        else:
            new.append(file)
    return TransferPlan(new, replaced, skipped)


def known_good(files: Sequence[File], inventory: Inventory, archive: str | None) -> set[str]:
    """Return which of these files an earlier attempt read to the end in the very same archive (None: unknown)."""
    proven = inventory.proven
    if proven is None or proven.archive != archive:
        return set()
    keys = inventory.keys
    return {
        file.name
        for file in files
        if file.name in proven.names
        and (key := keys.get(file.name)) is not None
        and (key.size, key.crc32) == (file.member.size, file.member.crc32)
    }


def claimed_inventory(
    previous: PreviousPackage, mark: ClaimMark, files: Sequence[File], existing: Mapping[str, ListedObject]
) -> Inventory:
    """Return the inventory as it stands while the package is being written: the old keys and the new ones."""
    keys = dict(previous.inventory.keys)
    for name in METADATA_FILES:
        before = keys.get(name)
        standing = before.standing if before else _first_standing(name, existing)
        keys[name] = InventoryKey(None, None, standing)
    for file in files:
        before = keys.get(file.name)
        standing = before.standing if before else _first_standing(file.name, existing)
        keys[file.name] = InventoryKey(file.member.size, file.member.crc32, standing)
    return replace(previous.inventory, claim=mark, keys=keys, settled=False, canvas_id=previous.canvas_id)


def _first_standing(name: str, existing: Mapping[str, ListedObject]) -> Standing:
    # What someone else put there is treated as the package's own: replaced late, never removed as if we had made it.
    return Standing.PUBLISHED if name in existing else Standing.NEW


def check_claim(found: Inventory, mark: ClaimMark) -> None:
    """Raise `Failure` (`Superseded`) if a later attempt for the same EntryPackage has claimed the destination."""
    claim = found.claim
    if claim is not None and claim.owner_uid == mark.owner_uid and claim.attempt > mark.attempt:
        raise Failure(FailureClass.SUPERSEDED, f"Attempt {claim.attempt} has claimed this package already.")


def displaces(mark: ClaimMark, previous: PreviousPackage) -> bool:
    """Return whether this claim takes the place of another's that has not recorded that it is done."""
    displaced = previous.inventory
    return not (displaced.claim is None or displaced.claim == mark or displaced.settled)


@dataclass(frozen=True, slots=True)
class Published:
    """The inventory after ``entry.json``, and what is to be deleted then."""

    inventory: Inventory
    deletes: Sequence[str]
    kept_back: int
    """How many keys the package no longer has and that stay, because deleting them could not be undone."""


def publish(
    claimed: Inventory,
    package: Mapping[str, InventoryKey],
    existing: Mapping[str, ListedObject],
    *,
    known: bool,
    may_delete: bool,
) -> Published:
    """Decide what becomes of the keys that the new package lacks.

    Those of an attempt that was never completed are always removed; those of an older package only where that can be
    undone (a versioned bucket) or was asked for.
    """
    keys = dict(package)
    deletes = []
    kept_back = 0
    for name, key in claimed.keys.items():
        if name in package:
            continue
        if key.standing is Standing.NEW or (may_delete and known):
            deletes.append(name)
            keys[name] = key if key.standing is Standing.NEW else replace(key, standing=Standing.STALE)
        elif name in existing:
            kept_back += 1
            keys[name] = replace(key, standing=Standing.STALE)
    return Published(replace(claimed, keys=keys, proven=None), sorted(deletes), kept_back)


def without_deleted(inventory: Inventory, deletes: Sequence[str]) -> Inventory:
    """Return the inventory once the deletes are done."""
    gone = set(deletes)
    return replace(inventory, keys={name: key for name, key in inventory.keys.items() if name not in gone})


def withdrawn(before: PreviousPackage, claimed: Inventory, *, keep_listed: bool) -> tuple[Inventory, list[str]]:
    """Return the inventory of before, and the keys to remove, for an archive that was refused before any replacing.

    With `keep_listed` the removed keys stay in it, so that the next attempt removes them again.
    """
    new = sorted(name for name, key in claimed.keys.items() if key.standing is Standing.NEW)
    keys = {name: key for name, key in before.inventory.keys.items() if key.standing is not Standing.NEW}
    if keep_listed:
        keys |= {name: claimed.keys[name] for name in new}
    return replace(before.inventory, claim=claimed.claim, keys=keys, proven=None), new


@dataclass(frozen=True, slots=True)
class Missing:
    """What the entry names and the archive lacks."""

    count: int = 0
    ids: Sequence[str] = field(default_factory=tuple)
    """External file ids; empty where it is unknown which."""


def find_missing(entry: Mapping[str, Any], files: Sequence[File], sizes: Mapping[str, int]) -> Missing:
    """Compare the entry's attachments with the archive's members that are not the rendered entry, by count.

    Benchling leaves out attachments that are still in its virus scan. Their sizes, if given, show which ones.
    """
    expected = external_file_ids(entry)
    rendered = any(
        "/" not in file.member.name and file.member.name.lower().endswith((".pdf", ".html")) for file in files
    )
    count = len(expected) - (len(files) - (1 if rendered else 0))
    if count <= 0:
        return Missing()
    return Missing(count, _absent(expected, files, sizes, count))


def _absent(expected: Sequence[str], files: Sequence[File], sizes: Mapping[str, int], count: int) -> tuple[str, ...]:
    if not sizes:
        return tuple(expected) if count == len(expected) else ()
    present: dict[int, int] = {}
    for file in files:
        present[file.member.size] = present.get(file.member.size, 0) + 1
    absent = []
    for identity in expected:
        size = sizes.get(identity, -1)
        if present.get(size, 0):
            present[size] -= 1
        else:
            absent.append(identity)
    return tuple(absent)
