"""Which pods a request is led to."""

from typing import Any

import pytest

from sandbox.routes import Backend, Target, find_backend, find_targets

CLASSES = frozenset({"sandbox"})


def ingress(
    service: str, *, host: str = "", path: str = "/", kind: str = "Prefix", of: str = "sandbox"
) -> dict[str, Any]:
    backend = {"service": {"name": service, "port": {"name": "http"}}}
    rule: dict[str, Any] = {"http": {"paths": [{"path": path, "pathType": kind, "backend": backend}]}}
    if host:
        rule["host"] = host
    return {"metadata": {"namespace": "n"}, "spec": {"ingressClassName": of, "rules": [rule]}}


def pod(address: str, *, ready: str = "True", namespace: str = "n", **more: Any) -> dict[str, Any]:
    return {
        "metadata": {"namespace": namespace, "labels": {"app": "a", "x": "y"}, **more},
        "spec": {"containers": [{"ports": [{"name": "web", "containerPort": 8080}]}]},
        "status": {"podIP": address, "conditions": [{"type": "Ready", "status": ready}]},
    }


def service(target: str | int = "web", selector: dict[str, str] | None = None) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "n", "name": "s"},
        "spec": {"selector": selector or {"app": "a"}, "ports": [{"name": "http", "port": 80, "targetPort": target}]},
    }


@pytest.mark.parametrize(
    ("host", "path", "expected"),
    [
        ("anything", "/event", "all"),
        ("a.example", "/event", "host"),
        ("a.example", "/deep/er", "deep"),
        ("a.example", "/deeper", "host"),
        ("a.example", "/exact", "exact"),
        ("b.wild.example", "/", "wild"),
    ],
)
def test_the_most_specific_rule_wins(host: str, path: str, expected: str) -> None:
    rules = [
        ingress("all"),
        ingress("host", host="a.example"),
        ingress("deep", host="a.example", path="/deep"),
        ingress("exact", host="a.example", path="/exact", kind="Exact"),
        ingress("prefix", host="a.example", path="/exact"),
        ingress("wild", host="*.wild.example"),
        ingress("foreign", host="a.example", path="/deep/er", of="nginx"),
    ]
    assert find_backend(rules, CLASSES, host, path) == Backend("n", expected, "http")


def test_no_rule_no_backend() -> None:
    assert find_backend([ingress("s", path="/only")], CLASSES, "h", "/other") is None


def test_only_ready_pods_of_the_service_are_targets() -> None:
    pods = [
        pod("127.0.0.2"),
        pod("127.0.0.3", ready="False"),
        pod("127.0.0.4", deletionTimestamp="2026-01-01T00:00:00Z"),
        pod("127.0.0.5", namespace="other"),
        pod("", ready="True"),
    ]
    backend = Backend("n", "s", "http")
    assert find_targets(backend, [service()], pods) == [Target("127.0.0.2", 8080)]
    assert find_targets(backend, [service(9000)], pods) == [Target("127.0.0.2", 9000)]
    assert find_targets(backend, [service("unknown")], pods) == []
    assert find_targets(backend, [service(selector={"app": "b"})], pods) == []
    assert find_targets(Backend("n", "s", 80), [service()], pods) == [Target("127.0.0.2", 8080)]
    assert find_targets(Backend("n", "s", 81), [service()], pods) == []
    assert find_targets(Backend("n", "other", 80), [service()], pods) == []
