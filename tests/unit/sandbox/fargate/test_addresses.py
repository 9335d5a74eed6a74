"""Pod addresses and the networks that sandboxes share."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

import pytest

from sandbox.fargate.addresses import PodAddresses, claim_network

if TYPE_CHECKING:
    from pathlib import Path


def test_addresses_are_handed_out_in_order_and_reused_late() -> None:
    addresses = PodAddresses(ipaddress.IPv4Network("127.50.0.0/29"))
    first = [addresses.take() for _ in range(3)]
    assert first == ["127.50.0.1", "127.50.0.2", "127.50.0.3"]
    addresses.give_back("127.50.0.1")
    addresses.reserve("127.50.0.4")
    assert [addresses.take() for _ in range(3)] == ["127.50.0.5", "127.50.0.6", "127.50.0.1"]
    with pytest.raises(RuntimeError, match="every pod address is taken"):
        addresses.take()


def test_two_sandboxes_get_different_networks(tmp_path: Path) -> None:
    one, holder = claim_network(tmp_path)
    other, second = claim_network(tmp_path)
    try:
        assert not one.overlaps(other)
        assert ipaddress.IPv4Address("127.0.0.1") not in one
        assert one.subnet_of(ipaddress.IPv4Network("127.0.0.0/8"))
    finally:
        holder.close()
        second.close()
    again, third = claim_network(tmp_path)
    third.close()
    assert again == one
