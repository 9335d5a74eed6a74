"""One furnished simulator for the contract tests, and the sum of what they covered."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.support import furnished_tenant as tenants
from tests.support.used_operations import SERVED_TOO, USED

if TYPE_CHECKING:
    from collections.abc import Iterator

SUCCESSES: Counter[str] = Counter()
CASES: Counter[str] = Counter()
_STARTED = time.monotonic()


@pytest.fixture(scope="session")
def tenant() -> Iterator[tenants.Tenant]:
    """A furnished simulator."""
    running = tenants.start()
    try:
        tenants.furnish(running)
        yield running
    finally:
        running.stop()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was covered."""
    if not CASES:
        return
    used = sum(1 for name in USED if SUCCESSES[name])
    failed = len(terminalreporter.stats.get("failed", [])) + len(terminalreporter.stats.get("error", []))
    extra = sum(1 for name in SERVED_TOO if SUCCESSES[name])
    terminalreporter.write_line(
        f"contract: operations covered {used} / used {len(USED)} (and {extra} / {len(SERVED_TOO)} more served), "
        f"cases {CASES.total()}, good answers {SUCCESSES.total()}, failures {failed}, "
        f"{time.monotonic() - _STARTED:.0f} s"
    )
