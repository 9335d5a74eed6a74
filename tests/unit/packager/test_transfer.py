"""The rate at which members are moved."""

from __future__ import annotations

from packager.transfer import Progress


def test_the_rate_leaves_out_what_was_skipped() -> None:
    progress = Progress(bytes_total=1000, bytes_done=800, bytes_skipped=600)
    assert progress.rate(7.0) == 0.0

    progress.moving_since = 5.0
    assert progress.rate(7.0) == 100.0
