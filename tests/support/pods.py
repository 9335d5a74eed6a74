"""Short pods for tables of cases."""

from __future__ import annotations

from typing import Any

from sandbox.fargate.environment import PodFacts
from sandbox.fargate.pod import Pod
from sandbox.fargate.sizes import Size

Json = dict[str, Any]


def container(name: str = "main", **members: Any) -> Json:
    """A container with these further members."""
    return {"name": name, "image": "example/program:1"} | members


def resources(cpu: str, memory: str) -> Json:
    """Limits, which the API server would copy into the requests."""
    limits = {"cpu": cpu, "memory": memory}
    return {"limits": limits, "requests": limits}


def pod(*containers: Json, owner: str = "", labels: dict[str, str] | None = None, **spec: Any) -> Pod:
    """A pod of one container unless others are given."""
    owners = [{"kind": owner, "name": "o", "uid": "u", "controller": True}] if owner else []
    return Pod.model_validate(
        {
            "metadata": {
                "name": "p",
                "namespace": "ns",
                "uid": "uid-1",
                "labels": labels or {},
                "ownerReferences": owners,
            },
            "spec": {"containers": list(containers) or [container()], **spec},
        }
    )


def facts() -> PodFacts:
    """What is known of a bound pod with two labels and limits of 1 CPU and 1 GiB."""
    one = pod(container(resources=resources("1", "1Gi")), labels={"a": 'say "x"', "b": "2"})
    return PodFacts(one, "node-1", "127.9.0.1", "127.0.0.1", Size(1000, 2048))
