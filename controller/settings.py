"""The controller's settings file, as the chart renders it into ``controller.yaml``."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from entrypackage.order import DestinationFields, Limits
from entrypackage.settings import Settings

Seconds = Annotated[float, Field(ge=0)]
PositiveSeconds = Annotated[float, Field(gt=0)]
Url = Annotated[str, Field(pattern=r"^https?://[^/\s]+")]


class BenchlingAccess(Settings):
    """Which tenant, and where the app's credentials are mounted."""

    base_url: Url
    """The tenant's address, such as https://example.benchling.com."""
    credentials_folder: Path = Path("/etc/entrypackage/benchling")
    """Holds the files client_id and client_secret; they are read again when they change."""

    @field_validator("base_url")
    @classmethod
    def _without_slash(cls, value: str) -> str:
        return value.rstrip("/")


class DestinationSettings(DestinationFields):
    """The order's destination fields, checked more strictly: what is wrong is found at the start, not on each entry."""

    model_config = ConfigDict(extra="forbid")

    bucket: Annotated[str, Field(min_length=3, max_length=63)]
    prefix: Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^/].*[^/]$|^[^/]$")] = "benchling"
    queue_url: Url
    s3_endpoint_url: Url | None = None
    sqs_endpoint_url: Url | None = None


class PackagerSettings(Settings):
    """The Job that packs."""

    image: str
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    image_pull_secrets: list[str] = []
    service_account: str
    cpu: str = "250m"
    memory: str = "768Mi"
    """With the 256 MiB that Fargate adds this fits 1 GB. Requests equal limits."""
    env: dict[str, str] = {}
    env_from_secret: str | None = None
    """A Secret with more environment, for places without IRSA."""
    pod_labels: dict[str, str] = {}
    pod_annotations: dict[str, str] = {}
    log_level: str = "info"
    limits: Limits = Limits()


class Timing(Settings):
    """How long things may take and how long they are kept; all in seconds."""

    quiet_period_seconds: Seconds = 30
    """From the first sight of an event to its export, so that a burst of edits becomes one attempt."""
    export_deadline_seconds: PositiveSeconds = 7200
    """From the request for an export to its archive."""
    pod_start_deadline_seconds: PositiveSeconds = 600
    """From the Job's creation to its pod's start."""
    running_deadline_seconds: PositiveSeconds = 21600
    """From the Job's creation to its end."""
    destination_wait_seconds: PositiveSeconds = 600
    """How long another pod may hold the destination before a condition names it."""
    retain_succeeded_seconds: Seconds = 15
    """How long a finished Job is kept; Fargate bills its pod until then."""
    retain_failed_seconds: Seconds = 300
    ttl_after_finished_seconds: Annotated[int, Field(ge=60, le=3600)] = 900
    """The safety net: Kubernetes deletes a finished Job by itself after this."""
    resync_seconds: PositiveSeconds = 600
    """Between full lists."""

    @property
    def quiet_period(self) -> timedelta:
        """The quiet period."""
        return timedelta(seconds=self.quiet_period_seconds)


class RetrySettings(Settings):
    """How often and when a failed attempt is tried again."""

    max_tries: Annotated[int, Field(ge=1)] = 5
    """Failures in a row that count before the attempt is given up."""
    given_up_seconds: PositiveSeconds = 86400
    """After how long a given-up attempt is tried again."""
    incomplete_seconds: list[PositiveSeconds] = [300, 900, 3600]
    """When an incomplete export is repeated: after each, once."""
    scale: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Multiplies every back-off; below 1 only for demonstrations and tests."""


class LeaseSettings(Settings):
    """The election of the one controller that acts."""

    duration_seconds: PositiveSeconds = 15
    renew_deadline_seconds: PositiveSeconds = 10
    retry_seconds: PositiveSeconds = 2

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.retry_seconds < self.renew_deadline_seconds < self.duration_seconds:
            raise ValueError("retrySeconds must be below renewDeadlineSeconds, and that below durationSeconds")
        return self


class ControllerSettings(Settings):
    """All of it."""

    namespace: Annotated[str, Field(min_length=1, max_length=63)]
    """The one namespace that is served."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    health_port: Annotated[int, Field(ge=0, le=65535)] = 8081
    """Probes and metrics."""
    workers: Annotated[int, Field(ge=1, le=256)] = 32
    """How many objects are worked on at once."""
    name_lookups: Annotated[int, Field(ge=0)] = 500
    """The largest number of names of linked objects that one attempt looks up."""
    benchling: BenchlingAccess
    destination: DestinationSettings
    packager: PackagerSettings
    timing: Timing = Timing()
    retry: RetrySettings = RetrySettings()
    lease: LeaseSettings = LeaseSettings()
