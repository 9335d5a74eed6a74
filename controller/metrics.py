"""The controller's metrics. Labels are bounded: reasons, actions and outcomes, never names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import Counter, Gauge, Histogram

if TYPE_CHECKING:
    from controller.benchling.client import BenchlingClient
    from controller.benchling.request_sender import CallRecord

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
MISSED_DELETES: Final = Counter("entrypackage_resync_ghosts_total", "Objects that went away unnoticed by the watch")
EXPORTS_IN_FLIGHT: Final = Gauge("entrypackage_exports_in_flight", "Exports that Benchling is making")

BENCHLING_CALLS: Final = Counter("benchling_calls_total", "Calls to Benchling", ["operation", "outcome"])
BENCHLING_REQUESTS: Final = Counter("benchling_requests_total", "Requests to Benchling", ["operation"])
BENCHLING_SECONDS: Final = Histogram(
    "benchling_call_duration_seconds",
    "Duration of a call to Benchling with its waiting and repeats",
    ["operation"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
)
BENCHLING_CIRCUIT: Final = Gauge("benchling_circuit_state", "1 for the state that the breaker is in", ["state"])
BENCHLING_LIMIT: Final = Gauge("benchling_rate_limit", "Requests per period that are held to")
BENCHLING_USED: Final = Gauge("benchling_rate_used", "Requests charged to the current window")
BENCHLING_THROTTLED: Final = Gauge("benchling_throttled", "Answers of 429 since the start")
BENCHLING_EXPORT_LIMIT: Final = Gauge("benchling_export_limit", "Exports that may run at once, as far as is known")
BENCHLING_EXPORTS: Final = Gauge("benchling_exports_running", "Exports that are known to run")


def record_call(call: CallRecord) -> None:
    """Count a call to Benchling."""
    BENCHLING_CALLS.labels(call.operation, call.outcome).inc()
    BENCHLING_REQUESTS.labels(call.operation).inc(call.tries)
    BENCHLING_SECONDS.labels(call.operation).observe(call.seconds)


def read_client(client: BenchlingClient) -> None:
    """Bring the gauges about Benchling up to date; called at each scrape."""
    numbers = client.numbers
    for state in type(numbers.breaker.state):
        BENCHLING_CIRCUIT.labels(state.value).set(1 if state is numbers.breaker.state else 0)
    BENCHLING_LIMIT.set(numbers.rate.limit)
    BENCHLING_USED.set(numbers.rate.used)
    BENCHLING_THROTTLED.set(numbers.rate.throttled)
    BENCHLING_EXPORT_LIMIT.set(numbers.exports.limit)
    BENCHLING_EXPORTS.set(numbers.exports.running)
