"""What the receiver counts. Every label has a closed set of values, so nobody outside can make series."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, PlatformCollector, ProcessCollector
from prometheus_client.exposition import generate_latest

from receiver.answers import DeliveryOutcome, Why

if TYPE_CHECKING:
    from receiver.keys import KeyRing

_BUCKETS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 2.5, 3.0, 5.0)
"""Seconds; Benchling waits 3."""


class Metrics:
    """The counters of one receiver, in a registry of their own."""

    def __init__(self) -> None:
        """Make every series that there can be, so that rates are right from the first delivery on."""
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        self._requests = Counter(
            "webhook_requests", "Deliveries by what became of them.", ["outcome"], registry=self._registry
        )
        self._rejected = Counter(
            "webhook_rejected", "Deliveries not taken, by reason.", ["why"], registry=self._registry
        )
        self._seconds = Histogram(
            "webhook_request_duration_seconds",
            "From a delivery's arrival to its answer.",
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._deprecated = Counter(
            "webhook_deprecated", "Deliveries that Benchling marks as deprecated.", registry=self._registry
        )
        self._fetches = Counter(
            "webhook_jwks_fetches", "Fetches of Benchling's keys.", ["result"], registry=self._registry
        )
        self._in_flight = Gauge("webhook_in_flight", "Deliveries being worked on.", registry=self._registry)
        self._keys_age = Gauge("webhook_jwks_age_seconds", "Age of the oldest keys in use.", registry=self._registry)
        for outcome in DeliveryOutcome:
            self._requests.labels(outcome.value)
        for why in Why:
            self._rejected.labels(why.value)
        for result in ("fetched", "failed"):
            self._fetches.labels(result)
        Info("receiver_build", "The release.", registry=self._registry).info({"version": _release()})

    def answered(self, outcome: DeliveryOutcome, why: Why | None, seconds: float) -> None:
        """Count a delivery's answer."""
        self._requests.labels(outcome.value).inc()
        if why is not None:
            self._rejected.labels(why.value).inc()
        self._seconds.observe(seconds)

    def deprecated(self) -> None:
        """Count a delivery of a kind that Benchling will stop sending."""
        self._deprecated.inc()

    def fetched(self, succeeded: bool) -> None:
        """Count a fetch of keys."""
        self._fetches.labels("fetched" if succeeded else "failed").inc()

    def in_flight(self, deliveries: int) -> None:
        """Say how many deliveries are being worked on."""
        self._in_flight.set(deliveries)

    def observe_keys(self, keys: KeyRing) -> None:
        """Show the age of the keys from now on."""
        self._keys_age.set_function(lambda: keys.age_seconds)

    def exposition(self) -> bytes:
        """Return all in Prometheus' text format."""
        return generate_latest(self._registry)


def _release() -> str:
    try:
        return version("entrypackage-operator")
    except PackageNotFoundError:
        return "unknown"
