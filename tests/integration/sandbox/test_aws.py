"""The AWS fake serves what the product needs, on loopback."""

import asyncio
from urllib.parse import urlsplit

from sandbox.aws import AwsAddresses
from sandbox.processes import Run


def use(addresses: AwsAddresses) -> tuple[bytes, str | None, str, str]:
    s3, sqs = addresses.s3_client(), addresses.sqs_client()
    s3.put_object(Bucket=addresses.bucket, Key="a/b.txt", Body=b"content")
    content = s3.get_object(Bucket=addresses.bucket, Key="a/b.txt")["Body"].read()
    versioning = s3.get_bucket_versioning(Bucket=addresses.bucket).get("Status")
    sqs.send_message(QueueUrl=addresses.queue_url, MessageBody="hello", MessageGroupId="g", MessageDeduplicationId="d")
    message = sqs.receive_message(QueueUrl=addresses.queue_url)["Messages"][0]["Body"]
    key = next(iter(s3.list_objects_v2(Bucket=addresses.bucket)["Contents"]))["Key"]
    return content, versioning, message, key


async def test_bucket_and_queue_serve() -> None:
    async with Run() as run:
        ready = await run.start_piece(
            "aws", ["sandbox.aws", "--bucket", "some-bucket", "--queue", "some.fifo"], seconds=60
        )
        addresses = AwsAddresses(ready["s3"], ready["sqs"], ready["bucket"], ready["queue_url"])
        assert urlsplit(addresses.s3).hostname == "127.0.0.1"
        assert addresses.queue_url.endswith("/some.fifo")
        assert await asyncio.to_thread(use, addresses) == (b"content", "Enabled", "hello", "a/b.txt")
