"""`$(NAME)` references in commands, arguments and variables. Pure.

Source: Kubernetes API, `Container.command`: an unknown name stays as it is, `$$` is a single `$`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_REFERENCE = re.compile(r"\$(?:(\$)|\(([^)]*)\))")


def expand(text: str, variables: Mapping[str, str]) -> str:
    """The text with every known reference replaced."""

    def value(match: re.Match[str]) -> str:
        if match[1]:
            return "$"
        return variables.get(match[2], match[0])

    return _REFERENCE.sub(value, text)
