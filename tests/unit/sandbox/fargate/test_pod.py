"""Pods as the API server gives them."""

from __future__ import annotations

from sandbox.fargate.pod import PodSpec


def test_spec_without_members_has_the_api_servers_defaults() -> None:
    spec = PodSpec.model_validate({"containers": [{"name": "c"}]})
    assert (spec.restart_policy, spec.termination_grace_period_seconds) == ("Always", 30)
