"""A pod's phase, status and end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sandbox.fargate.status import (
    ContainerView,
    PodView,
    Running,
    State,
    Terminated,
    Transitions,
    Waiting,
    exit_reason,
    lost_status,
    pod_phase,
    pod_status,
)
from tests.support.pods import pod

T0, T1, T2 = "2030-01-01T00:00:00Z", "2030-01-01T00:00:01Z", "2030-01-01T00:00:02Z"


def _view(*states: State, policy: str = "Never", **members: object) -> PodView:
    def one(name: str, state: State) -> ContainerView:
        running = isinstance(state, Running)
        return ContainerView(name, "image", state, ready=running, started=running)

    view = PodView(
        spec=pod(restartPolicy=policy).spec,
        address="127.1.0.1",
        host_address="127.0.0.1",
        started_at=T0,
        containers=[one(f"c{number}", state) for number, state in enumerate(states)],
    )
    return replace(view, **members)  # type: ignore[arg-type]


WAITS, RUNS = Waiting("ContainerCreating"), Running(T0)


GOOD, BAD = Terminated(0, "Completed", T0, T1), Terminated(42, "Error", T0, T1, "why")


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        (_view(WAITS), "Pending"),
        (_view(RUNS), "Running"),
        (_view(RUNS, WAITS), "Pending"),
        (_view(GOOD), "Succeeded"),
        (_view(BAD), "Failed"),
        (_view(GOOD, BAD), "Failed"),
        (_view(GOOD, RUNS), "Running"),
        (_view(GOOD, policy="Always"), "Running"),
        (_view(BAD, policy="OnFailure"), "Running"),
        (_view(GOOD, policy="OnFailure"), "Succeeded"),
        (_view(GOOD, policy="Always", ending=True), "Succeeded"),
        (_view(BAD, policy="Always", ending=True), "Failed"),
        (_view(WAITS, ending=True), "Failed"),
        (_view(RUNS, verdict=("Evicted", "full")), "Running"),
        (_view(GOOD, verdict=("Evicted", "full"), ending=True), "Failed"),
    ],
)
def test_phases(view: PodView, expected: str) -> None:
    assert pod_phase(view) == expected


def test_crash_loop_counts_as_running() -> None:
    view = _view(Waiting("CrashLoopBackOff"), policy="Always")
    crashed = replace(view, containers=[replace(view.containers[0], last=BAD)])
    assert pod_phase(crashed) == "Running"


def test_status_of_a_finished_pod_carries_what_a_job_needs() -> None:
    status = pod_status(_view(BAD, ending=True), Transitions(), T2)
    (one,) = status["containerStatuses"]
    assert one["state"]["terminated"]["exitCode"] == 42
    assert one["state"]["terminated"]["message"] == "why"
    ready = next(each for each in status["conditions"] if each["type"] == "Ready")
    assert (ready["status"], ready["reason"], ready["lastTransitionTime"]) == ("False", "PodFailed", T2)


def test_transition_times_move_only_with_the_status() -> None:
    transitions = Transitions()
    pod_status(_view(RUNS), transitions, T0)
    later = pod_status(_view(RUNS), transitions, T1)
    assert all(one["lastTransitionTime"] == T0 for one in later["conditions"])
    ended = pod_status(_view(GOOD), transitions, T2)
    times = {one["type"]: one["lastTransitionTime"] for one in ended["conditions"]}
    assert (times["Initialized"], times["Ready"]) == (T0, T2)


def test_lost_pod_is_failed_and_not_to_blame() -> None:
    status = lost_status(_view(RUNS), T2)
    assert (status["phase"], status["reason"]) == ("Failed", "NodeLost")
    assert status["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 137
    assert any(one["type"] == "DisruptionTarget" and one["status"] == "True" for one in status["conditions"])


@pytest.mark.parametrize(
    ("view", "deleted", "word"),
    [
        (_view(GOOD), False, "Completed"),
        (_view(BAD), False, "Error(42)"),
        (_view(BAD), True, "Deleted"),
        (_view(Terminated(137, "OOMKilled", T0, T1)), False, "OOMKilled"),
        (_view(BAD, verdict=("Evicted", "x")), False, "Evicted"),
    ],
)
def test_exit_reasons(view: PodView, deleted: bool, word: str) -> None:
    assert exit_reason(view, deleted=deleted) == word
