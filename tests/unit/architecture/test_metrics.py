"""docs/metrics.md names exactly the metrics that the programs register, with their types and labels."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families

# With everything that the program imports, whatever registers a metric.
import controller.__main__
import controller.metrics
import receiver.metrics
from receiver.answers import DeliveryOutcome, Why
from tests.support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client import Metric

PAGE = ROOT / "docs/metrics.md"
USUAL = ("process_", "python_")
"""Metrics of every Python process."""
SUFFIXES = {"counter": "_total", "info": "_info"}
ROW = re.compile(r"^\| `([a-z_]+)` \| ([a-z]+)(?:: ([^|]+))? \| ([^|]+) \| [^|]+ \|$", re.MULTILINE)

Rows = dict[str, tuple[str, frozenset[str]]]
"""Type and labels by name."""


def _section(heading: str) -> str:
    return PAGE.read_text().split(f"## {heading}\n")[1].split("\n## ")[0]


def _documented(heading: str) -> Rows:
    return {
        name: (kind, frozenset(re.findall(r"`(\w+)`", labels)))
        for name, kind, labels, _ in ROW.findall(_section(heading))
    }


def _series_name(name: str, kind: str) -> str:
    """Return the name as a person queries it."""
    return name.removesuffix(SUFFIXES.get(kind, "")) + SUFFIXES.get(kind, "")


def _own(families: Iterable[Metric]) -> dict[str, Metric]:
    """Return the families by the name of their series, without the usual ones and the times of creation."""
    return {
        _series_name(family.name, family.type): family
        for family in families
        if not family.name.startswith(USUAL) and not family.name.endswith("_created")
    }


def _controller() -> Rows:
    labels = {
        _series_name(found.name, found.type): frozenset(metric._labelnames)
        for metric in vars(controller.metrics).values()
        if isinstance(metric, MetricWrapperBase)
        for found in metric.describe()
    }
    return {name: (family.type, labels[name]) for name, family in _own(REGISTRY.collect()).items()}


def _receiver() -> Rows:
    text = receiver.metrics.Metrics().exposition().decode()
    rows: Rows = {}
    for name, family in _own(text_string_to_metric_families(text)).items():
        kind = "info" if name.endswith("_info") else family.type
        rows[name] = (kind, frozenset(key for sample in family.samples for key in sample.labels) - {"le"})
    return rows


def test_controller_metrics_are_documented() -> None:
    assert _documented("Controller") == _controller()


def test_receiver_metrics_are_documented() -> None:
    assert _documented("Receiver") == _receiver()


@pytest.mark.parametrize("heading", ["Controller", "Receiver"])
def test_every_row_can_be_read(heading: str) -> None:
    rows = [line for line in _section(heading).splitlines() if line.startswith("| `")]
    assert len(rows) == len(_documented(heading))


def test_every_outcome_is_explained() -> None:
    meaning = next(text for name, _, _, text in ROW.findall(_section("Receiver")) if name == "webhook_requests_total")
    assert set(re.findall(r"`(\w+)`", meaning)) == {outcome.value for outcome in DeliveryOutcome}


def test_rules_use_what_is_there() -> None:
    known = _documented("Controller").keys() | _documented("Receiver").keys()
    rules = _section("Rules to begin with")
    used = re.findall(r"\b(?:leader|webhook|benchling|entrypackage|workqueue)_[a-z_]+", rules)
    assert used
    assert set(used) <= known


def test_named_reasons_exist() -> None:
    row = next(line for line in _section("Receiver").splitlines() if line.startswith("| `webhook_rejected_total`"))
    assert set(re.findall(r"`([A-Z]\w+)`", row)) <= {why.value for why in Why}
