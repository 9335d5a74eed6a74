"""The plain way to pack an export, to measure the packager against: everything in memory, one request at a time.

Run as ``python -m tests.performance.plain_way URL BUCKET PREFIX ENDPOINT``; prints its time and memory as JSON.
"""

from __future__ import annotations

import io
import json
import sys
import zipfile
from pathlib import Path

import boto3
import requests


def main(url: str, bucket: str, prefix: str, endpoint: str) -> None:
    """Fetch, unzip and put, member by member."""
    held = io.BytesIO()
    with requests.get(url, stream=True, timeout=300) as answer:
        answer.raise_for_status()
        for chunk in answer.iter_content(8192):
            held.write(chunk)
    s3 = boto3.client("s3", endpoint_url=endpoint)
    files = {}
    with zipfile.ZipFile(held) as archive:
        for member in archive.infolist():
            if not member.is_dir():
                body = archive.read(member)
                s3.put_object(Bucket=bucket, Key=f"{prefix}/{member.filename}", Body=body)
                files[member.filename] = {"s3_key": f"{prefix}/{member.filename}", "size": len(body)}
    for name in ("entry_data.json", "links.json", "input.json", "README.md", "entry.json"):
        s3.put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=json.dumps({"files": files}).encode())
    print(json.dumps({"peak_memory_bytes": peak_memory_bytes()}))


def peak_memory_bytes() -> int:
    """Return this process's largest resident size."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    main(*sys.argv[1:5])
