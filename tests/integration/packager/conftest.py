"""Servers that the packager's tests share: moto and versitygw, started once per test process."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

import pytest

from tests.support.s3_servers import S3Server, run_moto, run_versitygw, sqs_client

if TYPE_CHECKING:
    from collections.abc import Iterator

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def moto_server() -> Iterator[S3Server]:
    """S3 and SQS as moto does them."""
    with run_moto() as server:
        yield server


@pytest.fixture(scope="session")
def versitygw_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """S3 over a folder."""
    with run_versitygw(tmp_path_factory.mktemp("versitygw")) as server:
        yield server


@pytest.fixture(params=["moto", "versitygw"])
def s3(request: pytest.FixtureRequest) -> S3Server:
    """Each server in turn."""
    server = request.getfixturevalue(f"{request.param}_server")
    assert isinstance(server, S3Server)
    return server


@pytest.fixture
def bucket(s3: S3Server) -> str:
    """A new versioned bucket on that server."""
    return s3.new_bucket(f"lab-{os.getpid()}-{next(_NUMBERS)}")


@pytest.fixture
def queue(moto_server: S3Server) -> Queue:
    """A new standard queue; moto's, whichever S3 is used."""
    return Queue(moto_server, f"queue-{os.getpid()}-{next(_NUMBERS)}")


class Queue:
    """A queue and what was sent to it."""

    def __init__(self, server: S3Server, name: str, **attributes: str) -> None:
        self._client = sqs_client(server.url)
        self.endpoint = server.url
        self.url: str = self._client.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]

    def bodies(self) -> list[str]:
        """Return, and remove, every message's body."""
        found = []
        while rows := self._client.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10).get("Messages"):
            for row in rows:
                found.append(row["Body"])
                self._client.delete_message(QueueUrl=self.url, ReceiptHandle=row["ReceiptHandle"])
        return found
