"""The command line as a person and a Job meet it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from entrypackage.failures import POLICIES, FailureClass
from entrypackage.order import parse_report
from tests.support.archive_origin import Origin
from tests.support.archives import make_zip
from tests.support.faulty_line import Line
from tests.support.packager_process import Attempt, environment, pack_here, write_order
from tests.support.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.s3_servers import S3Server

FILES = {"EXP9.pdf": b"%PDF", "a.txt": b"a"}


def packager(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a new process."""
    command = [sys.executable, "-m", "packager", *arguments]
    return subprocess.run(command, env=environment(**variables), cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_zip_is_packed_by_hand(versitygw_server: S3Server, tmp_path: Path) -> None:
    bucket = versitygw_server.new_bucket("by-hand")
    (tmp_path / "export.zip").write_bytes(make_zip(FILES))
    arguments = [
        "pack",
        str(tmp_path / "export.zip"),
        f"s3://{bucket}/lab/EXP9",
        "--endpoint-url",
        versitygw_server.url,
    ]

    foreseen = packager(*arguments, "--dry-run")
    assert foreseen.returncode == 0, foreseen.stderr
    assert json.loads(foreseen.stdout)["put"] == ["EXP9.pdf", "a.txt"]
    assert versitygw_server.contents(bucket) == {}
    assert "nothing was changed" in foreseen.stderr
    assert "complete" not in foreseen.stderr

    done = packager(*arguments)
    assert done.returncode == 0, done.stderr
    assert "the package is complete" in done.stderr
    assert versitygw_server.contents(bucket)["lab/EXP9/a.txt"] == b"a"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["pack", "/no/such.zip", "s3://b/p/d"], "cannot be read"),
        (["pack", "x.zip", "b/p/d"], "must look like s3://"),
        (["run", "--order", "/no/such"], "cannot be read"),
        (["pack", "x.zip", "s3://b/p/d", "--endpoint-url", "localhost:9000"], "--endpoint-url must be like https://"),
        (["pack", "x.zip", "s3://b/p/d", "--queue-url", "my-queue"], "--queue-url must be like https://"),
    ],
)
def test_a_mistake_is_told_in_one_sentence(arguments: list[str], said: str) -> None:
    ended = packager(*arguments)

    assert ended.returncode == POLICIES[FailureClass.ORDER_INVALID].exit_code
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("changes", "variables", "said"),
    [
        ({"queue_url": "my-queue"}, {}, "The queue's URL must be like https://"),
        ({"endpoint": "localhost:9000"}, {}, "S3's endpoint must be like https://"),
        ({"sqs_endpoint": "localhost:9000"}, {}, "SQS's endpoint must be like https://"),
        ({}, {"AWS_ENDPOINT_URL_STS": "sts"}, "The variable AWS_ENDPOINT_URL_STS must be like https://"),
        ({"bucket": "s3://lab"}, {}, "No bucket can be called"),
    ],
)
async def test_an_order_with_what_is_no_address_asks_for_nothing(
    changes: dict[str, str], variables: dict[str, str], said: str
) -> None:
    with Origin(make_zip(FILES)) as origin, Line("http://127.0.0.1:9") as line:
        failure, _ = await pack_here(replace(Attempt(origin.url, "lab", line.url), **changes), **variables)  # type: ignore[arg-type]

    assert failure is not None
    assert failure.failure is FailureClass.ORDER_INVALID
    assert said in failure.message
    assert line.heads == []


def test_a_wrong_digest_writes_nothing(versitygw_server: S3Server, tmp_path: Path) -> None:
    bucket = versitygw_server.new_bucket("wrong-digest")
    with Origin(make_zip(FILES)) as origin:
        write_order(Attempt(origin.url, bucket, versitygw_server.url).order(), tmp_path / "order", part_bytes=300)
        log = tmp_path / "log"
        ended = packager(
            "run", "--order", str(tmp_path / "order"), "--digest", "0" * 64, "--termination-log", str(log)
        )  # fmt: skip

        assert origin.requests == 0
    report = parse_report(log.read_text())
    assert ended.returncode == POLICIES[FailureClass.ORDER_INVALID].exit_code
    assert report is not None
    assert report.failure is FailureClass.ORDER_INVALID
    assert versitygw_server.contents(bucket) == {}


def test_an_order_of_many_parts_is_read(versitygw_server: S3Server, tmp_path: Path) -> None:
    bucket = versitygw_server.new_bucket("many-parts")
    with Origin(make_zip(FILES)) as origin:
        digest = write_order(Attempt(origin.url, bucket, versitygw_server.url).order(), tmp_path / "order", 100)
        ended = packager(
            "run", "--order", str(tmp_path / "order"), "--digest", digest, "--termination-log", str(tmp_path / "log")
        )  # fmt: skip

    assert ended.returncode == 0, ended.stderr


def test_without_credentials_the_remedy_is_named(tmp_path: Path) -> None:
    with Origin(make_zip(FILES)) as origin:
        write_order(Attempt(origin.url, "bucket", "http://127.0.0.1:9").order(), tmp_path / "order")
        ended = packager(
            "run", "--order", str(tmp_path / "order"), "--termination-log", str(tmp_path / "log"),
            AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="", HOME=str(tmp_path),
        )  # fmt: skip

    assert ended.returncode == POLICIES[FailureClass.DESTINATION_DENIED].exit_code
    assert "eks.amazonaws.com/role-arn" in ended.stderr
    assert "topsecretsignature" not in ended.stderr


def test_a_role_is_taken_on_by_web_identity_and_another_assumed(moto_server: S3Server, tmp_path: Path) -> None:
    bucket = moto_server.new_bucket("with-roles")
    (tmp_path / "token").write_text("a.web.token")
    with Origin(make_zip(FILES)) as origin:
        attempt = Attempt(
            origin.url, bucket, moto_server.url, extra={"role_arn": "arn:aws:iam::123456789012:role/writer"}
        )
        digest = write_order(attempt.order(), tmp_path / "order")
        ended = packager(
            "run", "--order", str(tmp_path / "order"), "--digest", digest, "--termination-log", str(tmp_path / "log"),
            AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="", AWS_ROLE_ARN="arn:aws:iam::123456789012:role/pod",
            AWS_WEB_IDENTITY_TOKEN_FILE=str(tmp_path / "token"), AWS_ENDPOINT_URL_STS=moto_server.url,
        )  # fmt: skip

    assert ended.returncode == 0, ended.stderr
    assert "benchling/EXP24000047/a.txt" in moto_server.contents(bucket)
