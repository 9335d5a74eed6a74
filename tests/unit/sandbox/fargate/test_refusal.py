"""Profiles and refusals."""

from __future__ import annotations

from typing import Any

import pytest

from sandbox.fargate.refusal import LOCAL_REFUSALS, Profile, Selector, refusal, select
from tests.support.paths import ROOT
from tests.support.pods import container, pod, resources


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


def _refusal(given: dict[str, Any]) -> str | None:
    spec = {name: part for name, part in given.items() if name != "containers"}
    return refusal(pod(*given.get("containers", []), **spec))


UNEQUAL = {"requests": {"cpu": "250m"}, "limits": {"cpu": "500m"}}
FARGATE_CASES: list[tuple[dict[str, Any], str]] = [
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
]


@pytest.mark.parametrize(("given", "word"), FARGATE_CASES)
def test_what_fargate_refuses(given: dict[str, Any], word: str) -> None:
    why = _refusal(given)
    assert why is not None
    assert why.startswith("Pod not supported on Fargate: ")
    assert word in why


LOCAL_CASES: list[tuple[dict[str, Any], str]] = [
    ({"initContainers": [container("i")]}, "init containers"),
    ({"readinessGates": [{"conditionType": "example.com/ready"}]}, "readiness gates"),
    ({"volumes": [{"name": "v", "downwardAPI": {"items": []}}]}, "volumes of type downwardAPI"),
    ({"containers": [container(lifecycle={"preStop": {"exec": {"command": ["true"]}}})]}, "lifecycle actions"),
    ({"containers": [container(lifecycle={"postStart": {"sleep": {"seconds": 1}}})]}, "lifecycle actions"),
    ({"containers": [container(volumeMounts=[{"name": "v", "mountPath": "/v", "subPath": "x"}])]}, "subPath"),
    ({"containers": [container(livenessProbe={"grpc": {"port": 1}})]}, "probes of type"),
    ({"containers": [container(startupProbe={"tcpSocket": {"port": 1}})]}, "probes of type"),
    ({"containers": [container(readinessProbe={"exec": {"command": ["true"]}})]}, "probes of type"),
]


@pytest.mark.parametrize(("given", "word"), LOCAL_CASES)
def test_what_only_this_node_refuses(given: dict[str, Any], word: str) -> None:
    why = _refusal(given)
    assert why is not None
    assert why.startswith("Pod not supported on this local node (Fargate would run it): ")
    assert word in why
    assert sum(what in why for what in LOCAL_REFUSALS) == 1


def test_every_refusal_of_this_node_has_a_case() -> None:
    assert all(any(word in what for _given, word in LOCAL_CASES) for what in LOCAL_REFUSALS)


def test_the_table_for_people_names_what_is_refused() -> None:
    rows = [
        line.strip("| ").split(" | ") for line in (ROOT / "sandbox/README.md").read_text().splitlines() if "|" in line
    ]
    refused = {row[1]: row[0] for row in rows if row[1:] and row[0] in {"Fargate", "this node"}}
    assert tuple(what for what, who in refused.items() if who == "this node") == LOCAL_REFUSALS
    table = " ".join(what for what, who in refused.items() if who == "Fargate")
    assert [word for _given, word in FARGATE_CASES if word.removesuffix(" (none)") not in table] == []


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
    assert _refusal(given) is None
