"""One attempt, from order to report: claim, members, metadata, ``entry.json``, deletes, message.

The decisions are pure (`packager.decisions`). This module keeps the order of the effects, which ensures that a kill at
any point and another run end in the same package.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from entrypackage.failures import Failure, FailureClass
from entrypackage.order import PackedPackage, Report
from packager.archive.directory import read_content
from packager.claim import FRESH_SECONDS, WIRE_SECONDS, Claim
from packager.decisions.inventory import ClaimMark, Inventory, InventoryKey, Notified, Proven, Standing
from packager.decisions.metadata import PackageFacts, choose_canvas, manifest_checksum, render
from packager.decisions.notification import Announcement, decide_announcement, fifo_attributes, message_body
from packager.decisions.plan import (
    PreviousPackage,
    TransferPlan,
    check_claim,
    claimed_inventory,
    displaces,
    find_missing,
    interpret_objects,
    known_good,
    plan_transfer,
    publish,
    skip_candidates,
    withdrawn,
    without_deleted,
)
from packager.prefix import PackagePrefix
from packager.tasks import both, each, flat, undisturbed
from packager.transfer import Transfer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from entrypackage.order import Order
    from packager.archive.source import ArchiveSource
    from packager.aws.queue import Queue
    from packager.aws.store import Store
    from packager.capacity import ConcurrencyLimits
    from packager.decisions.objects import ListedObject
    from packager.decisions.policy import Content
    from packager.prefix import FoundObjects
    from packager.progress import Progress

_CLEAN_UP_SECONDS: Final = 20.0
_SETTLE_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Tools:
    """What an attempt works with."""

    store: Store
    queue: Queue | None
    """None: no message is sent."""
    limits: ConcurrencyLimits
    pod_uid: str
    progress: Progress
    clock: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True)
class Findings:
    """All that is known before the first write."""

    content: Content
    previous: PreviousPackage
    objects: FoundObjects
    facts: PackageFacts
    """What the metadata files are rendered from when their turn comes; they may be large."""
    checksum: str
    """The manifest's."""


@dataclass(slots=True)
class PackingResult:
    """What is known so far, also when the attempt ends early."""

    package: PackedPackage | None = None
    missing: Sequence[str] = ()
    missing_count: int = 0
    touched: bool = False
    """Whether an object of the previous package was changed, or was about to be; the report has the same word."""
    notices: list[str] = field(default_factory=list)
    skipped: int = 0
    proven: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    """By stage."""

    def report(self, order_digest: str, failure: Failure | None, progress: Progress, fetched: int) -> Report:
        """Return the report of it; `fetched` is in bytes."""
        return Report(
            order_digest=order_digest,
            failure=failure.failure if failure else None,
            message=failure.message if failure else "",
            package=None if failure else self.package,
            missing_count=self.missing_count,
            missing=list(self.missing),
            touched=self.touched,
            notices=self.notices,
            bytes_fetched=fetched,
            bytes_uploaded=progress.bytes_uploaded,
            files_uploaded=progress.files_uploaded,
            files_skipped=self.skipped,
            files_proven=self.proven,
            seconds={stage: round(seconds, 3) for stage, seconds in self.seconds.items()},
        )


class Packing:
    """Packs one order; `result` says how far it came."""

    def __init__(self, order: Order, order_digest: str, archive: ArchiveSource, tools: Tools) -> None:
        """Take an order whose digest was verified and its archive, opened."""
        self.result = PackingResult()
        self._order = order
        self._archive = archive
        self._tools = tools
        self._prefix = PackagePrefix(tools.store, order.destination, tools.limits.puts)
        self._mark = ClaimMark(order_digest, tools.pod_uid, order.owner.uid, order.attempt)
        self._proven: Proven | None = None

    @property
    def progress(self) -> Progress:
        """How far the attempt is."""
        return self._tools.progress

    async def run(self) -> None:
        """Make the package and announce it; raises `Failure`."""
        findings = await self._find_out()
        claim = Claim(self._tools.store, self._order.destination.inventory_key, findings.objects.inventory_etag)
        files, listed = findings.content.files, findings.objects.listed
        claimed = claimed_inventory(findings.previous, self._mark, files, listed)
        await claim.write(claimed)
        try:
            await self._write(findings, claimed, claim)
        except BaseException as error:
            await undisturbed(self._settle(claim, error))
            raise

    async def dry_run(self) -> TransferPlan:
        """Do only what changes nothing, and return what would be done; raises `Failure`."""
        findings = await self._find_out()
        return await self._plan(findings, findings.objects.listed)

    async def _write(self, findings: Findings, claimed: Inventory, claim: Claim) -> None:
        existing = await self._outwait(findings, claim)
        await self._prefix.abort_uploads(claim)
        plan = await self._plan(findings, existing)
        await self._transfer(plan, findings.previous, claimed, claim)
        with self._stage("metadata"):
            package = await self._put_metadata(findings, claim)
        announcement = self._announcement(claimed.notified, findings.checksum)
        inventory = await self._publish(claimed, package, findings, announcement, claim)
        await self._announce(inventory, package, findings.checksum, announcement, claim)

    async def _settle(self, claim: Claim, error: BaseException) -> None:
        """Record what was proven and that this attempt writes no more, so that the next need not wait for it.

        What failed may have cut off requests that were on the wire, and they may still be carried out; the claim puts
        no settled inventory before they have passed. That second is cheaper here than the next attempt's six. What a
        server that is down still holds is unknown, so after that the next attempt does wait.
        """
        failure = error.failure if isinstance(error, Failure) else None
        if failure is FailureClass.SUPERSEDED or claim.inventory is None or claim.inventory.settled:
            return
        proven = self._proven or claim.inventory.proven
        inventory = replace(claim.inventory, settled=failure is not FailureClass.DESTINATION_DOWN, proven=proven)
        with contextlib.suppress(Failure, TimeoutError):
            await asyncio.wait_for(claim.write(inventory), _SETTLE_SECONDS)
            self.result.proven = len(self._proven.names) if self._proven is not None else 0

    async def _find_out(self) -> Findings:
        with self._stage("reading the directory"):
            content, (previous, objects) = await both(
                read_content(self._archive, self._order.destination.key_prefix, self._order.limits),
                self._read_previous(),
            )
        missing = find_missing(self._order.entry, content.files, self._order.external_file_sizes)
        self.result.missing_count, self.result.missing = missing.count, missing.ids
        self.result.notices.extend([*previous.notices, *content.notices])
        facts = PackageFacts(content.files, missing, choose_canvas(self._order, previous.canvas_id), content.notices)
        checksum = manifest_checksum(self._order, facts)  # fails here for an entry that cannot be rendered
        return Findings(content, previous, objects, facts, checksum)

    async def _read_previous(self) -> tuple[PreviousPackage, FoundObjects]:
        objects = await self._prefix.read()
        previous = interpret_objects(
            str(self._order.entry.get("id")),
            objects.inventory,
            objects.entry_json,
            objects.listed,
            self._order.destination.key_prefix,
        )
        check_claim(previous.inventory, self._mark)
        return previous, objects

    async def _outwait(self, findings: Findings, claim: Claim) -> Mapping[str, ListedObject]:
        """Let the last requests of a displaced attempt pass, then list the objects again.

        It may write for `FRESH_SECONDS` after its last check of its claim; what is compared before that may be
        overwritten after it.
        """
        if not displaces(self._mark, findings.previous):
            return findings.objects.listed
        with self._stage("waiting for the attempt that was displaced"):
            await asyncio.sleep(FRESH_SECONDS + WIRE_SECONDS)
            await claim.confirm()
            return await self._prefix.listed()

    @contextlib.contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        self._tools.progress.stage = name
        began = self._tools.clock()
        try:
            yield
        finally:
            self.result.seconds[name] = self._tools.clock() - began

    async def _plan(self, findings: Findings, existing: Mapping[str, ListedObject]) -> TransferPlan:
        with self._stage("comparing"):
            content = findings.content
            candidates = skip_candidates(content.files, findings.previous, existing)
            found = await self._prefix.heads([file.name for file in candidates])
            plan = plan_transfer(content.files, existing, found, self._tools.store.options)
            progress = self._tools.progress
            progress.files_total, progress.bytes_total = len(content.files), content.total_bytes
            progress.files_done = self.result.skipped = len(plan.skipped)
            progress.bytes_done = sum(file.member.size for file in plan.skipped)
            return plan

    async def _transfer(self, plan: TransferPlan, previous: PreviousPackage, claimed: Inventory, claim: Claim) -> None:
        tools = self._tools
        key_prefix = self._order.destination.key_prefix
        transfer = Transfer(self._archive, tools.store, claim, tools.limits, key_prefix, tools.progress)
        transfer.proven |= known_good(plan.replaced, previous.inventory, self._archive.identity)
        try:
            await self._move(transfer, plan)
            if transfer.uploads_begun:
                # A beginning whose answer was lost was begun again under another id.
                await self._prefix.abort_uploads(claim)
        except BaseException as error:
            refused = isinstance(error, Failure) and error.failure is FailureClass.ARCHIVE_REFUSED
            if not refused:
                self._keep_proof(transfer)
            await undisturbed(self._clean_up(transfer, claim))
            if refused and not self.result.touched:
                await self._withdraw(previous, claimed, claim)
            raise

    async def _move(self, transfer: Transfer, plan: TransferPlan) -> None:
        if not self._archive.ranged:  # such an archive was read to the end, and so proven, to learn what is in it
            self.result.touched = bool(plan.replaced)
            with self._stage("members"):
                await flat(transfer.run([*plan.new, *plan.replaced]))
            return
        unproven = [file for file in plan.replaced if file.name not in transfer.proven]
        with self._stage("members"):
            await flat(transfer.run(plan.new, unproven))
        if plan.replaced:
            self.result.touched = True
            with self._stage("replacing"):
                await flat(transfer.replace(plan.replaced))

    def _keep_proof(self, transfer: Transfer) -> None:
        """Record what the next attempt need not prove again, so that replacing may outlast an address as well."""
        if self._archive.identity is not None and transfer.proven:
            self._proven = Proven(self._archive.identity, frozenset(transfer.proven))

    async def _clean_up(self, transfer: Transfer, claim: Claim) -> None:
        """Free what is half uploaded; a part on its way can bring an aborted upload back, hence the second abortion.

        A failure here does not hide why the attempt ended, unless it is that the claim was lost. The time is bounded,
        because the next attempt does the same and the controller waits for this one's report.
        """
        with contextlib.suppress(Failure, TimeoutError):
            await asyncio.wait_for(transfer.give_up(), _CLEAN_UP_SECONDS / 2)
        if not transfer.uploads_begun:
            return
        try:
            await asyncio.wait_for(self._prefix.abort_uploads(claim), _CLEAN_UP_SECONDS / 2)
        except TimeoutError:
            return
        except Failure as failure:
            if failure.failure is FailureClass.SUPERSEDED:
                raise

    async def _withdraw(self, previous: PreviousPackage, claimed: Inventory, claim: Claim) -> None:
        """Leave the destination as it was found.

        A put that was cut off when the archive was refused may be carried out after its key was removed, and nothing
        would ever know of that key again; so the keys are listed and removed once more when such puts have passed.
        """
        inventory, keys = withdrawn(previous, claimed, keep_listed=displaces(self._mark, previous))
        await self._prefix.remove(keys, claim)
        if keys:
            await asyncio.sleep(WIRE_SECONDS)
            listed = await self._prefix.listed()
            await self._prefix.remove([name for name in keys if name in listed], claim)
        await claim.write(inventory)
        self._tools.progress.files_uploaded = 0

    async def _put_metadata(self, findings: Findings, claim: Claim) -> dict[str, InventoryKey]:
        """Put the five files, ``entry.json`` when the others are there; return the whole package."""
        package = {
            file.name: InventoryKey(file.member.size, file.member.crc32, Standing.PUBLISHED)
            for file in findings.content.files
        }
        files = render(self._order, findings.facts)
        self.result.touched = self.result.touched or any(name in findings.objects.listed for name in files)

        async def put(name: str) -> None:
            key = package[name] = await self._prefix.put(name, files.pop(name), claim)
            self._tools.progress.files_uploaded += 1
            self._tools.progress.bytes_uploaded += key.size or 0

        await each([name for name in files if name != "entry.json"], put, 4)
        await put("entry.json")
        return package

    def _announcement(self, notified: Notified | None, checksum: str) -> Announcement:
        if self._tools.queue is None:
            return Announcement(needed=False)
        order = self._order
        return decide_announcement(notified, checksum, order.taken.request_id, always=order.notify_always)

    async def _publish(
        self, claimed: Inventory, package: Mapping[str, InventoryKey], findings: Findings, announcement: Announcement,
        claim: Claim,
    ) -> Inventory:  # fmt: skip
        """Record the package, and delete what it lacks.

        Where a message is needed, the last one's record ends here and not when the new one is recorded: after a kill in
        between, which manifest was announced last is unknown, and an equal to the one before must be announced again.
        """
        existing = findings.objects.listed
        may_delete = self._order.destination.delete_unversioned or findings.objects.versioned
        published = publish(claimed, package, existing, known=findings.previous.known, may_delete=may_delete)
        inventory = replace(
            published.inventory, missing=tuple(self.result.missing), missing_count=self.result.missing_count,
            canvas_id=findings.facts.canvas_id, notified=None if announcement.needed else claimed.notified,
        )  # fmt: skip
        await claim.write(inventory)
        with self._stage("deletes"):
            await self._prefix.remove(published.deletes, claim)
        if published.kept_back:
            self.result.notices.append(
                f"{published.kept_back} files of the earlier package were kept, because the bucket keeps no versions."
            )
        # A put of the displaced attempt that was long on its way may bring a deleted key back. So the key stays listed
        # once, and the next attempt deletes it again; otherwise nothing would ever know of it.
        displaced = displaces(self._mark, findings.previous)
        return inventory if displaced else without_deleted(inventory, published.deletes)

    async def _announce(
        self, inventory: Inventory, package: Mapping[str, InventoryKey], checksum: str, announcement: Announcement,
        claim: Claim,
    ) -> None:  # fmt: skip
        order = self._order
        queue = self._tools.queue
        message_id = announcement.earlier_message_id
        with self._stage("message"):
            if announcement.needed and queue is not None:
                message_id = await queue.send(message_body(order), fifo_attributes(order, checksum), claim)
            await self._record(inventory, announcement, checksum, message_id, claim)
        self.result.package = PackedPackage(
            uri=order.destination.uri,
            files=len(package),
            bytes=sum(key.size or 0 for key in package.values()),
            manifest_checksum=checksum,
            message_id=message_id,
            notified=announcement.needed,
        )

    async def _record(
        self, inventory: Inventory, announcement: Announcement, checksum: str, message_id: str | None, claim: Claim
    ) -> None:
        taken = self._order.taken
        if announcement.needed:
            notified = Notified(checksum, taken.event_id, taken.request_id, str(message_id))
            inventory = replace(inventory, notified=notified)
        inventory = replace(inventory, settled=True)
        if inventory != claim.inventory:
            await claim.write(inventory)
