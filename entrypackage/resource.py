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
    """What is wanted: that this entry's package be at least as new as the event and the request."""

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
    """Benchling's id of the notebook entry, such as etr_Ab12Cd34. It cannot be changed, and the object's name must be
    the one that belongs to it."""

    suspend: bool = False
    """True lets a running Job finish and holds back every other step. It neither makes nor uses up a trigger."""

    event: Trigger | None = None
    """The newest Benchling event of this entry. It only moves forward in occurredAt: an event that is not newer than
    the one here is covered by the export that serves that one."""

    request: Trigger | None = None
    """The newest explicit wish of a person: a click on the canvas or a re-run by hand. It is served at once. To run
    again, replace it with one that has a new id."""


class Pending(Model):
    """A trigger waits to be taken."""

    since: Instant
    """When the controller first saw it."""


class EntryFacts(Model):
    """What the entry was called when it was last read."""

    display_id: Annotated[str, Field(max_length=256)]
    """The id that people use, such as EXP25000123; it names the package."""

    name: Annotated[str, Field(max_length=1024)] = ""
    """The entry's title."""

    web_url: Annotated[Uri | None, Field(alias="webURL")] = None
    """Where the entry can be seen."""

    modified_at: Annotated[str | None, Field(max_length=64)] = None
    """When the entry was last modified, by Benchling's clock."""


class ExportRecord(Model):
    """An export: first the intent, then what Benchling answered."""

    intent_time: Instant
    """When it was decided to ask for it. An intent without a task id after a restart has an unknown outcome."""

    covers_modified_at: Annotated[str | None, Field(max_length=64)] = None
    """The entry's modifiedAt just before the export was asked for: edits up to then are in it."""

    task_id: Annotated[str | None, Field(max_length=128)] = None
    """Benchling's task."""

    completed_at: Instant | None = None
    """When the archive was seen to be ready."""


class JobRef(Model):
    """The Job of an attempt."""

    name: Name
    """Its name."""

    uid: Annotated[str, Field(max_length=64)]
    """Its uid."""

    created_at: Instant
    """When it was created."""


class Attempt(Model):
    """The attempt in progress, or the one that failed and waits or was given up."""

    number: Annotated[int, Field(ge=1)]
    """Its number; it only grows."""

    trigger: Trigger
    """The trigger that it serves: the event if one was pending, else the request."""

    request_id: Annotated[str | None, Field(max_length=128)] = None
    """The request that it serves as well, or alone."""

    canvas_id: Annotated[str | None, Field(max_length=128)] = None
    """The canvas that the request came from."""

    notify_always: bool = False
    """A person asked, so a message is sent even if the package did not change."""

    started_at: Instant
    """When it was begun."""

    export: ExportRecord | None = None
    """Its export."""

    order_digest: Annotated[str | None, Field(max_length=64)] = None
    """SHA-256 of the packager's order; names the Secrets and the Job."""

    order_parts: Annotated[int | None, Field(ge=1)] = None
    """How many Secrets hold the order."""

    entry_checksum: Annotated[str | None, Field(max_length=128)] = None
    """Checksum of the entry's JSON without modifiedAt, as it went into the order."""

    job: JobRef | None = None
    """The packager's Job."""

    failure: FailureClass | None = None
    """Why it failed; absent while it is in progress."""

    failure_message: Annotated[str, Field(max_length=1024)] = ""
    """What happened, as a sentence."""

    touched: bool = False
    """Whether it changed anything of the package that was there before."""

    tries: Annotated[int, Field(ge=0)] = 0
    """Failures in a row that count against the limit."""

    delays: Annotated[int, Field(ge=0)] = 0
    """Failures in a row of any kind; the back-off grows with them."""

    progress: Annotated[int, Field(ge=0)] = 0
    """How far the furthest attempt for these triggers came before it failed, in steps: each file is proven, then
    stored. One that comes further is not counted, so that a transfer may outlast many addresses of its archive."""

    given_up: bool = False
    """True once the tries are used up or a retry makes no sense; it is looked at again at nextAttemptTime."""

    next_attempt_time: Instant | None = None
    """When it is tried again."""

    credential_version: Annotated[str | None, Field(max_length=64)] = None
    """Which credentials it failed with; others bring the next try forward."""

    re_exports: Annotated[int, Field(ge=0)] = 0
    """How often an incomplete export has been repeated."""


class Package(Model):
    """The last complete package."""

    uri: Uri
    """Where it is, as an S3 URI."""

    files: Annotated[int, Field(ge=0)]
    """How many objects it has, metadata files included."""

    bytes: Annotated[int, Field(ge=0)]
    """Their sizes' sum."""

    size: Annotated[str, Field(max_length=32)]
    """The same for people."""

    manifest_checksum: Annotated[str, Field(max_length=128)]
    """Checksum over all files, leaving out trigger, times and input.json."""

    entry_checksum: Annotated[str | None, Field(max_length=128)] = None
    """Checksum of the entry's JSON without modifiedAt."""

    covers_modified_at: Annotated[str | None, Field(max_length=64)] = None
    """Edits up to this modifiedAt are in it."""

    completed_at: Instant
    """When it was completed."""

    message_id: Annotated[str | None, Field(max_length=128)] = None
    """The id of the SQS message that announced it."""

    missing: Annotated[int, Field(ge=0)] = 0
    """Attachments that Benchling left out of the export."""

    missing_ids: Annotated[list[Annotated[str, Field(max_length=128)]], Field(max_length=MISSING_IDS)] = []
    """The external file ids of some of them, where it can be told which they are."""


class PastAttempt(Model):
    """An attempt that is over."""

    number: Annotated[int, Field(ge=1)]
    """Its number."""

    outcome: Annotated[str, Field(max_length=16, pattern=r"^(Succeeded|Failed)$")]
    """Succeeded or Failed."""

    reason: Annotated[str, Field(max_length=64)]
    """The failure's class, or Packaged, Unchanged or Incomplete."""

    trigger_type: Annotated[str, Field(max_length=64)]
    """The type of the trigger that it served."""

    started_at: Instant
    """When it was begun."""

    completed_at: Instant
    """When it was over."""

    export_seconds: Annotated[float | None, Field(ge=0)] = None
    """From the export's intent until its archive was seen."""

    pack_seconds: Annotated[float | None, Field(ge=0)] = None
    """From the Job's creation until its report was read."""

    bytes: Annotated[int | None, Field(ge=0)] = None
    """The package's size in bytes."""


class Status(Model):
    """What is the case."""

    observed_generation: Annotated[int | None, Field(ge=0)] = None
    """The generation of the spec that the status speaks of."""

    conditions: Annotated[
        list[Condition],
        Field(
            max_length=16,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
    ] = []
    """Ready is the summary; Exported, Packaged and Notified are its stages; Stalled says that a person may be needed;
    Suspended mirrors spec.suspend."""

    taken: Taken | None = None
    """The triggers that the newest attempt serves. A trigger is pending if its id is not here."""

    pending: Pending | None = None
    """Present while a trigger waits to be taken."""

    entry: EntryFacts | None = None
    """What the entry was called when it was last read."""

    attempts: Annotated[int, Field(ge=0)] = 0
    """How many attempts there have been; it only grows."""

    attempt: Attempt | None = None
    """The attempt in progress, or the one that failed and waits or was given up."""

    package: Package | None = None
    """The last complete package."""

    history: Annotated[list[PastAttempt], Field(max_length=HISTORY_LENGTH)] = []
    """The last attempts that are over, newest first."""


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
    """The wish that a Benchling notebook entry be a data package on S3, and what has come of it."""

    metadata: Metadata
    spec: Spec
    status: Status = Status()


COLUMNS: Final = (
    {"name": "Entry", "type": "string", "jsonPath": ".status.entry.displayId", "description": "The entry's display id"},
    {
        "name": "Ready",
        "type": "string",
        "jsonPath": '.status.conditions[?(@.type=="Ready")].status',
        "description": "Whether the package is complete and covers all that was asked for",
    },
    {
        "name": "Reason",
        "type": "string",
        "jsonPath": '.status.conditions[?(@.type=="Ready")].reason',
        "description": "Why it is ready or not",
    },
    {"name": "Files", "type": "integer", "jsonPath": ".status.package.files", "description": "Objects of the package"},
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
        "description": "Where the package is",
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
        "description": "The summary as a sentence",
    },
)
"""What kubectl get shows; the last three only with -o wide."""
