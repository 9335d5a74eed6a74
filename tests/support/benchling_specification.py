"""Benchling's OpenAPI files, read from the installed SDK wheel and made satisfiable.

As published they are valid but partly can't be met by any document: closed objects beside `allOf`, null next to
schemas without a type, `oneOf` whose branches overlap. What is changed here changes nothing that they mean.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

Json = dict[str, Any]
METHODS = ("get", "post", "patch", "put", "delete")
_FLAT = {"type", "properties", "required", "additionalProperties", "allOf", "$ref"}
_WORDS = {"description", "example", "title", "readOnly", "nullable", "format"}


class _Loader(yaml.CSafeLoader):
    """YAML whose dates stay text, as they are in JSON."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@cache
def _package() -> Path:
    found = importlib.util.find_spec("benchling_api_client")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent


def _load(*parts: str) -> Json:
    whole: Json = yaml.load(_package().joinpath(*parts).read_text(encoding="utf-8"), Loader=_Loader)
    return whole


def _target(document: Json, reference: str) -> Json:
    place: Any = document
    for part in reference.removeprefix("#/").split("/"):
        place = place[part]
    found: Json = place
    return found


def _members_of(document: Json, schema: Json) -> Iterator[Json]:
    """A schema and everything that its allOf chain consists of."""
    if "$ref" in schema:
        yield from _members_of(document, _target(document, schema["$ref"]))
        return
    yield schema
    for part in schema.get("allOf", []):
        yield from _members_of(document, part)


def _flattened(document: Json, schema: Json) -> Json:
    """One object instead of an allOf of objects, if any part of it is closed; else the schema as it is."""
    parts = list(_members_of(document, schema))
    if not any(part.get("additionalProperties") is False for part in parts):
        return schema
    if any(part.keys() - _FLAT - _WORDS for part in parts):
        return _opened(document, schema)
    properties: Json = {}
    required: list[str] = []
    for part in parts:
        properties |= part.get("properties", {})
        required += [name for name in part.get("required", []) if name not in required]
    flat: Json = {"type": "object", "properties": properties, "additionalProperties": False}
    if required:
        flat["required"] = required
    if schema.get("nullable"):
        flat["nullable"] = True
    return flat


def _opened(document: Json, schema: Json) -> Json:
    """The schema with the closed parts of its allOf written out and opened."""
    if "$ref" in schema:
        return _opened(document, _target(document, schema["$ref"]))
    opened = {name: value for name, value in schema.items() if name not in ("additionalProperties", "allOf")}
    if schema.get("additionalProperties") not in (None, False):
        opened["additionalProperties"] = schema["additionalProperties"]
    if "allOf" in schema:
        opened["allOf"] = [_opened(document, part) for part in schema["allOf"]]
    return opened


def _satisfiable(document: Json, node: Any) -> Any:
    """The node with all its schemas made satisfiable."""
    if isinstance(node, list):
        return [_satisfiable(document, item) for item in node]
    if not isinstance(node, dict):
        return node
    if isinstance(node.get("allOf"), list):
        node = _flattened(document, node)
    changed = {name: _satisfiable(document, value) for name, value in node.items()}
    if isinstance(changed.get("oneOf"), list):
        changed["anyOf"] = changed.pop("oneOf")
    return changed


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, list):
        for item in node:
            yield from _references(item)
    elif isinstance(node, dict):
        for name, value in node.items():
            if name == "$ref" and isinstance(value, str) and value.startswith("#/"):
                yield value
            elif name == "mapping" and isinstance(value, dict):
                yield from (to for to in value.values() if isinstance(to, str) and to.startswith("#/"))
            else:
                yield from _references(value)


def _reachable(document: Json, start: Any) -> Json:
    """The components that a part of the document needs."""
    needed: Json = {}
    waiting, seen = list(_references(start)), set[str]()
    while waiting:
        reference = waiting.pop()
        if reference in seen:
            continue
        seen.add(reference)
        _, _, kind, name = reference.split("/", 3)
        found = _target(document, reference)
        needed.setdefault(kind, {})[name] = found
        waiting += _references(found)
    return needed


def api_slice(operation_ids: frozenset[str]) -> Json:
    """The v2 API reduced to these operations, satisfiable. Raises KeyError for an operation that isn't there."""
    document = _load("v2", "stable", "openapi.yaml")
    paths: Json = {}
    missing = set(operation_ids)
    for path, item in document["paths"].items():
        kept = {
            name: value for name, value in item.items() if name not in METHODS or value["operationId"] in operation_ids
        }
        if not any(name in METHODS for name in kept):
            continue
        missing -= {value["operationId"] for name, value in kept.items() if name in METHODS}
        paths[path] = kept
    if missing:
        raise KeyError(", ".join(sorted(missing)))
    components = _reachable(document, paths)
    whole: Json = {
        "openapi": document["openapi"],
        "info": document["info"],
        "paths": _satisfiable(document, paths),
        "components": {kind: _satisfiable(document, named) for kind, named in components.items()},
    }
    return whole


def json_schema(document: Json, node: Any) -> Any:
    """OpenAPI 3.0's dialect as plain JSON Schema: null where `nullable` says so."""
    if isinstance(node, list):
        return [json_schema(document, item) for item in node]
    if not isinstance(node, dict):
        return node
    kept = {
        name: json_schema(document, value)
        for name, value in node.items()
        if name not in ("nullable", "discriminator", "example", "xml", "externalDocs")
    }
    return {"anyOf": [{"type": "null"}, kept]} if node.get("nullable") is True else kept


@cache
def webhooks() -> Json:
    """The webhook file's schemas as JSON Schema definitions, satisfiable; references lead to `#/components/...`."""
    document = _load("webhooks", "v0", "stable", "openapi.yaml")
    schemas = {
        name: json_schema(document, _satisfiable(document, schema))
        for name, schema in document["components"]["schemas"].items()
    }
    return {"components": {"schemas": schemas}}


def message_schemas() -> dict[str, str]:
    """Webhook message type -> name of its schema."""
    document = webhooks()
    found: dict[str, str] = {}
    for name, schema in document["components"]["schemas"].items():
        if "Webhook" not in name or "Base" in name:
            continue
        for part in _members_of(document, schema):
            for kind in part.get("properties", {}).get("type", {}).get("enum", []):
                found[kind] = name
    return found
