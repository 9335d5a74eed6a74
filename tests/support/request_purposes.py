"""What each request of an attempt is for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.controller_process import Json
    from tests.support.request_proxy import Call

WRITES = [
    "mark as pending",
    "state the intent",
    "Event Exporting",
    "ask for the export",
    "note the task",
    "note the order",
    "create Secret 0",
    "create Secret 1",
    "create the Job",
    "note the Job",
    "Event JobCreated",
    "store the package",
    "Event Packaged",
    "delete Secret 0",
    "delete Secret 1",
    "delete the Job",
]
LOOK = "look at the export"
"""The one request that writes nothing and ends a wait."""


def purpose(call: Call) -> str | None:
    """Return what a request is for, None if it writes nothing and is no look at the export."""
    parts = call.resource.strip("/").split("/")
    if not call.mutating:
        return LOOK if "tasks" in parts else None
    if "leases" in parts or parts[-1] == "token":
        return None
    if parts[-1] == "status":
        return _of_status(call.json()["status"])
    match call.method, parts[-2] if call.method == "DELETE" else parts[-1]:
        case "POST", "exports":
            return "ask for the export"
        case "POST", "events":
            return f"Event {call.json()['reason']}"
        case "POST", "secrets":
            return f"create Secret {call.json()['metadata']['name'].rpartition('-')[2]}"
        case "POST", "jobs":
            return "create the Job"
        case "DELETE", "secrets":
            return f"delete Secret {parts[-1].rpartition('-')[2]}"
        case "DELETE", "jobs":
            return "delete the Job"
        case _:
            return f"{call.method} {call.resource}"


def _of_status(status: Json) -> str:
    attempt = status.get("attempt")
    if attempt is None:
        return "store the package" if "package" in status else "mark as pending"
    if "failure" in attempt:
        return "note the failure"
    if "job" in attempt:
        return "note the Job"
    if "orderDigest" in attempt:
        return "note the order"
    return "note the task" if "taskId" in attempt["export"] else "state the intent"
