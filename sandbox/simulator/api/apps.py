"""/apps, /app-configuration-items, /app-sessions, and the objects that entries point at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sandbox.simulator.api.listing import identifiers, ordered, page
from sandbox.simulator.clock import iso
from sandbox.simulator.sessions import Session, check_messages, check_name, check_timeout
from sandbox.simulator.wire import (
    Json,
    Reply,
    bad_request,
    forbidden,
    json_object,
    json_reply,
    not_found,
    returning,
    unknown_ids,
)

if TYPE_CHECKING:
    from sandbox.simulator.api.routing import Edge, Request
    from sandbox.simulator.directory import Kind


def get_app(request: Request) -> Reply:
    """GET /apps/{app_id}"""
    world, identifier = request.world, request.at["app_id"]
    if identifier not in {app.id for app in world.apps.values()}:
        raise not_found(identifier)
    return json_reply(
        {
            "id": identifier,
            "name": world.settings.app_name,
            "description": "Exports entries as packages",
            "appDefinition": {
                "id": world.settings.app_definition_id,
                "versionNumber": world.settings.app_version,
            },
            "apiURL": f"{world.origins.api}/api/v2/apps/{identifier}",
            "webURL": f"{world.origins.api}/developer/apps/{identifier}",
            "archiveRecord": None,
            "createdAt": iso(world.author_since),
            "modifiedAt": iso(world.author_since),
            "creator": world.author.summary(),
        }
    )


def _items(request: Request) -> list[Json]:
    settings = request.world.settings
    app = {"id": settings.app_id}
    since = iso(request.world.author_since)
    values = {"bucket": "entries", "prefix": "benchling"}
    return [
        {
            "id": f"aci_{name}", "app": app, "path": [name], "type": "text", "value": value, "requiredConfig": False,
            "description": "Set in the simulator", "createdAt": since, "modifiedAt": since,
            "apiURL": f"{request.world.origins.api}/api/v2/app-configuration-items/aci_{name}",
        }
        for name, value in values.items()
    ]  # fmt: skip


def list_configuration(request: Request) -> Reply:
    """GET /app-configuration-items"""
    given = request.parameters
    app_id, wanted = given.get("appId"), identifiers(given, "ids")
    items = [i for i in _items(request) if app_id in (None, i["app"]["id"]) and (wanted is None or i["id"] in wanted)]
    world = request.world
    body = page(world, "listAppConfigurationItems", "appConfigurationItems", items, lambda item: item, _lenient(given))
    return json_reply(body)


def _lenient(given: dict[str, str]) -> dict[str, str]:
    """Paging parameters of an operation that documents no 400: what is malformed counts as absent."""
    size, token = given.get("pageSize", ""), given.get("nextToken", "")
    kept = {"pageSize": size} if size.isascii() and size.isdigit() and 1 <= int(size[:4]) <= 100 else {}
    return {**kept, "nextToken": token} if token.startswith("b2Zmc2V0") else kept


def get_configuration(request: Request) -> Reply:
    """GET /app-configuration-items/{item_id}"""
    for item in _items(request):
        if item["id"] == request.at["item_id"]:
            return json_reply(item)
    raise not_found(request.at["item_id"])


def create_session(request: Request) -> Reply:
    """POST /app-sessions: 201."""
    world, body = request.world, json_object(request.call)
    if unknown := body.keys() - {"appId", "name", "timeoutSeconds", "messages"}:
        raise bad_request(f"Unknown member: {', '.join(sorted(unknown))}")
    if missing := {"appId", "name", "timeoutSeconds"} - body.keys():
        raise bad_request(f"Missing: {', '.join(sorted(missing))}")
    name, timeout = check_name(body["name"]), check_timeout(body["timeoutSeconds"])
    messages = check_messages(body.get("messages", []))
    if not isinstance(body["appId"], str):
        raise bad_request("appId must be a string")
    if body["appId"] != request.caller:
        raise forbidden("The session belongs to another app", body["appId"])
    now = world.clock.now()
    session = Session(world.ids.next("sesn"), body["appId"], name, timeout, now, now, messages)
    world.sessions[session.id] = session
    return json_reply(session.whole(now), 201)


def _session(request: Request) -> Session:
    session = request.world.sessions.get(request.at["id"])
    if session is None:
        raise not_found(request.at["id"])
    return session


def get_session(request: Request) -> Reply:
    """GET /app-sessions/{id}"""
    return json_reply(_session(request).whole(request.world.clock.now()))


def update_session(request: Request) -> Reply:
    """PATCH /app-sessions/{id}: a closed session answers 400 with the documented sentence."""
    session = _session(request)
    body = json_object(request.call)
    if session.app_id != request.caller:
        raise forbidden("The session belongs to another app", session.id)
    session.update(body, request.world.clock.now())
    return json_reply(session.whole(request.world.clock.now()))


def list_sessions(request: Request) -> Reply:
    """GET /app-sessions"""
    world, given = request.world, request.parameters
    app_id = given.get("appId")
    keys: dict[str, Any] = {"modifiedAt": lambda session: (session.modified_at, session.id)}
    sessions = [session for session in world.sessions.values() if app_id in (None, "", session.app_id)]
    sessions = ordered(sessions, given.get("sort", "modifiedAt"), keys)
    now, fields = world.clock.now(), given.get("returning")
    body = page(world, "listAppSessions", "appSessions", sessions, lambda s: returning(s.whole(now), fields), given)
    return json_reply(body)


def list_folders(request: Request) -> Reply:
    """GET /folders: of a project, of `ids`, or all. An unknown id is 400; else what is malformed counts as absent."""
    world, given = request.world, request.parameters
    project = given.get("projectId")
    known = [thing.id for thing in world.directory.objects.values() if thing.kind == "folder"]
    wanted = identifiers(given, "ids") or known
    bodies = sorted(_bodies(request, "folder", wanted, "listFolders"), key=lambda body: str(body["name"]))
    if project and project != world.project:
        bodies = []
    return json_reply(page(world, "listFolders", "folders", bodies, lambda body: body, _lenient(given)))


def list_users(request: Request) -> Reply:
    """GET /users: those of `ids`, or all."""
    world, given = request.world, request.parameters
    wanted = identifiers(given, "ids") or list(world.directory.people)
    keys: dict[str, Any] = {
        "name": lambda body: (body["name"], body["id"]), "modifiedAt": lambda body: body["id"],
        "createdAt": lambda body: body["id"],
    }  # fmt: skip
    bodies = ordered(_bodies(request, "user", wanted, "listUsers"), given.get("sort", "modifiedAt"), keys)
    return json_reply(page(world, "listUsers", "users", bodies, lambda body: body, given))


def reader(kind: Kind, operation: str, parameter: str) -> Edge:
    """The operation that reads one object of a kind."""

    def read(request: Request) -> Reply:
        world, identifier = request.world, request.at[parameter]
        now = world.clock.real()
        if _strikes(request, "link_403", identifier, now, operation):
            raise forbidden("You do not have permission to read this item", identifier)
        body = world.directory.whole(kind.link_type, identifier)
        if body is None or _strikes(request, "link_404", identifier, now, operation):
            if kind.documents_404:
                raise not_found(identifier)
            raise bad_request(f"Could not find item {identifier}", invalidId=identifier)
        return json_reply(returning(body, request.parameters.get("returning")))

    return read


def _strikes(request: Request, fault: str, identifier: str, now: float, operation: str) -> bool:
    return request.world.faults.take(fault, now, subject=identifier, operation=operation) is not None


def _bodies(request: Request, link_type: str, wanted: list[str], operation: str) -> list[Json]:
    """The objects with these ids. Raises Refusal: 403 for one that may not be read, 400 naming unknown ones."""
    world = request.world
    now = world.clock.real()
    for identifier in wanted:
        if _strikes(request, "link_403", identifier, now, operation):
            raise forbidden("You do not have permission to read this item", identifier)
    bodies = {identifier: world.directory.whole(link_type, identifier) for identifier in wanted}
    invalid = [
        identifier for identifier, body in bodies.items()
        if body is None or _strikes(request, "link_404", identifier, now, operation)
    ]  # fmt: skip
    if invalid:
        raise unknown_ids(invalid)
    return [body for body in bodies.values() if body]


def bulk_reader(kind: Kind, operation: str) -> Edge:
    """The operation that reads several objects of a kind: all of them, or 400 that names the unknown ones."""
    parameter = kind.bulk_parameter or ""

    def read(request: Request) -> Reply:
        world = request.world
        wanted = identifiers(request.parameters, parameter)
        if wanted is None:
            raise bad_request(f"{parameter} is required")
        maximum = world.settings.bulk_maximum
        if maximum and len(wanted) > maximum:
            raise bad_request(f"At most {maximum} ids are allowed")
        bodies = _bodies(request, kind.link_type, wanted, operation)
        fields = request.parameters.get("returning")
        return json_reply({kind.listing: [returning(body, fields) for body in bodies]})

    return read
