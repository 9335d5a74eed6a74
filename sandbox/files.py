"""`python -m sandbox files`: what lies on the sandbox's S3."""

import argparse
import os
import sys

import botocore.exceptions

from sandbox.aws import AwsAddresses


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m sandbox files", description=__doc__)
    parser.add_argument("key", nargs="?", default="", help="print this file; or list what begins so")
    given = parser.parse_args(arguments)
    endpoint, bucket = os.environ.get("AWS_ENDPOINT_URL_S3"), os.environ.get("SANDBOX_BUCKET")
    if not endpoint or not bucket:
        print("error: Which sandbox? Source the file that `make sandbox` names first.", file=sys.stderr)
        return 1
    try:
        return _show(AwsAddresses(endpoint, "", bucket, ""), given.key)
    except botocore.exceptions.EndpointConnectionError:
        print(f"error: No S3 answers at {endpoint}: is that sandbox still running?", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 0


def _show(addresses: AwsAddresses, key: str) -> int:
    client = addresses.s3_client()
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=addresses.bucket, Prefix=key)
    found = [item for page in pages for item in page.get("Contents", [])]
    if key and any(item["Key"] == key for item in found):
        for chunk in client.get_object(Bucket=addresses.bucket, Key=key)["Body"].iter_chunks(1 << 20):
            sys.stdout.buffer.write(chunk)
        return 0
    for item in found:
        print(f"{item['LastModified']:%H:%M:%S}  {item['Size']:>12}  {item['Key']}")
    if key and not found:
        print(f"error: No key begins with {key} in s3://{addresses.bucket}/.", file=sys.stderr)
        return 1
    if not found:
        print(f"nothing yet in s3://{addresses.bucket}/")
    return 0
