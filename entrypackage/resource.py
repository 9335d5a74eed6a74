"""The EntryPackage resource: the one source of its schema, of the text that kubectl explain shows, and of its types.

`crds/` is generated from these models (``python -m entrypackage.crd``), and both programs read and write the resource
through them. The text under a field is that field's description in the cluster.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from entrypackage.conditions import Condition
from entrypackage.failures import FailureClass
from entrypackage.model import Instant, Model
from entrypackage.trigger import Taken, Trigger

GROUP: Final = "benchling.quilt.bio"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
KIND: Final = "EntryPackage"
PLURAL: Final = "entrypackages"

HISTORY_LENGTH: Final = 10
MISSING_IDS: Final = 20

Name = Annotated[str, Field(max_length=253)]
Uri = Annotated[str, Field(max_length=2048)]


def _rules(*rules: tuple[str, str]) -> dict[str, Any]:
    return {"x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in rules]}


class Spec(Model):
    """Desired state: a package of the entry that is at least as new as the event and the request."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        json_schema_extra=_rules(
            (
                "!has(oldSelf.event) || has(self.event)",
                "spec.event cannot be removed: it says what the package must cover",
            ),
            (
                "!has(oldSelf.event) || !has(self.event) || self.event == oldSelf.event"
                " || self.event.occurredAt > oldSelf.event.occurredAt",
                "spec.event only moves forward: its occurredAt must be later than that of the event it replaces",
            ),
        ),
    )

    entry_id: Annotated[
        str,
        Field(
            min_length=1,
            max_length=128,
            json_schema_extra=_rules(("self == oldSelf", "spec.entryId cannot be changed: delete the object instead")),
        ),
    ]
    """Benchling's API id of the notebook entry, such as etr_Ab12Cd34. It cannot be changed, and the object's name must
    be the one that belongs to it. Set by whoever creates the object: the receiver or a person."""

    suspend: bool = False
    """True holds back every step of the entry, except that a running Job finishes. It neither makes nor uses up a
    trigger. Set by a person."""

    event: Trigger | None = None
    """The newest Benchling event of the entry. It only moves forward in occurredAt: an event that is not newer than
    this one is covered by the export that serves this one. Set by the receiver."""

    request: Trigger | None = None
    """The newest explicit request of a person: a click on the canvas or a re-run by hand. It is served at once, without
    the quiet period. To run again, replace it with one that has a new id. Set by the receiver or by a person."""


class Pending(Model):
    """A trigger that no attempt has taken yet. Present while there is one; set by the controller."""

    since: Instant
    """The time at which the controller first saw the pending trigger; the quiet period is counted from here."""


class EntryFacts(Model):
    """The entry as the controller last read it from Benchling."""

    display_id: Annotated[str, Field(max_length=256)]
    """The entry's display id, which people use, such as EXP25000123; the package is named after it."""

    name: Annotated[str, Field(max_length=1024)] = ""
    """The entry's title in Benchling."""

    web_url: Annotated[Uri | None, Field(alias="webURL")] = None
    """The address at which a browser shows the entry."""

    modified_at: Annotated[str | None, Field(max_length=64)] = None
    """The entry's modifiedAt as Benchling gave it, by Benchling's clock."""


class ExportRecord(Model):
    """The Benchling export of an attempt: first the intent, then what Benchling answered. Set by the controller."""

    intent_time: Instant
    """The time at which the controller decided to ask Benchling for the export, written before it asks. An intent
    without a taskId after a restart means that it is not known whether Benchling was asked."""

    covers_modified_at: Annotated[str | None, Field(max_length=64)] = None
    """The entry's modifiedAt, by Benchling's clock, just before the export was asked for: edits up to then are in the
    archive."""

    task_id: Annotated[str | None, Field(max_length=128)] = None
    """Benchling's id of the export task; absent until Benchling has answered."""

    completed_at: Instant | None = None
    """The time at which the controller saw that the archive was ready."""


class JobRef(Model):
    """The Kubernetes Job in which the packager runs. Set by the controller."""

    name: Name
    """The name of the Job, in the namespace of the EntryPackage."""

    uid: Annotated[str, Field(max_length=64)]
    """The metadata.uid of the Job."""

    created_at: Instant
    """The time at which the API server created the Job."""


class Attempt(Model):
    """The attempt in progress, or the one that failed and waits or was given up. Set by the controller."""

    number: Annotated[int, Field(ge=1)]
    """The number of the attempt among all of this entry, from 1."""

    trigger: Trigger
    """A copy of the trigger that the attempt serves: the event if one was pending, else the request."""

    request_id: Annotated[str | None, Field(max_length=128)] = None
    """The id of the request that the attempt serves, alone or beside an event; absent if nobody asked."""

    canvas_id: Annotated[str | None, Field(max_length=128)] = None
    """Benchling's id of the canvas on which the request was clicked; absent if there is none."""

    notify_always: bool = False
    """True if a person asked, so that the SQS message is sent even if the package did not change."""

    started_at: Instant
    """The time at which the controller began the attempt."""

    export: ExportRecord | None = None
    """The Benchling export of the attempt; absent until the controller has decided to ask for one."""

    order_digest: Annotated[str | None, Field(max_length=64)] = None
    """The SHA-256, in hex, of the order that the packager gets; it is part of the names of the Secrets and of the
    Job."""

    order_parts: Annotated[int | None, Field(ge=1)] = None
    """The number of Secrets that hold the order."""

    entry_checksum: Annotated[str | None, Field(max_length=128)] = None
    """A checksum of the entry's JSON without modifiedAt, as it went into the order; an equal one means an unchanged
    entry."""

    job: JobRef | None = None
    """The Kubernetes Job in which the packager runs; absent until the Job is created."""

    failure: FailureClass | None = None
    """The failure that ended the attempt, one of docs/failures.md; absent while the attempt is in progress."""

    failure_message: Annotated[str, Field(max_length=1024)] = ""
    """One sentence about the failure that ended the attempt; empty while the attempt is in progress."""

    touched: bool = False
    """True if this attempt or an earlier one for these triggers changed or removed a file of the previous package."""

    tries: Annotated[int, Field(ge=0)] = 0
    """The number of failures in a row that count against the limit (retry.maxTries of the controller's settings)."""

    delays: Annotated[int, Field(ge=0)] = 0
    """The number of failures in a row of any kind; the backoff grows with it."""

    progress: Annotated[int, Field(ge=0)] = 0
    """The furthest point, in steps, that an attempt for these triggers reached before it failed: each file is proven,
    then stored. An attempt that gets further does not count as a try, so that a transfer may outlast many addresses of
    its archive."""

    given_up: bool = False
    """True once the tries are used up or a retry makes no sense; the attempt is then looked at again at nextAttemptTime
    only."""

    next_attempt_time: Instant | None = None
    """The earliest time of the next attempt after a failure; absent while the attempt is in progress."""

    credential_version: Annotated[str | None, Field(max_length=64)] = None
    """A fingerprint of the Benchling credentials that were refused; once there are others, the next attempt begins at
    once."""

    re_exports: Annotated[int, Field(ge=0)] = 0
    """The number of times that an incomplete export was repeated."""


class Package(Model):
    """The last complete package on S3. Set by the controller."""

    uri: Uri
    """The address of the package, as an S3 URI such as s3://bucket/benchling/EXP25000123/."""

    files: Annotated[int, Field(ge=0)]
    """The number of objects in the package, metadata files included."""

    bytes: Annotated[int, Field(ge=0)]
    """The sum of the sizes of the package's objects, in bytes."""

    size: Annotated[str, Field(max_length=32)]
    """The sum of the sizes of the package's objects in binary units for people, such as 12.3 MiB."""

    manifest_checksum: Annotated[str, Field(max_length=128)]
    """A checksum over all files of the package except trigger, times and input.json; an equal one means an unchanged
    package."""

    entry_checksum: Annotated[str | None, Field(max_length=128)] = None
    """A checksum of the entry's JSON without modifiedAt, as it went into the package."""

    covers_modified_at: Annotated[str | None, Field(max_length=64)] = None
    """The entry's modifiedAt, by Benchling's clock, up to which edits are in the package."""

    completed_at: Instant
    """The time at which the controller read the packager's report of a complete package."""

    message_id: Annotated[str | None, Field(max_length=128)] = None
    """The id of the SQS message that announced the package."""

    missing: Annotated[int, Field(ge=0)] = 0
    """The number of the entry's attachments that Benchling left out of the export."""

    missing_ids: Annotated[list[Annotated[str, Field(max_length=128)]], Field(max_length=MISSING_IDS)] = []
    """Benchling's external file ids of up to 20 attachments that were left out, where it can be told which they are."""


class PastAttempt(Model):
    """An attempt that is over. Set by the controller."""

    number: Annotated[int, Field(ge=1)]
    """The number of the attempt among all of this entry, from 1."""

    outcome: Annotated[str, Field(max_length=16, pattern=r"^(Succeeded|Failed)$")]
    """Succeeded or Failed."""

    reason: Annotated[str, Field(max_length=64)]
    """The failure's class if the attempt failed; else Packaged, Unchanged or Incomplete."""

    trigger_type: Annotated[str, Field(max_length=64)]
    """The type of the trigger that the attempt served, such as v2.entry.updated.fields."""

    started_at: Instant
    """The time at which the controller began the attempt."""

    completed_at: Instant
    """The time at which the attempt ended."""

    export_seconds: Annotated[float | None, Field(ge=0)] = None
    """The time from the export's intent until its archive was seen, in seconds."""

    pack_seconds: Annotated[float | None, Field(ge=0)] = None
    """The time from the Job's creation until its report was read, in seconds."""

    bytes: Annotated[int | None, Field(ge=0)] = None
    """The size of the package in bytes; absent if the attempt failed."""


class Status(Model):
    """Observed state, written by the controller alone."""

    observed_generation: Annotated[int | None, Field(ge=0)] = None
    """The metadata.generation of the object that the status was derived from."""

    conditions: Annotated[
        list[Condition],
        Field(
            max_length=16,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
    ] = []
    """Ready is the summary; Exported, Packaged and Notified are its stages; Stalled says that a person may be needed;
    Suspended mirrors spec.suspend. Set by the controller."""

    taken: Taken | None = None
    """The ids of the triggers that the newest attempt serves. A trigger of the spec is pending if its id is not here.
    Set by the controller."""

    pending: Pending | None = None
    """Present while a trigger of the spec waits for an attempt to take it. Set by the controller."""

    entry: EntryFacts | None = None
    """The entry as the controller last read it from Benchling."""

    attempts: Annotated[int, Field(ge=0)] = 0
    """The number of attempts that there have been for this entry; it only grows."""

    attempt: Attempt | None = None
    """The attempt in progress, or the one that failed and waits or was given up; absent when there is nothing left to
    do. Set by the controller."""

    package: Package | None = None
    """The last complete package on S3; absent until there is one. Set by the controller."""

    history: Annotated[list[PastAttempt], Field(max_length=HISTORY_LENGTH)] = []
    """The last 10 attempts that are over, newest first. Set by the controller."""


class Metadata(Model):
    """The part of an object's metadata that the programs read."""

    name: str
    namespace: str
    uid: str
    resource_version: str
    generation: int = 1
    deletion_timestamp: Instant | None = None
    creation_timestamp: Instant | None = None
    labels: dict[str, str] = {}


class EntryPackage(Model):
    """A Benchling notebook entry that is wanted as a data package on S3, and what has been made of it so far."""

    metadata: Metadata
    spec: Spec
    status: Status = Status()


COLUMNS: Final = (
    {"name": "Entry", "type": "string", "jsonPath": ".status.entry.displayId", "description": "The entry's display id"},
    {
        "name": "Ready",
        "type": "string",
        "jsonPath": '.status.conditions[?(@.type=="Ready")].status',
        "description": "True if the package is complete and covers all that was asked for",
    },
    {
        "name": "Reason",
        "type": "string",
        "jsonPath": '.status.conditions[?(@.type=="Ready")].reason',
        "description": "The reason of the Ready condition",
    },
    {
        "name": "Files",
        "type": "integer",
        "jsonPath": ".status.package.files",
        "description": "Number of objects in the package",
    },
    {"name": "Size", "type": "string", "jsonPath": ".status.package.size", "description": "Size of the package"},
    {
        "name": "Packaged",
        "type": "date",
        "jsonPath": ".status.package.completedAt",
        "description": "Time since the package was completed",
    },
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp", "description": "Age of the object"},
    {
        "name": "URI",
        "type": "string",
        "jsonPath": ".status.package.uri",
        "priority": 1,
        "description": "S3 URI of the package",
    },
    {
        "name": "Job",
        "type": "string",
        "jsonPath": ".status.attempt.job.name",
        "priority": 1,
        "description": "The packager's Job",
    },
    {
        "name": "Message",
        "type": "string",
        "jsonPath": '.status.conditions[?(@.type=="Ready")].message',
        "priority": 1,
        "description": "The message of the Ready condition",
    },
)
"""What kubectl get shows; the last three only with -o wide."""
