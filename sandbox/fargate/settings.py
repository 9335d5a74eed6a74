"""The settings of the node program."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sandbox.fargate.backoff import Backoff

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.fargate.images import Image
    from sandbox.fargate.isolation import Isolation
    from sandbox.fargate.refusal import Profile


@dataclass(frozen=True)
class Delay:
    """Seconds from a range; the same for the same pod."""

    shortest: float = 0.0
    longest: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Delay:
        """Read `40` or `40-60`; raises ValueError."""
        low, _, high = text.partition("-")
        try:
            delay = cls(float(low), float(high or low))
        except ValueError:
            delay = cls(-1.0, -1.0)
        if not 0 <= delay.shortest <= delay.longest < float("inf"):
            raise ValueError(f"{text!r} is not a number of seconds or a range like 40-60")
        return delay

    def of(self, uid: str) -> float:
        """The delay of the pod with this uid."""
        return random.Random(uid).uniform(self.shortest, self.longest)


@dataclass(frozen=True)
class NodeSettings:
    """Everything that a run of the node is started with; durations are in seconds.

    `start_delay` passes before the pod has its Node and is not billed, `pull_delay` stands for the image pull and is.
    """

    folder: Path
    profiles: tuple[Profile, ...]
    images: tuple[Image, ...]
    isolation: Isolation
    start_delay: Delay = Delay()
    pull_delay: Delay = Delay()
    launch_rate: float = 20.0
    launch_burst: int = 20
    backoff: Backoff = field(default_factory=Backoff)
    env: tuple[tuple[str, str], ...] = ()
    honour_run_as_user: bool = False
    cpu_quota: bool = False
    size_check_interval: float = 2.0
    host_address: str = "127.0.0.1"

    @property
    def instance(self) -> str:
        """Which Nodes and pods of a shared API server are this program's: the same for the same folder."""
        return hashlib.sha256(str(self.folder).encode()).hexdigest()[:12]
