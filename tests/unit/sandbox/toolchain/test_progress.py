"""What a person sees of a build."""

import io

from sandbox.toolchain.progress import Progress, Reporter


def test_progress_counts_downloads_and_packages() -> None:
    fetching = Progress.from_log("go: downloading k8s.io/api v0.36.3\ngo: downloading go.uber.org/zap v1.27.0\n")
    assert fetching.describe(None) == "modules fetched: 2, go.uber.org/zap v1.27.0"
    building = Progress.from_log("internal/cpu\ngo.uber.org/zap\nk8s.io/api/core/v1\n")
    assert building.describe(2842) == "packages compiled: 3 of at most 2842, k8s.io/api/core/v1"


def test_a_stream_that_is_no_terminal_gets_no_control_characters() -> None:
    stream = io.StringIO()
    reporter = Reporter(stream)
    for number in range(100):
        reporter.update(f"step {number}")
    reporter.say("done")
    assert stream.getvalue() == "done\n"
