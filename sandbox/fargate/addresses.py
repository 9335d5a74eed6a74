"""Addresses of pods on the loopback network.

Every pod gets an address of its own so that pods can listen on the same port. Several sandboxes can run on
one machine: each takes a /20 of 127.0.0.0/8 and holds it by a name that the kernel frees when it dies.
"""

from __future__ import annotations

import hashlib
import ipaddress
import socket
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

Network = ipaddress.IPv4Network
_SLOTS = list(ipaddress.IPv4Network("127.0.0.0/8").subnets(new_prefix=20))[256:-256]


class PodAddresses:
    """Hands out the addresses of a network, lowest first, and a freed one again as late as possible."""

    def __init__(self, network: Network) -> None:
        """Use all addresses of the network except the first and the last."""
        self._free = OrderedDict.fromkeys(str(address) for address in network.hosts())

    def take(self) -> str:
        """An address that no pod has; raises RuntimeError when none is left."""
        if not self._free:
            raise RuntimeError("every pod address is taken; use a larger --pod-network")
        return self._free.popitem(last=False)[0]

    def reserve(self, address: str) -> None:
        """Keep an address that a pod of an earlier run still has."""
        self._free.pop(address, None)

    def give_back(self, address: str) -> None:
        """Free an address."""
        self._free[address] = None


def preferred_slot(folder: Path) -> int:
    """Where the search for a free network starts: the same for the same folder."""
    return int.from_bytes(hashlib.sha256(str(folder.resolve()).encode()).digest()[:4]) % len(_SLOTS)


def claim_network(folder: Path) -> tuple[Network, socket.socket]:
    """A loopback network that no other sandbox of this machine has, and the socket that holds it.

    The claim ends when the socket is closed or the process dies.
    """
    start = preferred_slot(folder)
    for step in range(len(_SLOTS)):
        number = (start + step) % len(_SLOTS)
        holder = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            holder.bind(f"\0entrypackage-fargate-network-{number}")
        except OSError:
            holder.close()
            continue
        return _SLOTS[number], holder
    raise RuntimeError("every loopback network is taken by another sandbox; stop one of them")
