"""How often a single request is tried, and how long is waited in between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from entrypackage.backoff import Backoff

_BACKOFF: Final = Backoff(base_seconds=0.1, cap_seconds=8.0)


@dataclass(frozen=True, slots=True)
class Retrying:
    """The tries of one request, for the odd lost connection or 503; whole attempts are the controller's to repeat."""

    tries: int = 8
    backoff: Backoff = _BACKOFF
