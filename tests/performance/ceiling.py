"""What the parts of the packager do without each other: fetch, inflate and sum; or put ready buffers.

``python -m tests.performance.ceiling fetch|put URL ENDPOINT BUCKET``
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

from entrypackage.order import Limits
from packager.archive.directory import read_content
from packager.archive.source import open_archive
from packager.archive.unpack import crc32
from packager.aws.client import Fence
from packager.aws.credentials import find_credentials
from packager.aws.store import ObjectOptions, Part, open_store
from packager.capacity import ConcurrencyLimits, part_bytes
from packager.http1 import Client
from packager.transfer import close_member, member_pieces, open_member

if TYPE_CHECKING:
    from packager.decisions.policy import File


async def fetch(url: str) -> None:
    """Read every member, several at a time, and drop what it holds."""
    archive = await open_archive(Client(), url)
    content = await read_content(archive, "x/", Limits())
    queue = iter(archive.runs(content.files, 4))

    async def reader() -> None:
        for run in queue:
            reader = archive.read(run[0].member.offset, run[-1].until)
            for file in run:
                header = await open_member(reader, file)
                async for _ in member_pieces(reader, file):
                    pass
                await close_member(reader, file, header)
            reader.close()

    await asyncio.gather(*(reader() for _ in range(4)))


async def put(url: str, endpoint: str, bucket: str) -> None:
    """Put members of the same sizes in the same parts, from buffers that are ready."""
    client = Client()
    archive = await open_archive(client, url)
    content = await read_content(archive, "x/", Limits())
    credentials = find_credentials(client, os.environ, "us-east-1", role_arn=None, session_name="ceiling")
    store = await open_store(
        client, credentials, bucket, region="us-east-1", default_region="us-east-1", endpoint_url=endpoint,
        options=ObjectOptions(),
    )  # fmt: skip
    fence = Fence()
    ready = os.urandom(part_bytes(0))
    queue = iter(content.files)
    slots = asyncio.Semaphore(max(1, ConcurrencyLimits.of_environment(os.environ).buffer_bytes // len(ready)))

    async def part(key: str, upload: str, number: int, size: int) -> Part:
        async with slots:
            body = memoryview(ready)[:size]
            return await store.put_part(key, upload, number, [body], crc=crc32(body), fence=fence)

    async def worker() -> None:
        for file in queue:
            await one(file)

    async def one(file: File) -> None:
        upload = await store.begin_upload(file.name, content_type="application/octet-stream", fence=fence)
        sizes = [min(len(ready), file.member.size - at) for at in range(0, file.member.size, len(ready))]
        await asyncio.gather(*(part(file.name, upload, number, size) for number, size in enumerate(sizes, 1)))
        await store.abort_upload(file.name, upload)

    await asyncio.gather(*(worker() for _ in range(4)))


if __name__ == "__main__":
    if sys.argv[1] == "fetch":
        asyncio.run(fetch(sys.argv[2]))
    else:
        asyncio.run(put(*sys.argv[2:5]))
