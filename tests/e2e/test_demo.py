"""`python -m sandbox demo` as a person runs it: what it shows, what lies on S3 meanwhile, and what it leaves behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.aws import AwsAddresses
from tests.support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT_SECONDS = 800
"""A bar is for a person who waits; a test must pass on a machine that is busy with other things."""

ACTS = ("(a)", "(b)", "(c)", "(d)", "(e)")
METADATA_FILES = {"README.md", "entry.json", "entry_data.json", "input.json", "links.json"}
SUCCESSES = 5
PACKAGERS = 6
"""Pods: one for each package, and one more for the entry that is edited while it is exported."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder for temporary files, with a path short enough for etcd's socket."""
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


@contextlib.contextmanager
def demo(folder: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Start the demo with its temporary folder in `folder`; it is stopped if it has not ended by itself."""
    with (folder / "errors").open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "sandbox", "demo", *options],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
        process.communicate()


def packages_on_s3(folder: Path) -> dict[str, dict[str, bytes]]:
    """Return what lies on the S3 of the sandbox in that folder: content by package and name."""
    (log,) = folder.glob("entrypackage-*/pieces/aws.log")
    ready = next(json.loads(line) for line in log.read_text().splitlines() if line.startswith('{"ready": true'))
    client = AwsAddresses(ready["s3"], ready["sqs"], ready["bucket"], ready["queue_url"]).s3_client()
    found: dict[str, dict[str, bytes]] = {}
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=ready["bucket"], Prefix="benchling/EXP"):
        for item in page.get("Contents", []):
            _, package, name = item["Key"].split("/", 2)
            content = client.get_object(Bucket=ready["bucket"], Key=item["Key"])["Body"].read()
            found.setdefault(package, {})[name] = content
    return found


def answers(text: str, command: str) -> list[str]:
    """Return what each command that begins so answered, without the indentation."""
    blocks = re.findall(rf"^    \$ {re.escape(command)}.*\n((?:    .*\n)*)", text, re.MULTILINE)
    return [re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in blocks]


def answer(text: str, command: str) -> str:
    """Return what the one command that begins so answered."""
    (found,) = answers(text, command)
    return found


def rows(table: str) -> list[list[str]]:
    """Return a table's cells, which at least two blanks separate, without lines that long cells were wrapped into."""
    return [re.split(r"\s{2,}", line.strip()) for line in table.splitlines() if line[:1].strip()]


@pytest.mark.timeout(LIMIT_SECONDS + 60)
def test_the_demo_shows_what_it_promises(folder: Path) -> None:
    """It takes most of a minute, as long as a person watches it: each of its acts is the whole product at work."""
    acts: dict[str, str] = {"start": ""}
    stored: dict[str, dict[str, bytes]] = {}
    with demo(folder, "--limit", str(LIMIT_SECONDS)) as process:
        assert process.stdout is not None
        current = "start"
        for line in process.stdout:
            if line.startswith(ACTS):
                current = line[:3]
                acts[current] = ""
            elif line.startswith("Time per stage"):
                current = "close"
                acts[current] = ""
            if line.startswith("(c)"):
                # Acts (a) and (b) are over. While the show stands still its S3 goes on serving.
                process.send_signal(signal.SIGSTOP)
                stored = packages_on_s3(folder)
                process.send_signal(signal.SIGCONT)
            acts[current] += line
        code = process.wait()
    shown = "".join(acts.values())
    assert (folder / "errors").read_text() == ""
    assert code == 0, shown
    assert list(acts) == ["start", *ACTS, "close"]
    assert [path.name for path in folder.iterdir()] == ["errors"], "its folder is gone"

    first, second = sorted(stored)[:2]
    check_new_entry(acts["(a)"], first, stored[first])
    check_many_files(acts["(b)"], second, stored[second])
    assert re.search(r"256\.0 MiB, packed in \d+\.\d s", acts["(c)"])
    peak = re.search(r"memory at its peak: (\d+) MiB", acts["(c)"])
    assert peak is not None
    assert 10 < int(peak.group(1)) <= 128
    assert "21 webhooks, 2 attempts; the package says: Batch = edit 20\n" in acts["(d)"]
    check_failed_export(acts["(e)"])
    check_close(acts["close"])


def check_new_entry(text: str, package: str, stored: dict[str, bytes]) -> None:
    """Webhook, object, files on S3, entry.json and message are of one entry."""
    header, row = rows(answer(text, "kubectl get entrypackages"))
    assert header == ["NAME", "ENTRY", "READY", "REASON", "FILES", "SIZE", "PACKAGED", "AGE"]
    assert row[1:6] == [package, "True", "Packaged", "7", f"{sum(map(len, stored.values())) / 1024:.1f} KiB"]
    assert "condition met" in answer(text, "kubectl wait")

    assert set(stored) == {f"{package}.pdf", "plate.csv", *METADATA_FILES}
    assert len(stored["plate.csv"]) == 300_000
    assert stored[f"{package}.pdf"].startswith(b"%PDF")
    listing = [line.split() for line in answer(text, "aws s3 ls").splitlines()]
    assert {key: int(size) for size, key in listing if size.isdigit()} == {
        f"benchling/{package}/{name}": len(content) for name, content in stored.items()
    }

    described: dict[str, Any] = json.loads(answer(text, "cat"))
    assert described == json.loads(stored["entry.json"])
    assert described["display_id"] == package
    assert described["name"] == "Growth curve of strain 12"
    assert described["webhook_data"]["type"] == "v2.entry.created"
    assert described["files"] == {
        name: {"s3_key": f"benchling/{package}/{name}", "size": len(stored[name])}
        for name in (f"{package}.pdf", "plate.csv")
    }

    message: dict[str, Any] = json.loads(answer(text, "aws sqs receive-message"))
    assert message["package_name"] == f"benchling/{package}"
    assert message["source_prefix"] == f"s3://packages/benchling/{package}/"
    assert message["metadata_uri"] == "entry.json"


def check_many_files(text: str, package: str, stored: dict[str, bytes]) -> None:
    """All 300 are on S3 and in entry.json, at their size."""
    images = {f"image-{number:03d}.tif": 40_000 for number in range(300)}
    assert set(stored) == {f"{package}.pdf", *images, *METADATA_FILES}
    assert {name: len(stored[name]) for name in images} == images
    described = json.loads(stored["entry.json"])
    assert described["display_id"] == package
    assert {name: file["size"] for name, file in described["files"].items()} == {
        name: len(stored[name]) for name in (f"{package}.pdf", *images)
    }
    assert f"306 objects, {sum(map(len, stored.values())) / 1024**2:.1f} MiB, packed in " in text
    assert "... and 300 lines more" in answer(text, "aws s3 ls")


def check_failed_export(text: str) -> None:
    """The object says what went wrong and what to do; after that all are packaged."""
    described = re.sub(r"\s+", " ", answer(text, "kubectl describe"))
    assert "The notebook could not be rendered as PDF." in described
    assert "Export the entry by hand in Benchling" in described
    assert re.search(r"Warning ExportFailed ", described)
    assert answer(text, "kubectl patch").rstrip().endswith("patched")
    header, *found = rows(answer(text, "kubectl get entrypackages -o wide"))
    assert header[-3:] == ["URI", "JOB", "MESSAGE"]
    assert [row[2:4] for row in found] == [["True", "Packaged"]] * SUCCESSES


def check_close(text: str) -> None:
    """Each stage has its seconds, each pod its line on the bill."""
    stages, _, bill = text.partition("What this run would have cost")
    assert re.findall(r"^    (\S.*?)  +\d+\.\d", stages, re.MULTILINE) == [
        "a new entry",
        "300 files",
        "256 MiB",
        "20 edits",
        "a failed export",
        "the re-run by hand",
    ]
    pods = re.findall(r"^    entrypackage/(\S+) .*  (\S.*?) +(\d+\.\d+)$", bill, re.MULTILINE)
    packagers = [(end, float(dollars)) for pod, end, dollars in pods if pod.startswith("epkg-")]
    programs = [pod.rsplit("-", 2)[0] for pod, _, _ in pods if not pod.startswith("epkg-")]
    assert [end for end, _ in packagers[:-1]] == ["Completed"] * (PACKAGERS - 1)
    assert len(packagers) == PACKAGERS
    assert all(dollars > 0 for _, dollars in packagers)
    assert sorted(programs) == ["entrypackage-controller"] * 2 + ["entrypackage-receiver"] * 2
    total = re.search(r"^    10 pods \(\d+ still there\): \d+ vCPU-s, \d+ GB-s, \$(\d+\.\d+)$", bill, re.MULTILINE)
    assert total is not None
    assert float(total.group(1)) > 0


def test_a_demo_above_its_limit_fails_with_a_sentence(folder: Path) -> None:
    with demo(folder, "--limit", "0.5") as process:
        assert process.wait() == 1
    assert (folder / "errors").read_text() == (
        "error: The demo was not over after 0.5 s: it had come to the start of the sandbox."
        " Its limit can be set with --limit SECONDS or SANDBOX_DEMO_LIMIT.\n"
    )
    assert [path.name for path in folder.iterdir()] == ["errors"], "its folder is gone"
