"""Values that the chart refuses, each with the sentence that its file expects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.helm import CHART, MINIMAL, Helm, HelmError

if TYPE_CHECKING:
    from pathlib import Path

BAD = sorted((CHART / "ci").glob("bad-*.yaml"))


def expected(file: Path) -> str:
    """Return the sentence that the file's second line promises."""
    return file.read_text().splitlines()[1].removeprefix("# ")


def said(error: HelmError) -> str:
    """Return helm's message."""
    return "\n".join(line for line in str(error).splitlines() if line)


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_bad_values_are_refused_with_a_sentence(helm: Helm, file: Path) -> None:
    with pytest.raises(HelmError) as caught:
        helm.template(MINIMAL, file)
    assert expected(file) in said(caught.value)


def test_every_file_expects_something_of_its_own() -> None:
    sentences = [expected(file) for file in BAD]
    assert len(sentences) >= 16
    assert len(set(sentences)) == len(sentences)


def test_all_that_is_missing_is_named_at_once(helm: Helm) -> None:
    with pytest.raises(HelmError) as caught:
        helm.template()
    for name in (
        "aws.region",
        "benchling.baseUrl",
        "benchling.appDefinitionIds",
        "benchling.secretName",
        "destination.bucket",
        "destination.queueUrl",
    ):
        assert name in said(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        {"packager.envFromSecret": "packager-aws"},
        {"packager.env.AWS_PROFILE": "lab"},
        {"packager.serviceAccount.annotations.eks\\.amazonaws\\.com/role-arn": "arn:aws:iam::111122223333:role/x"},
    ],
    ids=["secret", "profile", "annotation"],
)
def test_credentials_may_come_another_way(helm: Helm, given: dict[str, str]) -> None:
    helm.template(MINIMAL, sets={"packager.serviceAccount.roleArn": "", **given})


def test_outside_of_fargate_its_demands_are_not_made(helm: Helm) -> None:
    helm.template(MINIMAL, sets={"fargate.enabled": "false", "packager.resources.memory": "200Gi"})


def test_lint_is_strict_and_clean(helm: Helm) -> None:
    assert "1 chart(s) linted, 0 chart(s) failed" in helm.run("lint", "--strict", CHART, "--values", MINIMAL)
