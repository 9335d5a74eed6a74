"""The size that the chart says a pod is billed for is the one that the local Fargate node gives it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import yaml

from sandbox.fargate.pod import Container, Metadata, Pod, PodSpec, Resources
from sandbox.fargate.sizes import provision
from tests.support.helm import CHART, NAMESPACE, Helm

if TYPE_CHECKING:
    from pathlib import Path

TEMPLATE = """
apiVersion: v1
kind: ConfigMap
metadata:
  name: sizes
data:
{{- range .Values.cases }}
  {{ .name }}: {{ include "epkg.billedSize" . | quote }}
{{- end }}
"""

CPUS = ("1m", "250m", "251m", "0.5", "1", "1.5", "2", "4000m", "8", "12", "16", "17")
MEMORIES = (
    *("1Mi", "256Mi", "257Mi", "768Mi", "769Mi", "1792Mi", "1793Mi", "2Gi", "3Gi", "7936Mi", "8Gi", "16Gi"),
    *("29Gi", "30Gi", "31Gi", "59Gi", "60Gi", "61Gi", "119Gi", "120Gi"),
)


def sold(cpu: str, memory: str) -> str:
    resources = Resources(limits={"cpu": cpu, "memory": memory})
    container = Container(name="main", resources=resources)
    size = provision(
        Pod(metadata=Metadata(name="pod", namespace=NAMESPACE, uid="1"), spec=PodSpec(containers=[container]))
    )
    return f'{{"cpu":{size.millicpu},"mib":{size.mebibytes}}}' if size else ""


def test_billed_sizes_are_fargates(helm: Helm, tmp_path: Path) -> None:
    chart = tmp_path / "sizes"
    (chart / "templates").mkdir(parents=True)
    shutil.copy(CHART / "templates" / "_fargate.tpl", chart / "templates")
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: sizes\nversion: 0.1.0\n")
    (chart / "templates" / "sizes.yaml").write_text(TEMPLATE)
    cases = [{"name": f"{cpu}-{memory}", "cpu": cpu, "memory": memory} for cpu in CPUS for memory in MEMORIES]
    (chart / "values.yaml").write_text(yaml.safe_dump({"cases": cases}))
    rendered = helm.template(chart=chart).one("ConfigMap", "sizes")["data"]
    assert rendered == {f"{cpu}-{memory}": sold(cpu, memory) for cpu in CPUS for memory in MEMORIES}
    assert "" in rendered.values()
