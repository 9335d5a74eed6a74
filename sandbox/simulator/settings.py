"""Every knob of the simulated tenant, with Benchling's documented value as the default where there is one."""

from __future__ import annotations

from dataclasses import dataclass

LEAK_MARK = "LEAKMARK"
"""Part of every secret, token and presigned URL that the simulator hands out: what a leak test looks for."""

DAY = 86_400.0

RETRY_PROFILES: dict[str, tuple[float, ...]] = {
    "none": (),
    "svix": (5, 300, 1800, 7200, 18_000, 36_000, 36_000),
    "aggressive": (0.1, 0.2, 0.5, 1, 2, 5, 5, 5),
}
"""Pauses before the second, third ... attempt, in real seconds. Benchling's own schedule is not documented."""


@dataclass(frozen=True)
class TenantAddresses:
    """Hosts and ports to listen on; port 0 takes a free one."""

    host: str = "127.0.0.1"
    port: int = 0
    archive_host: str = "127.0.0.2"
    archive_port: int = 0
    jwks_host: str = "127.0.0.3"
    jwks_port: int = 0


@dataclass(frozen=True)
class TenantSettings:
    """What holds for one run. Seconds are tenant time unless the name says real."""

    seed: int = 1
    tenant_id: str = "ten_simulator"
    app_id: str = "app_simulator"
    app_definition_id: str = "appdef_simulator"
    app_version: str = "0.1.0"
    app_name: str = "Entry packages"
    client_id: str = "client_simulator"
    client_secret: str = f"cs_{LEAK_MARK}_secret"
    api_key: str = f"sk_{LEAK_MARK}_key"
    feature_id: str = "entry_package_canvas"

    token_real_seconds: float = 900.0
    token_declared_seconds: int | None = None
    """`expires_in`; None: the true life, rounded up."""
    token_counts: bool = False
    """Whether /token spends the app's budget (not documented)."""
    rate_window_real_seconds: float = 30.0
    app_rate: int = 300
    tenant_rate: int = 1000
    key_rate: int = 60
    export_limit: int = 0
    """Exports of the tenant that may run at once; 0: no limit. Benchling's is dynamic and invisible."""

    export_seconds: float = 2.0
    """How long an export runs; an entry can say otherwise."""
    export_spread: float = 0.0
    """Share by which single exports are faster or slower, at random."""
    task_life: float = 1800.0
    url_life: float = DAY
    """X-Amz-Expires of a presigned URL."""
    session_life: float = DAY
    """Life of the temporary credentials that sign: the URL ends with them."""
    url_resigned: bool = True
    """Whether each read of a task signs the URL anew."""
    event_retention: float = 14 * DAY
    file_url_life: float = 3600.0

    canvas_moves_entry: bool = True
    """Whether a PATCH of a canvas moves its entry's modifiedAt (not documented; the worse value is the default)."""
    canvas_max_blocks: int = 0
    """0: no limit (none is documented)."""
    bulk_maximum: int = 0
    """Ids that one bulk-get takes; 0: no limit (none is documented)."""
    archived_canvas_patch: int = 404
    """Answer to a PATCH of an archived canvas (not documented)."""
    pdf_bytes: int = 6000

    webhook_url: str | None = None
    webhook_stable_url: bool = False
    """STABLE routing: every delivery to the bare URL; else /event, /canvas and /lifecycle are appended."""
    ack_real_seconds: float = 3.0
    webhook_retries: str = "svix"
    retry_scale: float = 1.0
    """Factor on the pauses of the retry profile."""
    retry_rejections: bool = True
    """Whether an answer of 4xx is tried again (not documented)."""
    webhook_delay_real_seconds: float = 0.0
    same_event_ids: bool = True
    """Whether an event has the same id in the webhook and in /events (not documented)."""
    jwks_optional_members: bool = True
    """Whether keys carry kid, use and alg."""
