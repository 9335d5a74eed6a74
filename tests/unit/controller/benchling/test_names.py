"""Links, their names and their slugs."""

from __future__ import annotations

from random import Random
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from controller.benchling.client import BenchlingClient
from controller.benchling.errors import ProviderDown
from controller.benchling.links import LinkRef, entry_links, slug_of
from controller.benchling.models import read_entry
from controller.benchling.settings import AppCredentials, BenchlingSettings
from tests.support.scripted_benchling import ScriptedBenchling, entry, gateway_page, problem, settings
from tests.support.virtual_time import run_virtual


def linked(*links: Any) -> Any:
    """Return an entry whose one note has these links."""
    return read_entry(entry("etr_1", days=[{"date": "x", "notes": [{"type": "text", "links": list(links)}]}]), "test")


def test_links_are_unique_in_order_and_survive_nonsense() -> None:
    found = entry_links(
        linked(
            {"id": "box_1", "type": "box", "webURL": "https://x/box_1-red-box/edit"},
            {"type": "link", "webURL": "https://example.com"},
            7,
            None,
            {"id": 3, "type": "box"},
            {"id": "box_1", "type": "box", "webURL": None},
            {"id": "ent_1", "type": "user", "webURL": None},
        )
    )
    assert [(ref.type, ref.id, ref.slug) for ref in found] == [("box", "box_1", "red-box"), ("user", "ent_1", None)]


@pytest.mark.parametrize(
    ("link_id", "url", "expected"),
    [
        ("etr_AB", "https://x/a/f/lib_1-f/etr_AB-my-entry/edit", "my-entry"),
        ("etr_AB", "https://x/etr-AB-my-entry", "my-entry"),
        ("etr_AB", "https://x/etr_AB", None),
        ("etr_AB", "https://x/etr_ABC-other", None),
        ("etr_AB", "http://[broken", None),
        ("", "https://x/-a", None),
        ("etr_AB", None, None),
    ],
)
def test_slugs(link_id: str, url: str | None, expected: str | None) -> None:
    assert slug_of(link_id, url) == expected


def names_of(refs: list[LinkRef], serve: Any, *, rounds: int = 1, **options: Any) -> tuple[Any, ScriptedBenchling]:
    """Look names up at a server that answers as told."""

    async def scenario() -> tuple[Any, ScriptedBenchling]:
        server = ScriptedBenchling(latency=0.0, faults=[serve])
        async with BenchlingClient(settings(bulk_size=10), transport=server, rng=Random(1)) as client:
            for _ in range(rounds - 1):
                await client.link_names(refs, **options)
            found = await client.link_names(refs, **options)
            return [link.name for link in found], server

    return run_virtual(scenario())


def boxes(request: httpx.Request, _now: float) -> httpx.Response | None:
    """Serve boxes; those whose id ends in x are refused."""
    if ":bulk-get" in request.url.path:
        ids = request.url.params["boxIds"].split(",")
        bad = [box for box in ids if box.endswith("x")]
        if bad:
            return problem(400, "invalid_request_error", "Invalid ids", invalidIds=bad)
        return httpx.Response(200, json={"boxes": [{"id": box, "name": f"name of {box}"} for box in ids]})
    if "/boxes/" in request.url.path:
        box = request.url.path.rpartition("/")[2]
        if box.endswith("x"):
            return problem(404, "invalid_request_error", "None", invalidId=box)
        return httpx.Response(200, json={"id": box, "name": f"name of {box}"})
    return None


def test_names_come_in_bulk_and_are_remembered() -> None:
    refs = [LinkRef("box", f"box_{number}") for number in range(25)]
    names, server = names_of(refs, boxes, rounds=3)
    assert names == [f"name of box_{number}" for number in range(25)]
    assert server.count("/api/v2/boxes") == 3


def test_one_refused_id_does_not_hide_the_others() -> None:
    refs = [LinkRef("box", "box_1"), LinkRef("box", "box_x"), LinkRef("box", "box_2")]
    names, server = names_of(refs, boxes)
    assert names == ["name of box_1", None, "name of box_2"]
    assert server.count("/api/v2/boxes") == 2


def test_where_no_id_is_named_each_is_asked_for() -> None:
    def silent(request: httpx.Request, now: float) -> httpx.Response | None:
        answer = boxes(request, now)
        return problem(400, "invalid_request_error", "No") if ":bulk-get" in request.url.path else answer

    names, server = names_of([LinkRef("box", "box_1"), LinkRef("box", "box_x")], silent)
    assert names == ["name of box_1", None]
    assert server.count("/api/v2/boxes") == 3


def test_the_cap_bounds_what_is_looked_up() -> None:
    refs = [LinkRef("box", f"box_{number}") for number in range(30)]
    names, _ = names_of(refs, boxes, cap=7)
    assert sum(name is not None for name in names) == 7


def test_types_without_names_cost_nothing() -> None:
    names, server = names_of([LinkRef("sql_dashboard", "sd_1"), LinkRef("../token", "a")], boxes)
    assert names == [None, None]
    assert server.log == []


def test_an_outage_is_raised_and_never_a_missing_name() -> None:
    with pytest.raises(ProviderDown):
        names_of([LinkRef("box", "box_1")], lambda r, _n: None if r.url.path.endswith("token") else gateway_page())


@pytest.mark.parametrize(
    "address",
    ["http://tenant.benchling.com", "ftp://x", "https://", "https://x.com/api/v2", "https://u:LEAKMARK@x.com", "x.com"],
)
def test_an_address_that_must_not_get_credentials_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match=r"https://") as caught:
        BenchlingSettings(address, lambda: AppCredentials("a", SecretStr("b")))
    assert "LEAKMARK" not in str(caught.value)
