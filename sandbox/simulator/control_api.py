"""`/_sim/...`: the verbs over HTTP, their orders as JSON (POST) or as a query (GET)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pydantic import ValidationError

from sandbox.simulator.faults import UnknownFault, UnknownOption
from sandbox.simulator.gallery import UnknownArchive
from sandbox.simulator.verbs import BY_PATH, VerbRefused
from sandbox.simulator.wire import Call, Reply, json_reply
from sandbox.simulator.world import NoSuchThing

if TYPE_CHECKING:
    from sandbox.simulator.simulator import Simulator

PREFIX = "/_sim"


def answer(simulator: Simulator, call: Call) -> Reply:
    """The answer to a call below `/_sim`; mistakes are 400 with a sentence in `error`."""
    path = call.path.removeprefix(PREFIX).strip("/")
    if path not in BY_PATH:
        return _mistake(f"there is no verb at {path!r}; known: {', '.join(sorted(BY_PATH))}")
    try:
        given = call.parameters() if call.method == "GET" else json.loads(call.body or b"{}")
        return json_reply(BY_PATH[path].answer(simulator, given))
    except ValidationError as problem:
        first = problem.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the order"
        return _mistake(f"{place}: {first['msg']}")
    except (VerbRefused, NoSuchThing, UnknownFault, UnknownOption, UnknownArchive) as problem:
        return _mistake(str(problem))
    except ValueError:
        return _mistake("the body is not JSON")


def _mistake(sentence: str) -> Reply:
    return json_reply({"error": sentence}, 400)
