"""The gallery of hostile archives."""

from __future__ import annotations

import io
import zipfile
import zlib
from functools import cache
from typing import TYPE_CHECKING

import pytest

from sandbox.simulator import gallery
from sandbox.simulator.zipstream import ZipStream

if TYPE_CHECKING:
    from sandbox.simulator.archives import Archive


@cache
def _gallery(name: str) -> Archive:
    """A gallery archive, made once: the largest take seconds."""
    return gallery.gallery(name)


@pytest.mark.parametrize("name", gallery.names())
def test_every_gallery_archive_can_be_read_in_pieces(name: str) -> None:
    archive = _gallery(name)
    head, tail = archive.read(0, 4096), archive.read(max(0, archive.size - 4096), archive.size)
    assert len(head) == min(4096, archive.size)
    assert len(tail) == min(4096, archive.size)


@pytest.mark.parametrize("name", [name for name in gallery.names() if name.startswith("good")])
def test_good_archives_are_good(name: str) -> None:
    archive = zipfile.ZipFile(io.BytesIO(gallery.gallery_bytes(name)))
    assert archive.testzip() is None
    assert archive.namelist()


@pytest.mark.parametrize(
    "name",
    ["truncated", "truncated-directory", "no-end-record", "not-a-zip", "zero-bytes", "noise", "wrong-crc",
     "wrong-crc-stored", "corrupt-deflate", "unknown-method", "encrypted", "header-mismatch", "offset-outside",
     "stored-as-deflated", "comment-signature"],
)  # fmt: skip
def test_broken_archives_are_broken(name: str) -> None:
    def read() -> None:
        archive = zipfile.ZipFile(io.BytesIO(gallery.gallery_bytes(name)))
        for member in archive.infolist():
            archive.read(member)

    with pytest.raises((zipfile.BadZipFile, NotImplementedError, RuntimeError, zlib.error, EOFError, OSError)):
        read()


def test_the_gallery_is_the_same_every_time() -> None:
    names = [name for name in gallery.names() if not name.startswith("bomb")]
    assert [gallery.gallery(name).etag for name in names] == [gallery.gallery(name).etag for name in names]


def test_bombs_are_what_they_say() -> None:
    ratio = gallery.gallery("bomb-ratio")
    assert isinstance(ratio, ZipStream)
    assert ratio.members[1].content.size / ratio.members[1].content.packed > 500
    count = _gallery("bomb-count")
    assert int.from_bytes(count.read(count.size - 66, count.size - 58), "little") == 300_000
    overlapping = zipfile.ZipFile(io.BytesIO(gallery.gallery_bytes("overlapping")))
    assert sum(member.file_size for member in overlapping.infolist()) == 200 * (4 << 20)


def test_an_unknown_name_gets_a_hint() -> None:
    with pytest.raises(gallery.UnknownArchive, match="did you mean zip-slip"):
        gallery.gallery("zipslip")
