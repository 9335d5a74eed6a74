"""Fargate profiles: which pods run on Fargate.

Source: Amazon EKS user guide, "Define which Pods use AWS Fargate when launched".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sandbox.fargate.pod import Metadata

PROFILE_LABEL = "eks.amazonaws.com/fargate-profile"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Selector(_Strict):
    """A namespace and labels; `*` and `?` are wildcards in the namespace, in label keys and in values."""

    namespace: str = Field(min_length=1)
    labels: Annotated[dict[str, str], Field(max_length=5)] = {}

    def matches(self, namespace: str, labels: Mapping[str, str]) -> bool:
        """Whether a pod of this namespace with these labels is selected."""
        return _like(self.namespace, namespace) and all(
            any(_like(key, name) and _like(value, text) for name, text in labels.items())
            for key, value in self.labels.items()
        )


class Profile(_Strict):
    """A Fargate profile: at most five selectors, of which one must match."""

    name: str = Field(min_length=1)
    selectors: Annotated[list[Selector], Field(min_length=1, max_length=5)]


def select(profiles: Iterable[Profile], pod: Metadata) -> Profile | None:
    """The profile that the pod runs under, or None.

    Of several matching ones the first by name wins, unless the pod's label names one of them.
    """
    matching = sorted(
        (one for one in profiles if any(s.matches(pod.namespace, pod.labels) for s in one.selectors)),
        key=lambda one: one.name,
    )
    wanted = pod.labels.get(PROFILE_LABEL)
    if wanted is not None:
        matching = [one for one in matching if one.name == wanted]
    return matching[0] if matching else None


def _like(pattern: str, text: str) -> bool:
    expression = "".join(".*" if c == "*" else "." if c == "?" else re.escape(c) for c in pattern)
    return re.fullmatch(expression, text) is not None
