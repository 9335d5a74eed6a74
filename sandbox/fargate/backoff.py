"""When a container that ended is started again.

Source: Kubernetes documentation, "Pod Lifecycle", container restarts: 10 s, 20 s, 40 s, … at most 300 s, and
from the start again after a container ran for 10 minutes. The first restart is immediate, as in a kubelet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RestartPolicy = Literal["Always", "OnFailure", "Never"]


@dataclass(frozen=True)
class Backoff:
    """The waits before restarts, in seconds; `crashes` counts since the last long run."""

    base: float = 10.0
    longest: float = 300.0
    reset_after: float = 600.0
    crashes: int = 0

    def after(self, ran_seconds: float) -> tuple[Backoff, float]:
        """The wait after a container ended that ran for this long, and the state for the next time."""
        crashes = 0 if ran_seconds >= self.reset_after else self.crashes
        wait = 0.0 if crashes == 0 else min(self.base * 2 ** min(crashes - 1, 30), self.longest)
        return Backoff(self.base, self.longest, self.reset_after, crashes + 1), wait


def restarts(policy: RestartPolicy, exit_code: int) -> bool:
    """Whether a container that ended with this code is started again."""
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)
