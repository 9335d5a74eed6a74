"""Benchling-like identifiers from the run's seed: a prefix and eight case-sensitive characters."""

from __future__ import annotations

import string
import uuid
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

_LETTERS = string.ascii_letters + string.digits


class Identifiers:
    """Makes ids that never repeat within a run."""

    def __init__(self, dice: Random) -> None:
        self._dice = dice
        self._given: set[str] = set()

    def next(self, prefix: str) -> str:
        """`etr` gives something like `etr_Q4mPJ34a`."""
        while True:
            identifier = f"{prefix}_{''.join(self._dice.choices(_LETTERS, k=8))}"
            if identifier not in self._given:
                self._given.add(identifier)
                return identifier

    def task(self) -> str:
        """A task id: a UUID of version 4."""
        return str(uuid.UUID(int=self._dice.getrandbits(128), version=4))
