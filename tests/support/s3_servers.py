"""The S3 servers that the packager is tried against: moto's, and versitygw, a real one over a folder."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import botocore.config

from tests.support.lacking import lacking
from tests.support.waiting import until_true

if TYPE_CHECKING:
    from collections.abc import Iterator

KEYS = {"aws_access_key_id": "testing-access", "aws_secret_access_key": "testing-secret-key"}
REGION = "us-east-1"


@dataclass(frozen=True)
class S3Server:
    """A running S3 server and a client of another make to look into it."""

    kind: str
    url: str
    client: Any
    pid: int = 0

    def new_bucket(self, name: str, *, versioned: bool = True) -> str:
        """Make a bucket."""
        self.client.create_bucket(Bucket=name)
        if versioned:
            self.client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        return name

    def keys(self, bucket: str, prefix: str = "") -> set[str]:
        """Return every object's key."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return {row["Key"] for page in pages for row in page.get("Contents", [])}

    def contents(self, bucket: str, prefix: str = "") -> dict[str, bytes]:
        """Return every object's body by key."""
        keys = sorted(self.keys(bucket, prefix))
        return {key: self.client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}

    def uploads(self, bucket: str) -> int:
        """Return how many multipart uploads are unfinished."""
        return len(self.client.list_multipart_uploads(Bucket=bucket).get("Uploads") or [])


def _session() -> boto3.Session:
    return boto3.Session(KEYS["aws_access_key_id"], KEYS["aws_secret_access_key"], region_name=REGION)


def s3_client(url: str) -> Any:
    """Return a plain boto3 client."""
    config = botocore.config.Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1})
    return _session().client("s3", endpoint_url=url, config=config)


def sqs_client(url: str) -> Any:
    """Return a plain boto3 client."""
    return _session().client("sqs", endpoint_url=url)


def find_versitygw() -> Path | None:
    """Return the program as the tool chain built it, or one on the PATH."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "entrypackage-operator"
    built = sorted(path for path in cache.rglob("versitygw") if path.is_file()) if cache.is_dir() else []
    named = os.environ.get("VERSITYGW") or shutil.which("versitygw")
    return Path(named) if named else (built[-1] if built else None)


@contextlib.contextmanager
def run_moto() -> Iterator[S3Server]:
    """Run moto's server in this process, S3 and SQS on one port."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    try:
        yield S3Server("moto", url, s3_client(url))
    finally:
        server.stop()


@contextlib.contextmanager
def run_versitygw(folder: Path, *, log: Path | None = None) -> Iterator[S3Server]:
    """Run versitygw over a folder, with versioning; fails where it was not built."""
    program = find_versitygw()
    if program is None:
        lacking("versitygw is not there; `python -m sandbox.toolchain --s3` builds it.")
    objects, versions = folder / "objects", folder / "versions"
    objects.mkdir(parents=True)
    versions.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        str(program), "--port", f"127.0.0.1:{port}", "--access", KEYS["aws_access_key_id"], "--secret",
        KEYS["aws_secret_access_key"], "--region", REGION, "--keep-alive", "--quiet", "posix", "--versioning-dir",
        str(versions), str(objects),
    ]  # fmt: skip
    with log.open("wb") if log else open(os.devnull, "wb") as output:  # noqa: PTH123
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        _wait_for_port(port, process)
        url = f"http://127.0.0.1:{port}"
        yield S3Server("versitygw", url, s3_client(url), process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    def open_or_ended() -> bool:
        assert process.poll() is None, "versitygw ended at once"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5.0):
            return True
        return False

    until_true(open_or_ended, "versitygw's port")
