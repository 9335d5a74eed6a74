"""The table in job-image/README.md is the failure table's."""

from __future__ import annotations

import re

from entrypackage.failures import EXIT_CODES, POLICIES
from tests.support.paths import ROOT

README = ROOT / "job-image" / "README.md"


def test_the_documented_exit_codes_are_those_of_the_failure_table() -> None:
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \| (.*) \|$", README.read_text(), re.MULTILINE)

    assert {(int(code), name, meaning) for code, name, meaning in rows} == {
        (code, failure.value, POLICIES[failure].meaning) for code, failure in EXIT_CODES.items()
    }
