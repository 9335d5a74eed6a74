"""Failures of a build."""

from pathlib import Path

import pytest

from sandbox.toolchain.build import explain_failure


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("write /x: no space left on device", "The disk became full"),
        ("dial tcp: lookup proxy on 1.1.1.1:53: no such host", "check the network, or set GOPROXY"),
        ("verifying m@v1: checksum mismatch\nSECURITY ERROR", "does not match go.sum"),
        ("x.go:1:1: undefined: y", "failed while the tool chain was built"),
    ],
)
def test_failures_of_a_build_are_explained(output: str, sentence: str) -> None:
    assert sentence in explain_failure("go build", output, Path("/log"))
