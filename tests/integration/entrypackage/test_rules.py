"""The rules of the resource on a real API server: what it takes, what it refuses, and the sentence it refuses with."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from entrypackage.identity import object_name
from entrypackage.kubernetes import (
    ENTRY_PACKAGES,
    AlreadyExistsError,
    ConfigurationError,
    ConflictError,
    InvalidError,
    Kind,
    Kubernetes,
    KubernetesError,
    NotFoundError,
    Object,
    UnreachableError,
)
from entrypackage.resource import EntryPackage, Status
from entrypackage.trigger import MESSAGE_CHARS

if TYPE_CHECKING:
    import httpx

ENTRY = "etr_Ab12"
NAME = object_name(ENTRY)
EVENT = {"id": "evt_1", "type": "v2.entry.created", "occurredAt": "2026-01-31T12:00:00Z"}


def manifest(**spec: Any) -> Object:
    return {
        "apiVersion": "benchling.quilt.bio/v1alpha1",
        "kind": "EntryPackage",
        "metadata": {"name": NAME},
        "spec": {"entryId": ENTRY, **spec},
    }


async def create(kubernetes: Kubernetes, namespace: str, **spec: Any) -> Object:
    return await kubernetes.create(ENTRY_PACKAGES, namespace, manifest(**spec))


async def change(kubernetes: Kubernetes, namespace: str, *operations: Object) -> Object:
    return await kubernetes.json_patch(ENTRY_PACKAGES, namespace, NAME, list(operations))


def put(path: str, value: object) -> Object:
    return {"op": "add", "path": path, "value": value}


async def test_an_entry_id_is_fixed(kubernetes: Kubernetes, namespace: str) -> None:
    await create(kubernetes, namespace)
    await change(kubernetes, namespace, put("/spec/entryId", ENTRY))
    with pytest.raises(InvalidError, match=r"spec\.entryId cannot be changed: delete the object instead"):
        await change(kubernetes, namespace, put("/spec/entryId", "etr_other"))


async def test_an_event_cannot_be_removed_but_a_request_can(kubernetes: Kubernetes, namespace: str) -> None:
    await create(kubernetes, namespace, request=EVENT)
    await change(kubernetes, namespace, {"op": "remove", "path": "/spec/request"})
    await change(kubernetes, namespace, put("/spec/event", EVENT))
    with pytest.raises(InvalidError, match=r"spec\.event cannot be removed: it says what the package must cover"):
        await change(kubernetes, namespace, {"op": "remove", "path": "/spec/event"})


async def test_an_event_only_moves_forward_in_time(kubernetes: Kubernetes, namespace: str) -> None:
    await create(kubernetes, namespace, event=EVENT)
    later = EVENT | {"id": "evt_2", "occurredAt": "2026-01-31T13:00:00.5+01:00"}
    await change(kubernetes, namespace, put("/spec/event", later))
    await change(kubernetes, namespace, put("/spec/suspend", True))
    for occurred_at in ("2026-01-31T12:00:00.5Z", "2026-01-31T12:00:00.400Z", "2025-01-31T12:00:00Z"):
        with pytest.raises(InvalidError, match=r"spec\.event only moves forward: its occurredAt must be later"):
            await change(kubernetes, namespace, put("/spec/event", EVENT | {"occurredAt": occurred_at}))
    # A person's clock is compared with nothing.
    await change(kubernetes, namespace, put("/spec/request", EVENT))
    await change(kubernetes, namespace, put("/spec/request", EVENT | {"occurredAt": "2020-01-31T12:00:00Z"}))


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ({"entryId": ""}, r"spec\.entryId.*should be at least 1 chars long"),
        ({"entryId": "x" * 129}, r"spec\.entryId: Too long"),
        ({"event": {"id": "a", "type": "b"}}, r"spec\.event\.occurredAt: Required value"),
        ({"event": EVENT | {"occurredAt": "yesterday"}}, r"spec\.event\.occurredAt.*date-time"),
        ({"event": EVENT | {"type": "two words"}}, r"spec\.event\.type"),
        ({"event": EVENT | {"message": "x" * (MESSAGE_CHARS + 1)}}, r"spec\.event\.message: Too long"),
        ({"suspend": "yes"}, r"spec\.suspend.*boolean"),
    ],
)
async def test_a_wrong_spec_is_refused_by_name(
    kubernetes: Kubernetes, namespace: str, spec: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InvalidError, match=sentence):
        await create(kubernetes, namespace, **spec)


@pytest.mark.parametrize(
    "occurred_at",
    [
        "2026-01-31T12:00:00Z",
        "2026-01-31t12:00:00z",
        "1000-01-01T00:00:00+14:00",
        "2999-12-31T23:59:59-14:59",
        "2026-01-31T12:00:00.1234567891+05:30",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "2026-01-31T12:00:00+99:00",
        "2026-01-31T12:00:00+10:61",
        "2026-01-31T12:00:00",
        "2026-01-31",
    ],
)
async def test_a_time_that_the_api_server_takes_can_be_read(
    kubernetes: Kubernetes, namespace: str, occurred_at: str
) -> None:
    try:
        made = await create(kubernetes, namespace, request=EVENT | {"occurredAt": occurred_at})
    except InvalidError as error:
        assert "spec.request.occurredAt" in str(error)  # noqa: PT017 - both endings are right
    else:
        assert EntryPackage.model_validate(made).spec.request is not None


async def test_a_misspelt_member_is_refused(kubernetes: Kubernetes, namespace: str) -> None:
    with pytest.raises(KubernetesError, match=r'unknown field "spec\.evnet"') as caught:
        await create(kubernetes, namespace, evnet=EVENT)
    assert caught.value.status == 400


async def test_the_longest_message_is_taken_whatever_its_letters(kubernetes: Kubernetes, namespace: str) -> None:
    made = await create(kubernetes, namespace, event=EVENT | {"message": "é" * MESSAGE_CHARS})
    assert EntryPackage.model_validate(made).spec.event is not None


async def test_what_the_models_write_the_api_server_keeps(kubernetes: Kubernetes, namespace: str) -> None:
    made = await create(kubernetes, namespace, event=EVENT)
    now = datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)
    status = Status.model_validate(
        {
            "observedGeneration": 1,
            "attempts": 3,
            "taken": {"eventId": "evt_1"},
            "pending": {"since": now},
            "conditions": [
                {"type": "Ready", "status": "True", "reason": "Packaged", "lastTransitionTime": now, "message": "ö"}
            ],
            "attempt": {"number": 3, "trigger": EVENT, "startedAt": now, "failure": "AnswerUnreadable"},
            "package": {
                "uri": "s3://b/p/", "files": 7, "bytes": 1, "size": "1 B", "manifestChecksum": "c", "completedAt": now
            },
        }
    )  # fmt: skip
    body = copy.deepcopy(made)
    body["status"] = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    kept = await kubernetes.replace_status(ENTRY_PACKAGES, namespace, NAME, body)
    assert EntryPackage.model_validate(kept).status == status
    assert kept["metadata"]["generation"] == made["metadata"]["generation"]


async def test_each_refusal_has_its_class(kubernetes: Kubernetes, namespace: str) -> None:
    with pytest.raises(NotFoundError):
        await kubernetes.get(ENTRY_PACKAGES, namespace, NAME)
    with pytest.raises(NotFoundError):
        await change(kubernetes, namespace, put("/spec/suspend", True))
    made = await create(kubernetes, namespace)
    with pytest.raises(AlreadyExistsError):
        await create(kubernetes, namespace)
    with pytest.raises(InvalidError):
        await change(kubernetes, namespace, {"op": "test", "path": "/spec/entryId", "value": "other"})
    await change(kubernetes, namespace, put("/spec/suspend", True))
    with pytest.raises(ConflictError):
        await kubernetes.replace(ENTRY_PACKAGES, namespace, NAME, made)
    with pytest.raises(ConflictError):
        await kubernetes.delete(ENTRY_PACKAGES, namespace, NAME, uid="another")
    await kubernetes.delete(ENTRY_PACKAGES, namespace, NAME, uid=made["metadata"]["uid"])
    await kubernetes.delete(ENTRY_PACKAGES, namespace, NAME)
    with pytest.raises(NotFoundError):
        await kubernetes.list_all(Kind("apis/benchling.quilt.bio/v1alpha1", "nosuchthings"), namespace)


async def test_lists_come_whole_however_many_pages(kubernetes: Kubernetes, namespace: str) -> None:
    for number in range(3):
        body = manifest()
        body["metadata"]["name"], body["spec"]["entryId"] = f"e{number}", f"etr_{number}"
        await kubernetes.create(ENTRY_PACKAGES, namespace, body)
    whole = await kubernetes.list_all(ENTRY_PACKAGES, namespace)
    assert [item["metadata"]["name"] for item in whole] == ["e0", "e1", "e2"]
    one = await kubernetes.list_all(ENTRY_PACKAGES, namespace, fields="spec.entryId=etr_1")
    assert [item["metadata"]["name"] for item in one] == ["e1"]
    bare = [item async for item in kubernetes.pages(ENTRY_PACKAGES, namespace, metadata_only=True)]
    assert [item.get("spec") for item in bare] == [None] * 3


async def test_a_write_can_be_prevented(kubernetes: Kubernetes, namespace: str) -> None:
    class TooLateError(Exception):
        pass

    def prevent() -> None:
        raise TooLateError

    guarded = kubernetes.guarded(prevent)
    with pytest.raises(TooLateError):
        await create(guarded, namespace)
    assert await guarded.list_all(ENTRY_PACKAGES, namespace) == []


async def test_nobody_there_is_unreachable_and_names_no_secret(control_plane: Any, tmp_path: Any) -> None:
    text = control_plane.kubeconfig.read_text().replace(control_plane.server, "https://127.0.0.1:1")
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    async with await Kubernetes.connect(str(path)) as nobody:
        with pytest.raises(UnreachableError) as caught:
            await nobody.get(ENTRY_PACKAGES, "default", NAME)
    assert control_plane.token not in str(caught.value)


async def test_a_missing_kubeconfig_is_one_sentence(tmp_path: Any) -> None:
    with pytest.raises(ConfigurationError, match="there is no kubeconfig"):
        await Kubernetes.connect(str(tmp_path / "none"))


async def test_the_definition_is_served_as_generated(api: httpx.AsyncClient) -> None:
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/entrypackages.benchling.quilt.bio"
    conditions = (await api.get(path)).raise_for_status().json()["status"]["conditions"]
    said = {condition["type"]: condition["status"] for condition in conditions}
    assert said["Established"] == "True"
    assert said.get("NonStructuralSchema", "False") == "False"
