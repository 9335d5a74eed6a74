"""Who sent a request, seen through the proxies in front, and whether they may."""

from __future__ import annotations

from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def client_address(peer: str | None, forwarded_for: Sequence[str], hops: int) -> Address | None:
    """Return the address of the client, or None if it cannot be told.

    `peer` is the connection's other end, `forwarded_for` the values of X-Forwarded-For. Each of the `hops` trusted
    proxies appended the address that it saw, so the client is the one that the outermost of them appended: what stands
    to the left of it is the client's own invention.
    """
    if hops == 0:
        return _address(peer or "")
    listed = [part for value in forwarded_for for part in value.split(",")]
    return _address(listed[-hops]) if len(listed) >= hops else None


def is_allowed(address: Address | None, networks: Sequence[Network]) -> bool:
    """Whether the address lies in one of the networks; without networks everyone may."""
    if not networks:
        return True
    return address is not None and any(address.version == net.version and address in net for net in networks)


def _address(text: str) -> Address | None:
    """Read ``a.b.c.d``, ``a.b.c.d:port``, ``[v6]``, ``[v6]:port`` or ``v6``; an IPv4 address in IPv6 form is IPv4."""
    bare = text.strip()
    if bare.startswith("["):
        bare = bare[1:].partition("]")[0]
    elif bare.count(":") == 1:
        bare = bare.partition(":")[0]
    try:
        address = ip_address(bare)
    except (AddressValueError, ValueError):
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
