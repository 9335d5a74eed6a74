"""Calls about exports: start one, poll it, and count those whose outcome is unknown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from controller.benchling.api_calls import ApiCalls, quoted
from controller.benchling.errors import AnswerUnreadable, ExportOutcomeUnknown, LimitReached, NotFound, OutcomeUnknown
from controller.benchling.models import TaskGone, TaskId, TaskRunning, read_task
from controller.benchling.priority import Priority
from controller.benchling.wire import Operation, Repeat

if TYPE_CHECKING:
    from controller.benchling.clock import Clock
    from controller.benchling.export_limit import ExportSlots
    from controller.benchling.models import ExportTask

START_EXPORT: Final = Operation("exports.start", "POST", Repeat.UNSAFE, own_limit=True)
GET_TASK: Final = Operation("tasks.get", "GET")


class ExportCalls(ApiCalls):
    """Starts and polls exports."""

    _clock: Clock
    _slots: ExportSlots
    _orphans: int = 0

    async def start_export(
        self, entry_id: str, *, priority: Priority = Priority.EXPORT, deadline: float | None = None
    ) -> TaskId:
        """Start an export and return the id of its task.

        The request is repeated only after an answer that excludes an effect. Raises `ExportOutcomeUnknown` if an export
        may run under an unknown id, `Throttled` if export limit or rate budget had no capacity before the deadline.
        """
        patience = self.settings.deadlines[priority] if deadline is None else deadline
        ends = self._clock.now() + patience
        body = {"id": entry_id, "format": "pdf"}
        while True:
            await self._slots.take(ends - self._clock.now())
            try:
                left = ends - self._clock.now()
                answer = await self._write(START_EXPORT, "/exports", body, priority=priority, deadline=left)
                task = _task_id(answer)
            except LimitReached as failure:
                self._slots.refused(failure.retry_after_seconds)
                continue
            except BaseException as error:
                self._slots.unused()
                if isinstance(error, OutcomeUnknown | AnswerUnreadable):
                    self._orphans += 1
                    raise ExportOutcomeUnknown(error) from None
                raise
            self._slots.started(task)
            return task

    async def get_task(
        self, task_id: str, *, priority: Priority = Priority.POLL, deadline: float | None = None
    ) -> ExportTask:
        """Return the state of an export; `TaskGone` if Benchling no longer keeps it."""
        try:
            answer = await self._get(GET_TASK, f"/tasks/{quoted(task_id)}", priority=priority, deadline=deadline)
        except NotFound as failure:
            if failure.status == 403:
                raise
            self._slots.ended(task_id)
            return TaskGone()
        task = read_task(answer, GET_TASK.name)
        if isinstance(task, TaskRunning):
            self._slots.seen_running(task_id)
        else:
            self._slots.ended(task_id)
        return task

    def forget_export(self, task_id: str) -> None:
        """Stop counting an export that is no longer polled, such as that of a deleted EntryPackage."""
        self._slots.ended(task_id)


def _task_id(answer: object) -> TaskId:
    value = answer.get("taskId") if isinstance(answer, dict) else None
    if not isinstance(value, str) or not value:
        raise AnswerUnreadable(f"Benchling's answer to {START_EXPORT.name} holds no taskId.", effect_possible=True)
    return TaskId(value)
