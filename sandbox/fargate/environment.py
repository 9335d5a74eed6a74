"""A container's environment and the pod's facts (downward API). Pure: objects are given, not read."""

from __future__ import annotations

import base64
import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from sandbox.fargate.sizes import MEBIBYTE, Size, parse_quantity

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sandbox.fargate.pod import (
        Container,
        FieldReference,
        KeyReference,
        Pod,
        ResourceReference,
        ValueFrom,
        VariableSource,
    )

_KEYED = re.compile(r"^metadata\.(labels|annotations)\['([^']+)'\]$")
_REFERENCE = re.compile(r"\$(?:(\$)|\(([^)]*)\))")
_VARIABLE = re.compile(r"^[^\x00-\x20=\x7f]+$")


class ConfigurationError(Exception):
    """The container cannot be started as it is written; the message is for the pod's status."""


@dataclass(frozen=True)
class Configuration:
    """A Secret or ConfigMap: its keys with their decoded content."""

    kind: str
    name: str
    content: Mapping[str, bytes]
    immutable: bool = False


ConfigurationKey = tuple[str, str]
"""Kind (`Secret` or `ConfigMap`) and name."""


@dataclass(frozen=True)
class PodFacts:
    """What the downward API reports about a pod."""

    pod: Pod
    node_name: str
    address: str
    host_address: str
    size: Size

    def field(self, reference: FieldReference) -> str:
        """The value of a field path; raises ConfigurationError for one that the API does not have."""
        path = reference.field_path
        meta = self.pod.metadata
        if match := _KEYED.match(path):
            return (meta.labels if match[1] == "labels" else meta.annotations).get(match[2], "")
        known = {
            "metadata.name": meta.name,
            "metadata.namespace": meta.namespace,
            "metadata.uid": meta.uid,
            "metadata.labels": _listing(meta.labels),
            "metadata.annotations": _listing(meta.annotations),
            "spec.nodeName": self.node_name,
            "spec.serviceAccountName": self.pod.spec.service_account_name,
            "status.podIP": self.address,
            "status.podIPs": self.address,
            "status.hostIP": self.host_address,
            "status.hostIPs": self.host_address,
        }
        if path not in known:
            raise ConfigurationError(f"field path {path!r} is not supported by the downward API")
        return known[path]

    def resource(self, reference: ResourceReference, container: Container | None) -> str:
        """A request or limit, divided and rounded up; without one it is what the pod's size gives."""
        named = self.pod.container(reference.container_name) if reference.container_name else container
        if named is None:
            raise ConfigurationError(f"container {reference.container_name!r} is not in the pod")
        kind, _, resource = reference.resource.partition(".")
        stated = named.resources.limits if kind == "limits" else named.resources.requests
        fallback = {"cpu": f"{self.size.millicpu}m", "memory": str(self.size.mebibytes * MEBIBYTE)}
        amount = parse_quantity(stated.get(resource) or (fallback.get(resource, "0") if kind == "limits" else "0"))
        divisor = parse_quantity(reference.divisor) or Fraction(1)
        return str(math.ceil(amount / divisor))


def expand(text: str, variables: Mapping[str, str]) -> str:
    """The text with every known `$(NAME)` replaced; an unknown name stays as it is, `$$` is a single `$`.

    Source: Kubernetes API, `Container.command`.
    """

    def value(match: re.Match[str]) -> str:
        if match[1]:
            return "$"
        return variables.get(match[2], match[0])

    return _REFERENCE.sub(value, text)


def references(container: Container) -> set[ConfigurationKey]:
    """Every Secret and ConfigMap that the container's variables name."""
    found = set()
    for source in container.env_from:
        for kind, whole in (("ConfigMap", source.config_map_ref), ("Secret", source.secret_ref)):
            if whole is not None:
                found.add((kind, whole.name))
    for variable in container.env:
        if (origin := variable.value_from) is not None:
            for kind, key in (("ConfigMap", origin.config_map_key_ref), ("Secret", origin.secret_key_ref)):
                if key is not None:
                    found.add((kind, key.name))
    return found


def resolve(
    container: Container,
    facts: PodFacts,
    configurations: Mapping[ConfigurationKey, Configuration],
    base: Mapping[str, str],
) -> dict[str, str]:
    """The container's variables on top of `base`.

    Raises ConfigurationError when a Secret, ConfigMap or key is missing that is not optional.
    """
    result = dict(base)
    for source in container.env_from:
        result |= _whole(source, configurations)
    for variable in container.env:
        if variable.value_from is None:
            result[variable.name] = expand(variable.value, result)
            continue
        value = _value(variable.value_from, container, facts, configurations)
        if value is not None:
            result[variable.name] = value
    return result


def _whole(source: VariableSource, configurations: Mapping[ConfigurationKey, Configuration]) -> dict[str, str]:
    for kind, reference in (("ConfigMap", source.config_map_ref), ("Secret", source.secret_ref)):
        if reference is None:
            continue
        found = configurations.get((kind, reference.name))
        if found is None:
            if reference.optional:
                return {}
            raise ConfigurationError(f'{kind.lower()} "{reference.name}" not found')
        named = {source.prefix + key: _text(value) for key, value in found.content.items()}
        return {name: value for name, value in named.items() if _VARIABLE.match(name)}
    return {}


def _value(
    origin: ValueFrom,
    container: Container,
    facts: PodFacts,
    configurations: Mapping[ConfigurationKey, Configuration],
) -> str | None:
    if origin.field_ref is not None:
        return facts.field(origin.field_ref)
    if origin.resource_field_ref is not None:
        return facts.resource(origin.resource_field_ref, container)
    if origin.secret_key_ref is not None:
        return _key("Secret", origin.secret_key_ref, configurations)
    if origin.config_map_key_ref is not None:
        return _key("ConfigMap", origin.config_map_key_ref, configurations)
    return ""


def _key(kind: str, reference: KeyReference, configurations: Mapping[ConfigurationKey, Configuration]) -> str | None:
    found = configurations.get((kind, reference.name))
    if found is not None and reference.key in found.content:
        return _text(found.content[reference.key])
    if reference.optional:
        return None
    if found is None:
        raise ConfigurationError(f'{kind.lower()} "{reference.name}" not found')
    raise ConfigurationError(f"couldn't find key {reference.key} in {kind} {reference.name}")


def configuration(kind: str, raw: Mapping[str, object]) -> Configuration:
    """A Secret or ConfigMap as the API server gives it, decoded."""
    metadata = raw["metadata"]
    assert isinstance(metadata, dict)
    content: dict[str, bytes] = {}
    for key, value in _members(raw, "data"):
        content[key] = base64.b64decode(value) if kind == "Secret" else value.encode()
    for key, value in _members(raw, "binaryData"):
        content[key] = base64.b64decode(value)
    return Configuration(kind, metadata["name"], content, immutable=bool(raw.get("immutable")))


def _members(raw: Mapping[str, object], name: str) -> Iterable[tuple[str, str]]:
    part = raw.get(name)
    return part.items() if isinstance(part, dict) else ()


def _text(content: bytes) -> str:
    return content.decode(errors="surrogateescape")


def _listing(pairs: Mapping[str, str]) -> str:
    quoted = (f'{key}="{_escape(value)}"' for key, value in sorted(pairs.items()))
    return "\n".join(quoted)


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
