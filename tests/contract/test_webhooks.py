"""Every webhook that the simulator sends: its body against the webhook file, its signature against the SDK."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from benchling_sdk.apps.helpers.webhook_helpers import WebhookVerificationError, jwks_by_app_definition, verify
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from sandbox.simulator.control import TenantControl
from sandbox.simulator.server import BenchlingServer
from sandbox.simulator.settings import TenantSettings
from tests.support.benchling_specification import message_schemas, webhooks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from jwcrypto.jwk import JWKSet  # type: ignore[import-untyped]

SENT = {
    "v2.entry.created", "v2.entry.updated.fields", "v2.entry.updated.reviewRecord", "v2.canvas.created",
    "v2-beta.canvas.created", "v2.canvas.initialized", "v2.canvas.userInteracted", "v2.app.installed",
    "v2.app.activateRequested", "v2.app.deactivated", "v2-beta.app.configuration.updated",
}  # fmt: skip


class Inbox:
    """A webhook receiver that keeps what it gets."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.url = ""

    async def answer(self, request: web.BaseRequest) -> web.Response:
        body = await request.content.read()
        self.got.append((request.path, dict(request.headers), body))
        return web.Response()

    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _path, _headers, body in self.got]


@pytest.fixture
async def inbox() -> AsyncIterator[Inbox]:
    box = Inbox()
    runner = web.ServerRunner(web.Server(box.answer, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    box.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield box
    await runner.cleanup()


@pytest.fixture
async def server(inbox: Inbox) -> AsyncIterator[BenchlingServer]:
    settings = TenantSettings(webhook_url=inbox.url, webhook_retries="none", jwks_optional_members=True)
    async with BenchlingServer(settings) as running:
        yield running


async def _send_everything(server: BenchlingServer) -> None:
    async with TenantControl(server.control_url) as control:
        await control.set_fault("webhook_beta_twin")
        entry = await control.create_entry()
        bare = await control.create_entry(schemaless=True)
        await control.edit_entry(entry["id"])
        await control.edit_entry(bare["id"])
        await control.edit_entry(entry["id"], kind="review")
        canvas = await control.insert_canvas(entry["id"])
        await control.insert_canvas(entry["id"], initialized=True)
        await control.click(canvas["id"], "anything", force=True)
        for kind in ("install", "activate", "deactivate", "configure"):
            await control.tell_app(kind)
    await server.simulator.sender.idle()


async def _verified(server: BenchlingServer, headers: dict[str, str], body: bytes) -> None:
    """Verify as the SDK does, with the simulator's key server. Raises what the SDK raises."""
    ready = server.ready()
    url = str(ready["jwks"])

    def keys(app_definition_id: str) -> JWKSet:
        return jwks_by_app_definition(app_definition_id, jwk_url_provider=lambda _id: url)

    # The SDK's helper blocks, and the key server runs on this loop.
    await asyncio.to_thread(verify, str(ready["appDefinitionId"]), body.decode(), headers, keys)


async def test_bodies_follow_the_webhook_file(server: BenchlingServer, inbox: Inbox) -> None:
    await _send_everything(server)
    schemas, definitions = message_schemas(), webhooks()
    types = set()
    for body in inbox.bodies():
        kind = body["message"]["type"]
        types.add(kind)
        for name, part in (("WebhookEnvelopeV0", body), (schemas[kind], body["message"])):
            problems = Draft202012Validator({"$ref": f"#/components/schemas/{name}", **definitions}).iter_errors(part)
            assert not [problem.message for problem in problems], kind
        known = _properties(definitions, schemas[kind])
        assert body["message"].keys() <= known, f"{kind} has members that the file doesn't name"
    assert types == SENT


def _properties(definitions: dict[str, Any], name: str) -> set[str]:
    """The members that a message's schema names."""
    found: set[str] = set()
    waiting = [definitions["components"]["schemas"][name]]
    while waiting:
        schema = waiting.pop()
        found |= schema.get("properties", {}).keys()
        waiting += [_resolved(definitions, part) for part in schema.get("allOf", [])]
    return found


def _resolved(definitions: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in schema:
        return schema
    found: dict[str, Any] = definitions["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return found


@pytest.mark.parametrize("spoil", ["without", "alien"])
def test_the_webhook_file_refuses(spoil: str) -> None:
    message = {"type": "v2.canvas.created", "deprecated": False, "canvasId": "c", "featureId": "f", "userId": "u"}
    message = {**message, "deprecated": "no"} if spoil == "alien" else {**message}
    if spoil == "without":
        del message["canvasId"]
    reference = {"$ref": f"#/components/schemas/{message_schemas()['v2.canvas.created']}"}
    assert list(Draft202012Validator({**reference, **webhooks()}).iter_errors(message))


async def test_signatures_verify_with_the_sdk(server: BenchlingServer, inbox: Inbox) -> None:
    await _send_everything(server)
    for _path, headers, body in inbox.got:
        await _verified(server, headers, body)
    _path, headers, body = inbox.got[0]
    with pytest.raises(WebhookVerificationError):
        await _verified(server, headers, body + b" ")


async def test_paths_by_routing(server: BenchlingServer, inbox: Inbox) -> None:
    await _send_everything(server)
    assert {path for path, _headers, _body in inbox.got} == {"/event", "/canvas", "/lifecycle"}
    inbox.got.clear()
    async with TenantControl(server.control_url) as control:
        await control.route_webhooks(stable=True)
        await control.create_entry()
    await server.simulator.sender.idle()
    assert [path for path, _headers, _body in inbox.got] == ["/"]


async def test_rotated_keys_overlap(server: BenchlingServer, inbox: Inbox) -> None:
    async with TenantControl(server.control_url) as control:
        await control.create_entry()
        await server.simulator.sender.idle()
        await control.rotate_keys()
        await control.create_entry()
        await server.simulator.sender.idle()
        for _path, headers, body in inbox.got:
            await _verified(server, headers, body)
        await control.rotate_keys(keep_old=False)
        _path, headers, body = inbox.got[-1]
        with pytest.raises(WebhookVerificationError):
            await _verified(server, headers, body)


@pytest.mark.parametrize(
    ("fault", "refused"),
    [
        ("webhook_bad_signature", WebhookVerificationError),
        ("webhook_wrong_key", WebhookVerificationError),
        ("webhook_no_signature", WebhookVerificationError),
        ("webhook_not_der", WebhookVerificationError),
        ("webhook_old", WebhookVerificationError),
        ("webhook_future", WebhookVerificationError),
        ("webhook_malformed", ValueError),
        ("webhook_bad_base64", ValueError),
        ("webhook_two_signatures", None),
        ("webhook_unknown_type", None),
        ("webhook_members_extra", None),
    ],
)
async def test_spoilt_deliveries(
    server: BenchlingServer, inbox: Inbox, fault: str, refused: type[Exception] | None
) -> None:
    async with TenantControl(server.control_url) as control:
        await control.set_fault(fault, times=1)
        await control.create_entry()
        await server.simulator.sender.idle()
        assert (await control.faults())["counts"] == {fault: 1}
    _path, headers, body = inbox.got[0]
    if refused is None:
        await _verified(server, headers, body)
    else:
        with pytest.raises(refused):
            await _verified(server, headers, body)
