"""The state of a probe: how single results become ready, started or failed. Pure.

Source: Kubernetes documentation, "Configure Liveness, Readiness and Startup Probes".
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class ProbeState:
    """Counts equal results in a row; `passing` is the verdict, None before the first one."""

    success_threshold: int
    failure_threshold: int
    passing: bool | None = None
    last: bool | None = None
    run: int = 0

    def observe(self, success: bool) -> ProbeState:
        """The state after one more result; the verdict changes when its threshold is reached."""
        run = self.run + 1 if self.last == success else 1
        threshold = self.success_threshold if success else self.failure_threshold
        return replace(self, last=success, run=run, passing=success if run >= threshold else self.passing)
