"""The gallery of hostile archives, on an empty destination and over an existing package."""

from __future__ import annotations

import asyncio
import resource
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from entrypackage.failures import FailureClass
from entrypackage.order import Limits
from packager.decisions.policy import METADATA_FILES
from sandbox.simulator import gallery
from tests.support.archive_origin import Origin
from tests.support.archives import make_zip
from tests.support.packager_process import Attempt, pack_here

if TYPE_CHECKING:
    from tests.support.s3_servers import S3Server

PACKAGE = "benchling/EXP24000047/"

TAKEN = {
    "good", "good-descriptors", "good-zip64", "good-comment", "comment-signature", "empty", "bidi", "overlong-segment",
    "case-clash", "normal-form-clash", "reserved", "many-long-names", "bomb-nested",
}  # fmt: skip
"""Those that docs/package-format.md says are packed; all others are refused."""

NOT_ON_A_FILE_SYSTEM = {"overlong-segment"}
"""S3 takes path segments of any length; versitygw stores them as file names, which end at 255 bytes."""

LIMITS = Limits(max_member_bytes=1 << 30, max_total_bytes=1 << 31, max_members=100_000)


class _Sliced:
    """A gallery archive that is read in pieces, because some are hundreds of GiB long."""

    def __init__(self, name: str) -> None:
        self._archive = gallery.gallery(name)

    def __len__(self) -> int:
        return self._archive.size

    def __getitem__(self, span: slice) -> bytes:
        start, stop, _ = span.indices(len(self))
        return b"".join(self._archive.pieces(start, stop))


@pytest.mark.parametrize("name", gallery.names())
async def test_a_gallery_archive_is_packed_or_refused_as_documented(
    name: str, versitygw_server: S3Server, moto_server: S3Server, request: pytest.FixtureRequest
) -> None:
    server = moto_server if name in NOT_ON_A_FILE_SYSTEM else versitygw_server
    bucket = server.new_bucket(f"hostile-{abs(hash(request.node.nodeid)) % 10**12}")
    archive = _Sliced(name)
    assert len(archive[-1000:]) == min(1000, len(archive))  # making it takes memory of its own, before this is measured
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    for existing in (False, True):
        attempt = Attempt("", bucket, server.url, limits=LIMITS, prefix=f"benchling{existing:d}")
        prefix = f"{attempt.prefix}/EXP24000047/"
        if existing:
            with Origin(
                make_zip({"good.txt": b"previous", "victim.csv": b"previous", "old.txt": b"previous"})
            ) as origin:
                failure, _ = await pack_here(replace(attempt, url=origin.url, number=0))
            assert failure is None
        before = server.contents(bucket, prefix)
        with Origin(archive) as origin:  # type: ignore[arg-type]
            async with asyncio.timeout(60):
                failure, outcome = await pack_here(replace(attempt, url=origin.url))
        keys = server.keys(bucket)

        if name in TAKEN:
            assert failure is None, failure
            assert {f"{prefix}{metadata}" for metadata in METADATA_FILES} <= keys
            assert outcome.package is not None
            assert sum(key.startswith(prefix) for key in keys) == outcome.package.files
        else:
            assert failure is not None, "it was packed"
            assert failure.failure is FailureClass.ARCHIVE_REFUSED, failure
            assert server.contents(bucket, prefix) == before
            assert not outcome.touched
        assert all(key.startswith(("benchling0/", "benchling1/")) and "/../" not in key for key in keys)
        assert server.uploads(bucket) == 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 128 * 1024


async def test_a_refusal_names_the_member(versitygw_server: S3Server) -> None:
    bucket = versitygw_server.new_bucket("hostile-names")
    with Origin(gallery.gallery_bytes("wrong-crc")) as origin:
        failure, _ = await pack_here(Attempt(origin.url, bucket, versitygw_server.url))

    assert failure is not None
    assert '"victim.csv"' in failure.message
