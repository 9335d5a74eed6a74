"""The controller's metrics. Labels are bounded: reasons, actions and outcomes, never names."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

QUEUE_DEPTH: Final = Gauge("workqueue_depth", "Keys that wait, now or later")
RECONCILES: Final = Counter("entrypackage_reconcile_total", "Visits to an object", ["result"])
RECONCILE_SECONDS: Final = Histogram("entrypackage_reconcile_duration_seconds", "Duration of a visit")
ACTIONS: Final = Counter("entrypackage_actions_total", "Actions carried out", ["action"])
ATTEMPTS: Final = Counter("entrypackage_attempts_total", "Attempts that are over", ["reason"])
ORPHANED_EXPORTS: Final = Counter("entrypackage_orphaned_exports_total", "Exports whose outcome became unknown")
STAGE_SECONDS: Final = Histogram(
    "entrypackage_stage_duration_seconds",
    "Duration of a stage of a successful attempt",
    ["stage"],
    buckets=(1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200),
)
PACKAGED_BYTES: Final = Counter("entrypackage_bytes_total", "Bytes of completed packages")
LEADING: Final = Gauge("leader_election_master_status", "1 while this process acts")
GHOSTS: Final = Counter("entrypackage_resync_ghosts_total", "Objects that went away unnoticed by the watch")
EXPORTS_IN_FLIGHT: Final = Gauge("entrypackage_exports_in_flight", "Exports that Benchling is making")
