"""What a test does where the machine lacks what it needs."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

SETTING = "TESTS_MAY_SKIP"


def lacking(what: str) -> NoReturn:
    """Fail with this sentence; skip instead where the setting `TESTS_MAY_SKIP` is not empty."""
    if os.environ.get(SETTING):
        pytest.skip(what)
    pytest.fail(f"{what} With {SETTING}=1 the tests that need it are skipped.", pytrace=False)
