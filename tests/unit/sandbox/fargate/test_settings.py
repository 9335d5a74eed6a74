"""Delays."""

from __future__ import annotations

import pytest

from sandbox.fargate.settings import Delay


def test_delay_is_the_same_for_the_same_pod() -> None:
    delay = Delay.parse("40-60")
    assert delay.of("u") == delay.of("u")
    assert all(40 <= delay.of(str(number)) <= 60 for number in range(50))
    assert Delay.parse("2").of("x") == 2
    with pytest.raises(ValueError, match="range"):
        Delay.parse("5-2")
