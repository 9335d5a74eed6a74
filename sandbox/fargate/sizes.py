"""The sizes that EKS Fargate sells, and which of them a pod gets.

Source: Amazon EKS user guide, "Understand Fargate Pod configuration details" (table of vCPU and memory).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sandbox.fargate.pod import Container, Pod

MEBIBYTE = 1024 * 1024
SYSTEM_MEBIBYTES = 256
"""What Fargate adds to every pod's memory request for the kubelet and its companions."""

_QUANTITY = re.compile(r"^([+-]?[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:([eE][+-]?[0-9]+)|([numkMGTPE]|[KMGTPE]i))?$")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}


@dataclass(frozen=True, order=True)
class Size:
    """A size that Fargate sells: thousandths of a vCPU and MiB (AWS writes "GB" for 1024 MiB)."""

    millicpu: int
    mebibytes: int

    @property
    def vcpu(self) -> float:
        """Number of vCPU."""
        return self.millicpu / 1000

    @property
    def gigabytes(self) -> float:
        """Memory in the unit that the price is for."""
        return self.mebibytes / 1024

    def annotation(self) -> str:
        """The value of the pod annotation `CapacityProvisioned`, as in `0.25vCPU 0.5GB`."""
        return f"{self.vcpu:g}vCPU {self.gigabytes:g}GB"


def _rows() -> tuple[Size, ...]:
    ladder: list[tuple[int, list[float]]] = [
        (250, [0.5, 1, 2]),
        (500, [*range(1, 5)]),
        (1000, [*range(2, 9)]),
        (2000, [*range(4, 17)]),
        (4000, [*range(8, 31)]),
        (8000, [*range(16, 61, 4)]),
        (16000, [*range(32, 121, 8)]),
    ]
    return tuple(Size(cpu, int(gigabytes * 1024)) for cpu, row in ladder for gigabytes in row)


SIZES = _rows()
"""Every size, smallest vCPU first, then smallest memory."""


def parse_quantity(text: str) -> Fraction:
    """The exact value of a Kubernetes quantity such as `250m`, `1.5`, `512Mi` or `1e3`.

    Raises ValueError for anything else.
    """
    match = _QUANTITY.match(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a Kubernetes quantity")
    number, exponent, suffix = match.groups()
    value = Fraction(number)
    if exponent:
        value *= Fraction(10) ** int(exponent[1:])
    elif suffix in _BINARY:
        value *= 1024 ** _BINARY[suffix]
    elif suffix:
        value *= Fraction(10) ** _DECIMAL[suffix]
    return value


def requested(container: Container, resource: str) -> Fraction:
    """What the container asks for; a limit without a request counts as one, as in the API server."""
    resources = container.resources
    text = resources.requests.get(resource, resources.limits.get(resource, "0"))
    return parse_quantity(text)


def provision(pod: Pod) -> Size | None:
    """The size that Fargate gives the pod, or None when even the largest is too small."""
    cpu = _requested_together(pod, "cpu")
    memory = _requested_together(pod, "memory") + SYSTEM_MEBIBYTES * MEBIBYTE
    for size in SIZES:
        if size.millicpu >= cpu * 1000 and size.mebibytes * MEBIBYTE >= memory:
            return size
    return None


def limit_bytes(container: Container, size: Size) -> int:
    """The memory at which the container is killed: its own limit, else all that the pod has."""
    text = container.resources.limits.get("memory")
    return math.floor(parse_quantity(text)) if text else size.mebibytes * MEBIBYTE


def _requested_together(pod: Pod, resource: str) -> Fraction:
    return sum((requested(one, resource) for one in pod.spec.containers), Fraction(0))
