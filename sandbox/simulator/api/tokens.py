"""POST /token: client credentials, as Basic or as form fields."""

from __future__ import annotations

import base64
import binascii
import hmac
import math
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote_plus

from sandbox.simulator.wire import Call, Refusal, Reply, error, html_reply, json_reply

if TYPE_CHECKING:
    from sandbox.simulator.world import App, World


def oauth_error(status: int, kind: str, message: str) -> Refusal:
    """The API's envelope with an OAuth type."""
    return Refusal(error(status, kind, message))


def basic(call: Call) -> tuple[str, str] | None:
    """User and password of a Basic header, if there is a readable one."""
    scheme, _, encoded = call.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, separator, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return None
    return (user, password) if separator else None


def _fault(world: World) -> Reply | None:
    now = world.clock.real()
    if world.faults.take("token_401", now, operation="generateToken"):
        return error(401, "invalid_client", "Client authentication failed")
    if world.faults.take("token_429", now, operation="generateToken"):
        return error(429, "invalid_request_error", "Rate limit exceeded.")
    if world.faults.take("token_503_html", now, operation="generateToken"):
        return html_reply(503, "Service Unavailable")
    return None


def vend(world: World, call: Call) -> Reply:
    """A token, or the documented refusals."""
    spoilt = _fault(world)
    if spoilt is not None:
        return spoilt
    form = _form(call)
    app = _authenticated(world, call, form)
    grant = form.get("grant_type")
    if grant is None:
        raise oauth_error(400, "invalid_request", "grant_type is required")
    if grant != "client_credentials":
        raise oauth_error(400, "unsupported_grant_type", f"grant_type {grant!r} is not supported")
    life = world.settings.token_real_seconds
    declared = world.settings.token_declared_seconds or math.ceil(life)
    if world.faults.take("token_expires_2", world.clock.real(), operation="generateToken"):
        life, declared = 2.0, 2
    token = world.give_token(app, life)
    return json_reply({"access_token": token, "token_type": "Bearer", "expires_in": declared})


def _form(call: Call) -> dict[str, str]:
    kind = call.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise oauth_error(400, "invalid_request", "The body must be application/x-www-form-urlencoded")
    try:
        return dict(parse_qsl(call.body.decode(), keep_blank_values=True))
    except ValueError:
        raise oauth_error(400, "invalid_request", "The body is not a form") from None


def _authenticated(world: World, call: Call, form: dict[str, str]) -> App:
    given = basic(call)
    if given is not None:
        client_id, secret = unquote_plus(given[0]), unquote_plus(given[1])
    elif "client_id" in form and "client_secret" in form:
        client_id, secret = form["client_id"], form["client_secret"]
    else:
        raise oauth_error(401, "invalid_client", "Client authentication is required")
    app = world.apps.get(client_id)
    if app is None or not hmac.compare_digest(app.client_secret.encode(), secret.encode()):
        raise oauth_error(401, "invalid_client", "Client authentication failed")
    return app


def caller_of(world: World, call: Call) -> tuple[str, str]:
    """(app id or `api-key`, the token's number). Raises Refusal (401)."""
    refused = Refusal(error(401, "authentication_error", "Failed to authenticate"))
    scheme, _, text = call.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        token = world.tokens.get(text.strip())
        if token is None:
            raise refused
        if world.faults.take("token_revoked", world.clock.real()):
            token.revoked = True
        if token.revoked or world.clock.real() >= token.ends:
            raise refused
        return token.app_id, str(token.number)
    given = basic(call)
    if given is not None and hmac.compare_digest(given[0].encode(), world.settings.api_key.encode()):
        return "api-key", "api-key"
    raise refused
