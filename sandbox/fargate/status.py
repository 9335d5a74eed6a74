"""A pod's status as a kubelet reports it, built from what the containers do. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sandbox.fargate.backoff import restarts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandbox.fargate.pod import PodSpec

Json = dict[str, Any]


@dataclass(frozen=True)
class Waiting:
    """Not running, and why."""

    reason: str
    message: str = ""

    def report(self) -> Json:
        """As the API has it."""
        return {"waiting": _filled(reason=self.reason, message=self.message)}


@dataclass(frozen=True)
class Running:
    """Running since (RFC 3339)."""

    started_at: str

    def report(self) -> Json:
        """As the API has it."""
        return {"running": {"startedAt": self.started_at}}


@dataclass(frozen=True)
class Terminated:
    """Ended; `exit_code` is 128 + signal when a signal ended it. Times are RFC 3339."""

    exit_code: int
    reason: str
    started_at: str
    finished_at: str
    message: str = ""
    container_id: str = ""

    def report(self) -> Json:
        """As the API has it."""
        filled = _filled(message=self.message, containerID=self.container_id)
        times = _filled(startedAt=self.started_at, finishedAt=self.finished_at)
        return {"terminated": {"exitCode": self.exit_code, "reason": self.reason} | filled | times}


State = Waiting | Running | Terminated


@dataclass(frozen=True)
class ContainerView:
    """What is known about one container at one moment; `last` is how its previous run ended."""

    name: str
    image: str
    state: State
    last: Terminated | None = None
    restart_count: int = 0
    ready: bool = False
    started: bool = False
    container_id: str = ""

    def report(self) -> Json:
        """As in `containerStatuses`."""
        return {
            "name": self.name,
            "image": self.image,
            "imageID": f"local://{self.image}",
            "state": self.state.report(),
            "lastState": self.last.report() if self.last else {},
            "restartCount": self.restart_count,
            "ready": self.ready,
            "started": self.started,
        } | _filled(containerID=self.container_id)


@dataclass(frozen=True)
class PodView:
    """What is known about a pod at one moment.

    `ending` says that nothing will be started any more; `verdict` is a reason and message that make it
    Failed whatever its containers did (Evicted, DeadlineExceeded, …).
    """

    spec: PodSpec
    address: str
    host_address: str
    started_at: str
    containers: Sequence[ContainerView]
    ending: bool = False
    verdict: tuple[str, str] | None = None
    extra_conditions: Sequence[Json] = ()


@dataclass
class Transitions:
    """When each condition last changed, so that only real changes move `lastTransitionTime`."""

    known: dict[str, tuple[str, str]] = field(default_factory=dict)

    def stamp(self, condition: Json, now: str) -> Json:
        """The condition with its time; remembers it."""
        kind, value = condition["type"], condition["status"]
        before = self.known.get(kind)
        if before is None or before[0] != value:
            self.known[kind] = before = (value, now)
        return condition | {"lastTransitionTime": before[1]}


def pod_phase(view: PodView) -> str:
    """The pod's `status.phase`, which alone decides how a Job sees it."""
    if view.verdict is not None and _all_stopped(view):
        return "Failed"
    if _all_stopped(view) and (view.ending or not any(_will_restart(view, one) for one in view.containers)):
        clean = all(isinstance(one.state, Terminated) and one.state.exit_code == 0 for one in view.containers)
        return "Succeeded" if clean else "Failed"
    if any(isinstance(one.state, Waiting) and one.last is None for one in view.containers):
        return "Pending"
    return "Running"


def finished(view: PodView) -> bool:
    """Whether the pod will never run again."""
    return pod_phase(view) in {"Succeeded", "Failed"}


def pod_status(view: PodView, transitions: Transitions, now: str) -> Json:
    """The whole status for a strategic merge patch of `pods/status`; `now` is RFC 3339."""
    phase = pod_phase(view)
    status: Json = {
        "phase": phase,
        "hostIP": view.host_address,
        "hostIPs": [{"ip": view.host_address}],
        "podIP": view.address,
        "podIPs": [{"ip": view.address}],
        "startTime": view.started_at,
        "conditions": [transitions.stamp(one, now) for one in _conditions(view, phase)],
        "containerStatuses": [one.report() for one in view.containers],
    }
    if view.verdict is not None:
        status["reason"], status["message"] = view.verdict
    return status


def _conditions(view: PodView, phase: str) -> list[Json]:
    done = phase in {"Succeeded", "Failed"}
    unready = [one.name for one in view.containers if not one.ready]
    why: dict[str, str] = {}
    if done:
        why = {"reason": "PodCompleted" if phase == "Succeeded" else "PodFailed"}
    elif unready:
        message = f"containers with unready status: [{' '.join(unready)}]"
        why = {"reason": "ContainersNotReady", "message": message}
    ready = not unready and not done
    return [
        {"type": "PodReadyToStartContainers", "status": _flag(not done)},
        {"type": "Initialized", "status": "True"},
        {"type": "ContainersReady", "status": _flag(ready)} | why,
        {"type": "Ready", "status": _flag(ready)} | why,
        *view.extra_conditions,
    ]


def _all_stopped(view: PodView) -> bool:
    return not any(isinstance(one.state, Running) for one in view.containers) and (
        view.ending or all(isinstance(one.state, Terminated) for one in view.containers)
    )


def _will_restart(view: PodView, one: ContainerView) -> bool:
    return not isinstance(one.state, Terminated) or restarts(view.spec.restart_policy, one.state.exit_code)


def _flag(value: bool) -> str:
    return "True" if value else "False"


def _filled(**members: str) -> dict[str, str]:
    return {name: value for name, value in members.items() if value}


def exit_reason(view: PodView, *, deleted: bool) -> str:
    """How the pod ended, in a word for the bill: `Completed`, `Error(42)`, `OOMKilled`, `Evicted`, `Deleted`."""
    if view.verdict is not None:
        return view.verdict[0]
    for one in view.containers:
        if isinstance(one.state, Terminated) and one.state.exit_code != 0 and not deleted:
            return one.state.reason if one.state.reason != "Error" else f"Error({one.state.exit_code})"
    return "Deleted" if deleted else "Completed"


def lost_status(view: PodView, now: str) -> Json:
    """The status of a pod whose processes died with the node program.

    By DisruptionTarget a Job's podFailurePolicy knows that the program is not at fault.
    """
    ended = Terminated(137, "ContainerStatusUnknown", view.started_at, now, "The container could not be located")
    message = "The local node was restarted; the pod's processes died with it"
    disrupted = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "TerminationByKubelet",
        "message": message,
    }
    lost = replace(
        view,
        containers=[replace(one, state=ended) for one in view.containers],
        ending=True,
        verdict=("NodeLost", message),
        extra_conditions=[disrupted],
    )
    return pod_status(lost, Transitions(), now)
