"""What Fargate refuses to run, and what this local node cannot do.

Sources: Amazon EKS user guide, "Simplify compute management with AWS Fargate" (considerations) and
"Understand Fargate Pod configuration details".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.fargate.sizes import parse_quantity, provision

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandbox.fargate.pod import Container, Pod, Probe

NODE_LABELS: Mapping[str, str] = {
    "eks.amazonaws.com/compute-type": "fargate",
    "kubernetes.io/arch": "amd64",
    "kubernetes.io/os": "linux",
    "topology.kubernetes.io/region": "us-east-1",
    "topology.kubernetes.io/zone": "us-east-1a",
}
"""Labels that every Fargate node has; a nodeSelector can only ask for these."""


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
    for container in _all(pod):
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


def _local_faults(pod: Pod) -> list[str]:
    faults = [
        f"container {one.name}: volumeMounts with subPath"
        for one in _all(pod)
        if any(mount.sub_path or mount.sub_path_expr for mount in one.volume_mounts)
    ]
    faults += [f"container {one.name}: gRPC probes" for one in _all(pod) if any(map(_grpc, _probes(one)))]
    faults += [
        f"init container {one.name}: restartPolicy {one.restart_policy}"
        for one in pod.spec.init_containers
        if one.restart_policy
    ]
    return faults


def _all(pod: Pod) -> list[Container]:
    return [*pod.spec.init_containers, *pod.spec.containers]


def _probes(container: Container) -> tuple[Probe | None, ...]:
    return (container.liveness_probe, container.readiness_probe, container.startup_probe)


def _grpc(probe: Probe | None) -> bool:
    return probe is not None and probe.grpc is not None
