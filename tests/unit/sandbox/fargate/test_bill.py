"""What a pod costs and where it is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sandbox.fargate.bill import BillLine, Charge, Ledger, table, total

if TYPE_CHECKING:
    from pathlib import Path


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
    first, second = text.splitlines()[1:3]
    assert "3Mi" in first
    # Not measured yet, and not ended.
    assert second.split()[-3:-1] == ["-", "running"]
    assert "2 pods (1 still there)" in text
