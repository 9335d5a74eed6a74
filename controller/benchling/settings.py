"""What the client is built with."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from pydantic import SecretStr

from controller.benchling.priority import Priority
from entrypackage.settings import read_secret

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class AppCredentials:
    """The app's client id and secret (OAuth2 client credentials)."""

    client_id: str
    client_secret: SecretStr


CredentialsSource = Callable[[], AppCredentials]
"""Reads the credentials anew at each call; raises `SettingsError` if they cannot be read."""


def credentials_in(folder: Path) -> CredentialsSource:
    """Return a source that reads the files ``client_id`` and ``client_secret`` of a mounted Secret each time."""

    def read() -> AppCredentials:
        return AppCredentials(
            client_id=read_secret(folder / "client_id", "benchling.secretName (client_id)"),
            client_secret=SecretStr(read_secret(folder / "client_secret", "benchling.secretName (client_secret)")),
        )

    return read


DEADLINES: Final[Mapping[Priority, float]] = {
    Priority.CLICK: 20.0,
    Priority.EXPORT: 300.0,
    Priority.POLL: 300.0,
    Priority.READ: 300.0,
    Priority.SWEEP: 900.0,
}
"""Long, because waiting in the budget's queue is what keeps the order; an outage ends a call at once anyway."""


@dataclass(frozen=True, slots=True)
class BenchlingSettings:
    """Where Benchling is, who we are, and how patient the client is. Times are in seconds."""

    base_url: str
    """The tenant's address without a path, such as https://example.benchling.com."""
    credentials: CredentialsSource
    """Read anew whenever a token is asked for, so that a corrected Secret needs no restart."""
    allow_plain_http: bool = False
    """Accept http:// for an address other than the loopback; only ever for a simulator."""
    requests_per_period: int = 300
    """The app's budget until Benchling's headers say otherwise."""
    period_seconds: float = 30.0
    concurrency: int = 32
    """Most requests under way at once; as many connections are kept."""
    first_export_limit: int = 10
    """Exports at once until Benchling's refusals and acceptances have shown its limit."""
    connect_timeout_seconds: float = 5.0
    request_timeout_seconds: float = 30.0
    """From a request to the end of its answer."""
    keepalive_seconds: float = 55.0
    """How long an idle connection is kept: below the 60 s after which load balancers drop it, above most polls."""
    max_answer_bytes: int = 32 * 1024 * 1024
    """A larger answer is not read to its end."""
    max_tries: int = 5
    """Requests for one call, the first one included."""
    deadlines: Mapping[Priority, float] = field(default_factory=lambda: DEADLINES)
    """How long a call may take with its waiting and its repeats."""
    breaker_failures: int = 5
    """Outage answers in a row after which nothing but a probe is sent."""
    probe_seconds: float = 30.0
    """Least time between two probes."""
    page_size: int = 100
    """Rows per page of lists; Benchling's maximum is 100."""
    bulk_size: int = 50
    """Ids per bulk-get, so that the URL stays short."""
    name_cache_size: int = 20_000
    """Names of linked objects that are kept."""
    name_cache_seconds: float = 3600.0
    """How long a name is believed; a name that could not be read only a tenth of it."""

    def __post_init__(self) -> None:
        """Refuse an address to which credentials must not be sent."""
        parts = urlsplit(self.base_url)
        if not parts.hostname or parts.query or parts.fragment or parts.username or parts.path.strip("/"):
            raise ValueError(f"The Benchling address {self._shown()} must be like https://example.benchling.com.")
        plain = parts.scheme == "http" and (self.allow_plain_http or _is_loopback(parts.hostname))
        if parts.scheme != "https" and not plain:
            raise ValueError(f"The Benchling address {self._shown()} must start with https://.")

    def _shown(self) -> str:
        return self.base_url.rpartition("@")[2].partition("?")[0]


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
