"""Schema, values.yaml and the chart's README say the same, and the programs' own settings agree."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from pydantic import BaseModel

from controller.settings import ControllerSettings, LeaseSettings, PackagerSettings, RetrySettings, Timing
from entrypackage.order import Limits
from entrypackage.settings import Settings, read_settings
from receiver.settings import ReceiverSettings
from tests.support.helm import CHART, MINIMAL, Rendered

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())


def resolve(node: dict[str, Any]) -> dict[str, Any]:
    """Follow a `$ref` into the schema's definitions."""
    name = node.get("$ref", "").rpartition("/")[2]
    return {**SCHEMA["$defs"][name], **node} if name else node


def schema_leaves(node: dict[str, Any], path: str = "") -> Iterator[str]:
    node = resolve(node)
    if "properties" not in node:
        yield path
        return
    assert node["additionalProperties"] is False, f"{path or 'the top'} takes names that nobody reads"
    for name, part in node["properties"].items():
        yield from schema_leaves(part, f"{path}.{name}" if path else name)


def value_leaves() -> dict[str, Any]:
    """Return the default of every value by its dotted name; maps that a user fills are values themselves."""
    leaves = {}
    for path in schema_leaves(SCHEMA):
        if path == "global":  # helm's own, for charts that contain this one
            continue
        at: Any = VALUES
        for name in path.split("."):
            assert name in at, f"{path} is in the schema and not in values.yaml"
            at = at[name]
        leaves[path] = at
    return leaves


def documented() -> dict[str, str]:
    """Return the `# --` comment of every value by its dotted name."""
    found: dict[str, str] = {}
    stack: list[str] = []
    comment = ""
    for line in (CHART / "values.yaml").read_text().splitlines():
        if match := re.match(r"^ *# -- (.+)$", line):
            comment = match[1]
        elif match := re.match(r"^( *)([\w.-]+):", line):
            stack = [*stack[: len(match[1]) // 2], match[2]]
            if comment:
                found[".".join(stack)] = comment
            comment = ""
    return found


def names_in_values(at: Any, schema: dict[str, Any], path: str = "") -> Iterator[str]:
    schema = resolve(schema)
    if "properties" not in schema:
        yield path
        return
    for name, part in at.items():
        here = f"{path}.{name}" if path else name
        assert name in schema["properties"], f"{here} is in values.yaml and not in the schema"
        yield from names_in_values(part, schema["properties"][name], here)


def test_values_and_schema_have_the_same_names() -> None:
    assert set(names_in_values(VALUES, SCHEMA)) == set(value_leaves())


def test_every_value_is_documented() -> None:
    assert set(documented()) == set(value_leaves())


def test_the_readme_lists_every_value_with_default_and_meaning() -> None:
    comments = documented()
    rows = [
        line for line in (CHART / "README.md").read_text().splitlines() if line.startswith("| `") and "`<" not in line
    ]
    table = [row for row in rows if row.count("`") >= 4]
    wanted = [f"| `{path}` | `{json.dumps(value)}` | {comments[path]} |" for path, value in value_leaves().items()]
    assert sorted(row for row in table if row.split("`")[1] in comments) == sorted(wanted)


def test_the_readme_starts_with_the_values_that_are_tested() -> None:
    minimal = [line for line in MINIMAL.read_text().splitlines() if not line.startswith("#")]
    assert "\n".join(minimal) in (CHART / "README.md").read_text()


def file_of(text: str, folder: Path) -> Path:
    file = folder / "settings.yaml"
    file.write_text(text)
    return file


@pytest.mark.parametrize("rendered", ["minimal", "everything"])
@pytest.mark.parametrize(("program", "kind"), [("receiver", ReceiverSettings), ("controller", ControllerSettings)])
def test_the_programs_read_what_the_chart_writes(
    rendered: str, program: str, kind: type[Settings], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    objects: Rendered = request.getfixturevalue(rendered)
    text = objects.one("ConfigMap", "demo-settings" if rendered == "minimal" else "lab-settings")["data"]
    assert read_settings(file_of(text[f"{program}.yaml"], tmp_path), kind).model_dump()["namespace"] == "lab"


def aliases(kind: type[BaseModel]) -> dict[str, Any]:
    """Return the names that a settings file may have, nested."""
    names: dict[str, Any] = {}
    for name, field in kind.model_fields.items():
        part = field.annotation
        nested = isinstance(part, type) and issubclass(part, BaseModel)
        names[field.alias or name] = aliases(part) if nested else None  # type: ignore[arg-type]
    return names


def shape(content: dict[str, Any], like: dict[str, Any]) -> dict[str, Any]:
    return {name: shape(value, like[name]) if like.get(name) else None for name, value in content.items()}


def test_every_setting_of_the_controller_can_be_set(everything: Rendered) -> None:
    content = yaml.safe_load(everything.settings("controller", "lab"))
    names = aliases(ControllerSettings)
    assert shape(content, names) == names


def test_every_setting_of_the_receiver_can_be_set(everything: Rendered) -> None:
    content = yaml.safe_load(everything.settings("receiver", "lab"))
    names = aliases(ReceiverSettings)
    names.pop("host")  # the pod's own address, by POD_IP
    assert shape(content, names) == names


def defaults(kind: type[BaseModel], *names: str) -> dict[str, Any]:
    """Return the defaults of a model's fields by their names in a file."""
    fields = kind.model_fields
    return {field.alias or name: field.default for name, field in fields.items() if not names or name in names}


def test_defaults_are_those_of_the_programs(minimal: Rendered) -> None:
    given = VALUES["controller"]["settings"]
    assert given["timing"] == defaults(Timing)
    assert given["retry"] == defaults(RetrySettings)
    assert given["lease"] == defaults(LeaseSettings)
    assert {name: given[name] for name in ("workers", "nameLookups")} == defaults(
        ControllerSettings, "workers", "name_lookups"
    )
    assert VALUES["packager"]["resources"] == defaults(PackagerSettings, "cpu", "memory")
    assert VALUES["packager"]["limits"] == defaults(Limits)
    own = defaults(ReceiverSettings)
    assert VALUES["receiver"]["settings"] == {name: own[name] for name in VALUES["receiver"]["settings"]}


def test_the_chart_is_of_the_packages_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = (CHART.parents[1] / "pyproject.toml").read_text()
    assert f'version = "{chart["appVersion"]}"' in project
