"""Names of linked objects: read in bulk, cached across entries, limited per attempt."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from controller.benchling.errors import NotFound, Rejected
from controller.benchling.wire import Operation, Request

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from controller.benchling.clock import Clock
    from controller.benchling.links import LinkRef

_NEGATIVE_PART: Final = 0.1


@dataclass(frozen=True, slots=True)
class Readable:
    """How Benchling's API gives the objects of one link type."""

    path: str
    """The collection, under /api/v2."""
    rows: str
    """The member of a bulk answer that holds the objects."""
    bulk_suffix: str
    """The suffix of the path for a bulk read."""
    ids: str
    """The query parameter that takes the ids."""
    selects: bool
    """Whether the answer can be narrowed with ``returning``."""


READABLE: Final[Mapping[str, Readable]] = {
    "custom_entity": Readable("custom-entities", "customEntities", ":bulk-get", "customEntityIds", selects=True),
    "dna_sequence": Readable("dna-sequences", "dnaSequences", ":bulk-get", "dnaSequenceIds", selects=True),
    "aa_sequence": Readable("aa-sequences", "aaSequences", ":bulk-get", "aaSequenceIds", selects=True),
    "container": Readable("containers", "containers", ":bulk-get", "containerIds", selects=True),
    "box": Readable("boxes", "boxes", ":bulk-get", "boxIds", selects=False),
    "plate": Readable("plates", "plates", ":bulk-get", "plateIds", selects=True),
    "location": Readable("locations", "locations", ":bulk-get", "locationIds", selects=False),
    "entry": Readable("entries", "entries", ":bulk-get", "entryIds", selects=True),
    "user": Readable("users", "users", "", "ids", selects=False),
    "folder": Readable("folders", "folders", "", "ids", selects=False),
}
"""The link types whose objects have a name in the API. Links of other types stay without a name."""

_BULK: Final = Operation("names.bulk", "GET")
_SINGLE: Final = Operation("names.one", "GET")

Key = tuple[str, str]
"""Link type and id."""


class NameCache:
    """The names used last. That a name cannot be read is cached for a tenth of the time only."""

    def __init__(self, size: int, seconds: float, clock: Clock) -> None:
        """Keep at most `size` names for `seconds` each."""
        self._size = size
        self._seconds = seconds
        self._clock = clock
        self._names: OrderedDict[Key, tuple[float, str | None]] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of cached names."""
        return len(self._names)

    def get(self, key: Key) -> tuple[bool, str | None]:
        """Return whether the key is cached, and the name; the name is None if it cannot be read."""
        found = self._names.get(key)
        if found is None or found[0] <= self._clock.now():
            return False, None
        self._names.move_to_end(key)
        return True, found[1]

    def put(self, key: Key, name: str | None) -> None:
        """Cache a name; drop the least recently used one if there are too many."""
        life = self._seconds if name is not None else self._seconds * _NEGATIVE_PART
        self._names[key] = (self._clock.now() + life, name)
        self._names.move_to_end(key)
        while len(self._names) > self._size:
            self._names.popitem(last=False)


Ask = Callable[[Request], Awaitable[Any]]
"""Sends a request and returns the JSON of the answer."""


class Names:
    """Looks up names, in the cache first."""

    def __init__(self, cache: NameCache, bulk_size: int) -> None:
        """Ask for at most `bulk_size` names at once."""
        self._cache = cache
        self._bulk_size = bulk_size

    async def of(self, refs: Sequence[LinkRef], cap: int, ask: Ask) -> dict[Key, str | None]:
        """Return the name of each link by type and id; None if it has no name that the app can read.

        Of the names that are not cached only the first `cap` are looked up; the others are None. Raises every failure
        except the refusal of a single object, so that None never stands for an outage.
        """
        names: dict[Key, str | None] = {}
        missing: dict[str, list[str]] = {}
        for ref in refs:
            key = (ref.type, ref.id)
            if key in names:
                continue
            known, names[key] = self._cache.get(key)
            if not known and ref.type in READABLE and cap > 0:
                cap -= 1
                missing.setdefault(ref.type, []).append(ref.id)
        for kind, ids in missing.items():
            for start in range(0, len(ids), self._bulk_size):
                found = await self._read(kind, ids[start : start + self._bulk_size], ask)
                for link_id, name in found.items():
                    self._cache.put((kind, link_id), name)
                    names[kind, link_id] = name
        return names

    async def _read(self, kind: str, ids: list[str], ask: Ask) -> dict[str, str | None]:
        """Read names in bulk. If bad ids spoil the answer, leave out those that Benchling names, else read singly."""
        names: dict[str, str | None] = dict.fromkeys(ids)
        wanted = list(ids)
        while len(wanted) > 1:
            try:
                rows = await ask(_bulk_request(kind, wanted))
            except (NotFound, Rejected) as failure:
                bad = set(failure.invalid_ids) & set(wanted)
                if not bad:
                    break
                wanted = [link_id for link_id in wanted if link_id not in bad]
                continue
            return {**names, **_names_in(rows, READABLE[kind].rows, wanted)}
        for link_id in wanted:
            names[link_id] = await _read_one(kind, link_id, ask)
        return names


async def _read_one(kind: str, link_id: str, ask: Ask) -> str | None:
    try:
        answer = await ask(_single_request(kind, link_id))
    except (NotFound, Rejected):
        return None
    inner = answer.get("entry") if kind == "entry" and isinstance(answer, dict) else answer
    name = inner.get("name") if isinstance(inner, dict) else None
    return name if isinstance(name, str) else None


def _names_in(answer: object, rows: str, ids: Iterable[str]) -> dict[str, str | None]:
    wanted = set(ids)
    listed = answer.get(rows) if isinstance(answer, dict) else None
    found: dict[str, str | None] = {}
    for row in listed if isinstance(listed, list) else []:
        if isinstance(row, dict) and row.get("id") in wanted and isinstance(row.get("name"), str):
            found[row["id"]] = row["name"]
    return found


def _bulk_request(kind: str, ids: list[str]) -> Request:
    how = READABLE[kind]
    query = {how.ids: ",".join(ids)}
    if how.selects:
        query["returning"] = f"{how.rows}.id,{how.rows}.name"
    if not how.bulk_suffix:
        query["pageSize"] = str(len(ids))
    return Request(_BULK, f"/api/v2/{how.path}{how.bulk_suffix}", query)


def _single_request(kind: str, link_id: str) -> Request:
    how = READABLE[kind]
    return Request(_SINGLE, f"/api/v2/{how.path}/{quote(link_id, safe='')}")
