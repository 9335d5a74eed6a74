"""What a person reads of an attempt while it runs and when it is over."""

from __future__ import annotations

import pytest

from entrypackage.order import PackedPackage, Report
from packager.progress import Progress, progress_bar, summary_lines

MIB = 1024 * 1024


def test_a_person_is_told_what_became_of_it() -> None:
    report = Report(
        package=PackedPackage(uri="s3://b/p/E/", files=7, bytes=3 * MIB, manifest_checksum="c"),
        files_uploaded=6,
        files_skipped=1,
        bytes_uploaded=2 * MIB,
        peak_memory_bytes=50 * MIB,
        seconds={"members": 1.5, "message": 0.5},
        missing_count=2,
        missing=["exf_1", "exf_2"],
        notices=["Something to know."],
    )

    assert summary_lines(report) == [
        "7 files, 3.0 MiB at s3://b/p/E/",
        "6 files put (2.0 MiB), 1 there already; 2.0 s, at most 50.0 MiB of memory",
        "2 of the entry's attachments are missing in the archive: exf_1, exf_2",
        "Something to know.",
    ]


@pytest.mark.parametrize("stage", ["members", "replacing", "comparing"])
def test_the_bar_fits_a_line(stage: str) -> None:
    progress = Progress(files_total=250_000, files_done=249_999, bytes_total=10**15, bytes_done=10**15, stage=stage)

    line = progress_bar(progress, 1e12, 123456.0)
    assert len(line) <= 100
    assert "100%" in line
    assert ("left" in line) == (stage != "comparing")


def test_the_rate_leaves_out_what_was_skipped() -> None:
    progress = Progress(bytes_total=1000, bytes_done=800, bytes_skipped=600)
    assert progress.rate(7.0) == 0.0

    progress.moving_since = 5.0
    assert progress.rate(7.0) == 100.0
