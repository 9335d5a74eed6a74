"""The table of all operations that the simulated API serves."""

from __future__ import annotations

from sandbox.simulator.api import apps, canvases, entries, exports
from sandbox.simulator.api.routing import Operation, Routes
from sandbox.simulator.directory import KINDS

PREFIX = "/api/v2"
TOKEN = "generateToken"
"""The one operation that needs no token."""

_READ_OPERATIONS = {
    "user": ("getUser", "user_id", None),
    "folder": ("getFolder", "folder_id", None),
    "project": ("getProject", "project_id", None),
    "request": ("getRequest", "request_id", "bulkGetRequests"),
    "custom_entity": ("getCustomEntity", "custom_entity_id", "bulkGetCustomEntities"),
    "aa_sequence": ("getAASequence", "aa_sequence_id", "bulkGetAASequences"),
    "dna_sequence": ("getDNASequence", "dna_sequence_id", "bulkGetDNASequences"),
    "box": ("getBox", "box_id", "bulkGetBoxes"),
    "container": ("getContainer", "container_id", "bulkGetContainers"),
    "location": ("getLocation", "location_id", "bulkGetLocations"),
    "plate": ("getPlate", "plate_id", "bulkGetPlates"),
}


def _directory_operations() -> list[Operation]:
    operations: list[Operation] = []
    for link_type, (operation, parameter, bulk) in _READ_OPERATIONS.items():
        kind = KINDS[link_type]
        edge = apps.reader(kind, operation, parameter)
        operations.append(Operation(operation, "GET", f"/{kind.path}/{{{parameter}}}", edge, parameter))
        if bulk is not None:
            operations.append(Operation(bulk, "GET", f"/{kind.path}:bulk-get", apps.bulk_reader(kind, bulk)))
    return operations


ROUTES = Routes(
    [
        Operation("exportItem", "POST", "/exports", exports.start),
        Operation("getTask", "GET", "/tasks/{task_id}", exports.get_task, "task_id"),
        Operation("listEntries", "GET", "/entries", entries.list_entries),
        Operation("bulkGetEntries", "GET", "/entries:bulk-get", entries.bulk_get_entries),
        Operation("getEntry", "GET", "/entries/{entry_id}", entries.get_entry, "entry_id"),
        Operation("updateEntry", "PATCH", "/entries/{entry_id}", entries.update_entry, "entry_id"),
        Operation(
            "getExternalFileMetadata", "GET", "/entries/{entry_id}/external-files/{external_file_id}",
            entries.external_file, "entry_id",
        ),
        Operation("listEvents", "GET", "/events", entries.list_events),
        Operation("listAppCanvases", "GET", "/app-canvases", canvases.list_canvases),
        Operation("createAppCanvas", "POST", "/app-canvases", canvases.create),
        Operation("getAppCanvas", "GET", "/app-canvases/{canvas_id}", canvases.get, "canvas_id"),
        Operation("updateAppCanvas", "PATCH", "/app-canvases/{canvas_id}", canvases.update, "canvas_id"),
        Operation("archiveAppCanvases", "POST", "/app-canvases:archive", canvases.archive),
        Operation("unarchiveAppCanvases", "POST", "/app-canvases:unarchive", canvases.unarchive),
        Operation("listAppSessions", "GET", "/app-sessions", apps.list_sessions),
        Operation("createAppSession", "POST", "/app-sessions", apps.create_session),
        Operation("getAppSessionById", "GET", "/app-sessions/{id}", apps.get_session, "id"),
        Operation("updateAppSession", "PATCH", "/app-sessions/{id}", apps.update_session, "id"),
        Operation("getBenchlingAppByID", "GET", "/apps/{app_id}", apps.get_app, "app_id"),
        Operation("listAppConfigurationItems", "GET", "/app-configuration-items", apps.list_configuration),
        Operation(
            "getAppConfigurationItemById", "GET", "/app-configuration-items/{item_id}",
            apps.get_configuration, "item_id",
        ),
        Operation("listFolders", "GET", "/folders", apps.list_folders),
        Operation("listUsers", "GET", "/users", apps.list_users),
        *_directory_operations(),
    ]
)  # fmt: skip
