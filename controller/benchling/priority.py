"""Who may spend the rate budget first, and how much of it at most and at least."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


class Priority(StrEnum):
    """What a call to Benchling is made for; also the label of its metrics."""

    CLICK = "click"
    """A person waits in Benchling for the canvas to answer."""
    EXPORT = "export"
    """An export is started."""
    POLL = "poll"
    """A running export is looked at."""
    READ = "read"
    """An entry, its files or the names of what it links to are read."""
    SWEEP = "sweep"
    """Entries and events are listed to find what no webhook told."""


@dataclass(frozen=True, slots=True)
class Share:
    """A class's part of the budget, as fractions of it."""

    level: int
    """Lower goes first."""
    floor: float
    """What it gets before any other class but clicks gets more, so that nobody starves."""
    ceiling: float
    """What it cannot exceed even when nobody else wants anything."""


SHARES: Final[Mapping[Priority, Share]] = {
    Priority.CLICK: Share(level=0, floor=0.0, ceiling=0.6),
    Priority.EXPORT: Share(level=1, floor=0.10, ceiling=0.8),
    Priority.POLL: Share(level=1, floor=0.10, ceiling=0.5),
    Priority.READ: Share(level=2, floor=0.10, ceiling=0.8),
    Priority.SWEEP: Share(level=3, floor=0.04, ceiling=0.3),
}

KEPT_FOR_CLICKS: Final = 0.05
"""The part of the budget that only clicks may spend."""
