"""Short pods for tables of cases."""

from __future__ import annotations

from typing import Any

from sandbox.fargate.pod import Pod

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
