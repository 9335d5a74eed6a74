"""What the end-to-end tests do and look at, as a person would: Benchling, kubectl, S3 and SQS."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from entrypackage.identity import object_name
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from sandbox.composition import Sandbox
    from sandbox.simulator.control import TenantControl

Json = dict[str, Any]

PACKAGER = "app.kubernetes.io/component=packager"
ORDER = "app.kubernetes.io/component=order"


@dataclass(frozen=True)
class Scene:
    """The running product."""

    sandbox: Sandbox
    benchling: TenantControl

    async def kubectl(self, *arguments: str) -> str:
        """Run kubectl in the product's namespace."""
        return await self.sandbox.kubectl(*arguments)

    async def package(self, entry: Json) -> Json | None:
        """Return the entry's EntryPackage, or None."""
        text = await self.kubectl("get", "epkg", object_name(entry["id"]), "-o", "json", "--ignore-not-found")
        found: Json | None = json.loads(text) if text.strip() else None
        return found

    async def until(self, what: str, look: Callable[[], Awaitable[Any]]) -> Any:
        """Look until something true is seen; fail with `what` when it takes too long."""

        async def seen() -> Any:
            return await look() or None

        try:
            return await until(seen, what)
        except AssertionError as error:
            state = await self.kubectl("get", "epkg,jobs,pods", "-o", "wide")
            raise AssertionError(f"{error}:\n{state}") from None

    async def packaged(self, entry: Json, *, event: str | None = None, request: str | None = None) -> Json:
        """Wait until the entry is Ready, having taken that event or request; return its object."""

        async def look() -> Json | None:
            found = await self.package(entry)
            taken = (found or {}).get("status", {}).get("taken", {})
            served = (event is None or taken.get("eventId") == event) and (
                request is None or taken.get("requestId") == request
            )
            return found if found is not None and served and condition(found, "Ready")["status"] == "True" else None

        seen: Json = await self.until(f"the package of {entry['displayId']}", look)
        return seen

    async def because(self, entry: Json, reason: str) -> Json:
        """Wait until Ready has that reason; return the object."""

        async def look() -> Json | None:
            found = await self.package(entry)
            return found if found is not None and condition(found, "Ready").get("reason") == reason else None

        seen: Json = await self.until(f"{reason} of {entry['displayId']}", look)
        return seen

    async def newest_event(self, entry: Json) -> str:
        """Return the id of the newest event that Benchling has sent of the entry."""
        sent = [item["message"] for item in await self.benchling.webhooks(subject=entry["id"])]
        newest = max((message for message in sent if "createdAt" in message), key=lambda item: str(item["createdAt"]))
        return str(newest["id"])

    async def exports(self, entry: Json) -> int:
        """Return how often an export of the entry has been asked for."""
        counters = await self.benchling.counters()
        return int(counters["exports"]["byEntry"].get(entry["id"], 0))

    async def objects(self, entry: Json) -> dict[str, bytes]:
        """Return the entry's package: content by name under the prefix."""
        prefix, bucket = f"benchling/{entry['displayId']}/", self.sandbox.aws.bucket
        client = self.sandbox.aws.s3_client()

        def read() -> dict[str, bytes]:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
            keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
            return {key.removeprefix(prefix): client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}

        return await asyncio.to_thread(read)

    async def messages(self, entry: Json) -> list[Json]:
        """Take all messages from the queue; return those of the entry's package."""
        client, url = self.sandbox.aws.sqs_client(), self.sandbox.aws.queue_url

        def take() -> list[Json]:
            taken: list[Json] = []
            while found := client.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
                for message in found:
                    taken.append(json.loads(message["Body"]))
                    client.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            return taken

        name = f"benchling/{entry['displayId']}"
        return [message for message in await asyncio.to_thread(take) if message["package_name"] == name]

    async def metrics(self) -> dict[str, str]:
        """Return what each pod of the programs says of itself at /metrics, by the pod's name."""
        listed = json.loads(await self.kubectl("get", "pods", "-l", "!batch.kubernetes.io/job-name", "-o", "json"))
        found = {}
        async with httpx.AsyncClient(trust_env=False) as client:
            for pod in listed["items"]:
                port = pod["spec"]["containers"][0]["ports"][0]["containerPort"]
                answer = await client.get(f"http://{pod['status']['podIP']}:{port}/metrics")
                found[pod["metadata"]["name"]] = answer.raise_for_status().text
        return found

    @asynccontextmanager
    async def slow_archives(self) -> AsyncIterator[None]:
        """Have all archives come slowly, so that a packager of a large one stays at work."""
        await self.benchling.set_fault("archive_slow")
        try:
            yield
        finally:
            await self.benchling.clear_faults("archive_slow")

    @asynccontextmanager
    async def no_packager_starts(self) -> AsyncIterator[None]:
        """Keep the pods of packagers Pending, so that what is made for them can be looked at."""
        async with httpx.AsyncClient(base_url=self.sandbox.fargate["control"], trust_env=False) as node:
            (await node.put("/faults", json={"never_start": ["*/epkg-*"]})).raise_for_status()
            try:
                yield
            finally:
                (await node.put("/faults", json={})).raise_for_status()

    async def nothing_left(self, entry: Json) -> None:
        """Wait until no Job, pod or order of the entry's object is left."""
        found = await self.package(entry)
        owner = f",benchling.quilt.bio/owner-uid={found['metadata']['uid']}" if found is not None else ""

        async def look() -> bool:
            jobs = await self.kubectl("get", "jobs,pods", "-l", PACKAGER + owner, "-o", "name")
            orders = await self.kubectl("get", "secrets", "-l", ORDER + owner, "-o", "name")
            return not jobs.strip() and not orders.strip()

        await self.until("an empty namespace", look)


def condition(package: Json, kind: str) -> Json:
    """Return a condition, an empty one if it is not there."""
    conditions = package.get("status", {}).get("conditions", [])
    return next((item for item in conditions if item["type"] == kind), {"status": "", "reason": ""})
