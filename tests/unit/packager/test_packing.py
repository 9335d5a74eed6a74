"""The report fits and parses whatever names and messages hold, also what no UTF-8 can hold."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from entrypackage.failures import Failure, FailureClass
from entrypackage.order import REPORT_BYTES, PackedPackage, parse_report
from packager.packing import PackingResult
from packager.progress import Progress

# Every code point, half surrogate pairs included, and often those that JSON, UTF-8 and terminals make much of.
HOSTILE = st.text(st.one_of(st.characters(codec=None), st.sampled_from('"\\\0\x1b\x7f\u2028\ud800\udfff\U0001d11e')))
LONG = st.builds(lambda text, times: text * times, HOSTILE, st.integers(1, 400))


@given(
    message=LONG,
    notices=st.lists(LONG, max_size=5),
    missing=st.lists(LONG, max_size=5),
    failure=st.one_of(st.none(), st.sampled_from(FailureClass)),
)
@settings(max_examples=150, deadline=None)
def test_a_report_is_json_that_fits(
    message: str, notices: list[str], missing: list[str], failure: FailureClass | None
) -> None:
    package = PackedPackage(uri="s3://b/" + "𝄞" * 250, files=1, bytes=2, manifest_checksum="c" * 64)
    result = PackingResult(package=package, missing=missing, missing_count=len(missing), notices=notices)
    error = Failure(failure, message) if failure else None

    raw = result.report("d" * 64, error, Progress(), 0).to_bytes()

    assert len(raw) <= REPORT_BYTES
    assert isinstance(json.loads(raw.decode("utf-8")), dict)
    back = parse_report(raw.decode())
    assert back is not None
    assert (back.failure, back.order_digest, back.succeeded) == (failure, "d" * 64, failure is None)
