"""Which pods run here: those that a Fargate profile selects and that neither Fargate nor this node refuses.

Sources: Amazon EKS user guide, "Define which Pods use AWS Fargate when launched", "Simplify compute management with
AWS Fargate" (considerations) and "Understand Fargate Pod configuration details".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field

from sandbox.fargate.sizes import parse_quantity, provision

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sandbox.fargate.pod import Container, Metadata, Pod

PROFILE_LABEL = "eks.amazonaws.com/fargate-profile"
NODE_LABELS: Mapping[str, str] = {
    "eks.amazonaws.com/compute-type": "fargate",
    "kubernetes.io/arch": "amd64",
    "kubernetes.io/os": "linux",
    "topology.kubernetes.io/region": "us-east-1",
    "topology.kubernetes.io/zone": "us-east-1a",
}
"""Labels that every Fargate node has; a nodeSelector can only ask for these."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Selector(_Strict):
    """A namespace and labels; `*` and `?` are wildcards in the namespace, in label keys and in values."""

    namespace: str = Field(min_length=1)
    labels: Annotated[dict[str, str], Field(max_length=5)] = {}

    def matches(self, namespace: str, labels: Mapping[str, str]) -> bool:
        """Whether a pod of this namespace with these labels is selected."""
        return _like(self.namespace, namespace) and all(
            any(_like(key, name) and _like(value, text) for name, text in labels.items())
            for key, value in self.labels.items()
        )


class Profile(_Strict):
    """A Fargate profile: at most five selectors, of which one must match."""

    name: str = Field(min_length=1)
    selectors: Annotated[list[Selector], Field(min_length=1, max_length=5)]


def select(profiles: Iterable[Profile], pod: Metadata) -> Profile | None:
    """The profile that the pod runs under, or None.

    Of several matching ones the first by name wins, unless the pod's label names one of them.
    """
    matching = sorted(
        (one for one in profiles if any(s.matches(pod.namespace, pod.labels) for s in one.selectors)),
        key=lambda one: one.name,
    )
    wanted = pod.labels.get(PROFILE_LABEL)
    if wanted is not None:
        matching = [one for one in matching if one.name == wanted]
    return matching[0] if matching else None


def _like(pattern: str, text: str) -> bool:
    expression = "".join(".*" if c == "*" else "." if c == "?" else re.escape(c) for c in pattern)
    return re.fullmatch(expression, text) is not None


def refusal(pod: Pod) -> str | None:
    """The sentence with which the scheduler refuses the pod, or None when it can run."""
    faults = _fargate_faults(pod)
    if faults:
        return "Pod not supported on Fargate: " + ", ".join(faults)
    faults = _local_faults(pod)
    if faults:
        return "Pod not supported on this local node (Fargate would run it): " + ", ".join(faults)
    return None


def _fargate_faults(pod: Pod) -> list[str]:
    spec = pod.spec
    faults = [
        f"fields not supported: {name}"
        for name, used in (
            ("HostNetwork", spec.host_network),
            ("HostPID", spec.host_pid),
            ("HostIPC", spec.host_ipc),
        )
        if used
    ]
    owner = pod.controller()
    if owner is not None and owner.kind == "DaemonSet":
        faults.append("owned by a DaemonSet")
    for volume in spec.volumes:
        faults += [
            f"volumes not supported: {volume.name} is of an unsupported volume type {kind}"
            for kind in volume.foreign_kinds()
        ]
    for container in spec.containers:
        faults += [f"container {container.name}: {fault}" for fault in _container_faults(container)]
    faults += [
        f"no Fargate node has the label {key}={value} of the nodeSelector"
        for key, value in spec.node_selector.items()
        if NODE_LABELS.get(key) != value
    ]
    if not faults and provision(pod) is None:
        faults.append("the requests exceed the largest size (16 vCPU, 120 GB)")
    return faults


def _container_faults(container: Container) -> list[str]:
    faults = []
    if container.security_context.privileged:
        faults.append("fields not supported: Privileged")
    if container.security_context.capabilities.add:
        faults.append("capabilities can only be dropped, not added")
    if any(port.host_port for port in container.ports):
        faults.append("fields not supported: HostPort")
    if container.volume_devices:
        faults.append("fields not supported: VolumeDevices")
    limits, requests = container.resources.limits, container.resources.requests
    for resource in ("cpu", "memory"):
        request, limit = requests.get(resource, limits.get(resource)), limits.get(resource)
        if request is None:
            continue
        if limit is None or parse_quantity(request) != parse_quantity(limit):
            faults.append(f"the {resource} request {request} must equal the limit {limit or '(none)'}")
    return faults


LOCAL_REFUSALS: tuple[str, ...] = (
    "init containers",
    "readiness gates",
    "volumes of type downwardAPI (a projected one may hold such a source)",
    "lifecycle actions (postStart, preStop)",
    "volumeMounts with subPath",
    "probes of type exec, grpc or tcpSocket",
)
"""What Fargate would run and this node does not, because neither the chart nor the packager's Job uses it."""


def _local_faults(pod: Pod) -> list[str]:
    spec = pod.spec
    of_pod = (spec.init_containers, spec.readiness_gates, [one for one in spec.volumes if one.downward_api is not None])
    faults = [what for what, used in zip(LOCAL_REFUSALS, of_pod, strict=False) if used]
    for container in spec.containers:
        probes = [one for one in (container.liveness_probe, container.readiness_probe, container.startup_probe) if one]
        of_container = (
            container.lifecycle,
            [mount for mount in container.volume_mounts if mount.sub_path or mount.sub_path_expr],
            [one for one in probes if one.http_get is None],
        )
        whats = LOCAL_REFUSALS[len(of_pod) :]
        faults += [
            f"container {container.name}: {what}" for what, used in zip(whats, of_container, strict=True) if used
        ]
    return faults
