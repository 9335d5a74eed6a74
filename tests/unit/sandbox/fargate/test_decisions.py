"""Back-off, probes, status, the bill."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import pytest

from sandbox.fargate.backoff import Backoff, restarts
from sandbox.fargate.bill import BillLine, Charge, table, total
from sandbox.fargate.ledger import Ledger
from sandbox.fargate.pod import PodSpec
from sandbox.fargate.probes import ProbeState
from sandbox.fargate.settings import Delay
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

if TYPE_CHECKING:
    from pathlib import Path

T0, T1, T2 = "2030-01-01T00:00:00Z", "2030-01-01T00:00:01Z", "2030-01-01T00:00:02Z"


def test_backoff_is_a_kubelets() -> None:
    backoff, waits = Backoff(), []
    for _ in range(8):
        backoff, wait = backoff.after(1.0)
        waits.append(wait)
    assert waits == [0, 10, 20, 40, 80, 160, 300, 300]
    backoff, wait = backoff.after(600.0)
    assert wait == 0
    assert backoff.after(599.0)[1] == 10


@pytest.mark.parametrize(
    ("policy", "code", "again"),
    [
        ("Always", 0, True),
        ("Always", 1, True),
        ("OnFailure", 0, False),
        ("OnFailure", 137, True),
        ("Never", 1, False),
    ],
)
def test_restart_policies(policy: Literal["Always", "OnFailure", "Never"], code: int, again: bool) -> None:
    assert restarts(policy, code) is again


@pytest.mark.parametrize(
    ("success", "failure", "results", "verdicts"),
    [
        (1, 3, "+", [True]),
        (1, 3, "---", [None, None, False]),
        (1, 3, "+--+---", [True, True, True, True, True, True, False]),
        (2, 1, "-+-++", [False, False, False, False, True]),
    ],
)
def test_probe_thresholds(success: int, failure: int, results: str, verdicts: list[bool | None]) -> None:
    state, seen = ProbeState(success, failure), []
    for result in results:
        state = state.observe(result == "+")
        seen.append(state.passing)
    assert seen == verdicts


def _view(*states: State, policy: str = "Never", init: tuple[State, ...] = (), **members: object) -> PodView:
    def one(name: str, state: State) -> ContainerView:
        running = isinstance(state, Running)
        return ContainerView(name, "image", state, ready=running, started=running)

    view = PodView(
        spec=pod(restartPolicy=policy).spec,
        address="127.1.0.1",
        host_address="127.0.0.1",
        started_at=T0,
        init=[one(f"i{number}", state) for number, state in enumerate(init)],
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
        (_view(WAITS, init=(RUNS,)), "Pending"),
        (_view(WAITS, init=(BAD,)), "Failed"),
        (_view(WAITS, init=(BAD,), policy="Always"), "Pending"),
        (_view(RUNS, init=(GOOD,)), "Running"),
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


def test_closed_readiness_gate_keeps_a_pod_unready() -> None:
    status = pod_status(_view(RUNS, gates_open=False), Transitions(), T0)
    flags = {one["type"]: one["status"] for one in status["conditions"]}
    assert (flags["ContainersReady"], flags["Ready"]) == ("True", "False")


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


def _charge(**members: object) -> Charge:
    given = {"namespace": "ns", "pod": "p", "uid": "u", "millicpu": 250, "mebibytes": 1024, "pull_started_at": 1000.0}
    return Charge.model_validate(given | members)


def test_an_hour_of_one_vcpu_and_two_gigabytes() -> None:
    line = BillLine.of(_charge(millicpu=1000, mebibytes=2048, gone_at=4600.0), 0)
    assert line.dollars == pytest.approx(0.04048 + 2 * 0.004445)
    assert (line.vcpu_seconds, line.gigabyte_seconds, line.open) == (3600, 7200, False)


def test_less_than_a_minute_costs_a_minute() -> None:
    line = BillLine.of(_charge(finished_at=1005.0, gone_at=1020.0), 0)
    assert (line.seconds_running, line.seconds_kept) == (5, 15)
    assert line.vcpu_seconds == 15
    assert line.gigabyte_seconds == 60


def test_a_forgotten_pod_costs_until_now() -> None:
    line = BillLine.of(_charge(finished_at=1060.0), 1000.0 + 86_400)
    assert line.open
    assert line.dollars == pytest.approx(24 * (0.25 * 0.04048 + 0.004445))


def test_ledger_survives_and_closes(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.put(_charge(uid="a", pod="first"))
    ledger.put(_charge(uid="b", pod="second"))
    again = Ledger(tmp_path)
    assert [one.uid for one in again.open_charges()] == ["a", "b"]
    again.close(_charge(uid="a", pod="first", gone_at=1100.0, peak_rss_bytes={"main": 3 << 20}))
    lines = again.lines(1010.0)
    assert [(one.pod, one.open) for one in lines] == [("first", False), ("second", True)]
    assert total(lines).pods == 2
    assert total(lines).open == 1
    text = table(lines)
    assert "3Mi" in text
    assert "2 pods (1 still there)" in text


def test_delay_is_the_same_for_the_same_pod() -> None:
    delay = Delay.parse("40-60")
    assert delay.of("u") == delay.of("u")
    assert all(40 <= delay.of(str(number)) <= 60 for number in range(50))
    assert Delay.parse("2").of("x") == 2
    with pytest.raises(ValueError, match="range"):
        Delay.parse("5-2")


def test_spec_without_members_has_the_api_servers_defaults() -> None:
    spec = PodSpec.model_validate({"containers": [{"name": "c"}]})
    assert (spec.restart_policy, spec.termination_grace_period_seconds) == ("Always", 30)
