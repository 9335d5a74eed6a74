"""Which isolation of containers the tests ask of this machine: none for which the user has no right."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sandbox.fargate.isolation import works
from tests.support.lacking import lacking

if TYPE_CHECKING:
    from sandbox.fargate.isolation import Isolation

NAMESPACED: tuple[Isolation, ...] = ("root", "user") if os.geteuid() == 0 else ("user",)
"""Those with namespaces. Root's needs root; the other is for everybody, root too."""
ISOLATIONS: tuple[Isolation, ...] = (*NAMESPACED, "none")


def require(isolation: Isolation) -> None:
    """Fail in one sentence where it does not work, or skip if the tests may."""
    if not works(isolation):
        lacking(f"This machine allows uid {os.geteuid()} no {isolation} isolation of containers (namespaces).")
