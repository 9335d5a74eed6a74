"""The election, by a clock of its own: when a candidate takes over."""

from __future__ import annotations

from controller.settings import LeaseSettings
from controller.watch.lease import Leadership
from entrypackage.kubernetes import Kind, Kubernetes, Object

SETTINGS = LeaseSettings(duration_seconds=15, renew_deadline_seconds=10, retry_seconds=0.001)
SLOW_SECONDS = 9.0
"""How long the first question takes; its holder renews right before the answer."""


class Server(Kubernetes):
    """Holds a Lease that its holder does not renew any more; every question takes time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.asked = 0
        self.taken_at: float | None = None

    async def get(self, kind: Kind, namespace: str, name: str) -> Object:
        self.now += SLOW_SECONDS if self.asked == 0 else 0.1
        self.asked += 1
        spec = {"holderIdentity": "another", "leaseDurationSeconds": 15}
        return {"metadata": {"resourceVersion": "1"}, "spec": spec}

    async def replace(self, kind: Kind, namespace: str, name: str, body: Object) -> Object:
        self.taken_at = self.now
        return {"metadata": {"resourceVersion": "2"}}


async def test_a_holder_that_renewed_while_a_slow_question_was_under_way_keeps_its_whole_term() -> None:
    server = Server()
    leadership = Leadership(server, "lab", "me", SETTINGS, clock=lambda: server.now)

    await leadership.campaign(_at_once)

    assert server.taken_at is not None
    assert server.taken_at >= SLOW_SECONDS + SETTINGS.duration_seconds


async def _at_once() -> None:
    """Do what a leader has to do: nothing."""
