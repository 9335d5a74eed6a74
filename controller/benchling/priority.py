"""Which calls may spend the rate budget first, and how much of it at most and at least."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


class Priority(StrEnum):
    """The purpose of a call to Benchling; also a label of its metrics."""

    CLICK = "click"
    """A person waits in Benchling until the canvas answers."""
    EXPORT = "export"
    """An export is started."""
    POLL = "poll"
    """A running export is polled."""
    READ = "read"
    """An entry, its files or the names of linked objects are read."""
    SWEEP = "sweep"
    """Entries and events are listed to find changes that no webhook reported."""


@dataclass(frozen=True, slots=True)
class Share:
    """The share of one priority in the rate budget, in fractions of it."""

    level: int
    """A lower level goes first."""
    floor: float
    """What the priority gets before any other except clicks gets more, so that none starves."""
    ceiling: float
    """What the priority cannot exceed, even if no other call waits."""


SHARES: Final[Mapping[Priority, Share]] = {
    Priority.CLICK: Share(level=0, floor=0.0, ceiling=0.6),
    Priority.EXPORT: Share(level=1, floor=0.10, ceiling=0.8),
    Priority.POLL: Share(level=1, floor=0.10, ceiling=0.5),
    Priority.READ: Share(level=2, floor=0.10, ceiling=0.8),
    Priority.SWEEP: Share(level=3, floor=0.04, ceiling=0.3),
}

KEPT_FOR_CLICKS: Final = 0.05
"""The part of the budget that only clicks may spend."""
