"""Which pods an Ingress leads a request to. Pure: objects in, addresses out."""

from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Target:
    """A pod's port that serves."""

    address: str
    port: int


@dataclass(frozen=True)
class Backend:
    """The Service port that a path of an Ingress names: a name or a number."""

    namespace: str
    service: str
    port: str | int


def find_backend(ingresses: list[Json], classes: frozenset[str], host: str, path: str) -> Backend | None:
    """Return the backend of the rule that fits best: a rule for the host before one for all, the longest path.

    `host` has no port. Exact paths win over prefixes of the same length.
    """
    fitting: list[tuple[tuple[bool, int, bool], Backend]] = []
    for ingress in ingresses:
        spec = ingress["spec"]
        if spec.get("ingressClassName") not in classes:
            continue
        for rule in spec.get("rules") or []:
            wanted = rule.get("host", "")
            if wanted and not _host_fits(wanted, host):
                continue
            for entry in rule.get("http", {}).get("paths") or []:
                pattern = entry.get("path") or "/"
                exact = entry.get("pathType") == "Exact"
                if path == pattern if exact else _has_prefix(path, pattern):
                    backend = _backend(ingress["metadata"]["namespace"], entry["backend"]["service"])
                    fitting.append(((bool(wanted), len(pattern), exact), backend))
    return max(fitting, key=lambda pair: pair[0])[1] if fitting else None


def _backend(namespace: str, service: Json) -> Backend:
    port = service["port"]
    return Backend(namespace, service["name"], port.get("name") or port["number"])


def _host_fits(wanted: str, host: str) -> bool:
    if wanted.startswith("*."):
        return host.partition(".")[2] == wanted[2:]
    return host == wanted


def _has_prefix(path: str, prefix: str) -> bool:
    # By path elements, as Kubernetes defines it: /foo is no prefix of /foobar.
    wanted = [part for part in prefix.split("/") if part]
    return [part for part in path.split("/") if part][: len(wanted)] == wanted


def find_targets(backend: Backend, services: list[Json], pods: list[Json]) -> list[Target]:
    """Return the ready pods behind a backend's Service.

    Pods are found by the Service's selector: EndpointSlices refuse addresses of the loopback range.
    """
    service = next(
        (
            found
            for found in services
            if (found["metadata"]["namespace"], found["metadata"]["name"]) == (backend.namespace, backend.service)
        ),
        None,
    )
    if service is None or not service["spec"].get("selector"):
        return []
    port = next((one for one in service["spec"]["ports"] if backend.port in (one.get("name"), one["port"])), None)
    if port is None:
        return []
    targets = []
    for pod in pods:
        if pod["metadata"]["namespace"] != backend.namespace or not _is_ready(pod):
            continue
        labels = pod["metadata"].get("labels") or {}
        number = _container_port(pod, port.get("targetPort", port["port"]))
        if number is not None and service["spec"]["selector"].items() <= labels.items():
            targets.append(Target(pod["status"]["podIP"], number))
    return targets


def _is_ready(pod: Json) -> bool:
    if "deletionTimestamp" in pod["metadata"] or not pod["status"].get("podIP"):
        return False
    conditions = pod["status"].get("conditions") or []
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _container_port(pod: Json, wanted: str | int) -> int | None:
    if isinstance(wanted, int):
        return wanted
    for container in pod["spec"]["containers"]:
        for port in container.get("ports") or []:
            if port.get("name") == wanted:
                return int(port["containerPort"])
    return None
