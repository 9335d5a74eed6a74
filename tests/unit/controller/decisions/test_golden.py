"""Job and order Secrets under version control: whatever changes an object shows in a diff.

``python -m tests.unit.controller.decisions.test_golden`` writes them anew; ``golden/README.md`` describes the files.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from controller.decisions.jobs import build_job
from controller.reconciler.order_secrets import build_secrets, volume_sources
from controller.settings import PackagerSettings
from entrypackage.identity import destination_hash
from entrypackage.order import EncodedOrder
from tests.support.situations import DIGEST, TIMING, attempt, event, package, with_attempt

if TYPE_CHECKING:
    from entrypackage.kubernetes import Object

FOLDER = Path(__file__).parent / "golden"

ORDINARY = PackagerSettings(image="registry.example/packager:1", service_account="packager")
EVERYTHING = PackagerSettings(
    image="registry.example/packager:1",
    image_pull_policy="Always",
    image_pull_secrets=["registry-one", "registry-two"],
    service_account="packager",
    cpu="2",
    memory="4Gi",
    env={"HTTPS_PROXY": "http://proxy.example:3128", "AWS_REGION": "eu-west-1"},
    env_from_secret="aws-keys",
    pod_labels={"team": "lab"},
    pod_annotations={"example.com/note": "a note"},
    log_level="debug",
)


def job(settings: PackagerSettings, parts: int) -> list[Object]:
    """Return the Job of an attempt whose order has that many parts."""
    current = attempt(order_digest=DIGEST, order_parts=parts)
    given = package(with_attempt(current), event=event())
    destination = destination_hash("bucket", "benchling/EXP1")
    return [build_job(given, current, destination, volume_sources(given, current), settings, TIMING)]


def secrets() -> list[Object]:
    """Return the Secrets of an order in two parts; their content is not a real order, whose compression may vary."""
    encoded = EncodedOrder(digest=DIGEST, parts=[b"the first part", b"the second part"])
    current = attempt(order_digest=encoded.digest, order_parts=len(encoded.parts))
    return build_secrets(package(with_attempt(current), event=event()), current, encoded)


CASES = {"job": job(ORDINARY, 1), "job-everything": job(EVERYTHING, 3), "secrets": secrets()}


class _Dumper(yaml.SafeDumper):
    """Writes equal parts twice, rather than a reference to the first."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def as_text(objects: list[Object]) -> str:
    """Return the objects as one YAML file."""
    return yaml.dump_all(objects, Dumper=_Dumper, explicit_start=True, allow_unicode=True, width=1000)


@pytest.mark.parametrize("name", CASES)
def test_the_objects_are_as_they_were(name: str) -> None:
    assert as_text(CASES[name]) == (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")


def test_every_setting_of_the_packager_differs_from_its_default_in_the_full_case() -> None:
    """The limits go into the order, not into the Job."""
    same = {name for name in PackagerSettings.model_fields if getattr(ORDINARY, name) == getattr(EVERYTHING, name)}

    assert same == {"image", "service_account", "limits"}


def test_every_file_is_of_a_case() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {"README.md", *(f"{name}.yaml" for name in CASES)}


def write() -> None:
    """Write the files anew."""
    for name, objects in CASES.items():
        (FOLDER / f"{name}.yaml").write_text(as_text(objects), encoding="utf-8")


if __name__ == "__main__":
    write()
