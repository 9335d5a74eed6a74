"""Writes docs/failures.md from the failure table, so that the page cannot say anything else than the programs do."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from entrypackage.failures import POLICIES, FailureClass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from entrypackage.backoff import Backoff
    from entrypackage.failures import FailurePolicy

PAGE: Final = Path(__file__).resolve().parent.parent / "docs" / "failures.md"

CAUSES: Final[Mapping[FailureClass, tuple[str, ...]]] = {
    FailureClass.THROTTLED: (
        "429 from Benchling, also while calls remain (the tenant's hidden limit, the dynamic limit of exports)",
        "no capacity in the controller's own budget within a call's deadline",
    ),
    FailureClass.PROVIDER_DOWN: (
        "5xx, 408 or 425; the monthly maintenance window",
        "no connection, a time-out, a connection that broke",
        "HTML, cut JSON or a redirect where JSON is due; a 403 or 404 that is a gateway's page",
        "the circuit breaker is open: nothing was sent",
    ),
    FailureClass.PROVIDER_REJECTED: ("any other 4xx",),
    FailureClass.ANSWER_UNREADABLE: (
        "JSON without the members that every answer of its kind has",
        "an answer larger than the client reads",
    ),
    FailureClass.AUTH_FAILED: (
        "401 invalid_client for the client id and secret, read again before it counts",
        "401 for a token that was fetched a moment ago",
        "the mounted files client_id or client_secret are missing or empty",
    ),
    FailureClass.NOT_FOUND: ("403, 404 or 410 from Benchling itself",),
    FailureClass.FILTERED: ("nothing yet: this release has no filter",),
    FailureClass.EXPORT_FAILED: ("the task ended as FAILED", "the task ended as SUCCEEDED without an address"),
    FailureClass.EXPORT_LOST: ("404 or 410 for the task: it ended more than 30 minutes ago",),
    FailureClass.ARCHIVE_EXPIRED: ("403 from the archive's storage because the address or its session has expired",),
    FailureClass.ARCHIVE_REFUSED: (
        "no ZIP, or one whose directory, lengths or checksums do not fit",
        "a member whose name leaves the package, comes twice, or is too large, too many or packed too densely",
    ),
    FailureClass.ARCHIVE_UNREACHABLE: (
        "the archive's storage does not answer, or answers 5xx, to the last try",
        "it answers with another range than was asked for, or with a 4xx that does not say that the address is over",
        "it redirects in circles, to what is no address, or from https to http",
    ),
    FailureClass.INCOMPLETE: ("the entry names attachments that the archive lacks",),
    FailureClass.DESTINATION_DENIED: (
        "AccessDenied for the bucket, a key, the KMS key or the queue",
        "no such bucket or queue",
        "the role cannot be assumed",
    ),
    FailureClass.DESTINATION_DOWN: ("S3 does not answer, or answers 5xx or SlowDown, to the last try",),
    FailureClass.DESTINATION_TAKEN: ("inventory or entry.json under the prefix name another entry",),
    FailureClass.NOTIFICATION_FAILED: ("SQS does not take the message, to the last try",),
    FailureClass.SUPERSEDED: ("the inventory was claimed by another pod",),
    FailureClass.NAME_MISMATCH: ("an EntryPackage made by hand under another name",),
    FailureClass.POD_NEVER_STARTED: ("no container ran within the start deadline",),
    FailureClass.OUT_OF_MEMORY: ("the container's reason is OOMKilled",),
    FailureClass.DISRUPTED: ("the pod's condition DisruptionTarget", "SIGTERM from outside"),
    FailureClass.REPORT_LOST: ("pod or Job were gone before the report was read",),
    FailureClass.TIMEOUT: ("the deadline of the export or of the running Job",),
    FailureClass.ORDER_INVALID: ("a part of the order is missing, not gzip, of another digest or of another version",),
    FailureClass.INTERNAL: ("an exception that nobody expected", "an exit code that is not in this table"),
}
"""What exactly counts as each failure."""

_HEAD: Final = """\
<!-- Written by `python -m entrypackage.failures_page`; change entrypackage/failures.py instead. -->

# Failures

Everything that can go wrong has one of these names. The name is the `reason` of conditions and events, a label of
metrics, and what a packager's report says. What follows from it stands in this table alone.

* **Tried again**: *as long as it lasts* (an outage never gives up), *counted* (it uses up one of the tries, after
  which the attempt is given up and looked at again after a day), *counted without progress* (the same, but an attempt
  that came further than any before it uses up none and starts the row of failures over), *a few times* (as often
  as `retry.incompleteSeconds` has waits, three by default), or *given up at once*. A new click or a manual request ends
  every wait.
* **Wait**: before each next try a random time between half of the stated value and the whole of it; the value doubles
  with each failure in a row up to the second number.
* **Exit code**: how the packager's container ends with it. 0 is success; a code that is not listed is `Internal`.

"""


def render() -> str:
    """Return the page."""
    rows = "".join(_row(failure, POLICIES[failure]) for failure in FailureClass)
    table = "| Reason | Tried again | Wait | Exit code |\n|---|---|---|---|\n" + rows
    return _HEAD + table + "".join(_section(failure, POLICIES[failure]) for failure in FailureClass)


def _row(failure: FailureClass, policy: FailurePolicy) -> str:
    code = "" if policy.exit_code is None else str(policy.exit_code)
    return f"| [{failure}](#{failure.lower()}) | {_again(policy)} | {_wait(policy)} | {code} |\n"


def _section(failure: FailureClass, policy: FailurePolicy) -> str:
    causes = "".join(f"* {cause}\n" for cause in CAUSES[failure])
    extra = f"\n{_export(policy)}\n" if policy.reuses_export else ""
    return f"\n## {failure}\n\n{policy.meaning}\n\n{causes}{extra}\n**What to do:** {policy.remedy}\n"


def _export(policy: FailurePolicy) -> str:
    if policy.blames_address:
        return (
            "The next try packs the same export with a fresh address. "
            "If that leads no further either, the entry is exported anew."
        )
    return "The next try packs the same export if its address is still valid."


def _again(policy: FailurePolicy) -> str:
    if not policy.retryable:
        return "given up at once"
    if policy.counts:
        return "counted without progress" if policy.forgives_progress else "counted"
    return "as long as it lasts" if policy.is_outage else "a few times"


def _wait(policy: FailurePolicy) -> str:
    return _seconds(policy.backoff) if policy.retryable else ""


def _seconds(backoff: Backoff) -> str:
    return f"{_span(backoff.base_seconds)} to {_span(backoff.cap_seconds)}"


def _span(seconds: float) -> str:
    return f"{seconds / 60:g} min" if seconds >= 60 else f"{seconds:g} s"


def main(arguments: list[str] | None = None) -> int:
    """Write the page, or with --check return 1 if it is not current."""
    parser = argparse.ArgumentParser(prog="python -m entrypackage.failures_page", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when the page is not current")
    if not parser.parse_args(arguments).check:
        PAGE.write_text(render())
        return 0
    if PAGE.is_file() and PAGE.read_text() == render():
        return 0
    sys.stderr.write("docs/failures.md is not current: run python -m entrypackage.failures_page\n")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
