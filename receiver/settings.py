"""The receiver's settings, from the file that the chart mounts."""

from __future__ import annotations

import os
from ipaddress import IPv4Network, IPv6Network  # noqa: TC003 - pydantic reads the annotations
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from entrypackage.settings import Settings

DEFAULT_JWKS_URL = "https://apps.benchling.com/api/v1/apps/{app_definition_id}/jwks"
PLACEHOLDER = "{app_definition_id}"

Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,128}$")]
Seconds = Annotated[float, Field(gt=0, le=86_400)]


def _key_address(value: str) -> str:
    if not value.startswith(("https://", "http://")):
        raise ValueError("must start with https://")
    if PLACEHOLDER not in value:
        raise ValueError(f"must contain {PLACEHOLDER}")
    return value


class ReceiverSettings(Settings):
    """All that the receiver must know; the file's other programs have files of their own."""

    app_definition_ids: Annotated[list[Identifier], Field(min_length=1, max_length=8)]
    """The Benchling apps whose deliveries are accepted. Never taken from a delivery: any app's key would do then."""

    tenant_ids: Annotated[list[Identifier], Field(max_length=64)] = []
    """Tenants (ten_…) that are accepted; empty: every tenant in which the app is installed."""

    jwks_url: Annotated[str, Field(max_length=2048), AfterValidator(_key_address)] = DEFAULT_JWKS_URL
    """Where an app's public keys are; `{app_definition_id}` is replaced."""

    namespace: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
    """Where the EntryPackages live."""

    host: str | None = None
    """Address to listen on; absent: the environment variable POD_IP if it is set, else all addresses."""

    port: Annotated[int, Field(ge=0, le=65_535)] = 8080
    """Port to listen on; 0 takes a free one and logs it."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"

    max_body_bytes: Annotated[int, Field(ge=1024, le=16 * 1024**2)] = 1024**2
    """Longer bodies are refused without being read to their end."""

    max_deliveries: Annotated[int, Field(ge=1, le=10_000)] = 256
    """Deliveries that are worked on at the same time; more are answered 503 at once."""

    allowed_sources: Annotated[list[IPv4Network | IPv6Network], Field(max_length=256)] = []
    """Networks that deliveries may come from; empty: any."""

    trusted_proxy_hops: Annotated[int, Field(ge=0, le=8)] = 1
    """Proxies in front that each append the address they saw to X-Forwarded-For (an ALB is one); 0: none, the
    connection's own address counts."""

    timestamp_tolerance_seconds: Annotated[float, Field(gt=0, le=3600)] = 300
    """How far a delivery's timestamp may be from now, either way."""

    write_deadline_seconds: Annotated[float, Field(gt=0, le=30)] = 2.5
    """From a delivery's arrival until it is answered at the latest; Benchling waits 3 s."""

    jwks_ttl_seconds: Annotated[float, Field(ge=1, le=6 * 3600)] = 3600
    """Age at which keys are fetched again; Benchling asks for at most 6 hours."""

    jwks_timeout_seconds: Annotated[float, Field(gt=0, le=30)] = 2
    """Longest wait for the key server."""

    jwks_refresh_min_seconds: Seconds = 30
    """Shortest time between two fetches that unknown signatures ask for; anyone on the internet can send those."""

    keep_alive_seconds: Annotated[int, Field(ge=1, le=3600)] = 75
    """How long an idle connection is kept; longer than the load balancer keeps it, or it meets closed ones."""

    drain_seconds: Annotated[float, Field(ge=0, le=600)] = 15
    """After SIGTERM: how long deliveries are still taken while readiness is off and load balancers turn away."""

    shutdown_grace_seconds: Annotated[int, Field(ge=1, le=600)] = 10
    """After that: how long deliveries in flight may take. The pod's grace period must exceed the sum."""

    @model_validator(mode="after")
    def _times_fit(self) -> Self:
        if self.jwks_timeout_seconds > self.write_deadline_seconds:
            raise ValueError("jwksTimeoutSeconds must not exceed writeDeadlineSeconds")
        return self

    def listen_host(self) -> str:
        """Return the address to listen on."""
        return self.host or os.environ.get("POD_IP") or "0.0.0.0"  # noqa: S104 - in a pod, all addresses are its own
