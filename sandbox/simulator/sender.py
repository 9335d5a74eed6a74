"""The webhook sender: signs, delivers within the ACK budget, sends again, and misbehaves on demand."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import aiohttp

from sandbox.simulator.clock import iso
from sandbox.simulator.messages import Outgoing, envelope
from sandbox.simulator.settings import RETRY_PROFILES

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from sandbox.simulator.clock import Clock
    from sandbox.simulator.faults import Rule, Switchboard
    from sandbox.simulator.identifiers import Identifiers
    from sandbox.simulator.settings import TenantSettings
    from sandbox.simulator.signing import Key, KeyRing
    from sandbox.simulator.wire import Json

_AT_ONCE = 100
_CLOCK_ERROR = 600


class WebhookTransport(Protocol):
    """How requests leave."""

    async def post(self, url: str, headers: dict[str, str], body: bytes, seconds: float) -> int:
        """The answer's status. Raises OSError, TimeoutError or aiohttp.ClientError."""

    async def post_and_drop(self, url: str, headers: dict[str, str], body: bytes) -> None:
        """Send everything and close without waiting for the answer."""

    async def close(self) -> None:
        """Give up connections."""


class SocketTransport:
    """Requests over real connections; redirects are not followed."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def post(self, url: str, headers: dict[str, str], body: bytes, seconds: float) -> int:
        """The answer's status."""
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=_AT_ONCE))
        timeout = aiohttp.ClientTimeout(total=seconds)
        async with self._session.post(
            url, headers=headers, data=body, timeout=timeout, allow_redirects=False
        ) as answer:
            await answer.read()
            return answer.status

    async def post_and_drop(self, url: str, headers: dict[str, str], body: bytes) -> None:
        """Send everything, leave the receiver a moment to read it, and close."""
        parts = urlsplit(url)
        context = ssl.create_default_context() if parts.scheme == "https" else None
        port = parts.port or (443 if context else 80)
        _reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=context)
        lines = [f"POST {parts.path or '/'} HTTP/1.1", f"Host: {parts.netloc}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode() + body)
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.close()

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()


@dataclass
class Attempt:
    """One try. `seconds`: until the answer; `status` None: there was none, `problem` says why."""

    at: float
    status: int | None
    seconds: float
    problem: str | None = None


@dataclass
class Delivery:
    """One webhook with all its tries. `state`: waiting, delivered, failed, lost, unaddressed."""

    webhook_id: str
    created: str
    """Tenant time."""
    type: str
    subject: str | None
    url: str
    message: Json
    state: str = "waiting"
    attempts: list[Attempt] = field(default_factory=list)

    def shown(self) -> Json:
        """For the control API."""
        return asdict(self)


class Sender:
    """Delivers what the world puts into its outbox."""

    def __init__(
        self,
        settings: TenantSettings,
        clock: Clock,
        faults: Switchboard,
        keys: KeyRing,
        ids: Identifiers,
        *,
        tenant_url: Callable[[], str],
        line: WebhookTransport | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.url = settings.webhook_url
        self.stable_url = settings.webhook_stable_url
        self.profile = settings.webhook_retries
        self.deliveries: deque[Delivery] = deque(maxlen=100_000)
        self._clock, self._faults, self._keys, self._ids = clock, faults, keys, ids
        self._tenant_url = tenant_url
        self._line = line or SocketTransport()
        self._wall = wall
        self._dice = Random(settings.seed)
        self._tasks: set[asyncio.Task[None]] = set()
        self._at_once = asyncio.Semaphore(_AT_ONCE)
        self._held: list[Outgoing] = []
        self._timer: asyncio.TimerHandle | None = None
        """Nothing is held back for longer than this, however few messages follow."""

    def put(self, outgoing: Outgoing) -> None:
        """Take a message over; it leaves at once, or when its reordering window is full."""
        if rule := self._take("webhook_reorder", outgoing):
            self._held.append(outgoing)
            if len(self._held) == 1:
                self._timer = asyncio.get_running_loop().call_later(rule.number("seconds", 2), self.release)
            if len(self._held) >= int(rule.number("window", 5)):
                self.release()
            return
        self._begin(outgoing)

    def release(self) -> int:
        """Send what was held back for reordering, shuffled; how many."""
        held, self._held = self._held, []
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._dice.shuffle(held)
        for outgoing in held:
            self._begin(outgoing)
        return len(held)

    def _take(self, name: str, outgoing: Outgoing) -> Rule | None:
        return self._faults.take(name, self._clock.real(), subject=outgoing.subject, operation=outgoing.type)

    def _begin(self, outgoing: Outgoing) -> None:
        delivery = self._delivery(outgoing)
        if self._take("webhook_lost", outgoing):
            delivery.state = "lost"
        elif self.url is None:
            delivery.state = "unaddressed"
        else:
            self.start(self._deliver(outgoing, delivery))

    def start(self, work: Coroutine[None, None, None]) -> None:
        """Run something that makes deliveries; `idle` waits for it, `close` stops it."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _delivery(self, outgoing: Outgoing) -> Delivery:
        base = (self.url or "").rstrip("/")
        url = base if self.stable_url else base + outgoing.suffix
        delivery = Delivery(
            self._ids.next("msg"), iso(self._clock.now()), outgoing.type, outgoing.subject, url, outgoing.message
        )
        self.deliveries.append(delivery)
        return delivery

    async def _deliver(self, outgoing: Outgoing, delivery: Delivery) -> None:
        delay = self.settings.webhook_delay_real_seconds
        if rule := self._take("webhook_delay", outgoing):
            delay += rule.number("seconds", 5)
        if delay:
            await self._clock.sleep(delay)
        pauses = (*RETRY_PROFILES[self.profile], None)
        body = self._body(outgoing)
        for pause in pauses:
            if await self._attempt(outgoing, delivery, body):
                delivery.state = "delivered"
                break
            if pause is None or self._rejected_for_good(delivery):
                delivery.state = "failed"
                return
            await self._clock.sleep(pause * self.settings.retry_scale)
        if self._take("webhook_duplicate", outgoing):
            await self._attempt(outgoing, delivery, body)

    def _rejected_for_good(self, delivery: Delivery) -> bool:
        status = delivery.attempts[-1].status
        return status is not None and 400 <= status < 500 and not self.settings.retry_rejections

    def _body(self, outgoing: Outgoing) -> bytes:
        whole = envelope(outgoing, self.settings, self._tenant_url())
        message = dict(outgoing.message)
        if self._take("webhook_unknown_type", outgoing):
            message["type"] = "v9.entry.reimagined"
        if self._take("webhook_members_missing", outgoing):
            message = {
                name: message[name] for name in message if name not in ("schema", "createdAt", "userId", "featureId")
            }
            whole.pop("channel")
        if self._take("webhook_members_extra", outgoing):
            message["excludedProperties"] = []
            whole |= {"targetPath": outgoing.suffix, "context": {"canvasId": message.get("canvasId")}}
        if rule := self._take("webhook_big", outgoing):
            message["padding"] = "x" * int(rule.number("bytes", 10_000_000))
        if self._take("webhook_wrong_app", outgoing):
            whole["appDefinition"] = {"id": "appdef_of_somebody_else", "versionNumber": "0.1.0"}
        return json.dumps({**whole, "message": message}).encode()

    def _headers(self, outgoing: Outgoing, delivery: Delivery, body: bytes) -> dict[str, str]:
        moment = self._wall()
        if self._take("webhook_old", outgoing):
            moment -= _CLOCK_ERROR
        if self._take("webhook_future", outgoing):
            moment += _CLOCK_ERROR
        timestamp = str(int(moment))
        headers = {
            "content-type": "application/json",
            "user-agent": "Benchling-Simulator/1",
            "webhook-id": delivery.webhook_id,
            "webhook-timestamp": timestamp,
        }
        signature = self._signature(outgoing, delivery.webhook_id, timestamp, body)
        return headers if signature is None else {**headers, "webhook-signature": signature}

    def _signature(self, outgoing: Outgoing, webhook_id: str, timestamp: str, body: bytes) -> str | None:
        key: Key = self._keys.foreign if self._take("webhook_wrong_key", outgoing) else self._keys.current
        if self._take("webhook_bad_signature", outgoing):
            body += b" "
        raw, der = key.sign(webhook_id, timestamp, body)
        if self._take("webhook_no_signature", outgoing):
            return None
        if self._take("webhook_not_der", outgoing):
            return raw
        if self._take("webhook_malformed", outgoing):
            return der.replace(",", "")
        if self._take("webhook_bad_base64", outgoing):
            return f"{raw} v1bder,abcde"
        if self._take("webhook_two_signatures", outgoing):
            return f"{self._keys.foreign.sign(webhook_id, timestamp, body)[1]} {raw} {der}"
        return f"{raw} {der}"

    async def _attempt(self, outgoing: Outgoing, delivery: Delivery, body: bytes) -> bool:
        """One try, with its latency; whether it was acknowledged."""
        headers = self._headers(outgoing, delivery, body)
        async with self._at_once:
            started = self._clock.real()
            status, problem = await self._exchange(outgoing, delivery, headers, body)
            seconds = self._clock.real() - started
        delivery.attempts.append(Attempt(started, status, seconds, problem))
        if self._take("webhook_replay", outgoing):
            status_again, problem = await self._exchange(outgoing, delivery, headers, body)
            delivery.attempts.append(Attempt(self._clock.real(), status_again, 0.0, problem))
        return status is not None and 200 <= status < 300

    async def _exchange(
        self, outgoing: Outgoing, delivery: Delivery, headers: dict[str, str], body: bytes
    ) -> tuple[int | None, str | None]:
        limit = self.settings.ack_real_seconds
        try:
            if self._take("webhook_reset", outgoing):
                await self._line.post_and_drop(delivery.url, headers, body)
                return None, "dropped"
            async with asyncio.timeout(limit):
                return await self._line.post(delivery.url, headers, body, limit), None
        except TimeoutError:
            return None, f"no answer within {limit:g} s"
        except (OSError, aiohttp.ClientError) as problem:
            return None, type(problem).__name__

    def latencies(self) -> dict[str, Any]:
        """The receiver's ACK times in real seconds."""
        times = sorted(
            attempt.seconds
            for delivery in self.deliveries
            for attempt in delivery.attempts
            if attempt.status is not None
        )
        if not times:
            return {"count": 0}
        at = {share: times[min(len(times) - 1, int(len(times) * share))] for share in (0.5, 0.95, 0.99)}
        return {"count": len(times), "p50": at[0.5], "p95": at[0.95], "p99": at[0.99], "max": times[-1]}

    def states(self) -> dict[str, int]:
        """How many deliveries are in which state."""
        counts: dict[str, int] = {}
        for delivery in self.deliveries:
            counts[delivery.state] = counts.get(delivery.state, 0) + 1
        return counts

    async def idle(self) -> None:
        """Wait until nothing is on its way or waits for another try."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def close(self) -> None:
        """Stop all deliveries."""
        if self._timer is not None:
            self._timer.cancel()
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._line.close()
