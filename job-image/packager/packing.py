"""One attempt, from order to report: claim, members, metadata, ``entry.json``, deletes, message.

What is decided on the way is decided in pure modules (`policy`, `plan`, `metadata`); this one keeps the order of the
effects, on which it depends that a kill at any point and another run end in the same package.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from entrypackage.entry_notes import canvas_ids
from entrypackage.failures import Failure, FailureClass
from entrypackage.order import PackedPackage, Report
from packager.archive.directory import learn
from packager.archive.unpack import crc32
from packager.claim import FRESH_SECONDS, WIRE_SECONDS, Claim
from packager.decisions.inventory import ClaimMark, Inventory, InventoryKey, Notified, Proven, Standing
from packager.decisions.metadata import PackageFacts, manifest_checksum, render
from packager.decisions.notification import Announcement, decide_announcement, fifo_attributes, message_body
from packager.decisions.plan import (
    Previous,
    TransferPlan,
    check_claim,
    claimed_inventory,
    find_missing,
    known_good,
    plan_transfer,
    publish,
    skip_candidates,
    swept,
    understand,
    withdrawn,
)
from packager.tasks import both, each, flat, undisturbed
from packager.transfer import Progress, Transfer, content_type

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from entrypackage.order import Order
    from packager.archive.source import ArchiveSource
    from packager.aws.queue import Queue
    from packager.aws.store import Store
    from packager.capacity import ConcurrencyLimits
    from packager.decisions.objects import ListedObject, ObjectFacts
    from packager.decisions.policy import Content

log = logging.getLogger("packager")

_CLEAN_UP_SECONDS: Final = 20.0
_SETTLE_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Tools:
    """What an attempt works with."""

    store: Store
    queue: Queue | None
    """None: nobody is told."""
    limits: ConcurrencyLimits
    pod_uid: str
    progress: Progress
    clock: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True)
class Findings:
    """All that is known before the first write."""

    content: Content
    previous: Previous
    existing: Mapping[str, ListedObject]
    """What lies under the prefix, by name relative to it."""
    etag: str | None
    """The inventory's, when it was read; None: there is none."""
    versioned: bool
    """Whether what is deleted could be brought back; not asked for, and False, where that makes no difference."""
    facts: PackageFacts
    """What the metadata files are rendered from when their turn comes; they may be large."""
    checksum: str


@dataclass(slots=True)
class PackingResult:
    """What is known so far, also when the attempt ends early."""

    package: PackedPackage | None = None
    missing: Sequence[str] = ()
    missing_count: int = 0
    touched: bool = False
    notices: list[str] = field(default_factory=list)
    skipped: int = 0
    proven: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def report(self, order_digest: str, failure: Failure | None, progress: Progress, fetched: int) -> Report:
        """Make the report of it."""
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
    """Packs one order; `outcome` says how far it came."""

    def __init__(self, order: Order, order_digest: str, archive: ArchiveSource, tools: Tools) -> None:
        """Take an order whose digest was verified and its archive, opened."""
        self.result = PackingResult()
        self._order = order
        self._digest = order_digest
        self._archive = archive
        self._tools = tools
        self._store = tools.store
        self._prefix = order.destination.key_prefix
        self._inventory_key = order.destination.inventory_key
        self._mark = ClaimMark(order_digest, tools.pod_uid, order.owner.uid, order.attempt)
        self._proven: Proven | None = None

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return self._tools.progress

    async def run(self) -> None:
        """Do it; raises `Failure`."""
        findings = await self._find_out()
        claim = Claim(self._store, self._inventory_key, findings.etag)
        claimed = claimed_inventory(findings.previous, self._mark, findings.content.files, findings.existing)
        await claim.write(claimed)
        try:
            await self._write(findings, claimed, claim)
        except BaseException as error:
            await undisturbed(self._settle(claim, error))
            raise

    async def _write(self, findings: Findings, claimed: Inventory, claim: Claim) -> None:
        existing = await self._outwait(findings, claim)
        await self._end_old_uploads(claim)
        plan = await self._plan(findings, existing)
        await self._transfer(plan, findings.previous, claimed, claim)
        with self._stage("metadata"):
            package = await self._put_metadata(findings, claim)
        announcement = self._announcement(claimed.notified, findings.checksum)
        inventory = await self._publish(claimed, package, findings, announcement, claim)
        await self._announce(inventory, package, findings.checksum, announcement, claim)

    async def _settle(self, claim: Claim, error: BaseException) -> None:
        """Say in the inventory what was proven, and that this attempt writes no more: the next need not wait for it.

        What failed may have cut off requests that were on the wire, and they may still be carried out; the claim puts
        no settled inventory before they have passed by. That second is cheaper here than the next attempt's six. Of a
        server that is down nobody knows what it still holds, so there the next attempt does wait.
        """
        failure = error.failure if isinstance(error, Failure) else None
        if failure is FailureClass.SUPERSEDED or claim.inventory is None or claim.inventory.settled:
            return
        proven = self._proven or claim.inventory.proven
        inventory = replace(claim.inventory, settled=failure is not FailureClass.DESTINATION_DOWN, proven=proven)
        with contextlib.suppress(Failure, TimeoutError):
            await asyncio.wait_for(claim.write(inventory), _SETTLE_SECONDS)
            self.result.proven = len(self._proven.names) if self._proven is not None else 0

    async def foresee(self) -> TransferPlan:
        """Do only what changes nothing, and return what would be done; raises `Failure`."""
        findings = await self._find_out()
        return await self._plan(findings, findings.existing)

    async def _find_out(self) -> Findings:
        with self._stage("reading the directory"):
            content, (previous, existing, etag, versioned) = await both(
                learn(self._archive, self._prefix, self._order.limits), self._look()
            )
        missing = find_missing(self._order.entry, content.files, self._order.external_file_sizes)
        self.result.missing_count, self.result.missing = missing.count, missing.ids
        self.result.notices.extend([*previous.notices, *content.notices])
        facts = PackageFacts(content.files, missing, self._canvas(previous), content.notices)
        checksum = manifest_checksum(self._order, facts)  # an entry that cannot be rendered is found out here
        return Findings(content, previous, existing, etag, versioned, facts, checksum)

    def _displaces(self, previous: Previous) -> bool:
        """Whether the claim took the place of another's that had not said that it was done."""
        displaced = previous.inventory
        return not (displaced.claim is None or displaced.claim == self._mark or displaced.settled)

    async def _outwait(self, findings: Findings, claim: Claim) -> Mapping[str, ListedObject]:
        """Let the last requests of an attempt that was displaced pass by, then look again.

        It may write for `FRESH_SECONDS` after its last look at its claim; what is compared before that may be
        overwritten after it.
        """
        if not self._displaces(findings.previous):
            return findings.existing
        with self._stage("waiting for the attempt that was displaced"):
            await asyncio.sleep(FRESH_SECONDS + WIRE_SECONDS)
            await claim.confirm()
            listed = await self._store.objects(self._prefix)
        return {key.removeprefix(self._prefix): found for key, found in listed.items()}

    @contextlib.contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        self._tools.progress.stage = name
        began = self._tools.clock()
        try:
            yield
        finally:
            self.result.seconds[name] = self._tools.clock() - began

    async def _look(self) -> tuple[Previous, dict[str, ListedObject], str | None, bool]:
        """Read what lies at the destination, all that any later step will want to know.

        A right that is missing is thus found out before the first put, and not in a package that is half written.
        """
        (inventory, document), (listed, versioned) = await both(
            both(self._store.get(self._inventory_key), self._store.get(f"{self._prefix}entry.json")),
            both(self._store.objects(self._prefix), self._versioned()),
        )
        existing = {key.removeprefix(self._prefix): found for key, found in listed.items()}
        previous = understand(
            str(self._order.entry.get("id")),
            inventory[0] if inventory else None,
            document[0] if document else None,
            existing,
            self._prefix,
        )
        check_claim(previous.inventory, self._mark)
        return previous, existing, inventory[1] if inventory else None, versioned

    async def _versioned(self) -> bool:
        return not self._order.destination.delete_unversioned and await self._store.versioned()

    def _canvas(self, previous: Previous) -> str | None:
        return self._order.canvas_id or previous.canvas_id or next(iter(canvas_ids(self._order.entry)), None)

    async def _plan(self, findings: Findings, existing: Mapping[str, ListedObject]) -> TransferPlan:
        with self._stage("comparing"):
            return await self._compare(findings.content, findings.previous, existing)

    async def _compare(
        self, content: Content, previous: Previous, existing: Mapping[str, ListedObject]
    ) -> TransferPlan:
        candidates = skip_candidates(content.files, previous, existing)
        found: dict[str, ObjectFacts | None] = {}

        async def look(name: str) -> None:
            found[name] = await self._store.head(self._prefix + name)

        await each([file.name for file in candidates], look, self._tools.limits.puts)
        plan = plan_transfer(content.files, existing, found, self._store.options)
        progress = self._tools.progress
        progress.files_total, progress.bytes_total = len(content.files), content.total_bytes
        progress.files_done = self.result.skipped = len(plan.skipped)
        progress.bytes_done = sum(file.member.size for file in plan.skipped)
        return plan

    async def _end_old_uploads(self, claim: Claim) -> None:
        """Free what a killed attempt left half uploaded.

        Behind the fence: whoever lost the claim while looking would end the uploads that the winner has begun since.
        """
        uploads = {upload: key for key, upload in await self._store.uploads(self._prefix)}

        async def end(upload: str) -> None:
            await self._store.abort_upload(uploads[upload], upload, fence=claim)

        await each(uploads, end, self._tools.limits.puts)

    async def _transfer(self, plan: TransferPlan, previous: Previous, claimed: Inventory, claim: Claim) -> None:
        transfer = Transfer(self._archive, self._store, claim, self._tools.limits, self._prefix, self._tools.progress)
        transfer.proven |= known_good(plan.replaced, previous.inventory, self._archive.identity)
        unproven = [file for file in plan.replaced if file.name not in transfer.proven]
        try:
            if self._archive.ranged:
                with self._stage("members"):
                    await flat(transfer.run(plan.new, unproven))
                if plan.replaced:
                    self.result.touched = True
                    with self._stage("replacing"):
                        await flat(transfer.replace(plan.replaced))
            else:  # it was read to the end, and so proven, when what it holds was learnt
                self.result.touched = bool(plan.replaced)
                with self._stage("members"):
                    await flat(transfer.run([*plan.new, *plan.replaced]))
            if transfer.uploads_begun:
                await self._end_old_uploads(claim)  # a beginning whose answer was lost was begun again under another id
        except Failure as failure:
            if failure.failure is not FailureClass.ARCHIVE_REFUSED:
                self._keep_proof(transfer)
            await undisturbed(self._leave(transfer, claim))
            if failure.failure is FailureClass.ARCHIVE_REFUSED and not self.result.touched:
                await self._withdraw(previous, claimed, claim)
            raise
        except BaseException:
            self._keep_proof(transfer)
            await undisturbed(self._leave(transfer, claim))
            raise

    def _keep_proof(self, transfer: Transfer) -> None:
        """Let the next attempt know what need not be proven again, so that replacing may outlast an address as well."""
        if self._archive.identity is not None and transfer.proven:
            self._proven = Proven(self._archive.identity, frozenset(transfer.proven))

    async def _leave(self, transfer: Transfer, claim: Claim) -> None:
        """Free what is half uploaded; a part on its way can bring an aborted upload back, hence the second look.

        What goes wrong here does not hide why the attempt ended, unless it is that the claim was lost; nor does it
        take long, because the next attempt does the same and somebody waits for this one's report.
        """
        with contextlib.suppress(Failure, TimeoutError):
            await asyncio.wait_for(transfer.give_up(), _CLEAN_UP_SECONDS / 2)
        if not transfer.uploads_begun:
            return
        try:
            await asyncio.wait_for(self._end_old_uploads(claim), _CLEAN_UP_SECONDS / 2)
        except TimeoutError:
            return
        except Failure as failure:
            if failure.failure is FailureClass.SUPERSEDED:
                raise

    async def _withdraw(self, previous: Previous, claimed: Inventory, claim: Claim) -> None:
        """Leave the destination as it was found.

        A put that was cut off when the archive was refused may be carried out after its key was removed, and nobody
        would ever know of that key again: so they are looked for once more when such puts have passed by.
        """
        inventory, keys = withdrawn(previous, claimed, keep_listed=self._displaces(previous))
        await self._remove(keys, claim)
        if keys:
            await asyncio.sleep(WIRE_SECONDS)
            listed = await self._store.objects(self._prefix)
            await self._remove([name for name in keys if self._prefix + name in listed], claim)
        await claim.write(inventory)
        self._tools.progress.files_uploaded = 0

    async def _remove(self, names: Iterable[str], claim: Claim) -> None:
        async def remove(name: str) -> None:
            await self._store.delete(self._prefix + name, fence=claim)

        await each(names, remove, self._tools.limits.puts)

    async def _put_metadata(self, findings: Findings, claim: Claim) -> dict[str, InventoryKey]:
        """Put the five files, ``entry.json`` when the others are there; return the whole package."""
        package = {
            file.name: InventoryKey(file.member.size, file.member.crc32, Standing.PUBLISHED)
            for file in findings.content.files
        }
        files = render(self._order, findings.facts)
        self.result.touched = self.result.touched or any(name in findings.existing for name in files)

        async def put(name: str) -> None:
            body = files.pop(name)
            crc = functools.reduce(lambda crc, piece: crc32(piece, crc), body, 0)
            size = sum(len(piece) for piece in body)
            await self._store.put(self._prefix + name, body, crc=crc, content_type=content_type(name), fence=claim)
            package[name] = InventoryKey(size, crc, Standing.PUBLISHED)
            self._tools.progress.files_uploaded += 1
            self._tools.progress.bytes_uploaded += size

        await each([name for name in files if name != "entry.json"], put, 4)
        await put("entry.json")
        return package

    def _announcement(self, notified: Notified | None, checksum: str) -> Announcement:
        if self._tools.queue is None:
            return Announcement(needed=False)
        order = self._order
        return decide_announcement(notified, checksum, order.taken.request_id, always=order.notify_always)

    async def _publish(
        self,
        claimed: Inventory,
        package: Mapping[str, InventoryKey],
        findings: Findings,
        announcement: Announcement,
        claim: Claim,
    ) -> Inventory:
        """Record the package, and delete what it lacks.

        Where a message is due, the last one's record ends here and not when the new one is recorded: after a kill in
        between nobody knows which manifest was announced last, and an equal to the one before must be announced again.
        """
        may_delete = self._order.destination.delete_unversioned or findings.versioned
        published = publish(claimed, package, findings.existing, known=findings.previous.known, may_delete=may_delete)
        inventory = replace(
            published.inventory, missing=tuple(self.result.missing), missing_count=self.result.missing_count,
            canvas_id=self._canvas(findings.previous), notified=None if announcement.needed else claimed.notified,
        )  # fmt: skip
        await claim.write(inventory)
        with self._stage("deletes"):
            await self._remove(published.deletes, claim)
        if published.kept_back:
            self.result.notices.append(
                f"{published.kept_back} files of the earlier package were kept, because the bucket keeps no versions."
            )
        # A put of the displaced attempt that was long on its way may bring a deleted key back. So it stays listed for
        # once, and the next attempt deletes it again; otherwise nothing would ever know of it.
        return inventory if self._displaces(findings.previous) else swept(inventory, published.deletes)

    async def _announce(
        self,
        inventory: Inventory,
        package: Mapping[str, InventoryKey],
        checksum: str,
        announcement: Announcement,
        claim: Claim,
    ) -> None:
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
