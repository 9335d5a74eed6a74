"""Writes triggers to the API server: one write in flight per entry, and whoever waits meanwhile shares the next.

Each write is read, decide (`entrypackage.filing`), send; when the object changed in between it starts over, until the
deadline of those it works for. An answer that got lost is an unknown outcome: the delivery comes again and is then
found to be covered.
"""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from entrypackage.backoff import Backoff
from entrypackage.filing import Create, Nothing, Patch, Refuse, decide
from entrypackage.identity import object_name
from entrypackage.kubernetes import (
    ENTRY_PACKAGES,
    AlreadyExistsError,
    ConflictError,
    InvalidError,
    KubernetesError,
    NotFoundError,
    Object,
    UnreachableError,
)
from receiver.answers import Accepted, DeliveryOutcome, Refusal, Why

if TYPE_CHECKING:
    from collections.abc import Sequence

    from entrypackage.filing import Decision, Wish
    from entrypackage.kubernetes import Kubernetes

log = logging.getLogger(__name__)

_BACKOFF: Final = Backoff(base_seconds=0.01, cap_seconds=0.25)
_PATCH_TEST_FAILED: Final = "the server rejected our request due to an error in our request"
"""What the API server says of a JSON Patch whose test failed; where a rule is broken it names the object instead."""

_random = random.SystemRandom()


class _LostRace(Exception):  # noqa: N818 - no failure: read and decide again
    """The object is not what it was when it was read."""


@dataclass(slots=True)
class _Ticket:
    wish: Wish
    deadline: float
    done: asyncio.Future[Accepted | Refusal]


class Writer:
    """Files wishes. One per process: it is what keeps the writes for one entry from racing each other."""

    def __init__(self, kubernetes: Kubernetes, namespace: str) -> None:
        """Write to the EntryPackages of `namespace`."""
        self._kubernetes = kubernetes
        self._namespace = namespace
        self._waiting: dict[str, list[_Ticket]] = {}
        self._serving: dict[str, asyncio.Task[None]] = {}

    async def file(self, wish: Wish, deadline: float) -> Accepted:
        """Return once the API server has the trigger or one that covers it; `deadline` is the event loop's time.

        Raises `Refusal`: 503 when the outcome is not known by then or the API server is in the way, 422 when it
        refuses the object for good.
        """
        ticket = _Ticket(wish, deadline, asyncio.get_running_loop().create_future())
        self._waiting.setdefault(wish.entry_id, []).append(ticket)
        if wish.entry_id not in self._serving:
            self._serving[wish.entry_id] = asyncio.create_task(self._serve(wish.entry_id))
        try:
            async with asyncio.timeout_at(deadline):
                answer = await ticket.done
        except TimeoutError:
            raise Refusal(Why.DEADLINE, "The API server did not take it in time.") from None
        if isinstance(answer, Refusal):
            raise answer
        return answer

    async def _serve(self, entry_id: str) -> None:
        try:
            while tickets := [ticket for ticket in self._waiting.pop(entry_id, []) if not ticket.done.done()]:
                await self._serve_together(tickets)
        finally:
            del self._serving[entry_id]

    async def _serve_together(self, tickets: Sequence[_Ticket]) -> None:
        answers: dict[str, Accepted] = {}
        default: Accepted | Refusal
        deadline = max(ticket.deadline for ticket in tickets)
        try:
            async with asyncio.timeout_at(deadline):
                written = await self._write([ticket.wish for ticket in tickets], deadline)
            answers = {trigger_id: Accepted(DeliveryOutcome.STORED) for trigger_id in written}
            default = Accepted(DeliveryOutcome.COVERED, "What is there covers it.")
        except Refusal as refusal:
            default = refusal
        except TimeoutError:
            default = Refusal(Why.DEADLINE, "The API server did not take it in time.")
        except Exception:
            log.exception("A defect while writing.")
            default = Refusal(Why.INTERNAL, "The receiver failed.")
        for ticket in tickets:
            if not ticket.done.done():
                ticket.done.set_result(answers.get(ticket.wish.trigger.id, default))

    async def _write(self, wishes: Sequence[Wish], deadline: float) -> frozenset[str]:
        """Return the ids of the triggers that were written; the others are covered. Raises `Refusal`."""
        name = object_name(wishes[0].entry_id)
        failures = 0
        while True:
            try:
                return await self._send(name, decide(wishes, await self._read(name)))
            except _LostRace:
                unless_in_time = Refusal(Why.CONFLICT, "Others kept changing the object.")
            except KubernetesError as error:
                unless_in_time = _transient(error)
            failures += 1
            pause = _BACKOFF.delay_seconds(failures, _random.random())
            if asyncio.get_running_loop().time() + pause >= deadline:
                raise unless_in_time
            await asyncio.sleep(pause)

    async def _read(self, name: str) -> Object | None:
        try:
            return await self._kubernetes.get(ENTRY_PACKAGES, self._namespace, name)
        except NotFoundError:
            return None

    async def _send(self, name: str, decision: Decision) -> frozenset[str]:
        match decision:
            case Nothing():
                return frozenset()
            case Refuse(reason, message):
                raise Refusal(Why(reason), message)
            case Create(manifest, written):
                await self._create(manifest)
                return written
            case Patch(operations, written):
                await self._patch(name, operations)
                return written

    async def _create(self, manifest: Object) -> None:
        try:
            await self._kubernetes.create(ENTRY_PACKAGES, self._namespace, manifest)
        except AlreadyExistsError:
            raise _LostRace from None

    async def _patch(self, name: str, operations: list[Object]) -> None:
        try:
            await self._kubernetes.json_patch(ENTRY_PACKAGES, self._namespace, name, operations)
        except (NotFoundError, ConflictError):
            raise _LostRace from None
        except InvalidError as error:
            if error.message.startswith(_PATCH_TEST_FAILED):
                raise _LostRace from None
            raise


def _transient(error: KubernetesError) -> Refusal:
    """Return the answer in case that no other try succeeds; raise `Refusal` at once where none can."""
    if isinstance(error, UnreachableError):
        return Refusal(Why.API_SERVER_UNREACHABLE, "The API server does not answer.")
    if error.status == 429 or error.status >= 500:
        return Refusal(Why.API_SERVER_UNREACHABLE, "The API server is not able to serve.")
    log.error("The API server refused the write: %s", error.message, extra={"code": error.status})
    if isinstance(error, InvalidError):
        raise Refusal(Why.NOT_STORABLE, "The API server refuses the object as invalid.") from error
    raise Refusal(Why.API_SERVER_REFUSED, "The API server refuses the receiver's request.") from error
