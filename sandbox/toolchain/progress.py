"""Say what a build is doing, from what `go` writes. Parsing and wording are pure; `Reporter` prints."""

import re
import sys
import time
from dataclasses import dataclass
from typing import TextIO

_PLAIN_EVERY_SECONDS = 15.0
_SPINNER = "|/-\\"


@dataclass(frozen=True)
class Progress:
    """What `go` has reported so far."""

    downloaded: int = 0
    compiled: int = 0
    current: str = ""

    @classmethod
    def from_log(cls, log: str) -> "Progress":
        """Read the output of `go list` and `go build -v`: download notices and one import path per package."""
        downloads = re.findall(r"^go: downloading (\S+ \S+)$", log, re.MULTILINE)
        packages = re.findall(r"^(?!go:)([\w.~-]+(?:/[\w.~-]+)*)$", log, re.MULTILINE)
        lines = log.rstrip().splitlines()
        last = lines[-1].removeprefix("go: downloading ") if lines else ""
        return cls(len(downloads), len(packages), last)

    def describe(self, total: int | None) -> str:
        """Word it for a person; `total` is the number of packages there are, None while that is unknown."""
        if total is None:
            return f"modules fetched: {self.downloaded}, {self.current or 'starting'}"
        return f"packages compiled: {self.compiled} of at most {total}, {self.current or 'starting'}"


def elapsed(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class Reporter:
    """A line that is alive on a terminal; elsewhere one plain line every 15 s."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._alive = self._stream.isatty()
        self._started = time.monotonic()
        self._printed = self._started
        self._turn = 0

    def update(self, text: str) -> None:
        now = time.monotonic()
        since = elapsed(now - self._started)
        if self._alive:
            self._turn += 1
            line = f"{_SPINNER[self._turn % len(_SPINNER)]} {since} {text}"
            self._stream.write(f"\r\x1b[K{line[:110]}")
            self._stream.flush()
        elif now - self._printed >= _PLAIN_EVERY_SECONDS:
            self._printed = now
            print(f"{since} {text}", file=self._stream, flush=True)

    def say(self, text: str) -> None:
        """Print a line that stays."""
        if self._alive:
            self._stream.write("\r\x1b[K")
        print(text, file=self._stream, flush=True)
