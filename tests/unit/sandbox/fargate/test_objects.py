"""Objects that the node writes."""

from __future__ import annotations

from sandbox.fargate.objects import node_address, node_name


def test_a_nodes_name_tells_its_pods_address() -> None:
    assert node_name("127.9.0.1") == "fargate-ip-127-9-0-1.us-east-1.compute.internal"
    assert node_address(node_name("127.9.0.1")) == "127.9.0.1"
