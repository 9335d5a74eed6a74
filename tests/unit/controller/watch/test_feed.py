"""The feed: what a full list concludes while the world goes on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from controller.reconciler.exports_in_flight import ExportsInFlight
from controller.watch.feed import Feed
from controller.watch.work_queue import WorkQueue
from entrypackage import identity
from entrypackage.kubernetes import ENTRY_PACKAGES, JOBS, SECRETS, Kind, Kubernetes, Object
from tests.support.situations import ENTRY, UID, attempt, package, with_attempt

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from entrypackage.resource import EntryPackage

NAME = identity.object_name(ENTRY)


class Cluster(Kubernetes):
    """Lists what it holds; something may happen right after a kind has been listed."""

    def __init__(self) -> None:
        self.held: dict[Kind, list[Object]] = {ENTRY_PACKAGES: [], JOBS: [], SECRETS: []}
        self.after: dict[Kind, Callable[[], None]] = {}
        self.deleted: list[str] = []

    async def pages(
        self, kind: Kind, namespace: str, *, labels: str = "", fields: str = "", metadata_only: bool = False
    ) -> AsyncIterator[Object]:
        for item in list(self.held[kind]):
            yield item
        if happens := self.after.get(kind):
            happens()

    async def delete(self, kind: Kind, namespace: str, name: str, *, uid: str | None = None) -> None:
        assert kind == SECRETS
        self.deleted.append(name)


def listed(thing: EntryPackage) -> Object:
    body: Object = thing.model_dump(mode="json", by_alias=True, exclude_none=True)
    return body


def order(number: int) -> Object:
    labels = {identity.LABEL_OWNER: UID, identity.LABEL_ATTEMPT: str(number)}
    return {"metadata": {"name": f"order-{number}", "uid": f"order-uid-{number}", "labels": labels}}


def feed_of(cluster: Cluster) -> tuple[Feed, WorkQueue]:
    queue = WorkQueue(time.monotonic)
    return Feed(cluster, "lab", queue, ExportsInFlight()), queue


async def test_a_full_list_removes_the_orders_of_attempts_that_are_over() -> None:
    cluster = Cluster()
    cluster.held[ENTRY_PACKAGES] = [listed(package(with_attempt(attempt(3))))]
    cluster.held[SECRETS] = [order(2), order(3)]
    feed, _ = feed_of(cluster)

    await feed.resync()

    assert cluster.deleted == ["order-2"]


async def test_a_full_list_keeps_the_order_of_an_attempt_that_began_while_it_was_read() -> None:
    cluster = Cluster()
    cluster.held[ENTRY_PACKAGES] = [listed(package())]
    cluster.after[ENTRY_PACKAGES] = lambda: cluster.held[SECRETS].append(order(1))
    feed, _ = feed_of(cluster)

    await feed.resync()

    assert cluster.deleted == []


async def test_an_object_that_was_made_while_the_list_was_read_is_visited_when_it_goes() -> None:
    cluster = Cluster()
    feed, queue = feed_of(cluster)
    cluster.after[ENTRY_PACKAGES] = lambda: feed.package_changed(listed(package()), deleted=False)
    await feed.resync()
    assert len(feed) == 1
    queue.done(await queue.take())

    feed.package_changed(listed(package()), deleted=True)

    assert await queue.take() == NAME
    assert len(feed) == 0


async def test_an_object_that_went_away_unnoticed_is_visited_once_more() -> None:
    cluster = Cluster()
    feed, queue = feed_of(cluster)
    feed.package_changed(listed(package()), deleted=False)
    queue.done(await queue.take())

    await feed.resync()

    assert await queue.take() == NAME
    assert len(feed) == 0
