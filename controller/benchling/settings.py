"""The client's settings and the app's credentials."""

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
"""Returns the credentials, read anew at each call; raises `SettingsError` if they cannot be read."""


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
"""How long a call may take, in seconds. Long, because calls keep their order by waiting; an outage ends one at once."""


@dataclass(frozen=True, slots=True)
class BenchlingSettings:
    """The tenant, the app, and the limits of the client. Times are in seconds."""

    base_url: str
    """The tenant's address without a path, such as https://example.benchling.com."""
    credentials: CredentialsSource
    """Read anew for each token, so that a corrected Secret needs no restart."""
    allow_plain_http: bool = False
    """Accept http:// for an address other than the loopback; only ever for a simulator."""
    requests_per_period: int = 300
    """The app's rate limit until Benchling's headers give another."""
    period_seconds: float = 30.0
    concurrency: int = 32
    """The largest number of requests under way; as many connections are kept."""
    first_export_limit: int = 10
    """Exports at once until Benchling's answers have shown its limit."""
    connect_timeout_seconds: float = 5.0
    request_timeout_seconds: float = 30.0
    """The longest time from a request to the end of its answer."""
    keepalive_seconds: float = 55.0
    """How long an idle connection is kept: less than the 60 s of load balancers, more than most polls are apart."""
    max_answer_bytes: int = 32 * 1024 * 1024
    """The largest answer that is read."""
    max_tries: int = 5
    """Requests for one call, the first one included."""
    deadlines: Mapping[Priority, float] = field(default_factory=lambda: DEADLINES)
    """How long a call may take, with its waiting and its retries, by priority."""
    breaker_failures: int = 5
    """Outage answers in a row after which nothing except probes is sent."""
    probe_seconds: float = 30.0
    """The shortest time between two probes."""
    page_size: int = 100
    """Rows per page of lists; Benchling's maximum is 100."""
    bulk_size: int = 50
    """Ids per bulk-get, so that the URL stays short."""
    name_cache_size: int = 20_000
    """How many names of linked objects are cached."""
    name_cache_seconds: float = 3600.0
    """How long a name is cached; that a name cannot be read is cached for a tenth of it."""

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
