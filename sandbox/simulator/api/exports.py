"""POST /exports and GET /tasks/{task_id}."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.simulator.wire import (
    Json,
    Refusal,
    Reply,
    bad_request,
    error,
    forbidden,
    json_object,
    json_reply,
    not_found,
)

if TYPE_CHECKING:
    from sandbox.simulator.api.routing import Request


def start(request: Request) -> Reply:
    """POST /exports: 202 with a task, or 429 when too many run."""
    world = request.world
    body = json_object(request.call)
    if unknown := body.keys() - {"id", "format"}:
        raise bad_request(f"Unknown member: {', '.join(sorted(unknown))}")
    identifier, form = body.get("id"), body.get("format", "pdf")
    if not isinstance(identifier, str) or form not in ("pdf", "html") or not isinstance(form, str):
        raise bad_request("id must be a string, format pdf or html")
    entry = world.notebook.find(identifier)
    now = world.clock.real()
    if world.faults.take("entry_403", now, subject=identifier, operation="exportItem"):
        raise forbidden("You do not have permission to read this entry", identifier)
    if entry is None or world.faults.take("entry_404", now, subject=identifier, operation="exportItem"):
        raise bad_request(f"Could not find item {identifier}", invalidId=identifier)
    refused = world.faults.take("export_429", now, subject=entry.id, operation="exportItem")
    if refused or world.exports.full():
        raise Refusal(error(429, "invalid_request_error", "Too many exports are running. Try again later."))
    task = world.exports.start(entry, form)
    odd = world.faults.take("export_200", now, subject=entry.id, operation="exportItem")
    return json_reply({"taskId": task.id}, 200 if odd else 202)


def get_task(request: Request) -> Reply:
    """GET /tasks/{task_id}: RUNNING, SUCCEEDED, FAILED, or 404 half an hour later."""
    world, identifier = request.world, request.at["task_id"]
    task = world.exports.find(identifier)
    if task is None:
        raise not_found(identifier)
    now = world.clock.real()

    def struck(name: str) -> bool:
        return world.faults.take(name, now, subject=task.entry_id, operation="getTask") is not None

    if struck("task_404"):
        raise not_found(identifier)
    if rule := world.faults.take("task_unknown_status", now, subject=task.entry_id, operation="getTask"):
        return json_reply({"status": rule.text("status", "QUEUED")})
    body: Json = world.exports.read(task, world.origins.blobs)
    if body["status"] == "SUCCEEDED":
        if struck("task_no_response"):
            body = {"status": "SUCCEEDED"}
        elif struck("task_no_url"):
            body = {"status": "SUCCEEDED", "response": {}}
    return json_reply(body)
