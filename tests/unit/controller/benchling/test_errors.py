"""The failure table is closed, whole and told truly by its page."""

from __future__ import annotations

import re

import pytest

from entrypackage.failures import EXIT_CODES, POLICIES, FailureClass
from entrypackage.failures_page import CAUSES, PAGE, main, render


def test_every_failure_has_a_policy_and_a_cause() -> None:
    assert set(POLICIES) == set(FailureClass) == set(CAUSES)
    assert all(CAUSES.values())


@pytest.mark.parametrize("failure", FailureClass)
def test_each_row_is_fit_for_conditions_and_for_people(failure: FailureClass) -> None:
    policy = POLICIES[failure]
    assert re.fullmatch(r"[A-Z][A-Za-z0-9]{1,63}", failure.value)
    assert policy.meaning.endswith(".")
    assert policy.remedy.endswith(".")
    assert len(policy.remedy) < 400
    assert 0 < policy.backoff.base_seconds <= policy.backoff.cap_seconds <= 3600
    assert not policy.is_outage or policy.retryable


def test_exit_codes_are_unique_and_below_the_signals() -> None:
    codes = [policy.exit_code for policy in POLICIES.values() if policy.exit_code is not None]
    assert len(codes) == len(set(codes)) == len(EXIT_CODES)
    assert all(0 < code < 64 for code in codes)


def test_back_off_doubles_up_to_its_cap() -> None:
    for policy in POLICIES.values():
        ceilings = [policy.backoff.ceiling_seconds(tries) for tries in range(1, 40)]
        assert ceilings[0] == policy.backoff.base_seconds
        assert ceilings == sorted(ceilings)
        assert ceilings[-1] == policy.backoff.cap_seconds


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == render()
    assert main(["--check"]) == 0
