"""SIGTERM and SIGINT: received from the start of the process on, passed on as soon as there is work to cancel."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

LAST_MOMENT_SECONDS: Final = 26.0
"""After the signal. Kubernetes kills a pod 30 s after SIGTERM (the Job's grace period)."""

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """Whether SIGTERM or SIGINT was received.

    The first process of a container does not even get a signal that it has no handler for, and any other would die of
    it without a report; so the handlers are installed before anything that takes time is imported.
    """

    def __init__(self) -> None:
        self.requested = False
        self._listening = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._cancel: Callable[[], object] | None = None
        self._too_late: Callable[[], object] | None = None

    def listen(self) -> None:
        """Install the handlers of both signals."""
        self._listening = True
        for number in _SIGNALS:
            signal.signal(number, self._hear)

    def ignore(self) -> None:
        """Ignore both signals for good: the attempt's end is decided, and the process ends by itself.

        With any other handler it would not: ours finds the loop closed, and the system's own kills the process.
        """
        if self._listening:
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_IGN)

    def _hear(self, *_: object) -> None:
        # Only the first counts: a second one would cancel the clean-up that the first one started.
        if not self.requested:
            self.requested = True
            self._pass_on()

    def watch(self, task: asyncio.Task[int], too_late: Callable[[], object]) -> None:
        """Cancel this task on a signal, also on an earlier one.

        Calls `too_late` if the process still runs `LAST_MOMENT_SECONDS` later.
        """
        self._loop, self._cancel, self._too_late = task.get_loop(), task.cancel, too_late
        if self.requested:
            self._pass_on()

    def _pass_on(self) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._break_off)

    def _break_off(self) -> None:
        assert self._loop is not None
        assert self._cancel is not None
        assert self._too_late is not None
        self._loop.call_later(LAST_MOMENT_SECONDS, self._too_late)
        self._cancel()
