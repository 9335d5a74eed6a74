"""Exports and their tasks: asynchronous, not idempotent, forgotten 30 minutes after they end."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sandbox.simulator import gallery, pdf
from sandbox.simulator.archives import Archive, Shortened, export_members
from sandbox.simulator.blobstore import Blob, BlobStore
from sandbox.simulator.clock import Clock, iso
from sandbox.simulator.notebook import Attachment, Entry
from sandbox.simulator.zipstream import ZipStream

if TYPE_CHECKING:
    from random import Random

    from sandbox.simulator.faults import Rule, Switchboard
    from sandbox.simulator.identifiers import Identifiers
    from sandbox.simulator.settings import TenantSettings
    from sandbox.simulator.wire import Json

NEVER = float("inf")


@dataclass(frozen=True)
class Snapshot:
    """What an export saw of its entry, and how its archive is spoilt."""

    export_id: str
    form: str
    entry_id: str
    display_id: str
    name: str
    lines: tuple[str, ...]
    attachments: tuple[Attachment, ...]
    descriptors: bool = False
    hostile: str | None = None
    keep_share: float = 1.0

    def build(self, change: int, pdf_bytes: int) -> Archive:
        """The archive. Another `change` gives another document of the same entry."""
        if self.hostile is not None:
            return gallery.gallery(self.hostile)
        mark = f"{self.export_id}-{change}" if change else self.export_id
        document = pdf.render(self.lines, export_id=mark, size=pdf_bytes)
        name = f"{self.display_id}.{self.form}"
        archive = ZipStream(export_members(name, document, list(self.attachments), descriptors=self.descriptors))
        if self.keep_share < 1.0:
            return Shortened(archive, int(archive.size * self.keep_share))
        return archive


@dataclass
class Task:
    """One export task."""

    id: str
    entry_id: str
    started: float
    ends: float
    path: str
    failure: str | None = None
    url: str | None = None


@dataclass
class Exports:
    """All tasks of the tenant."""

    clock: Clock
    settings: TenantSettings
    faults: Switchboard
    ids: Identifiers
    dice: Random
    blobs: BlobStore
    tasks: dict[str, Task] = field(default_factory=dict)
    started: Counter[str] = field(default_factory=Counter)
    """Accepted POSTs by entry."""
    most_at_once: int = 0
    _active: dict[str, float] = field(default_factory=dict)
    """Ends of the tasks that ran when they were last counted."""

    def running(self) -> int:
        """Exports that run now."""
        now = self.clock.now()
        self._active = {name: ends for name, ends in self._active.items() if ends > now}
        return len(self._active)

    def never_read(self) -> int:
        """Exports whose URL nobody ever got: orphans, as far as they have ended."""
        now = self.clock.now()
        return sum(1 for task in self.tasks.values() if task.url is None and task.ends <= now)

    def full(self) -> bool:
        """Whether the dynamic limit refuses one more."""
        limit = self.settings.export_limit
        return limit > 0 and self.running() >= limit

    def start(self, entry: Entry, form: str) -> Task:
        """Begin an export of the entry as it is now."""
        now = self.clock.now()
        task_id = self.ids.task()
        base = self.settings.export_seconds if entry.export_seconds is None else entry.export_seconds
        seconds = base * (1 + self.settings.export_spread * self.dice.uniform(-1, 1))
        ends = NEVER if self._take("task_never_ends", entry) else now + seconds
        failed = self._take("task_failed", entry)
        task = Task(task_id, entry.id, now, ends, f"/blobstore/{task_id}.zip")
        if failed:
            task.failure = failed.text("message", "The export could not be rendered.")
        snapshot = self._snapshot(entry, task_id, form)
        size = self.settings.pdf_bytes
        filename = f"{entry.display_id}.zip"
        self.blobs.put(
            Blob(task.path, filename, "application/zip", entry.id, lambda change: snapshot.build(change, size))
        )
        self.tasks[task_id] = task
        self._active[task_id] = ends
        self.started[entry.id] += 1
        self.most_at_once = max(self.most_at_once, self.running())
        return task

    def _take(self, name: str, entry: Entry) -> Rule | None:
        return self.faults.take(name, self.clock.real(), subject=entry.id, operation="exportItem")

    def _snapshot(self, entry: Entry, export_id: str, form: str) -> Snapshot:
        attachments = list(entry.attachments.values())
        if attachments and (rule := self._take("archive_missing", entry)):
            name = rule.text("name", attachments[0].name)
            attachments = [file for file in attachments if file.name != name]
        if rule := self._take("archive_huge", entry):
            size = int(rule.number("bytes", 8 << 30))
            name = rule.text("name", "huge.bin")
            attachments.append(Attachment(f"fil_{export_id}", name, size, bool(rule.options.get("deflated"))))
        hostile = self._take("archive_gallery", entry)
        cut = self._take("archive_truncated", entry)
        return Snapshot(
            export_id=export_id, form=form, entry_id=entry.id, display_id=entry.display_id, name=entry.name,
            lines=tuple(document_lines(entry)), attachments=tuple(copy.copy(attachments)),
            descriptors=self._take("archive_descriptors", entry) is not None,
            hostile=None if hostile is None else hostile.text("name", "zip-slip"),
            keep_share=1.0 if cut is None else cut.number("share", 0.7),
        )  # fmt: skip

    def read(self, task: Task, origin: str) -> Json:
        """The task as the API shows it."""
        if self.clock.now() < task.ends:
            return {"status": "RUNNING"}
        if task.failure is not None:
            return {"status": "FAILED", "message": task.failure, "errors": {}}
        if task.url is None or self.settings.url_resigned:
            task.url = self.blobs.sign(task.path, origin, self.settings.url_life)
        return {"status": "SUCCEEDED", "response": {"downloadURL": task.url}}

    def find(self, task_id: str) -> Task | None:
        """The task, unless it is unknown or forgotten."""
        task = self.tasks.get(task_id)
        if task is None or self.clock.now() >= task.ends + self.settings.task_life:
            return None
        return task


def document_lines(entry: Entry) -> list[str]:
    """What the rendered document shows of the entry: enough to see which state of it was exported."""
    lines = [entry.name, f"{entry.display_id} modified {iso(entry.modified_at)}"]
    lines += [f"{name}: {value}" for name, value in entry.fields.items()]
    for day in entry.days:
        lines.append(day["date"])
        lines += [note["text"] for note in day["notes"] if "text" in note]
    return lines[:60]
