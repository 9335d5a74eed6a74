"""The definition: what is in `crds/` is what the models say, and it is structural."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import pytest
import yaml
from pydantic import BaseModel, Field

from entrypackage.crd import CRDS, SchemaError, entrypackage_definition, main, render, stale, structural

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEPENDENT = re.compile(r"(It|Its|Their|They|What|When|Which|Where|Who|Whom|Why|How|Whether|The same)\b")
"""First words that only somebody who sees the field's name and its parent understands."""

SCHEMA: dict[str, Any] = entrypackage_definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")


def test_the_generated_files_are_current() -> None:
    assert stale() == []
    assert main(["--check"]) == 0


def test_a_changed_a_missing_and_a_foreign_file_are_named(tmp_path: Path) -> None:
    (name, text), *_ = render().items()
    assert stale(tmp_path) == [name]
    (tmp_path / name).write_text(text + "\n")
    (tmp_path / "foreign.yaml").write_text("")
    assert stale(tmp_path) == sorted([name, "foreign.yaml"])
    (tmp_path / name).write_text(text)
    assert stale(tmp_path) == ["foreign.yaml"]


def test_the_file_is_yaml_that_says_the_same() -> None:
    [path] = CRDS.glob("*.yaml")
    assert yaml.safe_load(path.read_text()) == entrypackage_definition()


def test_every_node_has_a_type_and_no_reference_or_union() -> None:
    for path, node in nodes(SCHEMA):
        assert "type" in node, path
        assert not {"$ref", "anyOf", "allOf", "oneOf", "$defs", "additionalProperties"} & node.keys(), path


def test_everything_that_is_stored_is_bounded() -> None:
    for path, node in nodes(SCHEMA):
        if path.split(".")[1:2] not in (["spec"], ["status"]):
            continue
        if node["type"] == "array":
            assert "maxItems" in node, path
        if node["type"] == "string":
            assert {"maxLength", "enum", "format"} & node.keys(), path


def descriptions(schema: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield path and description of everything that ``kubectl explain`` shows; an array speaks for its items."""
    for path, node in nodes(schema):
        if path.split(".")[1:2] in (["spec"], ["status"], []) and not (
            path.endswith("[]") and "properties" not in node
        ):
            yield path, node.get("description", "")


def explains_itself(description: str) -> bool:
    """Whether a description can be understood without the name of the field or what stands around it."""
    return bool(re.fullmatch(r"[A-Z].{15,}\.", description)) and not DEPENDENT.match(description)


@pytest.mark.parametrize(("path", "description"), list(descriptions(SCHEMA)))
def test_every_field_explains_itself(path: str, description: str) -> None:
    assert explains_itself(description), path


@pytest.mark.parametrize(
    "description",
    [
        "",
        "Its uid.",
        "It is the number of the attempt.",
        "Their sizes' sum in bytes.",
        "What is the case with the entry.",
        "When it was begun by the controller.",
        "Which aspect of the object it is.",
        "Where the package can be found.",
        "Who asked for it, where known.",
        "Why the attempt failed in the end.",
        "How many objects the package has.",
        "The same as above, for people.",
        "Whether it holds at this moment.",
        "without a capital letter at the start.",
        "Without a full stop at the end",
        "Too short.",
    ],
)
def test_descriptions_that_need_their_surroundings_are_refused(description: str) -> None:
    assert not explains_itself(description)


def test_conditions_are_a_map_by_type() -> None:
    conditions = SCHEMA["properties"]["status"]["properties"]["conditions"]
    assert conditions["x-kubernetes-list-type"] == "map"
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]


def test_what_a_structural_schema_cannot_say_is_an_error() -> None:
    class Union(BaseModel):
        either: int | str

    class Mapping(BaseModel):
        anything: Any

    for model in (Union, Mapping):
        with pytest.raises(SchemaError):
            structural(model)


def test_optional_means_may_be_absent() -> None:
    class Inner(BaseModel):
        """Inside."""

        number: Annotated[int, Field(ge=0)]

    class Outer(BaseModel):
        inner: Inner | None = None
        names: Annotated[list[str], Field(max_length=3)] = []

    schema = structural(Outer)
    assert "required" not in schema
    assert schema["properties"]["inner"]["required"] == ["number"]
    assert schema["properties"]["inner"]["properties"]["number"] == {"type": "integer", "format": "int64", "minimum": 0}
    assert schema["properties"]["names"] == {"type": "array", "maxItems": 3, "items": {"type": "string"}}
