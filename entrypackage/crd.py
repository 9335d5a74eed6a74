"""The CustomResourceDefinition, generated from the models of `entrypackage.resource`.

``python -m entrypackage.crd`` writes `crds/`; ``--check`` only says whether what is there is current.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from entrypackage import resource

if TYPE_CHECKING:
    from pydantic import BaseModel

CRDS: Final = Path(__file__).resolve().parent.parent / "crds"

HEADER: Final = "# Generated from entrypackage/resource.py by `python -m entrypackage.crd`. Do not edit.\n"

_KEPT: Final = (
    "type",
    "format",
    "description",
    "enum",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "x-kubernetes-validations",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
)

_BOUNDED_KEY: Final = {"type": "string", "maxLength": 1024}


class SchemaError(TypeError):
    """A model uses something that a structural schema cannot say."""


def structural(model: type[BaseModel]) -> dict[str, Any]:
    """Return the model's structural schema: no references, no unions but "may be absent"; raises `SchemaError`."""
    source = model.model_json_schema(by_alias=True, mode="validation")
    return _convert(source, source.get("$defs", {}), model.__name__)


def _convert(node: dict[str, Any], definitions: dict[str, Any], path: str) -> dict[str, Any]:
    node = _resolve(node, definitions, path)
    schema: dict[str, Any] = {key: node[key] for key in _KEPT if key in node}
    if "description" in schema:
        schema["description"] = " ".join(schema["description"].split())
    if "const" in node:
        schema["enum"] = [node["const"]]
    if "default" in node and node["default"] is not None and schema.get("type") == "boolean":
        schema["default"] = node["default"]
    kind = schema.get("type")
    if kind == "object" and "properties" in node:
        schema["properties"] = {
            name: _convert(child, definitions, f"{path}.{name}") for name, child in node["properties"].items()
        }
        if node.get("required"):
            schema["required"] = sorted(node["required"])
    elif kind == "array":
        schema["items"] = _convert(node["items"], definitions, f"{path}[]")
    elif kind == "integer":
        schema["format"] = "int64"
    elif kind not in {"string", "boolean", "number"}:
        raise SchemaError(f"{path}: {kind or 'this kind of value'} cannot be said in a structural schema")
    return schema


def _resolve(node: dict[str, Any], definitions: dict[str, Any], path: str) -> dict[str, Any]:
    """Inline references and turn ``X or null`` into X; absent means none in Kubernetes."""
    while "$ref" in node or "anyOf" in node:
        if "$ref" in node:
            target = definitions[node["$ref"].rsplit("/", 1)[-1]]
            node = {**target, **{key: value for key, value in node.items() if key != "$ref"}}
            continue
        choices = [choice for choice in node["anyOf"] if choice.get("type") != "null"]
        if len(choices) != 1:
            raise SchemaError(f"{path}: a union of {len(choices)} cannot be said in a structural schema")
        node = {**choices[0], **{key: value for key, value in node.items() if key != "anyOf"}}
    return node


def entrypackage_definition() -> dict[str, Any]:
    """Return the CustomResourceDefinition of EntryPackage."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{resource.PLURAL}.{resource.GROUP}"},
        "spec": {
            "group": resource.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": resource.KIND,
                "listKind": f"{resource.KIND}List",
                "plural": resource.PLURAL,
                "singular": resource.KIND.lower(),
                "shortNames": ["epkg"],
                "categories": ["benchling"],
            },
            "versions": [
                {
                    "name": resource.VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [dict(column) for column in resource.COLUMNS],
                    "selectableFields": [{"jsonPath": ".spec.entryId"}, {"jsonPath": ".spec.suspend"}],
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "description": " ".join((resource.EntryPackage.__doc__ or "").split()),
                            "required": ["spec"],
                            "properties": {
                                "apiVersion": {"type": "string"},
                                "kind": {"type": "string"},
                                "metadata": {"type": "object"},
                                "spec": structural(resource.Spec),
                                "status": structural(resource.Status),
                            },
                        }
                    },
                }
            ],
        },
    }


def render() -> dict[str, str]:
    """Return the text of every generated file by its name."""
    definition = entrypackage_definition()
    text = yaml.safe_dump(definition, sort_keys=False, width=120, allow_unicode=True)
    return {f"{definition['metadata']['name']}.yaml": HEADER + text}


def stale(folder: Path = CRDS) -> list[str]:
    """Return the names of generated files that are missing or differ, and of files that nothing generates."""
    wanted = render()
    present = {path.name: path.read_text() for path in folder.glob("*.yaml")}
    return sorted(name for name in wanted.keys() | present.keys() if wanted.get(name) != present.get(name))


def main(arguments: list[str] | None = None) -> int:
    """Write `crds/`, or with --check return 1 and name what is not current."""
    parser = argparse.ArgumentParser(prog="python -m entrypackage.crd", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when crds/ is not current")
    if parser.parse_args(arguments).check:
        old = stale()
        for name in old:
            sys.stderr.write(f"crds/{name} is not current: run python -m entrypackage.crd\n")
        return 1 if old else 0
    CRDS.mkdir(exist_ok=True)
    for name, text in render().items():
        (CRDS / name).write_text(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
