"""Quantities, sizes, profiles and refusals."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from sandbox.fargate.profiles import Profile, Selector, select
from sandbox.fargate.refusal import refusal
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


def test_init_containers_count_by_the_largest_and_others_by_the_sum() -> None:
    main = [container("a", resources=resources("250m", "256Mi")), container("b", resources=resources("250m", "512Mi"))]
    small = pod(*main, initContainers=[container("i", resources=resources("250m", "512Mi"))])
    assert provision(small) == Size(500, 1024)
    large = pod(*main, initContainers=[container("i", resources=resources("1", "4Gi"))])
    assert provision(large) == Size(1000, 5 * 1024)


def test_sizes_are_those_of_the_table() -> None:
    assert len(SIZES) == 3 + 4 + 7 + 13 + 23 + 12 + 12
    assert list(SIZES) == sorted(SIZES)


@pytest.mark.parametrize(
    ("selector", "namespace", "labels", "matches"),
    [
        (Selector(namespace="ns"), "ns", {}, True),
        (Selector(namespace="ns"), "ns2", {}, False),
        (Selector(namespace="ns*"), "ns2", {}, True),
        (Selector(namespace="n?"), "ns", {}, True),
        (Selector(namespace="n?"), "nss", {}, False),
        (Selector(namespace="n.s"), "nxs", {}, False),
        (Selector(namespace="*", labels={"a": "b"}), "ns", {"a": "b", "c": "d"}, True),
        (Selector(namespace="*", labels={"a": "b"}), "ns", {"a": "c"}, False),
        (Selector(namespace="*", labels={"a": "*", "c": "d"}), "ns", {"a": "x"}, False),
        (Selector(namespace="*", labels={"app*": "x?"}), "ns", {"application": "x1"}, True),
    ],
)
def test_selectors(selector: Selector, namespace: str, labels: dict[str, str], matches: bool) -> None:
    assert selector.matches(namespace, labels) is matches


def test_first_profile_by_name_wins_unless_the_pod_names_one() -> None:
    both = [Profile(name=name, selectors=[Selector(namespace="ns")]) for name in ("b", "a")]
    chosen = select(both, pod().metadata)
    assert chosen is not None
    assert chosen.name == "a"
    label = "eks.amazonaws.com/fargate-profile"
    named = select(both, pod(labels={label: "b"}).metadata)
    assert named is not None
    assert named.name == "b"
    assert select(both, pod(labels={label: "c"}).metadata) is None


def test_profile_has_at_most_five_selectors() -> None:
    with pytest.raises(ValueError, match="at most 5"):
        Profile(name="p", selectors=[Selector(namespace="n")] * 6)


UNEQUAL = {"requests": {"cpu": "250m"}, "limits": {"cpu": "500m"}}


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"hostNetwork": True}, "HostNetwork"),
        ({"hostPID": True}, "HostPID"),
        ({"owner": "DaemonSet"}, "DaemonSet"),
        ({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}, "hostPath"),
        ({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}, "persistentVolumeClaim"),
        ({"volumes": [{"name": "v", "csi": {"driver": "d"}}]}, "csi"),
        ({"nodeSelector": {"kubernetes.io/arch": "arm64"}}, "arm64"),
        ({"containers": [container(securityContext={"privileged": True})]}, "Privileged"),
        ({"containers": [container(securityContext={"capabilities": {"add": ["NET_ADMIN"]}})]}, "capabilities"),
        ({"containers": [container(ports=[{"containerPort": 80, "hostPort": 80}])]}, "HostPort"),
        ({"containers": [container(resources=UNEQUAL)]}, "must equal the limit"),
        ({"containers": [container(resources={"requests": {"memory": "1Gi"}})]}, "must equal the limit (none)"),
        ({"containers": [container(resources=resources("64", "1Gi"))]}, "largest size"),
    ],
)
def test_what_fargate_refuses(given: dict[str, Any], word: str) -> None:
    why = refusal(pod(*given.pop("containers", []), **given))
    assert why is not None
    assert why.startswith("Pod not supported on Fargate: ")
    assert word in why


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"containers": [container(volumeMounts=[{"name": "v", "mountPath": "/v", "subPath": "x"}])]}, "subPath"),
        ({"containers": [container(livenessProbe={"grpc": {"port": 1}})]}, "gRPC"),
        ({"initContainers": [container("i", restartPolicy="Always")]}, "restartPolicy Always"),
    ],
)
def test_what_only_this_node_refuses(given: dict[str, Any], word: str) -> None:
    why = refusal(pod(*given.pop("containers", []), **given))
    assert why is not None
    assert "Fargate would run it" in why
    assert word in why


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"nodeSelector": {"kubernetes.io/arch": "amd64"}},
        {"containers": [container(resources=resources("0.25", "1Gi"))]},
        {"containers": [container(resources={"requests": {"cpu": "250m"}, "limits": {"cpu": "0.25"}})]},
        {"containers": [container(securityContext={"capabilities": {"drop": ["ALL"]}})]},
        {"owner": "Job", "volumes": [{"name": "v", "emptyDir": {}}, {"name": "w", "secret": {"secretName": "s"}}]},
    ],
)
def test_what_runs(given: dict[str, Any]) -> None:
    assert refusal(pod(*given.pop("containers", []), **given)) is None
