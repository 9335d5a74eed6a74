"""Several tasks at once that end with the one failure that says why."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from entrypackage.failures import Failure, FailureClass

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

_A = TypeVar("_A")
_B = TypeVar("_B")


async def flat(work: Awaitable[_A]) -> _A:
    """Await work that runs a group of tasks; raises the one failure that stopped the group, not the group."""
    try:
        return await work
    except BaseExceptionGroup as group:
        raise _worst(group) from None


def _worst(group: BaseExceptionGroup[BaseException]) -> BaseException:
    errors = [_worst(error) if isinstance(error, BaseExceptionGroup) else error for error in group.exceptions]
    # Losing the claim outranks all else; a refused archive what follows from stopping.
    for rank in (FailureClass.SUPERSEDED, FailureClass.ARCHIVE_REFUSED):
        for error in errors:
            if isinstance(error, Failure) and error.failure is rank:
                return error
    return next((error for error in errors if isinstance(error, Failure)), errors[0])


async def each(names: Iterable[str], work: Callable[[str], Awaitable[None]], at_once: int) -> None:
    """Await `work` for every name, `at_once` of them at a time; raises the failure that stopped it."""
    queue = iter(names)

    async def worker() -> None:
        for name in queue:
            await work(name)

    async def all_workers() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(worker())

    await flat(all_workers())


async def both(first: Awaitable[_A], second: Awaitable[_B]) -> tuple[_A, _B]:
    """Await two things at once; a failure of one ends the other."""

    async def gathered() -> tuple[_A, _B]:
        async with asyncio.TaskGroup() as group:
            one, two = group.create_task(_running(first)), group.create_task(_running(second))
        return one.result(), two.result()

    return await flat(gathered())


async def _running(work: Awaitable[_A]) -> _A:
    return await work


async def undisturbed(work: Awaitable[_A]) -> _A:
    """Await work to its end although the caller is cancelled meanwhile: a clean-up must not be cancelled by a signal.

    The work has to be bounded. From Python 3.13 on a group of tasks cancels its caller a second time if it was
    cancelled while one of the tasks failed.
    """
    task = asyncio.ensure_future(work)
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            continue
    return task.result()
