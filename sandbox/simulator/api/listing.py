"""What all listings share: page size, tokens, sorting, filters on time."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, TypeVar

from sandbox.simulator.clock import parse_iso
from sandbox.simulator.wire import Json, bad_request

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sandbox.simulator.world import World

Item = TypeVar("Item")
LARGEST_PAGE = 100


def page_size(parameters: dict[str, str], default: int = 50) -> int:
    """`pageSize`, 1 to 100. Raises Refusal (400)."""
    text = parameters.get("pageSize", str(default))
    if not re.fullmatch(r"\d{1,9}", text) or not 0 <= int(text) <= LARGEST_PAGE:
        raise bad_request(f"pageSize must be between 0 and {LARGEST_PAGE}")
    return int(text) or default


def _token(offset: int) -> str:
    return base64.urlsafe_b64encode(f"offset:{offset}".encode()).decode()


def offset_of(token: str) -> int:
    """Where a page begins; an empty token means the first. Raises Refusal (400)."""
    if not token:
        return 0
    try:
        name, _, offset = base64.urlsafe_b64decode(token.encode()).decode().partition(":")
        if name != "offset" or not re.fullmatch(r"\d{1,9}", offset):
            raise bad_request("nextToken is invalid")
        return int(offset)
    except (binascii.Error, ValueError):
        raise bad_request("nextToken is invalid") from None


def page(
    world: World,
    operation: str,
    key: str,
    items: Sequence[Item],
    show: Callable[[Item], Json],
    parameters: dict[str, str],
) -> Json:
    """One page of a listing; at its end nextToken is an empty string (or what a fault makes of it)."""
    start, size = offset_of(parameters.get("nextToken", "")), page_size(parameters)
    body: Json = {key: [show(item) for item in items[start : start + size]]}
    if start + size < len(items):
        return {**body, "nextToken": _token(start + size)}
    now = world.clock.real()
    if world.faults.take("list_token_missing", now, operation=operation):
        return body
    missing = world.faults.take("list_token_null", now, operation=operation)
    return {**body, "nextToken": None if missing else ""}


def ordered(
    items: list[Item], sort: str, keys: dict[str, Callable[[Item], object]], *, descending: bool = True
) -> list[Item]:
    """Sorted by `name[:asc|:desc]`. Raises Refusal (400)."""
    name, _, direction = sort.partition(":")
    if name not in keys or direction not in ("", "asc", "desc") or sort.endswith(":"):
        raise bad_request(f"sort must be one of {', '.join(keys)}, with :asc or :desc")
    down = descending if not direction else direction == "desc"
    return sorted(items, key=keys[name], reverse=down)  # type: ignore[arg-type]


_BOUND = re.compile(r"\s*(>=|<=|>|<|=)?\s*(.+?)\s*")


def time_filter(text: str | None) -> Callable[[float], bool]:
    """`> a`, `< b`, `> a AND < b`, as the API documents it. Raises Refusal (400)."""
    if not text:
        return lambda _moment: True
    bounds: list[tuple[str, float]] = []
    for part in re.split(r"\s+AND\s+|\s*,\s*", text):
        match = _BOUND.fullmatch(part)
        if match is None:
            raise bad_request("The time filter must look like '> 2026-01-01T00:00:00Z AND < 2026-02-01'")
        try:
            bounds.append((match.group(1) or "=", parse_iso(match.group(2))))
        except (ValueError, OverflowError):
            raise bad_request(f"{match.group(2)!r} is not a date and time") from None

    def fits(moment: float) -> bool:
        checks = {
            ">": moment.__gt__, "<": moment.__lt__, ">=": moment.__ge__, "<=": moment.__le__, "=": moment.__eq__,
        }  # fmt: skip
        return all(checks[sign](bound) for sign, bound in bounds)

    return fits


def identifiers(parameters: dict[str, str], name: str) -> list[str] | None:
    """A comma-separated list of ids; None if the parameter isn't there."""
    text = parameters.get(name)
    if text is None:
        return None
    return [part.strip() for part in text.split(",") if part.strip()]
