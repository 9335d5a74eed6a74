"""Variables, references and the downward API."""

from __future__ import annotations

from typing import Any

import pytest

from sandbox.fargate.environment import (
    Configuration,
    ConfigurationError,
    configuration,
    expand,
    references,
    resolve,
)
from sandbox.fargate.pod import Container
from tests.support.pods import container, facts

SECRET = Configuration("Secret", "s", {"k": b"v", "not a name=": b"x"})


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("$(A)", "1"),
        ("x$(A)y$(B)", "x1y2"),
        ("$(C)", "$(C)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$A ${A} $", "$A ${A} $"),
        ("$(A", "$(A"),
    ],
)
def test_expansion(text: str, result: str) -> None:
    assert expand(text, {"A": "1", "B": "2"}) == result


def _env(*variables: dict[str, Any], sources: tuple[dict[str, Any], ...] = ()) -> dict[str, str]:
    one = Container.model_validate(container(env=list(variables), envFrom=list(sources)))
    return resolve(one, facts(), {("Secret", "s"): SECRET}, {"BASE": "b"})


def _from(name: str, **origin: Any) -> dict[str, Any]:
    return {"name": name, "valueFrom": origin}


def test_variables_see_those_before_them() -> None:
    env = _env({"name": "X", "value": "$(BASE)$(LATER)"}, {"name": "LATER", "value": "l"})
    assert env == {"BASE": "b", "X": "b$(LATER)", "LATER": "l"}


def test_env_from_takes_what_is_a_name() -> None:
    assert _env(sources=({"secretRef": {"name": "s"}, "prefix": "P_"},)) == {"BASE": "b", "P_k": "v"}
    assert _env(sources=({"secretRef": {"name": "no", "optional": True}},)) == {"BASE": "b"}
    with pytest.raises(ConfigurationError, match='configmap "no" not found'):
        _env(sources=({"configMapRef": {"name": "no"}},))


@pytest.mark.parametrize(
    ("reference", "error"),
    [
        ({"name": "no", "key": "k"}, 'secret "no" not found'),
        ({"name": "s", "key": "no"}, "couldn't find key no in Secret s"),
    ],
)
def test_missing_keys(reference: dict[str, Any], error: str) -> None:
    with pytest.raises(ConfigurationError, match=error):
        _env(_from("X", secretKeyRef=reference))
    assert "X" not in _env(_from("X", secretKeyRef=reference | {"optional": True}))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "p"),
        ("metadata.labels['b']", "2"),
        ("metadata.labels['none']", ""),
        ("metadata.labels", 'a="say \\"x\\""\nb="2"'),
        ("spec.nodeName", "node-1"),
        ("status.podIP", "127.9.0.1"),
        ("status.hostIP", "127.0.0.1"),
        ("spec.serviceAccountName", "default"),
    ],
)
def test_downward_fields(path: str, value: str) -> None:
    assert _env(_from("X", fieldRef={"fieldPath": path}))["X"] == value


def test_unknown_field_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="not supported"):
        _env(_from("X", fieldRef={"fieldPath": "spec.containers"}))


@pytest.mark.parametrize(
    ("reference", "value"),
    [
        ({"containerName": "main", "resource": "limits.memory"}, str(1024**3)),
        ({"containerName": "main", "resource": "limits.memory", "divisor": "1Mi"}, "1024"),
        ({"containerName": "main", "resource": "requests.cpu", "divisor": "1m"}, "1000"),
        # Without a limit it is what the pod has.
        ({"resource": "limits.memory", "divisor": "1Mi"}, "2048"),
        ({"resource": "limits.cpu", "divisor": "1"}, "1"),
        ({"resource": "requests.memory"}, "0"),
    ],
)
def test_resource_fields(reference: dict[str, str], value: str) -> None:
    assert _env(_from("X", resourceFieldRef=reference))["X"] == value


def test_references_are_found() -> None:
    one = Container.model_validate(
        container(
            env=[_from("A", secretKeyRef={"name": "s", "key": "k"}), {"name": "B", "value": "x"}],
            envFrom=[{"configMapRef": {"name": "c"}}],
        )
    )
    assert references(one) == {("Secret", "s"), ("ConfigMap", "c")}


def test_secrets_are_decoded_and_configmaps_not() -> None:
    raw = {"metadata": {"name": "n"}, "data": {"a": "aGk="}, "immutable": True}
    assert configuration("Secret", raw) == Configuration("Secret", "n", {"a": b"hi"}, immutable=True)
    raw = {"metadata": {"name": "n"}, "data": {"a": "aGk="}, "binaryData": {"b": "/w=="}}
    assert configuration("ConfigMap", raw).content == {"a": b"aGk=", "b": b"\xff"}
