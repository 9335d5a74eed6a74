"""Kubernetes Events: one object for each resource, reason and attempt, with a count of repeats."""

from __future__ import annotations

import hashlib
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from entrypackage.kubernetes import EVENTS, AlreadyExistsError, KubernetesError
from entrypackage.model import render_time
from entrypackage.resource import API_VERSION, KIND

if TYPE_CHECKING:
    from entrypackage.kubernetes import Kubernetes
    from entrypackage.resource import EntryPackage

log = logging.getLogger(__name__)

COMPONENT: Final = "entrypackage-controller"
MESSAGE_CHARS: Final = 1024


class EventRecorder:
    """Posts Events in one namespace. A failure to post is only logged."""

    def __init__(self, kubernetes: Kubernetes, namespace: str, instance: str) -> None:
        """`instance` names this process in the Events."""
        self._kubernetes = kubernetes
        self._namespace = namespace
        self._instance = instance

    async def post(self, package: EntryPackage, reason: str, message: str, *, warning: bool = False) -> None:
        """Post an Event, or raise the count of the one that exists."""
        attempt = package.status.attempts
        facts = f"{package.metadata.uid}/{reason}/{attempt}"
        name = f"{package.metadata.name[:230]}.{hashlib.sha256(facts.encode()).hexdigest()[:16]}"
        now = render_time(datetime.now(UTC).replace(microsecond=0))
        try:
            await self._create_or_count(package, name, reason, message, now, "Warning" if warning else "Normal")
        except KubernetesError as error:
            log.warning("an Event was not posted", extra={"reason": reason, "why": str(error)})

    async def _create_or_count(
        self, package: EntryPackage, name: str, reason: str, message: str, now: str, kind: str
    ) -> None:
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": self._namespace},
            "involvedObject": {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "namespace": self._namespace,
                "name": package.metadata.name,
                "uid": package.metadata.uid,
            },
            "reason": reason,
            "message": message[:MESSAGE_CHARS],
            "type": kind,
            "count": 1,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "source": {"component": COMPONENT, "host": self._instance},
            "reportingComponent": COMPONENT,
            "reportingInstance": self._instance,
        }
        try:
            await self._kubernetes.create(EVENTS, self._namespace, body)
        except AlreadyExistsError:
            known = await self._kubernetes.get(EVENTS, self._namespace, name)
            change = {"count": int(known.get("count") or 1) + 1, "lastTimestamp": now, "message": body["message"]}
            await self._kubernetes.merge_patch(EVENTS, self._namespace, name, change)
