"""The immutable Secrets that carry an order to its packager: named, built, found, checked, deleted and swept.

An order is too large for one Secret, so each Secret holds one part. Their names follow from the owner, the attempt and
the order's digest: a controller that takes over finds what its predecessor wrote and adopts it.
"""

from __future__ import annotations

import base64
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from controller.decisions.jobs import attempt_label, common_labels, owner_reference
from controller.reconciler.adoption import create_or_adopt
from entrypackage import identity
from entrypackage.kubernetes import JOBS, SECRETS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from entrypackage.kubernetes import Kubernetes, Object
    from entrypackage.order import EncodedOrder
    from entrypackage.resource import Attempt, EntryPackage

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OrderSecret:
    """The metadata of one order Secret; its content is never read back."""

    name: str
    uid: str
    owner_uid: str
    attempt: int
    """The attempt's number; 0 if the label is missing or unreadable."""
    digest_label: str
    """The first characters of the order's digest, as the label has them."""

    @classmethod
    def read(cls, metadata: Object) -> Self:
        """Read a Secret's metadata."""
        labels = metadata.get("labels") or {}
        return cls(
            name=metadata["name"],
            uid=metadata["uid"],
            owner_uid=labels.get(identity.LABEL_OWNER, ""),
            attempt=attempt_label(labels),
            digest_label=labels.get(identity.LABEL_ORDER, ""),
        )


def secret_name(uid: str, attempt: int, digest: str, part: int) -> str:
    """Return the name of the Secret with one part of the order; parts count from 0."""
    return f"{identity.job_name(uid, attempt, digest)}-{part}"


def part_name(part: int) -> str:
    """Return the file name of one part of an order; the names sort in the order of the parts."""
    return f"part-{part:03d}"


def build_secrets(package: EntryPackage, attempt: Attempt, encoded: EncodedOrder) -> list[Object]:
    """Return the immutable Secrets that carry an order."""
    labels = common_labels(package, attempt, encoded.digest, identity.COMPONENT_ORDER)
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": secret_name(package.metadata.uid, attempt.number, encoded.digest, number),
                "labels": {**labels, identity.LABEL_PART: str(number)},
                "ownerReferences": [owner_reference(package)],
            },
            "type": "Opaque",
            "immutable": True,
            "data": {part_name(number): base64.b64encode(part).decode()},
        }
        for number, part in enumerate(encoded.parts)
    ]


def volume_sources(package: EntryPackage, attempt: Attempt) -> list[Object]:
    """Return the sources of the projected volume that shows the recorded order to the packager."""
    return [
        {"secret": {"name": name, "items": [{"key": part_name(number), "path": part_name(number)}]}}
        for number, name in enumerate(_recorded_names(package, attempt))
    ]


def _recorded_names(package: EntryPackage, attempt: Attempt) -> list[str]:
    """Return the names of the Secrets of the order that the status records; none if it records no order."""
    if attempt.order_digest is None:
        return []
    return [
        secret_name(package.metadata.uid, attempt.number, attempt.order_digest, part)
        for part in range(attempt.order_parts or 0)
    ]


@dataclass(frozen=True, slots=True)
class OrderSecrets:
    """The order Secrets of one namespace."""

    kubernetes: Kubernetes
    namespace: str

    async def write(self, package: EntryPackage, attempt: Attempt, encoded: EncodedOrder) -> None:
        """Write an order, after any other order of the same attempt is deleted.

        A Secret that is there already is adopted. Raises `Failure` if its name belongs to another owner.
        """
        for secret in await self.find(package, attempt.number):
            if secret.digest_label != encoded.digest[:16]:
                await self._delete(secret)
        for body in build_secrets(package, attempt, encoded):
            await create_or_adopt(self.kubernetes, self.namespace, SECRETS, package, body)

    async def find(self, package: EntryPackage, attempt: int) -> list[OrderSecret]:
        """Return the order Secrets of one attempt of an EntryPackage."""
        return await self._list(
            f"{identity.LABEL_OWNER}={package.metadata.uid},{identity.LABEL_ATTEMPT}={attempt},"
            f"{identity.LABEL_COMPONENT}={identity.COMPONENT_ORDER}"
        )

    async def is_complete(self, package: EntryPackage, attempt: Attempt) -> bool:
        """Whether every Secret of the order that the status records exists; False if it records none."""
        wanted = set(_recorded_names(package, attempt))
        return bool(wanted) and wanted <= {secret.name for secret in await self.find(package, attempt.number)}

    async def delete(self, package: EntryPackage, attempt: int) -> None:
        """Delete the order Secrets of one attempt."""
        for secret in await self.find(package, attempt):
            await self._delete(secret)

    async def list_all(self) -> list[OrderSecret]:
        """Return every order Secret of this product in the namespace."""
        return await self._list(
            f"{identity.LABEL_MANAGED_BY}={identity.MANAGED_BY},{identity.LABEL_COMPONENT}={identity.COMPONENT_ORDER}"
        )

    async def sweep(self, listed: Iterable[OrderSecret], in_use: set[tuple[str, int]], owners: set[str]) -> None:
        """Delete Secrets without a Job whose attempt is over: a crash left them between two writes.

        `in_use` holds owner uid and number of each attempt in progress, `owners` the uids of all EntryPackages that
        could be read. Sound only if `listed` was read before the EntryPackages: a Secret that is younger than the list
        of them belongs to an attempt that the list does not show. The Jobs are read here, after both.
        """
        managed = f"{identity.LABEL_MANAGED_BY}={identity.MANAGED_BY}"
        jobs = self.kubernetes.pages(JOBS, self.namespace, labels=managed, metadata_only=True)
        needed = in_use | {_attempt_of_job(job["metadata"]) async for job in jobs}
        for secret in listed:
            if secret.owner_uid in owners and (secret.owner_uid, secret.attempt) not in needed:
                log.info("removing an unused order", extra={"secret": secret.name})
                await self._delete(secret)

    async def _list(self, labels: str) -> list[OrderSecret]:
        pages = self.kubernetes.pages(SECRETS, self.namespace, labels=labels, metadata_only=True)
        return [OrderSecret.read(secret["metadata"]) async for secret in pages]

    async def _delete(self, secret: OrderSecret) -> None:
        await self.kubernetes.delete(SECRETS, self.namespace, secret.name, uid=secret.uid)


def _attempt_of_job(metadata: Object) -> tuple[str, int]:
    labels = metadata.get("labels") or {}
    return labels.get(identity.LABEL_OWNER, ""), attempt_label(labels)
