"""Quantities and sizes."""

from __future__ import annotations

from fractions import Fraction

import pytest

from sandbox.fargate.sizes import SIZES, Size, parse_quantity, provision
from tests.support.pods import container, pod, resources


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("250m", Fraction(1, 4)),
        ("1.5", Fraction(3, 2)),
        (".5", Fraction(1, 2)),
        ("512Mi", Fraction(512 * 1024 * 1024)),
        ("1G", Fraction(10**9)),
        ("1e3", Fraction(1000)),
        ("2E", Fraction(2 * 10**18)),
        ("0", Fraction(0)),
    ],
)
def test_quantities(text: str, value: Fraction) -> None:
    assert parse_quantity(text) == value


@pytest.mark.parametrize("text", ["", "1 Mi", "MB", "1mi", "0x1", "1e", "--1"])
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="not a Kubernetes quantity"):
        parse_quantity(text)


@pytest.mark.parametrize(
    ("cpu", "memory", "size"),
    [
        ("0", "0", "0.25vCPU 0.5GB"),
        ("250m", "256Mi", "0.25vCPU 0.5GB"),
        ("250m", "257Mi", "0.25vCPU 1GB"),
        ("250m", "768Mi", "0.25vCPU 1GB"),
        ("250m", "1792Mi", "0.25vCPU 2GB"),
        ("250m", "1793Mi", "0.5vCPU 3GB"),
        ("251m", "256Mi", "0.5vCPU 1GB"),
        # The two examples of the user guide.
        ("1", "8Gi", "2vCPU 9GB"),
        ("1", "512Mi", "1vCPU 2GB"),
        ("8", "17Gi", "8vCPU 20GB"),
        ("16", "122624Mi", "16vCPU 120GB"),
    ],
)
def test_size_of_one_container(cpu: str, memory: str, size: str) -> None:
    found = provision(pod(container(resources=resources(cpu, memory))))
    assert found is not None
    assert found.annotation() == size


def test_largest_size_is_not_enough() -> None:
    assert provision(pod(container(resources=resources("16", "122625Mi")))) is None
    assert provision(pod(container(resources=resources("17", "1Gi")))) is None


def test_containers_count_by_the_sum() -> None:
    two = [container("a", resources=resources("250m", "256Mi")), container("b", resources=resources("250m", "512Mi"))]
    assert provision(pod(*two)) == Size(500, 1024)


def test_sizes_are_those_of_the_table() -> None:
    assert len(SIZES) == 3 + 4 + 7 + 13 + 23 + 12 + 12
    assert list(SIZES) == sorted(SIZES)
