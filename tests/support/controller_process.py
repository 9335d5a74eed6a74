"""Controllers as processes of their own, between an API server and a Benchling that the test has in its hand."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import yaml

from entrypackage.identity import LEASE_NAME, object_name
from sandbox import aws
from tests.support.paths import ROOT
from tests.support.waiting import PATIENCE_SECONDS, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import httpx

    from sandbox.controlplane import Address
    from sandbox.processes import Child, Run
    from sandbox.simulator.control import TenantControl
    from tests.support.request_proxy import Proxy

Json = dict[str, Any]
GROUP_PATH = "/apis/benchling.quilt.bio/v1alpha1"
SHORT_LEASE = {"durationSeconds": 5, "renewDeadlineSeconds": 3, "retrySeconds": 0.5}


@dataclass
class Place:
    """A namespace with everything that a controller and its packagers need there."""

    api: httpx.AsyncClient
    name: str
    folder: Path
    address: Address
    aws: aws.AwsAddresses
    simulator: Json
    benchling: TenantControl
    run: Run
    timing: Json = field(default_factory=dict)
    """Settings of `timing`, laid over those of the tests."""
    _count: int = 0

    async def make(self) -> None:
        """Make the namespace, the packager's credentials, and the files with those of the app."""
        await self._post("/api/v1/namespaces", {"metadata": {"name": self.name}})
        keys = {"metadata": {"name": "aws-credentials"}, "stringData": aws.environment()}
        await self._post(f"/api/v1/namespaces/{self.name}/secrets", keys)
        self.credentials.mkdir(parents=True)
        (self.credentials / "client_id").write_text(self.simulator["clientId"])
        (self.credentials / "client_secret").write_text(self.simulator["clientSecret"])
        account = f"/api/v1/namespaces/{self.name}/serviceaccounts/default"

        async def there() -> bool | None:
            return (await self.api.get(account)).status_code == 200 or None

        await until(there, "the namespace's ServiceAccount")

    async def _post(self, path: str, body: Json) -> Json:
        answer = await self.api.post(path, json=body)
        assert answer.is_success, answer.text
        made: Json = answer.json()
        return made

    @property
    def credentials(self) -> Path:
        return self.folder / "credentials"

    # -- controllers ------------------------------------------------------------------------------------------

    def settings(self, benchling_url: str, **changes: Any) -> Json:
        """Return the settings of a controller of this place."""
        return {
            "namespace": self.name,
            "healthPort": 0,
            "benchling": {"baseUrl": benchling_url, "credentialsFolder": str(self.credentials)},
            "destination": {
                "bucket": self.aws.bucket,
                "prefix": self.name,
                "queueUrl": self.aws.queue_url,
                "s3EndpointUrl": self.aws.s3,
                "sqsEndpointUrl": self.aws.sqs,
                "region": aws.REGION,
            },
            "packager": {
                "image": "entrypackage-operator/packager:test",
                "serviceAccount": "default",
                "envFromSecret": "aws-credentials",
                "env": {"AWS_REGION": aws.REGION},
            },
            "timing": {"quietPeriodSeconds": 0, "retainSucceededSeconds": 0, "retainFailedSeconds": 0, **self.timing},
            "retry": {"scale": 0.05},
            "lease": SHORT_LEASE,
            **changes,
        }

    async def start(self, api: Proxy, benchling: Proxy, *, pod_name: str, **changes: Any) -> Controller:
        """Start a controller that sees both servers through these proxies; it may not be ready yet."""
        self._count += 1
        folder = self.folder / f"controller-{self._count}"
        folder.mkdir()
        settings = folder / "settings.yaml"
        settings.write_text(yaml.safe_dump(self.settings(benchling.url, **changes)))
        kubeconfig = write_kubeconfig(folder, api.url)
        child = await self.run.start(
            f"{self.name}-controller-{self._count}",
            [sys.executable, "-m", "controller", "--settings", settings, "--kubeconfig", kubeconfig],
            environment={"POD_NAME": pod_name},
            folder=ROOT,
        )
        return Controller(child, pod_name)

    async def leader(self) -> str:
        """Return who holds the Lease, empty if nobody does."""
        path = f"/apis/coordination.k8s.io/v1/namespaces/{self.name}/leases/{LEASE_NAME}"
        answer = await self.api.get(path)
        return str(answer.json()["spec"].get("holderIdentity", "")) if answer.is_success else ""

    async def until_leads(self, pod_name: str, *, seconds: float = PATIENCE_SECONDS) -> float:
        """Wait until that one holds the Lease; return how long it took, in seconds."""
        started = time.monotonic()

        async def leads() -> bool | None:
            return await self.leader() == pod_name or None

        await until(leads, f"{pod_name} to hold the Lease", seconds=seconds)
        return time.monotonic() - started

    # -- objects ----------------------------------------------------------------------------------------------

    async def ask(self, entry: Json, **request: str) -> str:
        """File an event of an entry, or with members of one a request, as the receiver would; return the name."""
        name = object_name(entry["id"])
        trigger = {"id": f"evt_{entry['id']}", "type": "v2.entry.created", "occurredAt": f"{datetime.now(UTC):%FT%TZ}"}
        spec: Json = {"entryId": entry["id"], "event": trigger}
        if request:
            spec = {"entryId": entry["id"], "request": {**trigger, "type": "manual", **request}}
        body = {
            "apiVersion": "benchling.quilt.bio/v1alpha1",
            "kind": "EntryPackage",
            "metadata": {"name": name},
            "spec": spec,
        }
        await self._post(f"{GROUP_PATH}/namespaces/{self.name}/entrypackages", body)
        return name

    async def package(self, name: str) -> Json:
        """Return an EntryPackage."""
        answer = await self.api.get(f"{GROUP_PATH}/namespaces/{self.name}/entrypackages/{name}")
        found: Json = answer.raise_for_status().json()
        return found

    async def patch(self, name: str, change: Json) -> None:
        """Change an EntryPackage by a merge patch."""
        answer = await self.api.patch(
            f"{GROUP_PATH}/namespaces/{self.name}/entrypackages/{name}",
            json=change,
            headers={"content-type": "application/merge-patch+json"},
        )
        assert answer.is_success, answer.text

    async def until_package(
        self, name: str, fits: Callable[[Json], object], what: str, *, seconds: float = PATIENCE_SECONDS
    ) -> Json:
        """Wait until an EntryPackage is as wanted; return it."""
        last: Json = {}

        async def look() -> Json | None:
            last.clear()
            last.update(await self.package(name))
            return last if fits(last) else None

        try:
            return await until(look, what, seconds=seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; it is: {json.dumps(last.get('status'), indent=1)}") from None

    async def until_ready(self, name: str) -> Json:
        """Wait until it is Ready."""
        return await self.until_package(name, is_ready, f"{name} to be Ready")

    async def objects(self, kind: str) -> list[Json]:
        """Return all objects of the place of that kind: jobs, pods, secrets or events."""
        path = "/apis/batch/v1" if kind == "jobs" else "/api/v1"
        answer = await self.api.get(f"{path}/namespaces/{self.name}/{kind}")
        items: list[Json] = answer.raise_for_status().json()["items"]
        return items

    async def leftovers(self) -> list[str]:
        """Return what attempts have left: Jobs, pods, order Secrets."""
        found = [f"{kind}/{item['metadata']['name']}" for kind in ("jobs", "pods") for item in await self.objects(kind)]
        secrets = [item["metadata"]["name"] for item in await self.objects("secrets")]
        return found + [f"secrets/{name}" for name in secrets if name != "aws-credentials"]

    async def until_clean(self) -> None:
        """Wait until no Job, pod or order Secret is there."""
        left: list[str] = []

        async def clean() -> bool | None:
            left[:] = await self.leftovers()
            return not left or None

        try:
            await until(clean, "no Job, pod or Secret")
        except AssertionError as error:
            raise AssertionError(f"{error}; there are: {left}") from None

    # -- outside ----------------------------------------------------------------------------------------------

    async def exports(self, entry: Json) -> int:
        """Return how many exports of an entry Benchling has been asked for."""
        return int((await self.benchling.entry(entry["id"]))["exports"])

    async def files(self, entry: Json) -> dict[str, bytes]:
        """Return the entry's package as it lies on S3, by relative name."""
        return await asyncio.to_thread(self._files, f"{self.name}/{entry['displayId']}/")

    def _files(self, prefix: str) -> dict[str, bytes]:
        client = self.aws.s3_client()
        listed = client.list_objects_v2(Bucket=self.aws.bucket, Prefix=prefix).get("Contents", [])
        return {
            item["Key"].removeprefix(prefix): client.get_object(Bucket=self.aws.bucket, Key=item["Key"])["Body"].read()
            for item in listed
        }

    async def messages(self) -> list[Json]:
        """Take all messages from the queue."""
        return await asyncio.to_thread(take_messages, self.aws)


def take_messages(addresses: aws.AwsAddresses) -> list[Json]:
    """Take all messages that wait in the queue."""
    client, found = addresses.sqs_client(), []
    while batch := client.receive_message(QueueUrl=addresses.queue_url, MaxNumberOfMessages=10).get("Messages", []):
        for message in batch:
            found.append(json.loads(message["Body"]))
            client.delete_message(QueueUrl=addresses.queue_url, ReceiptHandle=message["ReceiptHandle"])
    return found


@dataclass
class Controller:
    """One controller process."""

    child: Child
    pod_name: str

    async def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.child.process.send_signal(signal.SIGKILL)
        await self.child.process.wait()

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        os.kill(self.child.pid, number)

    async def ended(self, *, seconds: float = PATIENCE_SECONDS) -> int:
        """Wait until it has ended; return the exit code."""
        return await asyncio.wait_for(self.child.process.wait(), seconds)

    @property
    def lines(self) -> list[Json]:
        """What it logged."""
        found = []
        for line in self.child.log.read_text().splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return [line for line in found if isinstance(line, dict)]

    def logged(self, message: str) -> list[Json]:
        """Return the lines with that message."""
        return [line for line in self.lines if line.get("message") == message]

    async def until_logged(self, message: str) -> Json:
        """Wait for a line with that message."""

        async def look() -> Json | None:
            assert self.child.running, self.child.tail()
            return next(iter(self.logged(message)), None)

        return await until(look, f"the line {message!r} of {self.pod_name}")

    async def health(self) -> str:
        """Return where its probes and metrics are, once it has started."""
        return f"http://{(await self.until_logged('started'))['health']}"


def write_kubeconfig(folder: Path, server: str, token: str = "none") -> Path:
    """Write a kubeconfig for a server without TLS, or behind a proxy that adds the token."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "proxy", "cluster": {"server": server}}],
        "users": [{"name": "test", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "proxy", "user": "test"}}],
        "current-context": "test",
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(content))
    return path


def condition(package: Json, kind: str = "Ready") -> Json:
    """Return a condition, an empty one if it is not there."""
    found = package.get("status", {}).get("conditions", [])
    return next((item for item in found if item["type"] == kind), {})


def is_ready(package: Json) -> bool:
    """Whether it is Ready."""
    return condition(package).get("status") == "True"


def order_part(secret: Json) -> bytes:
    """Return the part of an order that a Secret holds."""
    return base64.b64decode(next(iter(secret["data"].values())))
