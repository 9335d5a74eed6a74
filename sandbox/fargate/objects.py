"""The Kubernetes objects that the node writes: Nodes, bindings, Events. Pure."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from sandbox.fargate.refusal import NODE_LABELS, PROFILE_LABEL

if TYPE_CHECKING:
    from sandbox.fargate.pod import Pod
    from sandbox.fargate.sizes import Size

Json = dict[str, Any]
INSTANCE = "sandbox.entrypackage/instance"
"""Label of a Node and annotation of a pod: which node program runs it."""
COMPUTE_TYPE = "eks.amazonaws.com/compute-type"
CAPACITY_ANNOTATION = "CapacityProvisioned"
_KUBELET_VERSION = "v1.36.0-eks-local"


def node_name(address: str) -> str:
    """The name of the Node of the pod with this address."""
    return f"fargate-ip-{address.replace('.', '-')}.us-east-1.compute.internal"


def node_address(name: str) -> str:
    """The address of the pod of the Node with this name, the reverse of `node_name`."""
    return name.partition(".")[0].removeprefix("fargate-ip-").replace("-", ".")


def node_object(name: str, size: Size, kubelet_port: int, host_address: str, instance: str, now: str) -> Json:
    """A pod's own Node, ready; it is larger than the pod, as on Fargate."""
    capacity = {"cpu": str(max(2, -(-size.millicpu // 1000))), "memory": f"{size.mebibytes + 3072}Mi"}
    capacity |= {"pods": "1", "ephemeral-storage": "30Gi"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {**NODE_LABELS, "kubernetes.io/hostname": name, INSTANCE: instance}},
        "spec": {"taints": [{"key": COMPUTE_TYPE, "value": "fargate", "effect": "NoSchedule"}]},
        "status": {
            # The API server would prefer a host name, which no resolver here knows.
            "addresses": [{"type": "InternalIP", "address": host_address}],
            "capacity": capacity,
            "allocatable": capacity,
            "conditions": [
                {
                    "type": "Ready",
                    "status": "True",
                    "reason": "KubeletReady",
                    "message": "the local Fargate node runs its pod",
                    "lastHeartbeatTime": now,
                    "lastTransitionTime": now,
                }
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet_port}},
            "nodeInfo": {
                "architecture": "amd64",
                "operatingSystem": "linux",
                "kubeletVersion": _KUBELET_VERSION,
                "osImage": "local processes",
                "containerRuntimeVersion": "local://processes",
                "kernelVersion": "",
                "kubeProxyVersion": "",
                "machineID": "",
                "systemUUID": "",
                "bootID": "",
            },
        },
    }


def binding(pod: Pod, node: str, size: Size, profile: str, instance: str) -> Json:
    """The binding; the API server copies its labels and annotations onto the pod."""
    return {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {
            "name": pod.metadata.name,
            "namespace": pod.metadata.namespace,
            "uid": pod.metadata.uid,
            "labels": {PROFILE_LABEL: profile},
            "annotations": {
                CAPACITY_ANNOTATION: size.annotation(),
                COMPUTE_TYPE: "fargate",
                INSTANCE: instance,
            },
        },
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    }


def event(pod: Pod, kind: str, reason: str, message: str, component: str, now: str) -> Json:
    """An Event about the pod; its name is the same for the same thing, so it exists once."""
    digest = hashlib.sha256(f"{pod.metadata.uid} {reason} {message}".encode()).hexdigest()[:12]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{pod.metadata.name[:200]}.{digest}", "namespace": pod.metadata.namespace},
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": pod.metadata.name,
            "namespace": pod.metadata.namespace,
            "uid": pod.metadata.uid,
        },
        "type": kind,
        "reason": reason,
        "message": message[:1024],
        "source": {"component": component},
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
