"""The contract between controller and packager: an Order goes in, a Report comes out.

The order is all that the packager needs. It travels as gzip-compressed canonical JSON in as many immutable Secrets as
it takes, because it holds the archive's presigned URL and may outgrow one Secret. The report is the container's
termination message, of which Kubernetes keeps 4,096 bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from typing import Annotated, Any, Final, Literal

from pydantic import Field, PlainSerializer, SecretStr, ValidationError

from entrypackage.failures import Failure, FailureClass
from entrypackage.model import Model
from entrypackage.trigger import Taken, Trigger

PART_BYTES: Final = 900 * 1024
"""The most that one Secret carries; the API server takes objects up to about 1 MiB after base64 is undone."""

REPORT_BYTES: Final = 4096
"""What Kubernetes keeps of a termination message."""

_SHORT_SENTENCE: Final = 64
"""A sentence of so few characters is not shortened any more."""

RevealedSecret = Annotated[SecretStr, PlainSerializer(lambda v: v.get_secret_value(), return_type=str)]
"""A secret that prints as ``***`` but is written out in an order's JSON, which only ever lives in Secrets."""


class Owner(Model):
    """The EntryPackage that the order was made for."""

    namespace: str
    name: str
    uid: str


class Archive(Model):
    """Where the export's ZIP can be read, without any Authorization header."""

    url: RevealedSecret


class DestinationFields(Model):
    """Where packages go and who is told: what all packages of an installation have in common."""

    bucket: str
    prefix: Annotated[str, Field(pattern=r"^[^/].*[^/]$|^[^/]$")]
    """First part of every package's name."""
    queue_url: str
    """The SQS queue that makes packages of what is on S3."""
    region: str | None = None
    """Absent: found from the bucket."""
    s3_endpoint_url: str | None = None
    sqs_endpoint_url: str | None = None
    role_arn: str | None = None
    """A role that the packager assumes; it never falls back to the pod's own."""
    workflow: str | None = None
    kms_key_id: str | None = None
    tags: dict[str, str] = {}
    metadata: dict[str, str] = {}
    delete_unversioned: bool = False
    """Delete what a new package lacks even where the bucket keeps no versions."""


class Destination(DestinationFields):
    """Where one package goes: ``s3://<bucket>/<prefix>/<display_id>/``, and who is told."""

    display_id: Annotated[str, Field(pattern=r"^[^/.\x00-\x1f][^/\x00-\x1f]*$")]

    @property
    def package_name(self) -> str:
        """``<prefix>/<display id>``: the name of the Quilt package."""
        return f"{self.prefix}/{self.display_id}"

    @property
    def key_prefix(self) -> str:
        """What every key of the package starts with, with the slash."""
        return f"{self.package_name}/"

    @property
    def uri(self) -> str:
        """The package as an S3 URI."""
        return f"s3://{self.bucket}/{self.key_prefix}"

    @property
    def inventory_key(self) -> str:
        """The key of the inventory, outside the package because Quilt packs everything under its prefix."""
        return f"{self.prefix}/.entrypackage/{self.display_id}.json"


class NamedLink(Model):
    """Something that the entry links to, with its name where it could be looked up."""

    type: str
    id: str
    name: str | None = None
    slug: str | None = None


class Limits(Model):
    """What the packager refuses; the defaults keep a hostile archive from costing more than a large honest one."""

    max_member_bytes: int = 500 * 1024**3
    max_total_bytes: int = 2 * 1024**4
    max_members: int = 250_000
    max_ratio: int = 1100
    """Most bytes that one compressed byte may stand for; deflate cannot honestly exceed 1,032."""


class Order(Model):
    """Everything that one packager Job needs to know."""

    format_version: Literal[1] = 1
    owner: Owner
    attempt: int
    trigger: Trigger
    taken: Taken
    notify_always: bool = False
    """A person asked, so a message is sent even if nothing changed (once per request)."""
    entry: dict[str, Any]
    """The entry as Benchling's API gives it."""
    benchling_base_url: str
    archive: Archive
    destination: Destination
    links: list[NamedLink] = []
    canvas_id: str | None = None
    """The canvas that the request came from; absent: the previous package's, else the first in the notes."""
    external_file_sizes: dict[str, int] = {}
    """Sizes in bytes of attachments by external file id, asked for when an earlier export left some out."""
    limits: Limits = Limits()

    def to_json(self) -> bytes:
        """Return the canonical JSON: the same order always gives the same bytes."""
        return _canonical(self.model_dump(mode="json", by_alias=True, exclude_none=True))


class EncodedOrder(Model):
    """An order on its way: its digest and the parts that are put into one Secret each."""

    digest: str
    parts: list[bytes]


def encode_order(order: Order, part_bytes: int = PART_BYTES) -> EncodedOrder:
    """Compress and split an order; the digest is the SHA-256 of its canonical JSON, in hex."""
    plain = order.to_json()
    packed = gzip.compress(plain, compresslevel=6, mtime=0)
    parts = [packed[start : start + part_bytes] for start in range(0, len(packed), part_bytes)]
    return EncodedOrder(digest=hashlib.sha256(plain).hexdigest(), parts=parts)


def decode_order(parts: list[bytes], digest: str) -> Order:
    """Read an order back and prove that it is the one meant; raises `Failure` (`OrderInvalid`)."""
    try:
        plain = gzip.decompress(b"".join(parts))
    except (OSError, EOFError, ValueError) as error:
        raise Failure(FailureClass.ORDER_INVALID, "The order is not gzip data or a part is missing.") from error
    if hashlib.sha256(plain).hexdigest() != digest:
        raise Failure(FailureClass.ORDER_INVALID, "The order's digest differs from the one that the Job names.")
    return parse_order(plain)


def parse_order(plain: bytes) -> Order:
    """Read an order's JSON; raises `Failure` (`OrderInvalid`) that names the members but not their values."""
    try:
        return Order.model_validate_json(plain)
    except ValidationError as error:
        where = ", ".join(".".join(str(part) for part in item["loc"]) for item in error.errors()[:5])
        raise Failure(FailureClass.ORDER_INVALID, f"The order is not valid at: {where or 'its root'}.") from None


class PackedPackage(Model):
    """What the packager made."""

    uri: str
    files: int
    """Objects of the package, metadata files included."""
    bytes: int
    """Their sizes' sum."""
    manifest_checksum: str
    message_id: str | None = None
    """The notification's id: of this run, or of the earlier one that made this one unnecessary."""
    notified: bool = False
    """Whether this run sent it."""


class Report(Model):
    """What became of an order."""

    order_digest: str = ""
    failure: FailureClass | None = None
    """Absent: the package is complete (or as complete as the archive was, see `missing_count`)."""
    message: str = ""
    """One sentence about the failure."""
    package: PackedPackage | None = None
    missing_count: int = 0
    """Attachments that the entry names and the archive lacks."""
    missing: list[str] = []
    """Their external file ids, as many as fit."""
    touched: bool = False
    """Whether an object of the previous package was changed or removed."""
    notices: list[str] = []
    """What an operator should know though it went well, such as deletes that were kept back."""
    bytes_fetched: int = 0
    bytes_uploaded: int = 0
    files_uploaded: int = 0
    files_skipped: int = 0
    files_proven: int = 0
    """Files that are not at their place yet, but were read to the end and found good."""
    seconds: dict[str, float] = {}
    """Wall time by stage."""
    peak_memory_bytes: int = 0

    @property
    def files_stored(self) -> int:
        """How many files were at their place in the end, put by this attempt or found there; metadata files count."""
        return self.files_uploaded + self.files_skipped

    @property
    def progress(self) -> int:
        """How far it came, in steps: a file that is proven is one, and one that is at its place another."""
        return 2 * self.files_stored + self.files_proven

    @property
    def succeeded(self) -> bool:
        """Whether there is a package to speak of."""
        return self.failure is None and self.package is not None

    def to_bytes(self) -> bytes:
        """Return JSON of at most `REPORT_BYTES`, shortening lists and sentences where it must.

        What cannot be written as UTF-8 (half a surrogate pair in somebody's name) becomes a question mark: a report
        that says a little less is better than none.
        """
        report = self
        while len(encoded := report._encoded()) > REPORT_BYTES:
            report = report._shorter()
        return encoded

    def _encoded(self) -> bytes:
        return _canonical(self.model_dump(mode="json", by_alias=True, exclude_none=True), "replace")

    def _shorter(self) -> Report:
        if self.missing:
            return self.model_copy(update={"missing": self.missing[: len(self.missing) // 2]})
        if self.notices:
            return self.model_copy(update={"notices": self.notices[:-1]})
        if len(self.message) > _SHORT_SENTENCE:
            return self.model_copy(update={"message": self.message[: len(self.message) // 2] + "…"})
        if self.seconds:
            return self.model_copy(update={"seconds": {}})
        return Report(order_digest=self.order_digest[:64], failure=self.failure, touched=self.touched)


def parse_report(message: str) -> Report | None:
    """Read a termination message; None if it is no report (a crash before one was written)."""
    try:
        return Report.model_validate_json(message)
    except ValidationError:
        return None


def _canonical(value: object, errors: str = "strict") -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode("utf-8", errors)
