"""The rendered chart under version control: whatever changes an object shows in a diff.

``python -m tests.unit.chart.test_golden`` writes it anew; ``golden/README.md`` describes the files.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.support.helm import CHART, CRDS, EVERYTHING, MINIMAL, Helm, Rendered
from tests.unit.chart.conftest import find_programs

if TYPE_CHECKING:
    from tests.support.helm import Object

FOLDER = Path(__file__).parent / "golden"
CASES = {"minimal": (MINIMAL,), "everything": (MINIMAL, EVERYTHING)}

_CHART = yaml.safe_load((CHART / "Chart.yaml").read_text())
_VERSION = re.compile(
    rf"(?<={_CHART['name']}-){re.escape(_CHART['version'])}$"  # label of the chart
    rf"|^{re.escape(_CHART['appVersion'])}$"  # label of the application
    rf"|(?<=[a-z]:){re.escape(_CHART['appVersion'])}(?![\w.])",  # an image's tag
)


class _Dumper(yaml.SafeDumper):
    """Writes text of several lines as a block, so that a diff shows the line that changed."""


def _write_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _write_text)


def without_repetition(value: Any) -> Any:
    """Return the value without checksums and versions: they follow from what is shown elsewhere."""
    if isinstance(value, dict):
        return {
            name: "(checksum)" if name.startswith("checksum/") else without_repetition(part)
            for name, part in value.items()
        }
    if isinstance(value, list):
        return [without_repetition(part) for part in value]
    if isinstance(value, str):
        return _VERSION.sub("(version)", value)
    return value


def described(one: Object) -> Object:
    """Return an object as it is kept; of a definition only the metadata, for the rest is `crds/` itself."""
    if one["kind"] == "CustomResourceDefinition":
        kept = yaml.safe_load((CRDS / f"{one['metadata']['name']}.yaml").read_text())
        assert one["spec"] == kept["spec"]
        one = {**one, "spec": f"(crds/{one['metadata']['name']}.yaml)"}
    shown: Object = without_repetition(one)
    return shown


def as_text(rendered: Rendered) -> str:
    """Return the objects as one YAML file, by kind and name."""
    objects = sorted(rendered.objects, key=lambda one: (one["kind"], one["metadata"]["name"]))
    return yaml.dump_all(
        [described(one) for one in objects],
        Dumper=_Dumper,
        explicit_start=True,
        allow_unicode=True,
        width=1000,
    )


@pytest.mark.parametrize("name", CASES)
def test_the_chart_renders_as_it_did(name: str, request: pytest.FixtureRequest) -> None:
    """Look at the difference; if it is meant, write the files anew."""
    rendered: Rendered = request.getfixturevalue(name)

    assert as_text(rendered) == (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")


def test_every_file_is_of_a_case() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {"README.md", *(f"{name}.yaml" for name in CASES)}


def write() -> None:
    """Write the files anew."""
    with tempfile.TemporaryDirectory() as home:
        helm = Helm(find_programs().helm, Path(home))
        for name, files in CASES.items():
            (FOLDER / f"{name}.yaml").write_text(as_text(helm.template(*files)), encoding="utf-8")


if __name__ == "__main__":
    write()
