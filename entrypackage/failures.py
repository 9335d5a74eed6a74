"""The closed table of everything that can go wrong: what it is called, whether it is tried again, what a person does.

Every failure that reaches a condition, an event, a metric, a report or an exit code is a `FailureClass`; its row in
`POLICIES` says what follows. `controller.decisions.transitions` applies it: the number of tries and the times are
settings of the controller.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from entrypackage.backoff import Backoff

if TYPE_CHECKING:
    from collections.abc import Mapping


class FailureClass(StrEnum):
    """The name of a failure: the CamelCase `reason` of conditions and events, and the label value of metrics."""

    THROTTLED = "Throttled"
    PROVIDER_DOWN = "ProviderDown"
    PROVIDER_REJECTED = "ProviderRejected"
    ANSWER_UNREADABLE = "AnswerUnreadable"
    AUTH_FAILED = "AuthFailed"
    NOT_FOUND = "NotFound"
    FILTERED = "Filtered"
    EXPORT_FAILED = "ExportFailed"
    EXPORT_LOST = "ExportLost"
    ARCHIVE_EXPIRED = "ArchiveExpired"
    ARCHIVE_REFUSED = "ArchiveRefused"
    ARCHIVE_UNREACHABLE = "ArchiveUnreachable"
    INCOMPLETE = "Incomplete"
    DESTINATION_DENIED = "DestinationDenied"
    DESTINATION_DOWN = "DestinationDown"
    DESTINATION_TAKEN = "DestinationTaken"
    NOTIFICATION_FAILED = "NotificationFailed"
    SUPERSEDED = "Superseded"
    NAME_MISMATCH = "NameMismatch"
    POD_NEVER_STARTED = "PodNeverStarted"
    OUT_OF_MEMORY = "OutOfMemory"
    DISRUPTED = "Disrupted"
    REPORT_LOST = "ReportLost"
    TIMEOUT = "Timeout"
    ORDER_INVALID = "OrderInvalid"
    INTERNAL = "Internal"


class Provider(StrEnum):
    """Whose outage a failure is; success of any call to the same provider brings given-up attempts forward."""

    BENCHLING = "benchling"
    AWS = "aws"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class FailurePolicy:
    """What follows from a failure."""

    meaning: str
    """What happened, for a person."""
    remedy: str
    """What a person can do; it goes into the condition's message."""
    retryable: bool
    """Whether the controller tries again by itself soon; otherwise the attempt is given up at once."""
    counts: bool
    """Whether it uses up one of the tries (an outage or a disruption does not)."""
    backoff: Backoff
    """The delay before the next try: from half of the ceiling to the whole of it."""
    provider: Provider | None = None
    """Whose fault it is; a provider's outage never gives up."""
    forgives_progress: bool = False
    """An attempt that came further than any before it uses up no try and starts the row of failures over."""
    reuses_export: bool = False
    """Whether the next try may pack the same export while its archive's URL is valid."""
    blames_address: bool = False
    """It may be the fault of the archive's address: when a fresh one led no further, the entry is exported anew."""
    exit_code: int | None = None
    """The packager's exit code that stands for it; absent where the packager never reports it."""

    @property
    def is_outage(self) -> bool:
        """Whether it is tried for as long as it lasts."""
        return self.retryable and not self.counts and self.provider is not None


_SOON: Final = Backoff(base_seconds=5, cap_seconds=300)
_OUTAGE: Final = Backoff(base_seconds=15, cap_seconds=600)
_SLOW: Final = Backoff(base_seconds=60, cap_seconds=3600)

POLICIES: Final[Mapping[FailureClass, FailurePolicy]] = {
    FailureClass.THROTTLED: FailurePolicy(
        meaning="Benchling asked for fewer requests or exports.",
        remedy="Nothing to do: it goes on when Benchling's limit allows. If not, ask Benchling for more.",
        retryable=True,
        counts=False,
        backoff=_OUTAGE,
        provider=Provider.BENCHLING,
    ),
    FailureClass.PROVIDER_DOWN: FailurePolicy(
        meaning="Benchling did not answer, or answered with an error of its own.",
        remedy="Nothing to do: it goes on when Benchling is back. See Benchling's status page if it lasts.",
        retryable=True,
        counts=False,
        backoff=_OUTAGE,
        provider=Provider.BENCHLING,
    ),
    FailureClass.PROVIDER_REJECTED: FailurePolicy(
        meaning="Benchling refused the request as wrong.",
        remedy="Look at the message; if the entry looks right in Benchling, report it with the controller's log.",
        retryable=False,
        counts=True,
        backoff=_SLOW,
        provider=Provider.BENCHLING,
    ),
    FailureClass.ANSWER_UNREADABLE: FailurePolicy(
        meaning="Benchling's answer has a shape that this release cannot read.",
        remedy="Check that benchling.baseUrl in the chart's values is the tenant's address; if it is, look for a newer "
        "release, or report it with the message.",
        retryable=True,
        counts=True,
        backoff=_SLOW,
        provider=Provider.BENCHLING,
    ),
    FailureClass.AUTH_FAILED: FailurePolicy(
        meaning="Benchling refused the app's credentials.",
        remedy="Check the client id and secret in the Secret that the chart's benchling.secretName names; "
        "a corrected Secret is picked up within about two minutes.",
        retryable=True,
        counts=False,
        backoff=_SLOW,
        provider=Provider.BENCHLING,
    ),
    FailureClass.NOT_FOUND: FailurePolicy(
        meaning="The app cannot see the entry: it was deleted, archived, or not shared with the app.",
        remedy="Give the Benchling app access to the entry's project, then ask for the package again; "
        "or delete the EntryPackage if the entry is gone.",
        retryable=False,
        counts=True,
        backoff=_SLOW,
        provider=Provider.BENCHLING,
    ),
    FailureClass.FILTERED: FailurePolicy(
        meaning="The settings leave this entry out.",
        remedy="Nothing to do, unless the filter in the chart's values is not what you want.",
        retryable=False,
        counts=False,
        backoff=_SLOW,
    ),
    FailureClass.EXPORT_FAILED: FailurePolicy(
        meaning="Benchling tried to export the entry and failed.",
        remedy="Export the entry by hand in Benchling; if that fails too, the entry or Benchling needs a fix. "
        "Then ask for the package again.",
        retryable=True,
        counts=True,
        backoff=_SLOW,
        provider=Provider.BENCHLING,
    ),
    FailureClass.EXPORT_LOST: FailurePolicy(
        meaning="An export was asked for, but its outcome is unknown or no longer kept by Benchling.",
        remedy="Nothing to do: the export is asked for again.",
        retryable=True,
        counts=True,
        backoff=_SOON,
        provider=Provider.BENCHLING,
    ),
    FailureClass.ARCHIVE_EXPIRED: FailurePolicy(
        meaning="The archive's address expired before all of it was read.",
        remedy="Nothing to do: what was stored is kept and the rest is fetched with a fresh address. If one file alone "
        "takes longer than the address lives, give the packager more CPU or make the file smaller.",
        retryable=True,
        counts=True,
        forgives_progress=True,
        backoff=_SOON,
        provider=Provider.BENCHLING,
        reuses_export=True,
        blames_address=True,
        exit_code=10,
    ),
    FailureClass.ARCHIVE_REFUSED: FailurePolicy(
        meaning="The archive is damaged or unsafe, so nothing of the previous package was changed.",
        remedy="The message names the member; rename or remove that attachment in Benchling, then ask again.",
        retryable=True,
        counts=True,
        backoff=_SLOW,
        provider=Provider.BENCHLING,
        exit_code=11,
    ),
    FailureClass.ARCHIVE_UNREACHABLE: FailurePolicy(
        meaning="The archive could not be read from where Benchling keeps it.",
        remedy="Nothing to do if it passes; if it lasts, check that the packager's pods may reach Benchling's storage.",
        retryable=True,
        counts=False,
        forgives_progress=True,
        backoff=_OUTAGE,
        provider=Provider.BENCHLING,
        reuses_export=True,
        blames_address=True,
        exit_code=12,
    ),
    FailureClass.INCOMPLETE: FailurePolicy(
        meaning="Benchling left attachments out of the export, as it does while they are scanned for viruses.",
        remedy="Nothing to do: the package holds what was there, and the entry is exported again soon.",
        retryable=True,
        counts=False,
        backoff=Backoff(base_seconds=300, cap_seconds=3600),
    ),
    FailureClass.DESTINATION_DENIED: FailurePolicy(
        meaning="AWS refused access to the bucket, the key or the queue.",
        remedy="Check that the packager's role may read and write the prefix, use the KMS key and send to the queue.",
        retryable=False,
        counts=True,
        backoff=_SLOW,
        provider=Provider.AWS,
        reuses_export=True,
        exit_code=20,
    ),
    FailureClass.DESTINATION_DOWN: FailurePolicy(
        meaning="S3 or its network did not answer.",
        remedy="Nothing to do if it passes; if it lasts, check the way to S3 (VPC endpoint, security group).",
        retryable=True,
        counts=False,
        backoff=_OUTAGE,
        provider=Provider.AWS,
        reuses_export=True,
        exit_code=21,
    ),
    FailureClass.DESTINATION_TAKEN: FailurePolicy(
        meaning="The package's prefix holds the package of another entry, so nothing was written.",
        remedy="Two entries have the same display id or prefix; move the older package away or change the prefix.",
        retryable=False,
        counts=True,
        backoff=_SLOW,
        exit_code=22,
    ),
    FailureClass.NOTIFICATION_FAILED: FailurePolicy(
        meaning="The package is on S3, but the message to the queue could not be sent.",
        remedy="Check that the queue exists and that the packager's role may send to it.",
        retryable=True,
        counts=False,
        backoff=_OUTAGE,
        provider=Provider.AWS,
        reuses_export=True,
        exit_code=23,
    ),
    FailureClass.SUPERSEDED: FailurePolicy(
        meaning="Another packager took over this destination.",
        remedy="Nothing to do: the newer attempt writes the package.",
        retryable=True,
        counts=True,
        backoff=_SOON,
        reuses_export=True,
        exit_code=24,
    ),
    FailureClass.NAME_MISMATCH: FailurePolicy(
        meaning="The object's name is not the one that belongs to its entry id.",
        remedy="Delete it and create it under the name in the message, or let a webhook create it.",
        retryable=False,
        counts=False,
        backoff=_SLOW,
    ),
    FailureClass.POD_NEVER_STARTED: FailurePolicy(
        meaning="The packager's pod did not start in time.",
        remedy="Look at the pod's events: profile, image, subnet addresses and vCPU quota are usual causes.",
        retryable=True,
        counts=False,
        backoff=_OUTAGE,
        provider=Provider.CLUSTER,
        reuses_export=True,
    ),
    FailureClass.OUT_OF_MEMORY: FailurePolicy(
        meaning="The packager used more memory than its limit.",
        remedy="Raise packager.resources.memory in the chart's values, and report it: it should not happen.",
        retryable=True,
        counts=True,
        backoff=_SOON,
        reuses_export=True,
    ),
    FailureClass.DISRUPTED: FailurePolicy(
        meaning="The packager's pod was evicted or stopped from outside.",
        remedy="Nothing to do: it is started again.",
        retryable=True,
        counts=False,
        backoff=_SOON,
        provider=Provider.CLUSTER,
        reuses_export=True,
        exit_code=30,
    ),
    FailureClass.REPORT_LOST: FailurePolicy(
        meaning="The packager's pod is gone and its report was not read.",
        remedy="Nothing to do: the export is packed again, which changes nothing that is already there.",
        retryable=True,
        counts=True,
        backoff=_SOON,
        reuses_export=True,
    ),
    FailureClass.TIMEOUT: FailurePolicy(
        meaning="A step took longer than its deadline.",
        remedy="If the entry is that large, raise the deadline named in the message in the chart's values.",
        retryable=True,
        counts=True,
        backoff=_SLOW,
        reuses_export=True,
    ),
    FailureClass.ORDER_INVALID: FailurePolicy(
        meaning="The packager could not read its order, or the order's digest did not match.",
        remedy="Controller and packager must be of the same release; check the two images' tags.",
        retryable=True,
        counts=True,
        backoff=_SLOW,
        exit_code=31,
    ),
    FailureClass.INTERNAL: FailurePolicy(
        meaning="A defect of this program.",
        remedy="Report it with the log of the controller or of the packager's pod.",
        retryable=True,
        counts=True,
        backoff=_SLOW,
        exit_code=1,
    ),
}

EXIT_CODES: Final[Mapping[int, FailureClass]] = {
    policy.exit_code: failure for failure, policy in POLICIES.items() if policy.exit_code is not None
}
"""The packager's exit codes; 0 is success, and a code that is not listed is `Internal`."""


class Failure(Exception):  # noqa: N818 - the design's word for it
    """Something of the table happened. Its text is for a person and never holds a secret or a presigned URL."""

    def __init__(self, failure: FailureClass, message: str) -> None:
        """Take the class and one sentence that says what happened here."""
        super().__init__(message)
        self.failure = failure
        self.message = message

    @property
    def policy(self) -> FailurePolicy:
        """The row of the table."""
        return POLICIES[self.failure]

    def __str__(self) -> str:
        """Return class and sentence."""
        return f"{self.failure.value}: {self.message}"
