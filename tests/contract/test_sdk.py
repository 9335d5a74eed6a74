"""The real SDK against the simulator, for every endpoint that it has a call for."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from benchling_sdk.apps.canvas.framework import CanvasBuilder
from benchling_sdk.apps.framework import App
from benchling_sdk.apps.status.framework import new_session_context
from benchling_sdk.auth.api_key_auth import ApiKeyAuth
from benchling_sdk.auth.client_credentials_oauth2 import ClientCredentialsOAuth2
from benchling_sdk.benchling import Benchling
from benchling_sdk.errors import AppSessionClosedError, BenchlingError
from benchling_sdk.helpers.retry_helpers import RetryStrategy
from benchling_sdk.helpers.serialization_helpers import fields
from benchling_sdk.models import (
    AppCanvasCreate,
    AppCanvasUpdate,
    AppSessionCreate,
    AppSessionUpdate,
    AppSessionUpdateStatus,
    AsyncTaskStatus,
    ButtonUiBlock,
    ButtonUiBlockType,
    EntryUpdate,
    ExportItemRequest,
    MarkdownUiBlock,
    MarkdownUiBlockType,
)

if TYPE_CHECKING:
    from tests.support.furnished_tenant import Tenant

BULK = {
    "custom_entity": "custom_entities",
    "aa_sequence": "aa_sequences",
    "dna_sequence": "dna_sequences",
    "box": "boxes",
    "container": "containers",
    "location": "locations",
    "plate": "plates",
}


def _id(model: Any) -> str:
    """The id of one of the SDK's models, whichever of a union it is."""
    return str(model.id)


@pytest.fixture
def benchling(tenant: Tenant) -> Benchling:
    ready = tenant.ready
    login = ClientCredentialsOAuth2(ready["clientId"], ready["clientSecret"], f"{ready['api']}/token")
    return Benchling(url=ready["tenant"], auth_method=login, retry_strategy=RetryStrategy.no_retries())


def test_wrong_secret(tenant: Tenant) -> None:
    login = ClientCredentialsOAuth2(tenant.ready["clientId"], "wrong", f"{tenant.ready['api']}/token")
    with pytest.raises(BenchlingError) as caught:
        Benchling(url=tenant.ready["tenant"], auth_method=login).entries.get_entry_by_id("etr_x")
    assert caught.value.status_code == 401


def test_api_key(tenant: Tenant) -> None:
    benchling = Benchling(url=tenant.ready["tenant"], auth_method=ApiKeyAuth("sk_LEAKMARK_key"))
    assert benchling.entries.get_entry_by_id(tenant.known["entry_id"][0]).id == tenant.known["entry_id"][0]


def test_export_to_archive(benchling: Benchling, tenant: Tenant) -> None:
    entry_id = tenant.known["entry_id"][0]
    link = benchling.exports.export(ExportItemRequest(id=entry_id))
    task = benchling.tasks.wait_for_task(link.task_id)
    assert task.status == AsyncTaskStatus.SUCCEEDED
    assert task.response is not None
    answer = httpx.get(task.response["downloadURL"])
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    assert archive.testzip() is None
    assert len(archive.namelist()) == 3
    leaking = benchling.client.httpx_client.get(task.response["downloadURL"])
    assert leaking.status_code == 400, "the SDK's client carries the token: the object store refuses it"


def test_entries(benchling: Benchling, tenant: Tenant) -> None:
    ids = tenant.known["entry_id"]
    entry = benchling.entries.get_entry_by_id(ids[0])
    listed = [row for rows in benchling.entries.list_entries(page_size=1, sort="modifiedAt:asc") for row in rows]
    assert {row.id for row in listed} >= set(ids)
    assert [row.modified_at for row in listed] == sorted(row.modified_at for row in listed)
    found = benchling.entries.bulk_get_entries(entry_ids=ids)
    assert found is not None
    assert {row.id for row in found} == set(ids)
    changed = benchling.entries.update_entry(ids[0], EntryUpdate(fields=fields({"Batch": {"value": "B-9"}})))
    assert changed.modified_at > entry.modified_at
    since = f"> {entry.modified_at}"
    newer = [row.id for rows in benchling.entries.list_entries(modified_at=since) for row in rows]
    assert newer[0] == ids[0], "the newest first"


def test_external_file(benchling: Benchling, tenant: Tenant) -> None:
    entry_id, file_id = tenant.known["entry_id"][0], tenant.known["external_file_id"][0]
    found = benchling.entries.get_external_file(entry_id, file_id)
    content = httpx.get(found.download_url).content
    assert len(content) == found.size
    link = benchling.exports.export(ExportItemRequest(id=entry_id))
    task = benchling.tasks.wait_for_task(link.task_id)
    assert task.response is not None
    archive = zipfile.ZipFile(io.BytesIO(httpx.get(task.response["downloadURL"]).content))
    assert archive.read("plate.csv") == content, "the file and the archive's member are the same bytes"


def test_events(benchling: Benchling, tenant: Tenant) -> None:
    events = [_id(event) for rows in benchling.events.list(page_size=2) for event in rows]
    assert len(set(events)) == len(events) >= 7
    after = [_id(e) for rows in benchling.events.list(starting_after=events[2]) for e in rows]
    assert after[: len(events) - 3] == events[3:]


def test_unknown_ids(benchling: Benchling) -> None:
    with pytest.raises(BenchlingError) as caught:
        benchling.entries.get_entry_by_id("etr_nothere")
    assert caught.value.status_code == 404
    with pytest.raises(BenchlingError) as refused:
        benchling.entries.bulk_get_entries(entry_ids=["etr_nothere"])
    said: Any = refused.value.json
    assert said["invalidIds"] == ["etr_nothere"]


@pytest.mark.parametrize(("kind", "service"), list(BULK.items()))
def test_names_of_linked_objects(benchling: Benchling, tenant: Tenant, kind: str, service: str) -> None:
    identifier = tenant.known[f"{kind}_id"][0]
    assert getattr(benchling, service).get_by_id(identifier).name
    bulk_get = getattr(benchling, service).bulk_get
    by_name = kind in ("box", "container", "location", "plate")
    found = bulk_get(**{f"{kind}_ids": [identifier]}) if by_name else bulk_get([identifier])
    assert [item.id for item in found] == [identifier]


def test_people_folders_projects_requests(benchling: Benchling, tenant: Tenant) -> None:
    known = tenant.known
    assert benchling.users.get_by_id(known["user_id"][0]).name
    assert benchling.folders.get_by_id(known["folder_id"][0]).name
    assert benchling.projects.get_by_id(known["project_id"][0]).name
    assert benchling.legacy_requests.get_by_id(known["request_id"][0]).display_id
    assert known["folder_id"][0] in [folder.id for rows in benchling.folders.list() for folder in rows]


def test_app(benchling: Benchling, tenant: Tenant) -> None:
    assert benchling.apps.get_by_id(tenant.ready["appId"]).id == tenant.ready["appId"]
    items = [item for rows in benchling.apps.list_app_configuration_items() for item in rows]
    assert {_id(item) for item in items} == {"aci_bucket", "aci_prefix"}
    assert benchling.apps.get_app_configuration_item_by_id("aci_bucket").value == "entries"


def test_canvas_round_trip(benchling: Benchling, tenant: Tenant) -> None:
    blocks: list[Any] = [
        MarkdownUiBlock(type=MarkdownUiBlockType.MARKDOWN, value="# A package"),
        ButtonUiBlock(type=ButtonUiBlockType.BUTTON, id="update", text="Update", enabled=True),
    ]
    order = AppCanvasCreate(
        app_id=tenant.ready["appId"], feature_id="f", resource_id=tenant.known["entry_id"][1], blocks=blocks
    )
    canvas = benchling.apps.create_canvas(order)
    tenant.act("click", canvas=canvas.id, button="update")
    clicked = benchling.apps.get_canvas_by_id(canvas.id)
    assert clicked.enabled is False
    builder = CanvasBuilder.from_canvas(clicked).with_enabled().with_data({"page": 2})
    changed = benchling.apps.update_canvas(canvas.id, builder.to_update())
    assert changed.enabled is True
    assert changed.data == '{"page": 2}'
    assert len(changed.blocks) == 2
    assert benchling.apps.update_canvas(canvas.id, AppCanvasUpdate(data=None)).data is None
    twice = AppCanvasUpdate(blocks=[blocks[1], blocks[1]])
    with pytest.raises(BenchlingError) as caught:
        benchling.apps.update_canvas(canvas.id, twice)
    assert caught.value.status_code == 400
    listed = benchling.api.get_response(f"/api/v2/app-canvases?resourceId={tenant.known['entry_id'][1]}&featureId=f")
    assert b'"nextToken": ""' in listed.content
    assert canvas.id.encode() in listed.content


def test_sessions(benchling: Benchling, tenant: Tenant) -> None:
    order = AppSessionCreate(app_id=tenant.ready["appId"], name="a session", timeout_seconds=60)
    session = benchling.apps.create_session(order)
    closing = AppSessionUpdate(status=AppSessionUpdateStatus.SUCCEEDED)
    assert benchling.apps.update_session(session.id, closing).status.value == "SUCCEEDED"
    with pytest.raises(AppSessionClosedError):
        benchling.apps.update_session(session.id, AppSessionUpdate(messages=[]))
    app = App(tenant.ready["appId"], benchling)
    with new_session_context(app, "another", timeout_seconds=60) as context:
        context.close_session(AppSessionUpdateStatus.SUCCEEDED)
