"""App canvases: last writer wins, partial PATCH, blocks checked as strictly as they are documented."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sandbox.simulator.clock import iso
from sandbox.simulator.wire import Json, bad_request

if TYPE_CHECKING:
    from collections.abc import Mapping

_INPUT = {"type", "id", "enabled", "label", "required", "value"}
_MEMBERS: dict[str, tuple[set[str], set[str]]] = {
    "MARKDOWN": ({"type", "value"}, {"id"}),
    "BUTTON": ({"type", "id", "text"}, {"enabled"}),
    "SECTION": ({"type", "children"}, {"id"}),
    "CHIP": ({"type", "value"}, {"id"}),
    "TEXT_INPUT": ({"type", "id", "value"}, _INPUT | {"placeholder"}),
    "DROPDOWN": ({"type", "id", "value", "dropdownId"}, _INPUT),
    "DROPDOWN_MULTIVALUE": ({"type", "id", "value", "dropdownId"}, _INPUT),
    "SELECTOR_INPUT": ({"type", "id", "value", "options"}, _INPUT),
    "SELECTOR_INPUT_MULTIVALUE": ({"type", "id", "value", "options"}, _INPUT),
    "SEARCH_INPUT": ({"type", "id", "value", "itemType"}, _INPUT | {"schemaId"}),
    "SEARCH_INPUT_MULTIVALUE": ({"type", "id", "value", "itemType"}, _INPUT | {"schemaId"}),
    "FILE_UPLOAD": ({"type", "id", "value"}, _INPUT | {"fileTypes", "maxFiles"}),
    "TABLE": ({"type", "id", "name", "source"}, {"enabled", "maxRows"}),
}
_ITEM_TYPES = {
    "dna_sequence", "dna_oligo", "aa_sequence", "custom_entity", "mixture", "box", "container", "location",
    "plate", "worklist",
}  # fmt: skip
_MANY = {"DROPDOWN_MULTIVALUE", "SELECTOR_INPUT_MULTIVALUE", "SEARCH_INPUT_MULTIVALUE", "FILE_UPLOAD"}
_LABEL_LIMIT = 50
_DATA_LIMIT = 5_000


def check_blocks(blocks: Any, *, maximum: int = 0) -> list[Json]:
    """The blocks, if the documented rules and the design's own (unique ids) hold. Raises Refusal (400)."""
    if not isinstance(blocks, list):
        raise bad_request("blocks must be a list")
    if maximum and len(blocks) > maximum:
        raise bad_request(f"At most {maximum} blocks are allowed")
    seen: set[str] = set()
    for block in blocks:
        _check_block(block, seen, nested=False)
    return blocks


def _check_block(block: Any, seen: set[str], *, nested: bool) -> None:
    if not isinstance(block, dict) or not isinstance(block.get("type"), str):
        raise bad_request("Each block must be an object with a type")
    kind = block["type"]
    if kind not in _MEMBERS:
        raise bad_request(f"{kind!r} is not a valid block type")
    required, optional = _MEMBERS[kind]
    missing = required - block.keys()
    if missing:
        raise bad_request(f"Block {kind} lacks {', '.join(sorted(missing))}")
    unknown = block.keys() - required - optional
    if unknown:
        raise bad_request(f"Unknown member in block {kind}: {', '.join(sorted(unknown))}")
    if nested and kind in ("SECTION", "TABLE"):
        raise bad_request(f"A section can't contain a block of type {kind}")
    _check_id(block, seen)
    _check_members(block, kind)
    if kind == "SECTION":
        if not isinstance(block["children"], list):
            raise bad_request("children must be a list")
        for child in block["children"]:
            _check_block(child, seen, nested=True)


def _check_id(block: Mapping[str, Any], seen: set[str]) -> None:
    if "id" not in block:
        return
    identifier = block["id"]
    if not isinstance(identifier, str) or not identifier:
        raise bad_request("A block's id must be a non-empty string")
    if identifier in seen:
        raise bad_request(f"Duplicate block id {identifier!r}")
    seen.add(identifier)


def _check_members(block: Mapping[str, Any], kind: str) -> None:
    for name in ("text", "name", "dropdownId"):
        if name in block and not isinstance(block[name], str):
            raise bad_request(f"{name} must be a string")
    for name in ("enabled", "required"):
        if name in block and not isinstance(block[name], bool | None):
            raise bad_request(f"{name} must be a boolean")
    _check_value(block, kind)
    _check_label(block)
    _check_lists(block)
    if kind == "TABLE":
        _check_table(block)


def _check_label(block: Mapping[str, Any]) -> None:
    label = block.get("label")
    if label is not None and (not isinstance(label, str) or len(label) > _LABEL_LIMIT):
        raise bad_request(f"label must be a string of at most {_LABEL_LIMIT} characters")
    if block.get("required") and not label:
        raise bad_request("A required input needs a label")
    if "placeholder" in block and not isinstance(block["placeholder"], str | None):
        raise bad_request("placeholder must be a string")


def _check_lists(block: Mapping[str, Any]) -> None:
    if "itemType" in block and block["itemType"] not in tuple(_ITEM_TYPES):
        raise bad_request("itemType is not one of the documented ones")
    if "schemaId" in block and not isinstance(block["schemaId"], str | None):
        raise bad_request("schemaId must be a string")
    for name in ("options", "fileTypes"):
        if name in block and not _strings(block[name]):
            raise bad_request(f"{name} must be a list of strings")
    if "maxFiles" in block and not _whole(block["maxFiles"], 1, 10):
        raise bad_request("maxFiles must be 1 to 10")


def _check_table(block: Mapping[str, Any]) -> None:
    if "maxRows" in block and not _whole(block["maxRows"], 1, 500):
        raise bad_request("maxRows must be 1 to 500")
    source = block["source"]
    known = {"DATA_FRAME": "dataFrameId", "DATASET": "datasetId"}
    if not isinstance(source, dict) or source.get("type") not in tuple(known):
        raise bad_request("source.type must be DATA_FRAME or DATASET")
    identifier = known[str(source["type"])]
    if source.keys() - {"type", identifier} or not isinstance(source.get(identifier, ""), str):
        raise bad_request("source has members of another type")


def _check_value(block: Mapping[str, Any], kind: str) -> None:
    if "value" not in block:
        return
    value = block["value"]
    if kind in _MANY:
        good = _strings(value) or (value is None and kind != "FILE_UPLOAD")
    elif kind in ("MARKDOWN", "CHIP"):
        good = isinstance(value, str)
    else:
        good = isinstance(value, str | None)
    if not good:
        raise bad_request(f"value of a {kind} block has the wrong type")


def _strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _whole(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def check_text_json(value: Any) -> str | None:
    """`data`: JSON in a string below 5 kB, or null. Raises Refusal (400)."""
    if value is None:
        return None
    if not isinstance(value, str) or len(value.encode("utf-8", "replace")) >= _DATA_LIMIT:
        raise bad_request("data must be JSON in a string of less than 5kb")
    try:
        json.loads(value)
    except (ValueError, RecursionError):
        raise bad_request("data must be valid JSON") from None
    return value


@dataclass(frozen=True)
class Write:
    """One change of a canvas, kept for tests that ask what users saw."""

    at: float
    by: str
    members: Json
    enabled_after: bool


@dataclass
class Canvas:
    """One canvas."""

    id: str
    app_id: str
    feature_id: str
    resource_id: str
    created_at: float
    modified_at: float
    blocks: list[Json] = field(default_factory=list)
    enabled: bool = True
    payload: str | None = None
    session_id: str | None = None
    archived: str | None = None
    writes: list[Write] = field(default_factory=list)

    def whole(self) -> Json:
        """The canvas as the API gives it."""
        return {
            "id": self.id,
            "app": {"id": self.app_id},
            "featureId": self.feature_id,
            "resourceId": self.resource_id,
            "enabled": self.enabled,
            "data": self.payload,
            "sessionId": self.session_id,
            "blocks": self.blocks,
            "archiveRecord": None if self.archived is None else {"reason": self.archived},
        }

    def change(self, members: Json, now: float, by: str) -> None:
        """Take over checked members: absent means unchanged, null clears."""
        names = {"featureId": "feature_id", "resourceId": "resource_id", "data": "payload", "sessionId": "session_id"}
        for name, value in members.items():
            setattr(self, names.get(name, name), value)
        self.modified_at = max(now, self.modified_at + 1e-6)
        self.writes.append(Write(now, by, members, self.enabled))

    def history(self) -> list[Json]:
        """All changes, oldest first."""
        return [
            {"at": iso(write.at), "by": write.by, "members": write.members, "enabledAfter": write.enabled_after}
            for write in self.writes
        ]

    def buttons(self) -> dict[str, Json]:
        """The buttons that the canvas shows, by id; sections included."""
        found: dict[str, Json] = {}
        rest = list(self.blocks)
        while rest:
            block = rest.pop(0)
            if block["type"] == "SECTION":
                rest = [*block["children"], *rest]
            elif block["type"] == "BUTTON":
                found[block["id"]] = block
        return found
