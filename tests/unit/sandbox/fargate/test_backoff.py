"""Restarts."""

from __future__ import annotations

from typing import Literal

import pytest

from sandbox.fargate.backoff import Backoff, restarts


def test_backoff_is_a_kubelets() -> None:
    backoff, waits = Backoff(), []
    for _ in range(8):
        backoff, wait = backoff.after(1.0)
        waits.append(wait)
    assert waits == [0, 10, 20, 40, 80, 160, 300, 300]
    backoff, wait = backoff.after(600.0)
    assert wait == 0
    assert backoff.after(599.0)[1] == 10


@pytest.mark.parametrize(
    ("policy", "code", "again"),
    [
        ("Always", 0, True),
        ("Always", 1, True),
        ("OnFailure", 0, False),
        ("OnFailure", 137, True),
        ("Never", 1, False),
    ],
)
def test_restart_policies(policy: Literal["Always", "OnFailure", "Never"], code: int, again: bool) -> None:
    assert restarts(policy, code) is again
