"""Order Secrets: named, built, found, checked, deleted and swept."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from controller.decisions.jobs import build_job
from controller.reconciler.order_secrets import OrderSecrets, build_secrets, part_name, secret_name, volume_sources
from controller.settings import PackagerSettings
from entrypackage import identity
from entrypackage.failures import Failure, FailureClass
from entrypackage.kubernetes import JOBS, SECRETS, Kind, Object
from entrypackage.order import Archive, Destination, EncodedOrder, Order, Owner, decode_order, encode_order
from entrypackage.trigger import Taken
from tests.support.memory_cluster import Store
from tests.support.situations import ENTRY, TIMING, UID, attempt, event, package, with_attempt

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from entrypackage.resource import Attempt, EntryPackage

ADDRESS = "https://archive.example/export.zip?X-Amz-Signature=hidden"
STRANGER = "99999999-2222-3333-4444-555555555555"


class Cluster(Store):
    """Keeps Secrets and Jobs, lists them by their labels and deletes them by name and uid."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: list[Object] = []
        self.deleted: list[str] = []

    async def create(self, kind: Kind, namespace: str, body: Object) -> Object:
        created = json.loads(json.dumps(body))
        created["metadata"].setdefault("uid", f"uid of {body['metadata']['name']}")
        return await super().create(kind, namespace, created)

    async def pages(
        self, kind: Kind, namespace: str, *, labels: str = "", fields: str = "", metadata_only: bool = False
    ) -> AsyncIterator[Object]:
        assert metadata_only
        wanted = dict(pair.split("=") for pair in labels.split(","))
        for item in self.jobs if kind == JOBS else list(self.objects.values()):
            if wanted.items() <= item["metadata"]["labels"].items():
                yield {"metadata": item["metadata"]}

    async def delete(self, kind: Kind, namespace: str, name: str, *, uid: str | None = None) -> None:
        assert kind == SECRETS
        assert self.objects.pop(name)["metadata"]["uid"] == uid
        self.deleted.append(name)


def encoded_order(number: int = 1, **changes: Any) -> EncodedOrder:
    """Return an order in several parts."""
    order = Order(
        owner=Owner(namespace="lab", name="etr", uid=UID),
        attempt=number,
        trigger=event(),
        taken=Taken(event_id="evt_1"),
        entry={"id": ENTRY, **changes},
        benchling_base_url="https://example.benchling.com",
        archive=Archive(url=SecretStr(ADDRESS)),
        destination=Destination(bucket="bucket", prefix="benchling", display_id="EXP1", queue_url="https://sqs/q"),
    )
    return encode_order(order, part_bytes=100)


def recorded(encoded: EncodedOrder, number: int = 1) -> tuple[EntryPackage, Attempt]:
    """Return an EntryPackage whose status records that order."""
    current = attempt(number, order_digest=encoded.digest, order_parts=len(encoded.parts))
    return package(with_attempt(current), event=event()), current


async def written(cluster: Cluster, number: int) -> list[str]:
    """Write an order of that attempt and return the names of its Secrets."""
    encoded = encoded_order(number)
    before = set(cluster.objects)
    await OrderSecrets(cluster, "lab").write(*recorded(encoded, number), encoded)
    return [name for name in cluster.objects if name not in before]


def test_names_carry_uid_attempt_digest_and_part_within_63_characters() -> None:
    digest = "f" * 64
    assert secret_name(UID, 7, digest, 2) == "epkg-1111111122223333-a7-ffffffffff-2"
    assert len(secret_name(UID, 10**12, digest, 999)) <= 63


def test_part_names_sort_in_the_order_of_the_parts() -> None:
    names = [part_name(number) for number in range(1000)]
    assert sorted(names) == names


def test_the_secrets_carry_the_order_and_the_job_does_not() -> None:
    encoded = encoded_order()
    given, current = recorded(encoded)

    secrets = build_secrets(given, current, encoded)
    parts = [base64.b64decode(value) for secret in secrets for value in secret["data"].values()]
    packager = PackagerSettings(image="packager:1", service_account="packager")
    job = build_job(given, current, "there", volume_sources(given, current), packager, TIMING)

    assert len(secrets) > 2
    assert all(secret["immutable"] for secret in secrets)
    assert len({secret["metadata"]["name"] for secret in secrets}) == len(secrets)
    assert decode_order(parts, encoded.digest).archive.url.get_secret_value() == ADDRESS
    assert "hidden" not in json.dumps(job)
    assert "hidden" not in repr(encoded)


def test_the_volume_shows_every_part_that_is_written() -> None:
    encoded = encoded_order()
    given, current = recorded(encoded)

    sources = [source["secret"] for source in volume_sources(given, current)]

    assert [(source["name"], source["items"][0]["key"]) for source in sources] == [
        (secret["metadata"]["name"], next(iter(secret["data"]))) for secret in build_secrets(given, current, encoded)
    ]
    assert all(item["key"] == item["path"] for source in sources for item in source["items"])


async def test_an_order_is_complete_only_once_every_part_is_there() -> None:
    cluster, encoded = Cluster(), encoded_order()
    given, current = recorded(encoded)
    secrets = OrderSecrets(cluster, "lab")

    for body in build_secrets(given, current, encoded):
        assert not await secrets.is_complete(given, current)
        await cluster.create(SECRETS, "lab", body)
    assert await secrets.is_complete(given, current)
    assert not await secrets.is_complete(given, attempt(2, order_digest=encoded.digest, order_parts=1))


async def test_an_attempt_without_a_recorded_order_has_none_that_is_complete() -> None:
    assert not await OrderSecrets(Cluster(), "lab").is_complete(package(), attempt())


async def test_parts_that_an_earlier_controller_wrote_are_adopted() -> None:
    cluster, encoded = Cluster(), encoded_order()
    given, current = recorded(encoded)
    first, *_ = build_secrets(given, current, encoded)
    await cluster.create(SECRETS, "lab", first)

    await OrderSecrets(cluster, "lab").write(given, current, encoded)

    assert await OrderSecrets(cluster, "lab").is_complete(given, current)
    assert cluster.deleted == []


async def test_a_name_that_belongs_to_another_owner_is_a_failure() -> None:
    cluster, encoded = Cluster(), encoded_order()
    given, current = recorded(encoded)
    first, *_ = build_secrets(given, current, encoded)
    first["metadata"]["ownerReferences"][0]["uid"] = STRANGER
    await cluster.create(SECRETS, "lab", first)

    with pytest.raises(Failure, match="belongs to another") as raised:
        await OrderSecrets(cluster, "lab").write(given, current, encoded)

    assert raised.value.failure is FailureClass.INTERNAL


async def test_another_order_of_the_same_attempt_is_deleted_before_the_new_one_is_written() -> None:
    cluster, old, new = Cluster(), encoded_order(), encoded_order(name="changed")
    secrets = OrderSecrets(cluster, "lab")
    await secrets.write(*recorded(old), old)
    other_attempt = await written(cluster, 2)
    deleted_when_created: list[int] = []
    cluster.before_write = lambda: deleted_when_created.append(len(cluster.deleted))

    await secrets.write(*recorded(new), new)

    assert cluster.deleted == [body["metadata"]["name"] for body in build_secrets(*recorded(old), old)]
    assert set(deleted_when_created) == {len(old.parts)}
    assert set(other_attempt) < set(cluster.objects)


async def test_only_the_secrets_of_the_named_attempt_are_deleted() -> None:
    cluster = Cluster()
    first, second = await written(cluster, 1), await written(cluster, 2)

    await OrderSecrets(cluster, "lab").delete(package(), 1)

    assert cluster.deleted == first
    assert list(cluster.objects) == second


@pytest.mark.parametrize("kept_by", ["in use", "a Job", "an unreadable owner"])
async def test_a_sweep_keeps_what_may_be_needed(kept_by: str) -> None:
    cluster = Cluster()
    unused, needed = await written(cluster, 1), await written(cluster, 2)
    if kept_by == "a Job":
        labels = {
            identity.LABEL_MANAGED_BY: identity.MANAGED_BY,
            identity.LABEL_OWNER: UID,
            identity.LABEL_ATTEMPT: "2",
        }
        cluster.jobs = [{"metadata": {"name": "job", "labels": labels}}]
    in_use = {(UID, 2)} if kept_by == "in use" else set()
    owners = set() if kept_by == "an unreadable owner" else {UID}
    secrets = OrderSecrets(cluster, "lab")

    await secrets.sweep(await secrets.list_all(), in_use, owners)

    assert cluster.deleted == ([] if kept_by == "an unreadable owner" else unused)
    assert set(needed) <= set(cluster.objects)


async def test_a_sweep_touches_nothing_that_was_written_after_the_list() -> None:
    cluster = Cluster()
    secrets = OrderSecrets(cluster, "lab")
    before = await secrets.list_all()
    await written(cluster, 1)

    await secrets.sweep(before, set(), {UID})

    assert cluster.deleted == []
