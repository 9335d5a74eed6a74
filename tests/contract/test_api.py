"""Every operation that is used: generated requests, each answer held against the published file."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.config import CoveragePhaseConfig, PhasesConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from sandbox.simulator.api.operations import ROUTES
from sandbox.simulator.sessions import LONGEST
from tests.contract import conftest
from tests.support.benchling_specification import api_slice
from tests.support.used_operations import SERVED_TOO, UNDECLARED, USED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.furnished_tenant import Tenant

OPERATIONS = frozenset(USED) | SERVED_TOO
_PHASES = PhasesConfig(coverage=CoveragePhaseConfig(unexpected_methods={"PUT"}))
_CONFIG = SchemathesisConfig(projects=ProjectsConfig(default=ProjectConfig(phases=_PHASES)))
SCHEMA = schemathesis.openapi.from_dict(api_slice(OPERATIONS), config=_CONFIG)
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
_TURNS: Counter[str] = Counter()
_BULK = {
    "requestIds": "request_id", "customEntityIds": "custom_entity_id", "aaSequenceIds": "aa_sequence_id",
    "dnaSequenceIds": "dna_sequence_id", "boxIds": "box_id", "containerIds": "container_id",
    "locationIds": "location_id", "plateIds": "plate_id", "entryIds": "entry_id", "ids": "entry_id",
    "resourceId": "entry_id", "projectId": "project_id", "startingAfter": "event_id", "appId": "app_id",
}  # fmt: skip
_FINAL = ("SUCCEEDED", "FAILED", "COMPLETED_WITH_WARNINGS")
_LENIENT = {
    "listEntries", "listEvents", "listFolders", "listUsers", "listAppCanvases", "listAppSessions",
    "listAppConfigurationItems", "updateEntry",
}  # fmt: skip
"""Operations that take what the file calls invalid: a filter's odd value, a query parameter that isn't there, a field's
unit. All others must refuse it, or our own mistakes would pass."""
_BODY = {"id": "entry_id", "appId": "app_id", "resourceId": "entry_id"}


def test_the_table_names_what_is_served() -> None:
    served = {operation.id for operation in ROUTES.operations} | {"generateToken"}
    assert served == OPERATIONS


@cache
def _session() -> requests.Session:
    return requests.Session()


@cache
def _headers(tenant_api: str, client: str, secret: str) -> dict[str, str]:
    answer = httpx.post(f"{tenant_api}/token", data={"grant_type": "client_credentials"}, auth=(client, secret))
    return {"authorization": f"Bearer {answer.json()['access_token']}"}


def _furnish(case: schemathesis.Case[Any], tenant: Tenant, turn: int) -> None:
    """Put ids that exist into a generated request: without them every answer would be a refusal."""
    known = tenant.known
    for name in list(case.path_parameters):
        if known.get(name):
            case.path_parameters[name] = known[name][turn % len(known[name])]
    query = case.query
    for name in list(query):
        if name in ("returning", "nextToken", "displayIds", "barcodes") and turn % 4:
            query.pop(name)
        elif name in _BULK:
            query[name] = known[_BULK[name]][turn % len(known[_BULK[name]])]
    if case.operation.definition.raw["operationId"].startswith("bulkGet") and not query.keys() & _BULK.keys():
        names = {parameter["name"] for parameter in case.operation.definition.raw["parameters"]}
        name = next(iter(names & _BULK.keys()))
        case.query = {**query, name: known[_BULK[name]][0]}
    if isinstance(case.body, dict):
        _furnish_body(case.body, tenant, turn)


def _furnish_body(body: dict[str, Any], tenant: Tenant, turn: int) -> None:
    """The same for a body; what is invalid in it stays invalid, because refusing it is tested too."""
    for name in _BODY.keys() & body.keys():
        if isinstance(body[name], str):
            body[name] = tenant.known[_BODY[name]][turn % len(tenant.known[_BODY[name]])]
    if body.get("featureId") == "":
        body["featureId"] = "feature"
    ids = body.get("canvasIds")
    if isinstance(ids, list) and all(isinstance(item, str) for item in ids):
        body["canvasIds"] = tenant.known["canvas_id"][:1]
    if isinstance(body.get("sessionId"), str):
        body["sessionId"] = tenant.known["id"][0]
    if isinstance(body.get("data"), str):
        body["data"] = json.dumps({"text": body["data"]})
    if body.get("grant_type"):
        body["grant_type"] = "client_credentials"
    if turn % 4 and body.get("status") in _FINAL:
        # A final status closes the session for good; most cases are to find it open.
        del body["status"]
    timeout = body.get("timeoutSeconds")
    if turn % 4 and "appId" not in body and isinstance(timeout, int) and 1 <= timeout <= LONGEST:
        body["timeoutSeconds"] = LONGEST


def _envelope(response: Any) -> None:
    """An answer that the file doesn't declare has at least the documented error envelope."""
    error = response.json()["error"]
    assert {"type", "message", "userMessage"} <= error.keys()


@pytest.fixture
def statuses() -> Iterator[list[int]]:
    """What one operation's cases were answered: a contract that only refusals are held against would prove nothing."""
    seen: list[int] = []
    yield seen
    assert [status for status in seen if status < 300], "no generated request had a good answer"


@SCHEMA.parametrize()
@settings(
    max_examples=20, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)  # fmt: skip
def test_operation(case: schemathesis.Case[Any], tenant: Tenant, statuses: list[int]) -> None:
    """Generated requests, three of four with ids that exist; at least one of an operation has a good answer."""
    ready, operation = tenant.ready, case.operation.definition.raw["operationId"]
    turn = _TURNS[operation]
    _TURNS[operation] += 1
    if turn % 4:
        _furnish(case, tenant, turn)
    headers = _headers(ready["api"], ready["clientId"], ready["clientSecret"])
    if operation == "generateToken":
        headers = {}
        if isinstance(case.body, dict) and turn % 2:
            case.body |= {"client_id": ready["clientId"], "client_secret": ready["clientSecret"]}
    response = case.call(base_url=ready["api"], headers=headers, session=_session())
    statuses.append(response.status_code)
    conftest.CASES[operation] += 1
    conftest.SUCCESSES[operation] += response.status_code < 300
    if operation not in _LENIENT:
        case.validate_response(response, checks=[negative_data_rejection])
    if response.status_code in UNDECLARED.get(operation, set()):
        _envelope(response)
        return
    if response.status_code == 405 and case.method.upper() != case.operation.method.upper():
        return
    case.validate_response(response, checks=CHECKS)
