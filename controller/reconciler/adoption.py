"""Creates an object once: one that an earlier try has created is adopted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.decisions.jobs import controlling_owner
from entrypackage.failures import Failure, FailureClass
from entrypackage.kubernetes import AlreadyExistsError

if TYPE_CHECKING:
    from entrypackage.kubernetes import Kind, Kubernetes, Object
    from entrypackage.resource import EntryPackage


async def create_or_adopt(
    kubernetes: Kubernetes, namespace: str, kind: Kind, package: EntryPackage, body: Object
) -> Object:
    """Create an object of an EntryPackage, and return it or the one of the same name that the package has already.

    Raises `Failure` if the name belongs to another owner.
    """
    try:
        return await kubernetes.create(kind, namespace, body)
    except AlreadyExistsError:
        name = body["metadata"]["name"]
        known = await kubernetes.get(kind, namespace, name)
        if controlling_owner(known) != package.metadata.uid:
            raise Failure(FailureClass.INTERNAL, f"The {kind.plural} name {name} belongs to another.") from None
        return known
