"""Which of Benchling's operations the product uses, and what the published file leaves out about them."""

from __future__ import annotations

USED: dict[str, str] = {
    "generateToken": "every call",
    "exportItem": "exports",
    "getTask": "polling",
    "getEntry": "the order",
    "listEntries": "sweep and backfill",
    "bulkGetEntries": "names of linked entries",
    "getExternalFileMetadata": "what is missing in an archive",
    "listEvents": "gaps in the webhooks",
    "listAppCanvases": "the canvas of an entry",
    "createAppCanvas": "canvases",
    "getAppCanvas": "canvases",
    "updateAppCanvas": "canvases",
    "archiveAppCanvases": "canvases",
    "createAppSession": "progress in the UI",
    "updateAppSession": "progress in the UI",
    "getBenchlingAppByID": "start-up check",
    "getFolder": "filters",
    "listFolders": "filters, names",
    "getUser": "names",
    "listUsers": "names",
    "getCustomEntity": "names",
    "bulkGetCustomEntities": "names",
    "getAASequence": "names",
    "bulkGetAASequences": "names",
    "getDNASequence": "names",
    "bulkGetDNASequences": "names",
    "getBox": "names",
    "bulkGetBoxes": "names",
    "getContainer": "names",
    "bulkGetContainers": "names",
    "getLocation": "names",
    "bulkGetLocations": "names",
    "getPlate": "names",
    "bulkGetPlates": "names",
}
"""Operation id -> what it is used for; `tests/contract/test_used_operations.py` proves that there are no others."""

SERVED_TOO = {
    "updateEntry",
    "unarchiveAppCanvases",
    "listAppSessions",
    "listAppConfigurationItems",
    "getAppConfigurationItemById",
    "getProject",
    "getAppSessionById",
    "getRequest",
    "bulkGetRequests",
}
"""What only the simulator's own users need."""

UNDECLARED: dict[str, set[int]] = {
    "updateEntry": {400, 404},
    "getExternalFileMetadata": {404},
    "updateAppCanvas": {400},
    "listFolders": {400},
    "unarchiveAppCanvases": {403, 404},
}
"""Answers that an operation must have although the published file names only its good one."""
