"""One HTTP exchange with Benchling: send a request, read its answer, and tell what the answer means."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, NoReturn

import httpx

from controller.benchling.errors import (
    AnswerUnreadable,
    AuthFailed,
    NotFound,
    ProviderDown,
    Rejected,
    Throttled,
)
from entrypackage.telemetry import redact

if TYPE_CHECKING:
    from collections.abc import Mapping

_MESSAGE_CHARS: Final = 300
_LONGEST_RESET_SECONDS: Final = 3600.0
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
"""An escaped surrogate. Alone it is valid JSON but cannot be encoded as UTF-8, so it is replaced by ``?``."""


class Repeat(Enum):
    """Whether a request may be sent again while it is unknown whether it took effect."""

    SAFE = "safe"
    UNSAFE = "unsafe"


@dataclass(frozen=True, slots=True)
class Operation:
    """One kind of request to Benchling; its name is a label of logs and metrics."""

    name: str
    method: str
    repeat: Repeat = Repeat.SAFE
    own_limit: bool = False
    """Whether a 429 while the rate budget is not spent is about this operation alone, as it is for exports."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request. Its path begins with /api/; the values in it are already quoted."""

    operation: Operation
    path: str
    query: Mapping[str, str] | None = None
    body: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class RateLimit:
    """The rate limit by the headers of an answer."""

    limit: int
    remaining: int
    reset_seconds: float
    """Seconds until the period ends."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request."""

    status: int
    content_type: str
    content: bytes
    rate: RateLimit | None
    retry_after_seconds: float | None


def read_rate_limit(headers: Mapping[str, str]) -> RateLimit | None:
    """Return the rate limit in the headers; None if they are absent or implausible."""
    values = []
    for name in ("limit", "remaining", "reset"):
        text = headers.get(f"x-rate-limit-{name}", headers.get(f"x-ratelimit-{name}"))
        values.append(_number(text))
    limit, remaining, reset = values
    if limit is None or remaining is None or reset is None or limit < 1 or reset > _LONGEST_RESET_SECONDS:
        return None
    return RateLimit(int(limit), int(remaining), reset)


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None and len(text) < 20 else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


async def exchange(http: httpx.AsyncClient, request: httpx.Request, name: str, max_bytes: int) -> Answer:
    """Send a request and return its whole answer; raises `ProviderDown` without an answer, `AnswerUnreadable` if it
    has more than `max_bytes`.
    """
    try:
        response = await http.send(request, stream=True)
        try:
            content = await _read(response, name, max_bytes)
        finally:
            await response.aclose()
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        why = redact(str(error))[:_MESSAGE_CHARS] or type(error).__name__
        raise ProviderDown(f"Benchling could not be reached for {name}: {why}.") from None
    except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, OSError) as error:
        raise ProviderDown(
            f"The connection to Benchling broke during {name} ({type(error).__name__}).", effect_possible=True
        ) from None
    return Answer(
        status=response.status_code,
        content_type=response.headers.get("content-type", ""),
        content=content,
        rate=read_rate_limit(response.headers),
        retry_after_seconds=_number(response.headers.get("retry-after")),
    )


async def _read(response: httpx.Response, name: str, max_bytes: int) -> bytes:
    content = bytearray()
    async for chunk in response.aiter_bytes():
        content += chunk
        if len(content) > max_bytes:
            raise AnswerUnreadable(
                f"Benchling's answer to {name} is larger than {max_bytes} bytes.",
                status=response.status_code,
                effect_possible=True,
            )
    return bytes(content)


def read_json(answer: Answer, name: str) -> Any:
    """Return the JSON of a 2xx answer; raises the failure that any other answer stands for."""
    if not 200 <= answer.status < 300:
        raise_for(answer, name)
    try:
        return _parse(answer)
    except (ValueError, RecursionError):
        shown = "HTML" if "html" in answer.content_type.lower() else "something that is not whole, declared JSON"
        raise ProviderDown(
            f"Benchling answered {name} with {shown}; if this lasts, check benchling.baseUrl.",
            status=answer.status,
            effect_possible=True,
        ) from None


def _parse(answer: Answer) -> Any:
    if "json" not in answer.content_type.lower():
        raise ValueError("not declared as JSON")
    value = json.loads(answer.content, parse_constant=_refuse_constant, parse_float=_finite)
    if _SURROGATE.search(answer.content):
        return json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    return value


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("a number that is too large")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def raise_for(answer: Answer, name: str) -> NoReturn:
    """Raise the failure that an answer other than 2xx stands for."""
    status = answer.status
    error = _read_error(answer)
    says = f"Benchling answered {name} with {status}" + (f": {error.message}" if error.message else "")
    says = says if says.endswith((".", "!", "?")) else f"{says}."
    match status:
        case 401:
            raise AuthFailed(says, status=status)
        case 403 | 404 | 410:
            _raise_missing(answer, error, says)
        case 429:
            raise Throttled(says, status=status, retry_after_seconds=answer.retry_after_seconds, is_outage=True)
        case 408 | 425:
            raise ProviderDown(says, status=status)
        case _ if 400 <= status < 500:
            raise Rejected(says, status=status, invalid_ids=error.invalid_ids)
        case _ if 300 <= status < 400:
            raise ProviderDown(f"{says} A redirect is not followed; check benchling.baseUrl.", status=status)
    raise ProviderDown(
        says, status=status, retry_after_seconds=answer.retry_after_seconds, effect_possible=True, is_outage=True
    )


def _raise_missing(answer: Answer, error: ErrorBody, says: str) -> NoReturn:
    """Raise `NotFound` only if the API itself answered; the page of a gateway says nothing about the object."""
    if not error.is_api:
        raise ProviderDown(says, status=answer.status)
    raise NotFound(says, status=answer.status, invalid_ids=error.invalid_ids)


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """The readable parts of an error's body."""

    is_api: bool = False
    """Whether the body is the API's own, rather than a page of a gateway."""
    type: str = ""
    message: str = ""
    invalid_ids: tuple[str, ...] = ()


def _read_error(answer: Answer) -> ErrorBody:
    try:
        body = json.loads(answer.content)
    except (ValueError, RecursionError):
        return ErrorBody()
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return ErrorBody()
    message = next((error[key] for key in ("message", "userMessage") if isinstance(error.get(key), str)), "")
    ids = [error.get("invalidId"), *_list(error.get("invalidIds")), *_list(body.get("invalidIds"))]
    return ErrorBody(
        is_api=True,
        type=str(error.get("type", ""))[:64],
        message=redact(" ".join(message.split()))[:_MESSAGE_CHARS],
        invalid_ids=tuple(item for item in ids if isinstance(item, str)),
    )


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def error_type(answer: Answer) -> str:
    """Return the API's type of the error, such as ``invalid_client``; empty if it gives none."""
    return _read_error(answer).type
