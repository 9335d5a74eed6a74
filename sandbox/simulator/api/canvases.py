"""/app-canvases: create, read, change, list, archive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sandbox.simulator.api.listing import ordered, page
from sandbox.simulator.canvases import Canvas, check_blocks, check_text_json
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
    returning,
)

if TYPE_CHECKING:
    from sandbox.simulator.api.routing import Request
    from sandbox.simulator.world import World

_MEMBERS = {"blocks", "data", "enabled", "featureId", "resourceId", "sessionId"}


def _checked(world: World, body: Json, allowed: set[str]) -> Json:
    """The members of a write, if they are well formed. Raises Refusal (400)."""
    if unknown := body.keys() - allowed:
        raise bad_request(f"Unknown member: {', '.join(sorted(unknown))}")
    for name in ("featureId", "resourceId", "appId"):
        if name in body and (not isinstance(body[name], str) or not body[name]):
            raise bad_request(f"{name} must be a string")
    if "enabled" in body and not isinstance(body["enabled"], bool):
        raise bad_request("enabled must be a boolean")
    if "blocks" in body:
        check_blocks(body["blocks"], maximum=world.settings.canvas_max_blocks)
    if "data" in body:
        check_text_json(body["data"])
    session = body.get("sessionId")
    if session is not None and (not isinstance(session, str) or session not in world.sessions):
        raise bad_request(f"Session {session!r} was not found")
    return body


def create(request: Request) -> Reply:
    """POST /app-canvases: 201."""
    world = request.world
    body = _checked(world, json_object(request.call), _MEMBERS | {"appId"})
    if missing := {"appId", "blocks", "featureId", "resourceId"} - body.keys():
        raise bad_request(f"Missing: {', '.join(sorted(missing))}")
    if body["appId"] != request.caller:
        raise forbidden("The canvas belongs to another app", str(body["appId"]))
    if world.faults.take("canvas_403", world.clock.real(), operation="createAppCanvas"):
        raise forbidden("You do not have permission to edit this item", body["resourceId"])
    entry = world.notebook.find(body["resourceId"])
    if entry is None:
        raise bad_request(f"Could not find resource {body['resourceId']}", invalidId=body["resourceId"])
    canvas = world.add_canvas(body["appId"], body["featureId"], entry.id)
    changed = {name: value for name, value in body.items() if name != "appId"}
    canvas.change(changed, world.clock.now(), request.caller)
    entry.touch(world.clock.now())
    return json_reply(canvas.whole(), 201)


def _reachable(request: Request, operation: str) -> Canvas:
    world, identifier = request.world, request.at["canvas_id"]
    now = world.clock.real()
    if world.faults.take("canvas_403", now, subject=identifier, operation=operation):
        raise forbidden("You do not have permission to use this canvas", identifier)
    gone = world.faults.take("canvas_404", now, subject=identifier, operation=operation)
    canvas = world.canvases.get(identifier)
    if gone or canvas is None:
        raise not_found(identifier)
    return canvas


def get(request: Request) -> Reply:
    """GET /app-canvases/{canvas_id}: bare, not wrapped."""
    canvas = _reachable(request, "getAppCanvas")
    return json_reply(returning(canvas.whole(), request.parameters.get("returning")))


def update(request: Request) -> Reply:
    """PATCH /app-canvases/{canvas_id}: absent means unchanged, null clears, the last writer wins."""
    world = request.world
    canvas = _reachable(request, "updateAppCanvas")
    body = json_object(request.call)
    status = world.settings.archived_canvas_patch
    if canvas.archived is not None and status != 200:
        raise Refusal(error(status, "invalid_request_error", "The canvas is archived", invalidId=canvas.id))
    if canvas.app_id != request.caller:
        raise forbidden("The canvas belongs to another app", canvas.id)
    members = _checked(world, body, _MEMBERS)
    canvas.change(members, world.clock.now(), request.caller)
    entry = world.notebook.find(canvas.resource_id)
    if entry is not None and world.settings.canvas_moves_entry:
        entry.touch(world.clock.now())
    reply = json_reply(canvas.whole())
    if world.faults.take("canvas_race", world.clock.real(), subject=canvas.id, operation="updateAppCanvas"):
        canvas.change({"blocks": [{"type": "MARKDOWN", "value": "another writer"}]}, world.clock.now(), "racer")
    return reply


def list_canvases(request: Request) -> Reply:
    """GET /app-canvases: the way to find the canvas of an entry."""
    world, given = request.world, request.parameters
    reason = given.get("archiveReason", "NOT_ARCHIVED")
    enabled = given.get("enabled")
    if enabled not in (None, "", "true", "false"):
        raise bad_request("enabled must be true or false")

    def fits(canvas: Canvas) -> bool:
        archived = canvas.archived is not None
        return (
            given.get("appId", canvas.app_id) == canvas.app_id
            and given.get("featureId", canvas.feature_id) == canvas.feature_id
            and given.get("resourceId", canvas.resource_id) == canvas.resource_id
            and (not enabled or canvas.enabled == (enabled == "true"))
            and (reason == "ANY_ARCHIVED_OR_NOT_ARCHIVED" or archived == (reason != "NOT_ARCHIVED"))
        )

    keys: dict[str, Any] = {"modifiedAt": lambda canvas: (canvas.modified_at, canvas.id)}
    canvases = ordered([c for c in world.canvases.values() if fits(c)], given.get("sort", "modifiedAt"), keys)
    fields = given.get("returning")
    body = page(world, "listAppCanvases", "appCanvases", canvases, lambda c: returning(c.whole(), fields), given)
    return json_reply(body)


def _change_archive(request: Request, allowed: set[str]) -> tuple[Json, list[Canvas]]:
    body = json_object(request.call)
    if unknown := body.keys() - allowed:
        raise bad_request(f"Unknown member: {', '.join(sorted(unknown))}")
    if missing := allowed - body.keys():
        raise bad_request(f"Missing: {', '.join(sorted(missing))}")
    ids = body["canvasIds"]
    if not isinstance(ids, list) or not all(isinstance(identifier, str) for identifier in ids):
        raise bad_request("canvasIds must be a list of strings")
    canvases = [request.world.canvases.get(identifier) for identifier in ids]
    found = [canvas for canvas in canvases if canvas is not None]
    if len(found) != len(canvases):
        unknown_ids = [identifier for identifier in ids if identifier not in request.world.canvases]
        raise bad_request("Unknown canvases", invalidIds=unknown_ids)
    return body, found


def archive(request: Request) -> Reply:
    """POST /app-canvases:archive"""
    body, canvases = _change_archive(request, {"canvasIds", "reason"})
    if body["reason"] not in ("Made in error", "Other"):
        raise bad_request("reason is not one of the documented ones")
    for canvas in canvases:
        canvas.archived = body["reason"]
    return json_reply({"canvasIds": [canvas.id for canvas in canvases]})


def unarchive(request: Request) -> Reply:
    """POST /app-canvases:unarchive"""
    _body, canvases = _change_archive(request, {"canvasIds"})
    for canvas in canvases:
        canvas.archived = None
    return json_reply({"canvasIds": [canvas.id for canvas in canvases]})
