"""S3 and SQS on loopback: moto's server, and versitygw (a real S3 server over a folder) where somebody asks for it.

`python -m sandbox.aws` makes a versioned bucket and a queue and prints where they are.
"""

import argparse
import asyncio
import contextlib
import os
import socket
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import httpx
from botocore.config import Config

from sandbox.processes import Run, SandboxError, announce_ready, run_program, stopped_by_signal
from sandbox.toolchain import Toolchain

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

REGION = "us-east-1"
ACCESS_KEY_ID = "SANDBOXACCESSKEY"
SECRET_ACCESS_KEY = "sandbox-secret-access-key"
"""versitygw checks these; moto takes any."""

_READY_SECONDS = 60.0
_PORT_TRIES = 5
_STOP_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class AwsAddresses:
    """Where the sandbox's S3 and SQS are."""

    s3: str
    """Endpoint URL of S3."""
    sqs: str
    """Endpoint URL of SQS."""
    bucket: str
    queue_url: str

    def s3_client(self) -> "S3Client":
        return boto3.client("s3", endpoint_url=self.s3, **_client_settings())

    def sqs_client(self) -> "SQSClient":
        return boto3.client("sqs", endpoint_url=self.sqs, **_client_settings())


def _client_settings() -> dict[str, Any]:
    return {
        "region_name": REGION,
        "aws_access_key_id": ACCESS_KEY_ID,
        "aws_secret_access_key": SECRET_ACCESS_KEY,
        "config": Config(s3={"addressing_style": "path"}, retries={"max_attempts": 2, "mode": "standard"}),
    }


def environment() -> dict[str, str]:
    """Return the environment variables that hold the sandbox's AWS credentials."""
    return {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
    }


@contextlib.contextmanager
def moto_server(port: int = 0) -> Iterator[str]:
    """Serve moto's S3 and SQS from a thread of this process; give the endpoint URL.

    A multipart upload takes two and a half times its size of memory (1 GiB: 2.7 GB were seen), so this suits packages
    up to some hundred megabytes; versitygw takes larger ones. Everything is gone when the server ends.
    """
    with socket.create_server(("127.0.0.1", port)) as listening:
        port = listening.getsockname()[1]
        # moto reads these when it is imported and when it makes a queue's URL.
        os.environ["MOTO_PORT"] = str(port)
        os.environ["MOTO_S3_CUSTOM_ENDPOINTS"] = ""
        from moto.moto_server.werkzeug_app import (  # takes a second; other users of this module need none of it
            DomainDispatcherApplication,
            MotoRequestHandler,
            create_backend_app,
        )
        from werkzeug.serving import make_server

        class QuietRequestHandler(MotoRequestHandler):
            protocol_version = "HTTP/1.1"  # keeps connections open, and then
            disable_nagle_algorithm = True  # else each answer waits 40 ms for an acknowledgement

            def log_request(self, *arguments: object) -> None: ...

        server = make_server(
            "127.0.0.1",
            port,
            DomainDispatcherApplication(create_backend_app),
            threaded=True,
            request_handler=QuietRequestHandler,
            fd=listening.fileno(),
        )
        thread = threading.Thread(target=server.serve_forever, args=(_STOP_POLL_SECONDS,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.shutdown()
            thread.join()


@contextlib.asynccontextmanager
async def versitygw_server(folder: Path, run: Run, *, build: bool = True) -> AsyncIterator[str]:
    """Serve S3 over a folder, in which a bucket is a folder and an object is a file; give the endpoint URL."""
    program = await Toolchain().ensure_versitygw(build=build)
    for part in ("objects", "versions", "attributes"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    sidecar = [] if _has_attributes(folder) else [f"--sidecar={folder / 'attributes'}"]
    for _ in range(_PORT_TRIES):  # it can't choose a port itself
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        server = await run.start(
            "versitygw",
            [
                *(program, f"--port=127.0.0.1:{port}", "--quiet", "--keep-alive", "--health=/healthz"),
                f"--region={REGION}",
                "posix",
                *sidecar,
                f"--versioning-dir={folder / 'versions'}",
                folder / "objects",
            ],
            environment={"ROOT_ACCESS_KEY": ACCESS_KEY_ID, "ROOT_SECRET_KEY": SECRET_ACCESS_KEY},
            grace_seconds=1.0,
        )
        url = f"http://127.0.0.1:{port}"
        try:
            await server.until(lambda url=url: _is_healthy(url), seconds=_READY_SECONDS, what="serve")  # type: ignore[misc]
        except SandboxError:
            if "address already in use" not in server.tail():
                raise
            continue
        try:
            yield url
        finally:
            await server.stop()
        return
    raise SandboxError("versitygw found no free port; try again.")


def _has_attributes(folder: Path) -> bool:
    try:
        os.setxattr(folder, "user.sandbox", b"1")
    except OSError:
        return False
    return True


async def _is_healthy(url: str) -> bool:
    async with httpx.AsyncClient(trust_env=False) as client:
        with contextlib.suppress(httpx.HTTPError):
            return (await client.get(f"{url}/healthz", timeout=2.0)).status_code == 200
    return False


def make_bucket_and_queue(s3: str, sqs: str, bucket: str, queue: str) -> AwsAddresses:
    """Make a versioned bucket and a queue (FIFO if its name says so) unless they are there."""
    addresses = AwsAddresses(s3, sqs, bucket, queue_url="")
    s3_client = addresses.s3_client()
    if bucket not in [found["Name"] for found in s3_client.list_buckets()["Buckets"]]:
        s3_client.create_bucket(Bucket=bucket)
    s3_client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    attributes = {"FifoQueue": "true"} if queue.endswith(".fifo") else {}
    queue_url = addresses.sqs_client().create_queue(QueueName=queue, Attributes=attributes)["QueueUrl"]  # type: ignore[arg-type]
    return AwsAddresses(s3, sqs, bucket, queue_url)


async def serve(bucket: str, queue: str, port: int, folder: Path | None) -> None:
    """Serve until a signal says to stop; with a folder S3 is versitygw over it."""
    async with contextlib.AsyncExitStack() as stack:
        stop = await stack.enter_async_context(stopped_by_signal())
        sqs = s3 = stack.enter_context(moto_server(port))
        if folder is not None:
            run = await stack.enter_async_context(Run())
            s3 = await stack.enter_async_context(versitygw_server(folder, run))
        addresses = await asyncio.to_thread(make_bucket_and_queue, s3, sqs, bucket, queue)
        announce_ready(
            s3=addresses.s3,
            sqs=addresses.sqs,
            bucket=addresses.bucket,
            queue_url=addresses.queue_url,
        )
        await stop.wait()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sandbox.aws", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="port of moto's server (default: a free one)")
    parser.add_argument("--bucket", default="packages")
    parser.add_argument("--queue", default="packages", help="ends in .fifo: a FIFO queue")
    parser.add_argument("--s3-folder", type=Path, metavar="DIR", help="serve S3 from a folder, by versitygw")
    options = parser.parse_args()
    folder = options.s3_folder.absolute() if options.s3_folder else None
    return run_program(lambda: serve(options.bucket, options.queue, options.port, folder))


if __name__ == "__main__":
    sys.exit(main())
