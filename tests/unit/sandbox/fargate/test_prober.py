"""Probe thresholds and ports."""

from __future__ import annotations

import pytest

from sandbox.fargate.pod import Container
from sandbox.fargate.prober import ProbeState, port_number


@pytest.mark.parametrize(
    ("success", "failure", "results", "verdicts"),
    [
        (1, 3, "+", [True]),
        (1, 3, "---", [None, None, False]),
        (1, 3, "+--+---", [True, True, True, True, True, True, False]),
        (2, 1, "-+-++", [False, False, False, False, True]),
    ],
)
def test_probe_thresholds(success: int, failure: int, results: str, verdicts: list[bool | None]) -> None:
    state, seen = ProbeState(success, failure), []
    for result in results:
        state = state.observe(result == "+")
        seen.append(state.passing)
    assert seen == verdicts


def test_ports_are_numbers_or_names() -> None:
    container = Container.model_validate({"name": "c", "ports": [{"containerPort": 8080, "name": "http"}]})
    assert [port_number(container, port) for port in (1, "2", "http")] == [1, 2, 8080]
    with pytest.raises(ValueError, match="no port named 'grpc'"):
        port_number(container, "grpc")
