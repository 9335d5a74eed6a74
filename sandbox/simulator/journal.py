"""Who asked for what: the request log by caller, and the counters that tests and people look at."""

from __future__ import annotations

import json
from collections import Counter, deque
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class JournalRow:
    """One request. `at` is real seconds since the start, `tenant_time` the tenant's epoch seconds; the caller is an
    app id, `api-key` or `nobody`; `token` a short number of the token, never the token itself."""

    at: float
    tenant_time: float
    origin: str
    method: str
    path: str
    query: str
    operation: str
    caller: str
    token: str
    user_agent: str
    status: int
    remaining: int | None
    seconds: float
    fault: str | None
    subject: str | None
    sent_bytes: int


class Journal:
    """The newest requests (a bounded number) and counters of all; optionally each as a line of a file."""

    def __init__(self, folder: Path | None = None, keep: int = 200_000) -> None:
        self.entries: deque[JournalRow] = deque(maxlen=keep)
        self.counts: Counter[str] = Counter()
        self._file = None if folder is None else folder / "requests.jsonl"

    def write(self, entry: JournalRow) -> None:
        """Note one answered request."""
        self.entries.append(entry)
        self.counts[f"{entry.origin}:{entry.operation}"] += 1
        self.counts[f"{entry.origin}:{entry.operation}:{entry.status}"] += 1
        if self._file is not None:
            with self._file.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(asdict(entry)) + "\n")

    def dump(self, *, operation: str | None = None, caller: str | None = None) -> list[dict[str, Any]]:
        """The requests that are kept, oldest first."""
        return [
            asdict(entry)
            for entry in self.entries
            if operation in (None, entry.operation) and caller in (None, entry.caller)
        ]
