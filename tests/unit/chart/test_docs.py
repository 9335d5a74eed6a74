"""What docs/install.md tells people to copy is well-formed, and its values install."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, get_args

import yaml

from entrypackage import messages
from tests.support.helm import CHART, MINIMAL, Helm

if TYPE_CHECKING:
    from pathlib import Path

TEXT = (CHART.parents[1] / "docs" / "install.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def yaml_block(member: str) -> Any:
    """Return the one block of YAML with that member at its top."""
    found = [one for text in blocks("yaml") for one in yaml.safe_load_all(text) if member in one]
    assert len(found) == 1
    return found[0]


def test_its_values_are_the_tested_ones_and_install(helm: Helm, tmp_path: Path) -> None:
    values = yaml_block("benchling")
    assert values == yaml.safe_load(MINIMAL.read_text())
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    helm.template(file)


def test_policies_name_what_the_chart_makes(helm: Helm) -> None:
    trust, rights = (json.loads(text) for text in blocks("json"))
    subjects = trust["Statement"][0]["Condition"]["StringEquals"].values()
    release = helm.template(MINIMAL, release="entrypackage")
    account = release.one("ServiceAccount", "entrypackage-packager")["metadata"]
    assert f"system:serviceaccount:{account['namespace']}:{account['name']}" in subjects
    destination = yaml.safe_load(MINIMAL.read_text())["destination"]
    resources = {statement["Sid"]: statement["Resource"] for statement in rights["Statement"]}
    assert resources["Packages"] == f"arn:aws:s3:::{destination['bucket']}/benchling/*"
    assert resources["Bucket"] == f"arn:aws:s3:::{destination['bucket']}"


def test_the_app_subscribes_to_messages_that_the_receiver_knows() -> None:
    known = {
        name
        for model in (
            messages.EntryMessage,
            messages.CanvasInitialized,
            messages.CanvasCreated,
            messages.CanvasInteracted,
        )
        for name in get_args(model.model_fields["type"].annotation)
    }
    subscribed = {one["type"] for one in yaml_block("manifestVersion")["subscriptions"]["messages"]}
    assert subscribed <= known
    assert {one for one in subscribed if one.startswith("v2.entry.")} == {one for one in known if "v2.entry." in one}


def test_log_settings_fit_fargates_limit() -> None:
    settings = yaml_block("data")
    assert sum(len(text) for text in settings["data"].values()) <= 5300


def test_its_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", TEXT)
    assert targets
    for target in targets:
        assert (CHART.parents[1] / "docs" / target).exists(), target
