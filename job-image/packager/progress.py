"""How far an attempt is, shown as a JSON line every few seconds in a pod and as a bar on a terminal."""

from __future__ import annotations

import asyncio
import logging
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from entrypackage.human_size import human_size

if TYPE_CHECKING:
    from entrypackage.order import Report

log = logging.getLogger("packager.progress")

_LINE_SECONDS: Final = 5.0
_BAR_SECONDS: Final = 0.2
_BAR_WIDTH: Final = 24
_CLEAR_LINE: Final = "\r\x1b[K"


@dataclass(slots=True)
class Progress:
    """What was done so far."""

    files_total: int = 0
    bytes_total: int = 0
    """Bytes to be moved; what is proven before it replaces something counts twice."""
    files_done: int = 0
    bytes_done: int = 0
    files_uploaded: int = 0
    bytes_uploaded: int = 0
    stage: str = "starting"
    moving_since: float | None = None
    """By the event loop's clock; None: nothing has been moved yet."""
    bytes_skipped: int = 0
    """Done without being moved."""

    def rate(self, now: float) -> float:
        """Return the bytes moved in a second; 0 before anything was."""
        if self.moving_since is None or now <= self.moving_since:
            return 0.0
        return (self.bytes_done - self.bytes_skipped) / (now - self.moving_since)


async def show_progress(progress: Progress) -> None:
    """Show progress on stderr or in the log until cancelled."""
    terminal = sys.stderr.isatty()
    loop = asyncio.get_running_loop()
    try:
        while True:
            await asyncio.sleep(_BAR_SECONDS if terminal else _LINE_SECONDS)
            rate = progress.rate(loop.time())
            left = (progress.bytes_total - progress.bytes_done) / rate if rate > 0 else None
            if terminal:
                sys.stderr.write(f"{_CLEAR_LINE}{progress_bar(progress, rate, left)}")
                sys.stderr.flush()
                continue
            log.info(
                "packing",
                extra={
                    "stage": progress.stage,
                    "files_done": progress.files_done,
                    "files_total": progress.files_total,
                    "bytes_done": progress.bytes_done,
                    "bytes_total": progress.bytes_total,
                    "bytes_per_second": round(rate),
                    "seconds_left": None if left is None else round(left),
                },
            )
    finally:
        if terminal:  # what is written next gets a line of its own
            sys.stderr.write(_CLEAR_LINE)


def _span(seconds: float) -> str:
    for unit, length in (("s", 1), ("min", 60)):
        if seconds < 120 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 3600:.0f} h"


def progress_bar(progress: Progress, rate: float, left: float | None) -> str:
    """Return the progress bar, one line of at most 100 characters; `rate` is in bytes a second, `left` in seconds."""
    share = progress.bytes_done / progress.bytes_total if progress.bytes_total else 0.0
    drawn = "█" * round(share * _BAR_WIDTH)
    rest = f", {_span(left)} left" if left is not None and progress.stage in {"members", "replacing"} else ""
    files = f"{progress.files_done}/{progress.files_total} files"
    return f"{progress.stage:<22.22} {drawn:<{_BAR_WIDTH}} {share:4.0%} {files} {human_size(rate)}/s{rest}"[:100]


def summary_lines(report: Report) -> list[str]:
    """Return what a report says to a person, one sentence a line."""
    lines = []
    if report.package is not None:
        package = report.package
        lines.append(f"{package.files} files, {human_size(package.bytes)} at {package.uri}")
    lines.append(
        f"{report.files_uploaded} files put ({human_size(report.bytes_uploaded)}), "
        f"{report.files_skipped} there already; "
        f"{sum(report.seconds.values()):.1f} s, at most {human_size(report.peak_memory_bytes)} of memory"
    )
    if report.missing_count:
        which = f": {', '.join(report.missing)}" if report.missing else ""
        lines.append(f"{report.missing_count} of the entry's attachments are missing in the archive{which}")
    return [*lines, *report.notices]
