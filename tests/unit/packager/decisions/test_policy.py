"""Which archives are refused by their directory alone, and what members are called in the package."""

from __future__ import annotations

import pytest

from entrypackage.failures import Failure, FailureClass
from entrypackage.order import Limits
from packager.archive.format import End
from packager.decisions.policy import check_directory_size
from tests.support.archives import content_of, make_zip

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("/etc/passwd", "absolute"), ("../x", "empty part"), ("a/../b", "empty part"), ("a//b", "empty part"),
        ("./a", "empty part"), ("C:x", "drive letter"), ("a\\b", "backslash"), ("a\nb", "control"),
        ("n" * 1100, "too long"),
    ],
)  # fmt: skip
def test_a_bad_name_is_refused(name: str, word: str) -> None:
    with pytest.raises(Failure, match=word) as caught:
        content_of(make_zip({name: b"x"}))

    assert caught.value.failure is FailureClass.ARCHIVE_REFUSED


def test_a_name_fits_s3_with_the_prefix_and_not_a_byte_more() -> None:
    prefix = "benchling/EXP1/"
    longest = "é" * 504 + "x"

    assert content_of(make_zip({longest: b""}), prefix).files[0].name == longest
    with pytest.raises(Failure, match="too long"):
        content_of(make_zip({longest + "x": b""}), prefix)


def test_limits_are_refused_before_anything_is_read() -> None:
    raw = make_zip({"a": b"0" * 1000, "b": b"1" * 1000})

    for limits in (Limits(max_member_bytes=999), Limits(max_total_bytes=1999), Limits(max_ratio=10)):
        with pytest.raises(Failure):
            content_of(raw, limits=limits)


def test_case_clashes_are_kept_and_told() -> None:
    content = content_of(make_zip({"A.txt": b"1", "a.txt": b"2"}))

    assert [file.name for file in content.files] == ["A.txt", "a.txt"]
    assert content.notices


def test_a_moved_member_finds_a_free_name() -> None:
    content = content_of(make_zip({"README.md": b"1", "attachments/README.md": b"2"}))

    assert [file.name for file in content.files] == ["attachments/attachments/README.md", "attachments/README.md"]


@pytest.mark.parametrize(
    ("names", "both"),
    [
        (["a", "a/b"], "a"),
        (["a", "a/b/"], "a"),
        (["attachments", "entry.json"], "attachments"),
        (["attachments", "entry.json/"], None),
        (["attachments/README.md/x", "README.md"], "attachments/README.md"),
        (["README.md/x"], "README.md"),
        (["links.json/deep/er/"], "links.json"),
        (["README.md.txt/x", "entry/entry.json/x", "attachments/x", "input.json"], None),
    ],
)
def test_no_name_of_the_package_is_a_file_and_a_folder(names: list[str], both: str | None) -> None:
    """Counting what the packager writes itself, and the names to which members move to make room for that."""
    archive = make_zip(dict.fromkeys(names, b""))
    if both is None:
        assert len(content_of(archive).files) == sum(not name.endswith("/") for name in names)
        return
    with pytest.raises(Failure, match=f'"{both}" as a file and as a folder') as caught:
        content_of(archive)
    assert caught.value.failure is FailureClass.ARCHIVE_REFUSED


@pytest.mark.parametrize(
    ("members", "length", "taken"),
    [(1, 1500, True), (1, 100_000, False), (250_000, 49 * MIB, True), (250_000, 65 * MIB, False)],
)
def test_a_directory_is_refused_before_it_is_fetched_if_no_members_explain_it(
    members: int, length: int, taken: bool
) -> None:
    end = End(members, 10**9, length, 10**9 + length)
    if taken:
        check_directory_size(end, Limits())
    else:
        with pytest.raises(Failure, match="far larger"):
            check_directory_size(end, Limits())
