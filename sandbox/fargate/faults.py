"""What a test can make go wrong. State only; `control.py` changes it, the node obeys it."""

from __future__ import annotations

import asyncio
import fnmatch
from dataclasses import dataclass, field


@dataclass
class Faults:
    """Patterns are shell wildcards over `namespace/pod`; delays are in seconds and add to the start delay."""

    never_start: set[str] = field(default_factory=set)
    delays: dict[str, float] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def replace(self, never_start: set[str], delays: dict[str, float]) -> None:
        """Set all anew; who waits for a change looks again."""
        self.never_start, self.delays = never_start, delays
        woken, self.changed = self.changed, asyncio.Event()
        woken.set()

    def held(self, full_name: str) -> bool:
        """Whether the pod stays Pending for now."""
        return any(fnmatch.fnmatchcase(full_name, pattern) for pattern in self.never_start)

    def delay(self, full_name: str) -> float:
        """How much later the pod starts."""
        matching = (s for pattern, s in self.delays.items() if fnmatch.fnmatchcase(full_name, pattern))
        return max(matching, default=0.0)
