"""Time: durations are monotonic, and timestamps are derived from them so that they never run backwards."""

from __future__ import annotations

import time
from datetime import UTC, datetime

_EPOCH = time.time() - time.monotonic()


def unix_now() -> float:
    """Seconds since 1970, moving with the monotonic clock of this process."""
    return _EPOCH + time.monotonic()


def rfc3339(unix: float | None = None) -> str:
    """A timestamp as the Kubernetes API writes it, to the second."""
    return datetime.fromtimestamp(unix_now() if unix is None else unix, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rfc3339_nano() -> str:
    """A timestamp as a container runtime writes it before each line of a log."""
    return datetime.fromtimestamp(unix_now(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")


def parse_rfc3339(text: str) -> float:
    """Unix seconds of a timestamp; raises ValueError when it is not one."""
    head, dot, tail = text.strip().removesuffix("Z").partition(".")
    if not dot:
        return datetime.fromisoformat(text.strip()).timestamp()
    digits = _leading_digits(tail)
    zone = tail[len(digits) :] or "+00:00"
    return datetime.fromisoformat(f"{head}{zone}").timestamp() + float(f"0.{digits or '0'}")


def _leading_digits(text: str) -> str:
    return text[: len(text) - len(text.lstrip("0123456789"))]
