"""Names, labels and annotations: how things that belong together are recognised in the cluster."""

from __future__ import annotations

import hashlib
import re
from typing import Final

from entrypackage.resource import GROUP

NAME_CHARS: Final = 253
_SUFFIX_CHARS: Final = 6

MANAGED_BY: Final = "entrypackage-operator"
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
LABEL_COMPONENT: Final = "app.kubernetes.io/component"
COMPONENT_PACKAGER: Final = "packager"
COMPONENT_ORDER: Final = "order"
LABEL_OWNER: Final = f"{GROUP}/owner-uid"
"""The uid of the EntryPackage that a Job, pod or Secret serves."""
LABEL_ATTEMPT: Final = f"{GROUP}/attempt"
"""The attempt's number."""
LABEL_DESTINATION: Final = f"{GROUP}/destination"
"""A hash of bucket and package name: at most one attempt per destination may write."""
LABEL_ORDER: Final = f"{GROUP}/order"
"""The first characters of the order's digest."""
LABEL_PART: Final = f"{GROUP}/part"
"""Which part of the order a Secret holds, from 0."""
ANNOTATION_ENTRY: Final = f"{GROUP}/entry-id"
ANNOTATION_DIGEST: Final = f"{GROUP}/order-digest"

LEASE_NAME: Final = "entrypackage-controller"
"""Fixed, so that a second release in the namespace cannot lead beside the first."""


def object_name(exact_id: str) -> str:
    """Return the name of the object for a Benchling id: lower case, DNS-safe, with 6 hex of the exact id's SHA-256.

    >>> object_name("etr_Ab12")
    'etr-ab12-b416b3'
    """
    safe = re.sub(r"[^a-z0-9]+", "-", exact_id.lower()).strip("-")
    safe = safe[: NAME_CHARS - _SUFFIX_CHARS - 1].strip("-")
    suffix = hashlib.sha256(exact_id.encode()).hexdigest()[:_SUFFIX_CHARS]
    return f"{safe}-{suffix}" if safe else f"id-{suffix}"


def destination_hash(bucket: str, package_name: str) -> str:
    """Return a label value that is the same for the same destination."""
    return hashlib.sha256(f"{bucket}/{package_name}".encode()).hexdigest()[:32]


def job_name(uid: str, attempt: int, digest: str) -> str:
    """Return the Job's name: the object's uid, the attempt's number and the order's digest, within 63 characters."""
    return f"epkg-{uid.replace('-', '')[:16]}-a{attempt}-{digest[:10]}"
