"""Every switch of the simulator strikes, and has the effect that its description promises.

What reaches the product is judged by the product: by the client's calls, by the receiver's key ring, by the receiver's
reading of a delivery. Archives are read by plain HTTP; what the packager makes of them is in `integration/packager`.
"""

from __future__ import annotations

import asyncio
import io
import json
import time
import zipfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from pydantic import SecretStr
from typing_extensions import override

from controller.benchling.client import BenchlingClient
from controller.benchling.errors import BenchlingFailure
from controller.benchling.links import entry_links
from controller.benchling.models import CanvasChange, TaskFailed, TaskSucceeded
from controller.benchling.settings import AppCredentials, BenchlingSettings
from entrypackage.messages import MessageError, parse_envelope
from receiver.answers import Refusal
from receiver.intake import intake
from receiver.jwks import fetch_keys
from receiver.keys import KeyRing
from receiver.signature import read_headers
from sandbox.simulator import verbs
from sandbox.simulator.clock import Clock
from sandbox.simulator.faults import FAULTS
from sandbox.simulator.gallery import gallery_bytes
from sandbox.simulator.inprocess import InProcess
from sandbox.simulator.sender import WebhookTransport
from sandbox.simulator.settings import TenantSettings
from sandbox.simulator.simulator import Simulator
from tests.support.virtual_time import run_virtual

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cryptography.hazmat.primitives.asymmetric import ec

LINKS = ("user", "dna_sequence")
FILES = (("plate.csv", 5000, True), ("raw.bin", 200_000, False))
SINCE = datetime(2020, 1, 1, tzinfo=UTC)
OPTIONS: dict[str, dict[str, Any]] = {
    "url_spent": {"bytes": 50_000}, "archive_huge": {"bytes": 300_000}, "archive_gallery": {"name": "zip-slip"},
    "task_failed": {"message": "No PDF."}, "webhook_reorder": {"window": 3},
}  # fmt: skip


@dataclass
class Inbox(WebhookTransport):
    """Where deliveries arrive; each is judged as the receiver judges it."""

    keys: list[ec.EllipticCurvePublicKey] = field(default_factory=list)
    app_definition_id: str = ""
    verdicts: list[str] = field(default_factory=list)
    at: list[float] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)

    @override
    async def post(self, url: str, headers: dict[str, str], body: bytes, seconds: float) -> int:
        self.verdicts.append(self._verdict(headers, body))
        self.at.append(asyncio.get_running_loop().time())
        self.ids.append(headers["webhook-id"])
        return 200

    @override
    async def post_and_drop(self, url: str, headers: dict[str, str], body: bytes) -> None:
        await self.post(url, headers, body, 0)

    @override
    async def close(self) -> None:
        pass

    def _verdict(self, headers: dict[str, str], body: bytes) -> str:
        try:
            given = [(name.encode(), value.encode()) for name, value in headers.items()]
            signed = read_headers(given, now=time.time(), tolerance_seconds=300)
            if not signed.matches(body, self.keys):
                return "bad signature"
            envelope = parse_envelope(body)
            decided = intake(envelope, webhook_id=signed.webhook_id, sent_at=signed.sent_at)
        except Refusal as refusal:
            return refusal.why.value
        except MessageError:
            return "malformed"
        whole = json.loads(body)
        marks = [" large"] if len(body) > 1_000_000 else []
        marks += [" twice signed"] if len(signed.signatures) > 1 else []
        marks += [" extra"] if "targetPath" in whole else []
        marks += [" of another app"] if whole["appDefinition"]["id"] != self.app_definition_id else []
        return type(decided).__name__.lower() + "".join(marks)


@dataclass
class Tenant:
    """A simulated tenant with one entry, the client that talks to it, and where its webhooks arrive."""

    simulator: Simulator
    client: BenchlingClient
    http: httpx.AsyncClient
    inbox: Inbox
    entry_id: str

    def set(self, switch: str, **members: Any) -> None:
        """Set the switch as the control API does."""
        verbs.set_fault(self.simulator, switch, OPTIONS.get(switch), **members)

    async def tried(self, call: Callable[[], Awaitable[Any]]) -> str:
        """The name of what a call returns or raises, with the status that a failure carries."""
        try:
            return type(await call()).__name__
        except BenchlingFailure as failure:
            return f"{type(failure).__name__} {failure.status}"

    async def keys(self) -> list[ec.EllipticCurvePublicKey]:
        """The keys that the key server publishes now."""
        origins, app = self.simulator.world.origins, self.simulator.settings.app_definition_id
        return await fetch_keys(self.http, f"{origins.jwks}/api/v1/apps/{{app_definition_id}}/jwks", app)


def observed(switch: str, scenario: Callable[[Tenant, str], Awaitable[Any]]) -> Any:
    """Run a scenario on a fresh tenant, in virtual time; what it saw, if the switch struck."""

    async def run() -> tuple[Any, int]:
        loop = asyncio.get_running_loop()
        inbox = Inbox()
        settings = TenantSettings(webhook_url="http://inbox.invalid", webhook_retries="none")
        simulator = Simulator(settings, clock=Clock(start=1_700_000_000.0, monotonic=loop.time), line=inbox)
        inbox.app_definition_id = settings.app_definition_id
        entry = simulator.world.create_entry(links=LINKS, attachments=FILES, canvas=True, silent=True)
        held = AppCredentials(settings.client_id, SecretStr(settings.client_secret))
        how = BenchlingSettings(base_url=simulator.world.origins.api, allow_plain_http=True, credentials=lambda: held)
        transport = InProcess(simulator)
        async with (
            BenchlingClient(how, transport=transport, rng=Random(1)) as client,
            httpx.AsyncClient(transport=transport, timeout=60) as http,
        ):
            seen = await scenario(Tenant(simulator, client, http, inbox, entry.id), switch)
        await simulator.close()
        return seen, simulator.world.faults.counts[switch]

    seen, strikes = run_virtual(run())
    assert strikes > 0, f"{switch} never struck"
    return seen


# -- the API, by the client's first read of an entry ----------------------------------------------------------


async def read_while_it_holds(tenant: Tenant, switch: str) -> tuple[str, str]:
    """What a read ends in while the switch is set, and what one ends in some minutes after it is cleared."""
    tenant.set(switch)
    held = await tenant.tried(lambda: tenant.client.get_entry(tenant.entry_id, deadline=30.0))
    tenant.simulator.world.faults.clear()
    await asyncio.sleep(400.0)
    return held, await tenant.tried(lambda: tenant.client.get_entry(tenant.entry_id))


READS: dict[str, str] = {
    "token_401": "AuthFailed 401",
    "token_429": "Throttled 429",
    "token_503_html": "ProviderDown 503",
    "token_revoked": "AuthFailed 401",
    "api_429_window": "Throttled None",
    "api_429_hidden": "Throttled 429",
    "api_500": "ProviderDown 500",
    "api_502": "ProviderDown 502",
    "api_503": "ProviderDown 503",
    "api_504": "ProviderDown 504",
    "api_500_bytes": "ProviderDown 500",
    "api_502_html": "ProviderDown 502",
    "api_503_html": "ProviderDown 503",
    "api_504_html": "ProviderDown 504",
    "api_404_html": "ProviderDown 404",
    "api_200_html": "ProviderDown 200",
    "api_redirect": "ProviderDown 302",
    "api_truncated_json": "ProviderDown 200",
    "api_wrong_type": "ProviderDown 200",
    "api_cut_before": "ProviderDown None",
    "api_cut_after": "ProviderDown None",
    "api_502_after": "ProviderDown 502",
    "downtime": "ProviderDown 503",
    "entry_404": "NotFound 404",
    "entry_403": "NotFound 403",
}
"""Switch -> what a read of an entry ends in while it is set."""


@pytest.mark.parametrize("switch", READS)
def test_a_read_fails_as_the_table_says_and_recovers(switch: str) -> None:
    assert observed(switch, read_while_it_holds) == (READS[switch], "Entry")


# -- what else shows in answers that the client takes ---------------------------------------------------------


async def seconds_of_a_read(tenant: Tenant, switch: str) -> float:
    """How long one read takes."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    tenant.set(switch)
    await tenant.client.get_entry(tenant.entry_id, deadline=30.0)
    return loop.time() - started


async def tokens_in_ten_seconds(tenant: Tenant, switch: str) -> int:
    """How many tokens the client fetches for two reads."""
    tenant.set(switch)
    for _ in range(2):
        await tenant.client.get_entry(tenant.entry_id)
        await asyncio.sleep(10.0)
    return tenant.client.numbers.tokens_fetched


async def rate_headers(tenant: Tenant, switch: str) -> dict[str, str]:
    """The rate headers of one answer."""
    tenant.set(switch)
    answer = await tenant.http.get(f"{tenant.simulator.world.origins.api}/api/v2/entries")
    return {name: value for name, value in answer.headers.items() if name.startswith("x-rate")}


async def exported(tenant: Tenant, switch: str) -> str:
    """How an export ends that is asked for while the switch is set, an hour later at the latest."""
    tenant.set(switch)
    try:
        task = await tenant.client.start_export(tenant.entry_id, deadline=20.0)
        seen = await tenant.client.get_task(task)
        for _ in range(100):
            if type(seen).__name__ != "TaskRunning":
                break
            await asyncio.sleep(10.0)
            seen = await tenant.client.get_task(task)
    except BenchlingFailure as failure:
        return f"{type(failure).__name__} {failure.status}"
    return f"{type(seen).__name__} {seen.message if isinstance(seen, TaskFailed) else ''}".strip()


async def entry_read(tenant: Tenant, switch: str) -> dict[str, Any]:
    """What the client makes of the entry."""
    tenant.set(switch)
    entry = await tenant.client.get_entry(tenant.entry_id)
    await asyncio.sleep(0.001)
    again = await tenant.client.get_entry(tenant.entry_id)
    named = await tenant.client.link_names(entry_links(entry))
    return {
        "schema": entry.raw["schema"] is not None,
        "notes": sum(len(day["notes"]) for day in entry.raw["days"]),
        "nameless": sorted(link.type for link in named if not link.name),
        "ascii": (entry.name or "").isascii(),
        "moved": again.modified_at != entry.modified_at,
    }


async def listed(tenant: Tenant, switch: str) -> list[int]:
    """How many entries, folders and events the client lists."""
    tenant.simulator.world.edit_fields(tenant.simulator.world.entry(tenant.entry_id), {"Batch": "B-2"})
    tenant.set(switch)
    entries = [row async for page in tenant.client.list_entries(SINCE) for row in page.entries]
    folders = await tenant.client.list_folders(project_id=tenant.simulator.world.project)
    events = await tenant.client.list_events(created_after=datetime.fromtimestamp(1_699_999_000, UTC))
    return [len(entries), len(folders), len(events.events)]


async def order_of_events(tenant: Tenant, switch: str) -> list[str]:
    """The batches of four edits in the order in which the feed lists them."""
    world = tenant.simulator.world
    for number in range(4):
        await asyncio.sleep(1.0)
        world.edit_fields(world.entry(tenant.entry_id), {"Batch": str(number)})
    tenant.set(switch)
    page = await tenant.client.list_events(created_after=datetime.fromtimestamp(1_699_999_000, UTC))
    return [str(event.entry and event.entry.raw["fields"]["Batch"]["value"]) for event in page.events]


async def canvas_read(tenant: Tenant, switch: str) -> str:
    """What the app finds after it has written into a canvas."""
    canvas = tenant.simulator.world.canvas(tenant.entry_id).id
    blocks = [{"type": "MARKDOWN", "id": "m", "value": "ours"}]
    tenant.set(switch)
    written = await tenant.tried(lambda: tenant.client.patch_canvas(canvas, CanvasChange(blocks=blocks, enabled=True)))
    if written != "Canvas":
        return written
    found = await tenant.client.get_canvas(canvas)
    return ", ".join(str(block["value"]) for block in found.blocks or [])


NO_ADDRESS = "Benchling reported success but gave no address of the archive."
PLAIN_ENTRY = {"schema": True, "notes": 6, "nameless": [], "ascii": True, "moved": False}
RATES = {"x-rate-limit-limit": "300", "x-rate-limit-remaining": "300", "x-rate-limit-reset": "30"}
ANSWERS: dict[str, tuple[Callable[[Tenant, str], Awaitable[Any]], object]] = {
    "token_slow": (seconds_of_a_read, pytest.approx(6.0, abs=0.5)),
    "token_expires_2": (tokens_in_ten_seconds, 2),
    "api_hang": (seconds_of_a_read, pytest.approx(10.5, abs=0.5)),
    "rate_headers_missing": (rate_headers, {}),
    "rate_headers_legacy": (rate_headers, {name.replace("rate-l", "ratel"): value for name, value in RATES.items()}),
    "rate_reset_early": (rate_headers, {**RATES, "x-rate-limit-reset": "29"}),
    "export_429": (exported, "Throttled None"),
    "export_200": (exported, "TaskSucceeded"),
    "task_failed": (exported, "TaskFailed No PDF."),
    "task_never_ends": (exported, "TaskRunning"),
    "task_404": (exported, "TaskGone"),
    "task_no_response": (exported, f"TaskFailed {NO_ADDRESS}"),
    "task_no_url": (exported, f"TaskFailed {NO_ADDRESS}"),
    "task_unknown_status": (exported, "TaskRunning"),
    "entry_null_schema": (entry_read, {**PLAIN_ENTRY, "schema": False}),
    "entry_5000_notes": (entry_read, {**PLAIN_ENTRY, "notes": 5006}),
    "entry_unknown_types": (entry_read, {**PLAIN_ENTRY, "notes": 7, "nameless": ["quantum_sample"]}),
    "entry_non_ascii": (entry_read, {**PLAIN_ENTRY, "notes": 7, "ascii": False}),
    "entry_moves": (entry_read, {**PLAIN_ENTRY, "moved": True}),
    "link_403": (entry_read, {**PLAIN_ENTRY, "nameless": ["dna_sequence", "user"]}),
    "link_404": (entry_read, {**PLAIN_ENTRY, "nameless": ["dna_sequence", "user"]}),
    "list_token_null": (listed, [1, 1, 1]),
    "list_token_missing": (listed, [1, 1, 1]),
    "events_gap": (listed, [1, 1, 0]),
    "events_unordered": (order_of_events, ["1", "3", "0", "2"]),
    "canvas_403": (canvas_read, "NotFound 403"),
    "canvas_404": (canvas_read, "NotFound 404"),
    "canvas_race": (canvas_read, "another writer"),
}


@pytest.mark.parametrize("switch", ANSWERS)
def test_an_answer_is_taken_as_the_table_says(switch: str) -> None:
    scenario, expected = ANSWERS[switch]
    assert observed(switch, scenario) == expected


# -- archives, by plain HTTP ----------------------------------------------------------------------------------


async def fetched(tenant: Tenant, switch: str) -> str:
    """What two downloads of an archive show: status, break, and what kind of ZIP it is."""
    tenant.set(switch)
    task = await tenant.client.start_export(tenant.entry_id)
    await asyncio.sleep(5.0)
    done = await tenant.client.get_task(task)
    assert isinstance(done, TaskSucceeded)
    started = asyncio.get_running_loop().time()
    first, second = [await _download(tenant, done.url.get_secret_value()) for _ in range(2)]
    seen = [str(first.status), *([first.broken] if first.broken else [])]
    if second.status != first.status:
        seen.append(f"then {second.status}")
    elif first.body != second.body and first.headers.get("etag") != second.headers.get("etag"):
        seen.append("changed")
    if asyncio.get_running_loop().time() > started:
        seen.append("slow")
    if first.status == 200 and not first.broken:
        seen.append("whole" if "content-length" in first.headers else "whole, chunked")
    if not first.broken and first.status in {200, 206}:
        seen.append(_kind(first.body))
    return ", ".join(seen)


@dataclass
class Download:
    """One answer of the object store."""

    status: int
    headers: httpx.Headers
    body: bytes
    broken: str = ""


async def _download(tenant: Tenant, url: str) -> Download:
    got, broken = bytearray(), ""
    async with tenant.http.stream("GET", url, headers={"range": "bytes=0-"}) as answer:
        try:
            async for piece in answer.aiter_raw():
                got += piece
        except httpx.ReadError:
            broken = "reset" if len(got) < int(answer.headers["content-length"]) - 1000 else "reset at the end"
        return Download(answer.status_code, answer.headers, bytes(got), broken)


def _kind(body: bytes) -> str:
    """How the members of a ZIP differ from those of a good export of the entry."""
    if body == gallery_bytes("zip-slip"):
        return "zip-slip"
    try:
        archive = zipfile.ZipFile(io.BytesIO(body))
        if archive.testzip() is not None:
            return "corrupt"
    except (zipfile.BadZipFile, NotImplementedError):
        return "no ZIP"
    if any(member.flag_bits & 8 for member in archive.infolist()):
        return "descriptors"
    sizes = {member.filename.rpartition("/")[2]: member.file_size for member in archive.infolist()}
    odd = [f"without {name}" for name, *_ in FILES if name not in sizes]
    odd += [f"with {name} of {size}" for name, size in sizes.items() if name == "huge.bin"]
    return ", ".join(odd) or "good"


ARCHIVES: dict[str, str] = {
    "url_expired": "403",
    "url_spent": "206, reset, then 403",
    "archive_503": "503",
    "archive_truncated": "206, no ZIP",
    "archive_cut": "206, reset",
    "archive_wrong_length": "206, reset at the end",
    "archive_slow": "206, slow, good",
    "archive_changed": "206, changed, good",
    "archive_corrupt": "206, corrupt",
    "archive_no_ranges": "200, whole, good",
    "archive_no_length": "200, whole, chunked, good",
    "archive_descriptors": "206, descriptors",
    "archive_missing": "206, without plate.csv",
    "archive_gallery": "206, zip-slip",
    "archive_huge": "206, with huge.bin of 300000",
}


@pytest.mark.parametrize("switch", ARCHIVES)
def test_an_archive_is_what_the_table_says(switch: str) -> None:
    assert observed(switch, fetched) == ARCHIVES[switch]


# -- keys, by the receiver's key ring -------------------------------------------------------------------------


async def ring_after_fetch(tenant: Tenant, switch: str) -> str:
    """Whether a fetch is believed, and how many keys are then in use, of them those that signed before."""

    async def fetch(_app_definition_id: str) -> list[ec.EllipticCurvePublicKey]:
        return await tenant.keys()

    app = tenant.simulator.settings.app_definition_id
    ring = KeyRing(
        fetch, [app], ttl_seconds=3600, timeout_seconds=3, refresh_min_seconds=0,
        clock=asyncio.get_running_loop().time,
    )  # fmt: skip
    await ring.refresh()
    before = {key.public_numbers() for key in ring.keys}
    tenant.set(switch)
    await ring.refresh()
    same = sum(key.public_numbers() in before for key in ring.keys)
    return f"{'believed' if ring.certain else 'not believed'}, {len(ring.keys)} in use, {same} as before"


RINGS: dict[str, str] = {
    "jwks_503": "not believed, 1 in use, 1 as before",
    "jwks_html": "not believed, 1 in use, 1 as before",
    "jwks_slow": "not believed, 1 in use, 1 as before",
    "jwks_cut": "not believed, 1 in use, 1 as before",
    "jwks_empty": "not believed, 1 in use, 1 as before",
    "jwks_rsa_first": "believed, 1 in use, 1 as before",
    "jwks_oct": "believed, 1 in use, 1 as before",
    "jwks_foreign": "believed, 1 in use, 0 as before",
}


@pytest.mark.parametrize("switch", RINGS)
def test_the_key_ring_is_as_the_table_says(switch: str) -> None:
    assert observed(switch, ring_after_fetch) == RINGS[switch]


# -- webhooks, by the receiver's reading ----------------------------------------------------------------------


async def delivered(tenant: Tenant, switch: str) -> list[str]:
    """What the receiver makes of each delivery of two edits and a new canvas."""
    tenant.inbox.keys = await tenant.keys()
    world = tenant.simulator.world
    entry = world.entry(tenant.entry_id)
    tenant.set(switch)
    started = asyncio.get_running_loop().time()
    for batch in ("1", "2"):
        world.edit_fields(entry, {"Batch": batch})
    world.insert_canvas(entry)
    await tenant.simulator.sender.idle()
    tenant.simulator.world.faults.clear()
    tenant.simulator.sender.release()
    await tenant.simulator.sender.idle()
    late = [f"after {at - started:.0f} s" for at in tenant.inbox.at if at > started]
    again = len(tenant.inbox.ids) - len(set(tenant.inbox.ids))
    tries = [attempt for delivery in tenant.simulator.sender.deliveries for attempt in delivery.attempts]
    unanswered = sum(attempt.status is None for attempt in tries)
    marks = [f"{again} again"] if again else []
    marks += [f"{unanswered} unanswered"] if unanswered else []
    return [*tenant.inbox.verdicts, *late, *marks]


WEBHOOKS: dict[str, list[str]] = {
    "webhook_bad_signature": ["bad signature", "bad signature", "bad signature"],
    "webhook_wrong_key": ["bad signature", "bad signature", "bad signature"],
    "webhook_no_signature": ["Unsigned", "Unsigned", "Unsigned"],
    "webhook_not_der": ["BadHeaders", "BadHeaders", "BadHeaders"],
    "webhook_malformed": ["BadHeaders", "BadHeaders", "BadHeaders"],
    "webhook_bad_base64": ["BadHeaders", "BadHeaders", "BadHeaders"],
    "webhook_two_signatures": ["wish twice signed", "wish twice signed", "accepted twice signed"],
    "webhook_old": ["BadTimestamp", "BadTimestamp", "BadTimestamp"],
    "webhook_future": ["BadTimestamp", "BadTimestamp", "BadTimestamp"],
    "webhook_wrong_app": ["wish of another app", "wish of another app", "accepted of another app"],
    "webhook_replay": ["wish", "wish", "wish", "wish", "accepted", "accepted", "3 again"],
    "webhook_big": ["wish large", "wish large", "accepted large"],
    "webhook_unknown_type": ["UnknownType", "UnknownType", "UnknownType"],
    "webhook_members_missing": ["malformed", "malformed", "accepted"],
    "webhook_members_extra": ["wish extra", "wish extra", "accepted extra"],
    "webhook_duplicate": ["wish", "wish", "wish", "wish", "accepted", "accepted", "3 again"],
    "webhook_beta_twin": ["wish", "wish", "accepted", "accepted"],
    "webhook_reset": ["wish", "wish", "accepted", "3 unanswered"],
    "webhook_reorder": ["wish", "accepted", "wish"],
    "webhook_delay": ["wish", "wish", "accepted", "after 5 s", "after 5 s", "after 5 s"],
    "webhook_lost": [],
    "webhook_lost_event": ["accepted"],
}


@pytest.mark.parametrize("switch", WEBHOOKS)
def test_a_delivery_is_judged_as_the_table_says(switch: str) -> None:
    assert observed(switch, delivered) == WEBHOOKS[switch]


# -- the tables -----------------------------------------------------------------------------------------------


def test_every_switch_is_in_one_table() -> None:
    rows = [*READS, *ANSWERS, *ARCHIVES, *RINGS, *WEBHOOKS]
    assert sorted(rows) == sorted(FAULTS)
