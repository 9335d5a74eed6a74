"""One simulated tenant behind its three origins: every call goes through faults, authentication and budgets."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sandbox.simulator.api import tokens
from sandbox.simulator.api.operations import PREFIX, ROUTES, TOKEN
from sandbox.simulator.api.routing import Operation, Request
from sandbox.simulator.clock import Clock
from sandbox.simulator.journal import Journal, JournalRow
from sandbox.simulator.sender import Sender, WebhookTransport
from sandbox.simulator.settings import TenantSettings
from sandbox.simulator.signing import OCT_JWK, RSA_JWK
from sandbox.simulator.wire import Call, Refusal, Reply, error, html_reply, json_reply
from sandbox.simulator.world import World

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.simulator.faults import Rule

_GATEWAY = {500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout"}
_LARGEST_BODY = 100 * 1024 * 1024


@dataclass
class Trace:
    """What is learned of a call on its way, for the log."""

    operation: str = "unknown"
    caller: str = "nobody"
    token: str = "-"
    subject: str | None = None
    fault: str | None = None
    remaining: int | None = None
    headers: dict[str, str] = field(default_factory=dict)


class Simulator:
    """The tenant as its callers see it. No sockets here: see `server` and `inprocess`."""

    def __init__(
        self,
        settings: TenantSettings | None = None,
        *,
        clock: Clock | None = None,
        line: WebhookTransport | None = None,
        folder: Path | None = None,
    ) -> None:
        self.settings = settings or TenantSettings()
        self.clock = clock or Clock()
        self.world = World(self.settings, self.clock)
        self.journal = Journal(folder)
        world = self.world
        self.sender = Sender(
            self.settings, self.clock, world.faults, world.keys, world.ids,
            tenant_url=lambda: world.origins.api, line=line,
        )  # fmt: skip
        world.outbox.send = self.sender.put

    # -- the API ----------------------------------------------------------------------------------------------

    async def api(self, call: Call) -> Reply:
        """The answer of the tenant's own origin."""
        started, trace = self.clock.real(), Trace()
        if call.method == "GET" and call.path.endswith("/jwks"):
            return await self.jwks(call)
        try:
            reply = await self._api(call, trace)
        except Refusal as refusal:
            reply = refusal.reply
        gateway = reply.headers.get("content-type", "").startswith("text/html")
        if not gateway and self._struck(trace, "rate_headers_missing") is None:
            reply.headers |= trace.headers or self._rate_headers(trace, self.settings.app_id)
        self._log("api", call, trace, reply, started)
        return reply

    async def _api(self, call: Call, trace: Trace) -> Reply:
        operation, parameters = self._operation(call, trace)
        if self._struck(trace, "downtime"):
            return html_reply(503, "Scheduled maintenance")
        if len(call.body) > _LARGEST_BODY:
            return error(413, "invalid_request_error", "The request is too large")
        if trace.operation == TOKEN:
            return await self._token(call, trace)
        trace.caller, trace.token = tokens.caller_of(self.world, call)
        if self._struck(trace, "api_cut_before"):
            return Reply(cut_after=-1)
        self._spend(trace)
        if operation is None:
            return _no_operation(parameters is not None, call)
        early = self._early_fault(trace)
        if early is not None:
            return early
        request = Request(self.world, call, trace.caller, call.parameters(), parameters or {})
        try:
            reply = operation.edge(request)
        except Refusal as refusal:
            reply = refusal.reply
        return await self._late_fault(trace, reply)

    def _operation(self, call: Call, trace: Trace) -> tuple[Operation | None, dict[str, str] | None]:
        """The operation and its path parameters; (None, {}) for a known path with another method."""
        if not call.path.startswith(PREFIX):
            return None, None
        path = call.path.removeprefix(PREFIX)
        if path == "/token" and call.method == "POST":
            trace.operation = TOKEN
            return None, {}
        operation, parameters, known = ROUTES.find(call.method, path)
        if operation is None:
            return None, {} if known or path == "/token" else None
        trace.operation = operation.id
        if operation.subject is not None:
            trace.subject = parameters[operation.subject]
        elif operation.id == "exportItem":
            trace.subject = _export_subject(call)
        return operation, parameters

    async def _token(self, call: Call, trace: Trace) -> Reply:
        if rule := self._struck(trace, "token_slow"):
            await self.clock.sleep(rule.number("seconds", 6))
        reply = tokens.vend(self.world, call)
        if self.settings.token_counts:
            trace.caller = self.settings.app_id
            self._spend(trace)
        return reply

    def _spend(self, trace: Trace) -> None:
        """Take the call out of the budgets, and say so in the headers. Raises Refusal (429)."""
        now, budgets = self.clock.real(), self.world.budgets
        if self._struck(trace, "api_429_window"):
            budgets.of(trace.caller).exhaust(now)
        admitted = self._struck(trace, "api_429_hidden") is None and budgets.admit(trace.caller, now)
        trace.headers = self._rate_headers(trace, trace.caller)
        if not admitted:
            raise Refusal(error(429, "invalid_request_error", "Rate limit exceeded."))

    def _rate_headers(self, trace: Trace, caller: str) -> dict[str, str]:
        """The three headers, as they are after the call. Calls without a caller see the app's own window."""
        now, window = self.clock.real(), self.world.budgets.of(caller)
        reset = window.reset(now) - (1 if self._struck(trace, "rate_reset_early") else 0)
        prefix = "x-ratelimit" if self._struck(trace, "rate_headers_legacy") else "x-rate-limit"
        trace.remaining = window.remaining(now)
        return {
            f"{prefix}-limit": str(window.limit),
            f"{prefix}-remaining": str(trace.remaining),
            f"{prefix}-reset": str(reset),
        }

    def _struck(self, trace: Trace, fault: str) -> Rule | None:
        rule = self.world.faults.take(fault, self.clock.real(), subject=trace.subject, operation=trace.operation)
        if rule is not None:
            trace.fault = fault
        return rule

    def _early_fault(self, trace: Trace) -> Reply | None:
        """An answer instead of the call: it has no effect."""
        for status in (500, 502, 503, 504):
            if self._struck(trace, f"api_{status}"):
                return error(status, "api_error", _GATEWAY[status])
            if status != 500 and self._struck(trace, f"api_{status}_html"):
                return html_reply(status, _GATEWAY[status])
        if self._struck(trace, "api_500_bytes"):
            return Reply(500, b"\xff\xfe\x00broken", {"content-type": "application/json"})
        if self._struck(trace, "api_404_html"):
            return html_reply(404, "Not Found")
        if self._struck(trace, "api_200_html"):
            return html_reply(200, "Sign in")
        if self._struck(trace, "api_redirect"):
            return Reply(302, headers={"location": f"{self.world.origins.api}/signin"})
        return None

    async def _late_fault(self, trace: Trace, reply: Reply) -> Reply:
        """What happens to the answer of a call that took effect."""
        if rule := self._struck(trace, "api_hang"):
            await self.clock.sleep(rule.number("seconds", 10.5))
        if self._struck(trace, "api_cut_after"):
            return Reply(cut_after=-1)
        if self._struck(trace, "api_502_after"):
            return html_reply(502, _GATEWAY[502])
        if self._struck(trace, "api_truncated_json"):
            reply.body = reply.body[: max(1, len(reply.body) // 2)]
        if self._struck(trace, "api_wrong_type"):
            reply.headers["content-type"] = "text/plain"
        return reply

    # -- the other origins ------------------------------------------------------------------------------------

    async def blobs(self, call: Call) -> Reply:
        """The answer of the object store's origin."""
        started = self.clock.real()
        trace = Trace(operation="archive", subject=self.world.blobs.subject(call.path))
        if call.path.startswith("/files/"):
            trace.operation = "file"
        reply, trace.fault = self.world.blobs.answer(call)
        self._log("blobs", call, trace, reply, started)
        return reply

    async def jwks(self, call: Call) -> Reply:
        """The key server's answer."""
        started, trace = self.clock.real(), Trace(operation="jwks")
        reply = await self._jwks(call, trace)
        self._log("jwks", call, trace, reply, started)
        return reply

    async def _jwks(self, call: Call, trace: Trace) -> Reply:
        known = {
            f"/api/v1/apps/{self.settings.app_definition_id}/jwks",
            f"/apps/jwks/{self.settings.app_id}",
        }
        if call.path not in known:
            return error(404, "invalid_request_error", "There is no such app")
        if call.method != "GET":
            return error(405, "invalid_request_error", "Method not allowed")
        if self._struck(trace, "jwks_cut"):
            return Reply(cut_after=-1)
        if rule := self._struck(trace, "jwks_slow"):
            await self.clock.sleep(rule.number("seconds", 5))
        if self._struck(trace, "jwks_503"):
            return html_reply(503, "Service Unavailable")
        if self._struck(trace, "jwks_html"):
            return html_reply(200, "Sign in")
        optional = self.settings.jwks_optional_members
        keys: list[dict[str, Any]] = self.world.keys.listing(optional_members=optional)["keys"]
        if self._struck(trace, "jwks_empty"):
            keys = []
        if self._struck(trace, "jwks_foreign"):
            keys = [self.world.keys.foreign.public_jwk(optional_members=optional)]
        if self._struck(trace, "jwks_rsa_first"):
            keys = [RSA_JWK, *keys]
        if self._struck(trace, "jwks_oct"):
            keys = [OCT_JWK, *keys]
        return json_reply({"keys": keys})

    def _log(self, origin: str, call: Call, trace: Trace, reply: Reply, started: float) -> None:
        now = self.clock.real()
        # What a presigned URL's query holds is a secret, for the simulator's own log too.
        query = "" if origin == "blobs" else call.query
        sent = len(reply.body) if reply.stream is None else reply.length or 0
        self.journal.write(
            JournalRow(
                at=started, tenant_time=self.clock.now(), origin=origin, method=call.method, path=call.path,
                query=query, operation=trace.operation, caller=trace.caller, token=trace.token,
                user_agent=call.headers.get("user-agent", ""), status=0 if reply.cut_after == -1 else reply.status,
                remaining=trace.remaining, seconds=now - started, fault=trace.fault, subject=trace.subject,
                sent_bytes=sent,
            )
        )  # fmt: skip

    async def close(self) -> None:
        """Stop the webhook sender."""
        await self.sender.close()


def _no_operation(known: bool, call: Call) -> Reply:
    if known:
        return error(405, "invalid_request_error", "The method is not allowed for the requested URL.")
    return error(404, "invalid_request_error", f"The requested URL {call.path} was not found.")


def _export_subject(call: Call) -> str | None:
    try:
        body = json.loads(call.body)
    except (ValueError, RecursionError):
        return None
    identifier = body.get("id") if isinstance(body, dict) else None
    return identifier if isinstance(identifier, str) else None
