"""`python -m sandbox files` on a bucket: the list, one file, and what is not there."""

from collections.abc import Iterator

import pytest

from sandbox import files
from sandbox.aws import AwsAddresses, moto_server


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsAddresses]:
    """An empty bucket, named as the sandbox's file of variables names it."""
    with moto_server() as endpoint:
        addresses = AwsAddresses(endpoint, "", "packages", "")
        addresses.s3_client().create_bucket(Bucket=addresses.bucket)
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        monkeypatch.setenv("SANDBOX_BUCKET", addresses.bucket)
        yield addresses


def test_keys_are_listed_and_a_file_is_shown(bucket: AwsAddresses, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert files.main([]) == 0
    assert capfdbinary.readouterr().out == b"nothing yet in s3://packages/\n"
    bucket.s3_client().put_object(Bucket=bucket.bucket, Key="a/b.json", Body=b"{}")
    assert files.main(["a/"]) == 0
    assert capfdbinary.readouterr().out.endswith(b"           2  a/b.json\n")
    assert files.main(["a/b.json"]) == 0


def test_a_key_that_is_not_there_is_an_error(bucket: AwsAddresses, capsys: pytest.CaptureFixture[str]) -> None:
    bucket.s3_client().put_object(Bucket=bucket.bucket, Key="a/b.json", Body=b"{}")
    assert files.main(["nope.json"]) == 1
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "error: No key begins with nope.json in s3://packages/.\n")
