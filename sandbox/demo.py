"""`python -m sandbox demo`: the product at work on this machine, in five acts and a bill."""

import argparse
import asyncio
import json
import math
import os
import sys
import textwrap
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from entrypackage.identity import object_name
from sandbox.composition import Options, Sandbox
from sandbox.fargate.bill import BillLine, Ledger
from sandbox.fargate.bill import table as bill_table
from sandbox.processes import SandboxError, die_with_parent, run_program
from sandbox.simulator.control import TenantControl
from sandbox.toolchain import Toolchain

Json = dict[str, Any]

LIMIT_SECONDS = 90
LIMIT_VARIABLE = "SANDBOX_DEMO_LIMIT"
QUIET_SECONDS = 1
RETAIN_SECONDS = 1
HELD_EXPORT_SECONDS = 3600
"""Longer than twenty edits can take on any machine."""
MIB = 1024 * 1024
ARCHIVE_BYTES = 256 * MIB
MEMORY_BAR_BYTES = 128 * MIB
WIDTH = 110

VALUES: Json = {
    "controller": {
        "settings": {
            "timing": {
                "quietPeriodSeconds": QUIET_SECONDS,
                "retainSucceededSeconds": RETAIN_SECONDS,
                "retainFailedSeconds": RETAIN_SECONDS,
            }
        }
    }
}

METADATA_FILES = {"README.md", "entry.json", "entry_data.json", "input.json", "links.json"}
"""What each package holds besides the entry as PDF and its attachments."""


class Screen:
    """What the demo prints: headings, commands with their answers, and one line that lives while it waits."""

    def __init__(self) -> None:
        self._live = sys.stdout.isatty()
        self._last = ""
        self.place = "the start of the sandbox"
        """How far the demo has come."""

    def say(self, text: str = "") -> None:
        """Print a line."""
        self._clear()
        print(text, flush=True)

    def act(self, letter: str, title: str, story: str) -> None:
        """Open an act."""
        self.place = f"act ({letter}), {title[0].lower()}{title[1:]}"
        self.say(f"\n({letter}) {title}\n    {story}\n")

    def command(self, line: str, answer: str, *, most: int = 40) -> None:
        """Show a command and what it answers, cut after `most` lines."""
        self.say(f"    $ {line}")
        lines = answer.rstrip().splitlines()
        for shown in lines[:most]:
            indent = len(shown) - len(shown.lstrip()) + 4
            for part in textwrap.wrap(shown, 150, subsequent_indent=" " * indent, drop_whitespace=False) or [""]:
                self.say(f"    {part}")
        if len(lines) > most:
            self.say(f"    ... and {len(lines) - most} lines more")
        self.say()

    def progress(self, text: str, seconds: float) -> None:
        """Show where things stand; on a terminal in place, else only when it changes."""
        if self._live:
            sys.stdout.write(f"\r\x1b[2K    … {text} ({seconds:.0f} s)"[:WIDTH])
            sys.stdout.flush()
        elif text != self._last:
            print(f"    … {text}", flush=True)
        self._last = text

    def _clear(self) -> None:
        if self._live and self._last:
            sys.stdout.write("\r\x1b[2K")
        self._last = ""


@dataclass
class Stage:
    """An act as the closing table shows it."""

    name: str
    seconds: float
    export_seconds: float | None
    pack_seconds: float | None


@dataclass
class Demo:
    """One showing."""

    sandbox: Sandbox
    benchling: TenantControl
    screen: Screen = field(default_factory=Screen)
    stages: list[Stage] = field(default_factory=list)

    async def show(self) -> None:
        """Play all acts; raises `SandboxError` when one does not end as it should."""
        for act in (self.new_entry, self.many_files, self.large_archive, self.many_edits, self.failed_export):
            await act()
        await self.close()

    # -- acts -------------------------------------------------------------------------------------------------

    async def new_entry(self) -> None:
        """A webhook becomes a package."""
        self.screen.act(
            "a",
            "A scientist makes an entry",
            "Benchling sends a signed webhook; the receiver files it; the controller has the entry exported;\n"
            "    a Job on the local Fargate streams the archive to S3; a message goes to SQS.",
        )
        entry = await self.benchling.create_entry(
            "Growth curve of strain 12", attachments=[{"name": "plate.csv", "size": 300_000, "deflated": True}]
        )
        package = await self.play("a new entry", entry, is_ready)
        name = package["metadata"]["name"]
        self.screen.command("kubectl get entrypackages", await self.sandbox.kubectl("get", "entrypackages"))
        wait = ("wait", "--for=condition=Ready", f"epkg/{name}", "--timeout=10s")
        self.screen.command(f"kubectl {' '.join(wait)}", await self.sandbox.kubectl(*wait))
        prefix = f"benchling/{entry['displayId']}/"
        await self.show_files(package, prefix, {"plate.csv": 300_000})
        self.screen.command(f"cat {prefix}entry.json", await self.read(f"{prefix}entry.json"), most=60)
        message = await self.message()
        self.screen.command("aws sqs receive-message", json.dumps(message, indent=2))
        if message["package_name"] != prefix.rstrip("/"):
            raise SandboxError(f"The message on the queue is of {message['package_name']}, not of {prefix}.")

    async def many_files(self) -> None:
        """Members go up in parallel."""
        self.screen.act(
            "b", "An entry of 300 files", "Members are unpacked and written in parallel, in constant memory."
        )
        files = [{"name": f"image-{number:03d}.tif", "size": 40_000} for number in range(300)]
        entry = await self.benchling.create_entry("Microscopy, 300 images", attachments=files)
        package = await self.play("300 files", entry, is_ready)
        done = package["status"]["package"]
        self.screen.say(f"    {done['files']} objects, {done['size']}, {packed_in(package)}\n")
        wanted = {str(file["name"]): 40_000 for file in files}
        await self.show_files(package, f"benchling/{entry['displayId']}/", wanted, most=6)

    async def large_archive(self) -> None:
        """The size of an archive costs time, not memory."""
        self.screen.act(
            "c", "An archive of 256 MiB", "Nothing is kept on disk or whole in memory: 128 MiB are enough for any size."
        )
        entry = await self.benchling.create_entry(
            "Sequencing run", attachments=[{"name": "reads.fastq.gz", "size": ARCHIVE_BYTES}]
        )
        package = await self.play("256 MiB", entry, is_ready)
        peak = await self.peak_memory(package)
        self.screen.say(f"    {package['status']['package']['size']}, {packed_in(package)}")
        self.screen.say(f"    the packager's memory at its peak: {peak / MIB:.0f} MiB\n")
        if peak > MEMORY_BAR_BYTES:
            raise SandboxError(f"The packager used {peak / MIB:.0f} MiB, which is more than it should.")

    async def many_edits(self) -> None:
        """All edits during an attempt become one more."""
        self.screen.act(
            "d",
            "Twenty edits during one export",
            "Whatever comes during an attempt leads to exactly one more; what comes before it is gathered for a quiet\n"
            f"    period ({QUIET_SECONDS} s here, 30 s by default). The first export is held until all edits are in.",
        )
        entry = await self.benchling.create_entry(
            "Plasmid map", fields={"Batch": "edit 0"}, export_seconds=HELD_EXPORT_SECONDS
        )
        await self.reach("the first export", entry, lambda found: reason_of(found) == "Exporting")
        last = ""
        for number in range(1, 21):
            last = f"edit {number}"
            seconds = 0 if number == 20 else None  # the next export is a quick one again
            await self.benchling.edit_entry(entry["id"], fields={"Batch": last}, export_seconds=seconds)
        newest = await self.newest_event(entry["id"])
        await self.reach("the last edit", entry, lambda found: found["spec"]["event"]["id"] == newest)
        await self.benchling.clock(seconds=HELD_EXPORT_SECONDS)
        package = await self.play(
            "20 edits", entry, lambda found: is_ready(found) and found["status"]["taken"]["eventId"] == newest
        )
        attempts = package["status"]["attempts"]
        stored = json.loads(await self.read(f"benchling/{entry['displayId']}/entry_data.json"))
        value = stored["fields"]["Batch"]["value"]
        self.screen.say(f"    21 webhooks, {attempts} attempts; the package says: Batch = {value}\n")
        if attempts != 2 or value != last:
            raise SandboxError(f"{attempts} attempts were made, not 2, and the package holds {value!r}, not {last!r}.")

    async def failed_export(self) -> None:
        """A failure says what happened and what to do; doing it works."""
        self.screen.act(
            "e",
            "An export that fails, and a person who tries again",
            "Benchling cannot render the entry. The object says why and what to do; a re-run by hand is one patch.",
        )
        entry = await self.benchling.create_entry("A table that cannot be rendered", silent=True)
        await self.benchling.set_fault(
            "task_failed", subject=entry["id"], message="The notebook could not be rendered as PDF."
        )
        await self.benchling.edit_entry(entry["id"])
        failed = await self.play("a failed export", entry, lambda found: reason_of(found) == "ExportFailed")
        name = failed["metadata"]["name"]
        described = await self.sandbox.kubectl("describe", "entrypackage", name)
        self.screen.command(f"kubectl describe entrypackage {name}", excerpt(described))
        await self.benchling.clear_faults("task_failed")
        request = {"id": "again-1", "type": "manual", "occurredAt": f"{datetime.now(UTC):%FT%TZ}", "userId": "on-call"}
        patch = json.dumps([{"op": "add", "path": "/spec/request", "value": request}])
        answer = await self.sandbox.kubectl("patch", "entrypackage", name, "--type=json", "-p", patch)
        self.screen.command(f"kubectl patch entrypackage {name} --type=json -p '{patch}'", answer)
        await self.play("the re-run by hand", entry, is_ready)
        self.screen.command(
            "kubectl get entrypackages -o wide", await self.sandbox.kubectl("get", "epkg", "-o", "wide")
        )

    async def close(self) -> None:
        """Show the time per stage and the bill."""
        self.screen.say("\nTime per stage, in seconds")
        self.screen.say(f"    {'':<22}{'in all':>8}{'export':>8}{'pack':>8}    (in all: with the quiet period)")
        for stage in self.stages:
            cells = "".join(
                f"{value:8.1f}" if value is not None else f"{'':>8}"
                for value in (stage.seconds, stage.export_seconds, stage.pack_seconds)
            )
            self.screen.say(f"    {stage.name:<22}{cells}")
        self.screen.say("\nWhat this run would have cost on Fargate (us-east-1, on demand)")
        for line in bill_table(self.bill()).splitlines():
            self.screen.say(f"    {line}")
        self.screen.say(
            f"\nFor this show the quiet period is {QUIET_SECONDS} s, and a finished Job is kept {RETAIN_SECONDS} s."
            "\nmake sandbox keeps all this running for your own experiments."
        )

    # -- looking ----------------------------------------------------------------------------------------------

    async def play(self, stage: str, entry: Json, arrived: Callable[[Json], bool]) -> Json:
        """Wait until the entry's object is as wanted, note the time for the closing table; return the object."""
        started = time.monotonic()
        found = await self.reach(stage, entry, arrived)
        seconds = time.monotonic() - started
        past = found["status"]["history"][0]
        self.stages.append(Stage(stage, seconds, past.get("exportSeconds"), past.get("packSeconds")))
        self.screen.say(f"    {entry['displayId']} is {reason_of(found)} after {seconds:.1f} s\n")
        return found

    async def reach(self, stage: str, entry: Json, arrived: Callable[[Json], bool]) -> Json:
        """Wait until the entry's object is as wanted, showing where it stands; return it.

        The demo's limit is the only one on the wait.
        """
        started, name = time.monotonic(), object_name(entry["id"])
        while True:
            found = await self.find(name)
            if found is not None and arrived(found):
                return found
            standing = f"{entry['displayId']}: {reason_of(found) or 'the webhook is on its way'}"
            self.screen.place = f"{stage} ({standing})"
            self.screen.progress(standing, time.monotonic() - started)
            await asyncio.sleep(0.2)

    async def find(self, name: str) -> Json | None:
        """Return an EntryPackage, or None if it is not there yet."""
        path = f"/apis/benchling.quilt.bio/v1alpha1/namespaces/{self.sandbox.namespace}/entrypackages/{name}"
        async with self.sandbox.control_plane.client() as client:
            answer = await client.get(path)
        found: Json | None = answer.json() if answer.is_success else None
        return found

    async def newest_event(self, entry: str) -> str:
        """Return the id of the last event that Benchling sent of an entry."""
        sent = await self.benchling.webhooks(subject=entry)
        messages = [item["message"] for item in sent if "createdAt" in item["message"]]
        newest = max(messages, key=lambda message: str(message["createdAt"]))
        return str(newest["id"])

    async def show_files(self, package: Json, prefix: str, attachments: dict[str, int], *, most: int = 40) -> None:
        """List a package on S3; raises `SandboxError` unless it holds exactly these attachments, sizes included."""
        sizes = await self.sizes(prefix)
        listing = "\n".join(f"{size:>10}  {prefix}{name}" for name, size in sizes.items())
        self.screen.command(f"aws s3 ls --recursive s3://{self.sandbox.aws.bucket}/{prefix}", listing, most=most)
        document = f"{prefix.rstrip('/').rpartition('/')[2]}.pdf"
        if sizes.keys() != {document, *attachments, *METADATA_FILES}:
            raise SandboxError(f"The package in {prefix} holds other files than it should: {', '.join(sizes)}.")
        listed = json.loads(await self.read(f"{prefix}entry.json"))["files"]
        described = {name: file["size"] for name, file in listed.items()}
        stored = {name: sizes[name] for name in (document, *attachments)}
        if described != stored or stored != {**attachments, document: sizes[document]}:
            raise SandboxError(f"In {prefix} sizes differ between S3, entry.json and Benchling.")
        done = package["status"]["package"]
        if (done["files"], done["bytes"]) != (len(sizes), sum(sizes.values())):
            raise SandboxError(f"The status of {prefix} counts other files than lie on S3.")

    async def sizes(self, prefix: str) -> dict[str, int]:
        """Return the size of each object under a prefix, by its name without the prefix."""
        client = self.sandbox.aws.s3_client()

        def read() -> dict[str, int]:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=self.sandbox.aws.bucket, Prefix=prefix)
            found = [item for page in pages for item in page.get("Contents", [])]
            return {item["Key"].removeprefix(prefix): item["Size"] for item in found}

        return await asyncio.to_thread(read)

    async def read(self, key: str) -> str:
        """Return an object as text."""
        client = self.sandbox.aws.s3_client()
        answer = await asyncio.to_thread(client.get_object, Bucket=self.sandbox.aws.bucket, Key=key)
        return answer["Body"].read().decode()

    async def message(self) -> Json:
        """Take one message from the queue."""
        client = self.sandbox.aws.sqs_client()
        answer = await asyncio.to_thread(
            client.receive_message, QueueUrl=self.sandbox.aws.queue_url, MaxNumberOfMessages=1, WaitTimeSeconds=2
        )
        messages = answer.get("Messages", [])
        if not messages:
            raise SandboxError("No message came to the queue.")
        body: Json = json.loads(messages[0]["Body"])
        return body

    def bill(self) -> list[BillLine]:
        """Return the bill of every pod so far."""
        return Ledger(self.sandbox.folder / "fargate").lines(time.time())

    async def peak_memory(self, package: Json) -> int:
        """Return the peak memory of the object's newest packager, once its pod is gone and billed."""
        job = f"epkg-{package['metadata']['uid'].replace('-', '')[:16]}-"
        started = time.monotonic()
        while True:
            mine = [line for line in self.bill() if line.pod.startswith(job) and not line.open]
            if mine:
                return max(sum(line.peak_rss_bytes.values()) for line in mine)
            self.screen.place = "the bill of the large archive's pod"
            self.screen.progress("waiting for the pod's bill", time.monotonic() - started)
            await asyncio.sleep(0.2)


def condition(package: Json | None, kind: str) -> Json:
    """Return a condition of an object, an empty one if it is not there."""
    found = (package or {}).get("status", {}).get("conditions", [])
    return next((item for item in found if item["type"] == kind), {})


def reason_of(package: Json | None) -> str:
    """Return the reason of Ready."""
    return str(condition(package, "Ready").get("reason", ""))


def is_ready(package: Json) -> bool:
    """Whether Ready is True."""
    return condition(package, "Ready").get("status") == "True"


def packed_in(package: Json) -> str:
    """Say how fast the newest attempt packed."""
    past = package["status"]["history"][0]
    seconds = past["packSeconds"]
    rate = past["bytes"] / MIB / seconds if seconds else 0.0
    return f"packed in {seconds:.1f} s with the start of the pod ({rate:.0f} MiB/s)"


def excerpt(described: str) -> str:
    """Return the part of a description that says what happened: the summary's condition and the Events."""
    lines = described.splitlines()
    ready = next((number for number, line in enumerate(lines) if line.strip() == "Type:                  Ready"), 0)
    events = next((number for number, line in enumerate(lines) if line.startswith("Events:")), len(lines))
    return "\n".join(["...", *lines[max(0, ready - 5) : ready + 1], "...", *lines[events:]])


async def show(options: Options, limit_seconds: float) -> None:
    """Start everything, play, stop everything.

    Raises `SandboxError` when an act does not end as it should, and when the show takes longer than the limit. The
    time counts from when the programs are built until the last act is over.
    """
    die_with_parent()
    screen = Screen()
    await Toolchain().ensure()
    screen.say("Starting a control plane, a local Fargate, a Benchling and an AWS on this machine ...")
    started = time.monotonic()
    limit = asyncio.timeout(limit_seconds)
    try:
        async with limit, Sandbox(options, say=screen.say) as sandbox, sandbox.benchling() as benchling:
            await Demo(sandbox, benchling, screen).show()
            limit.reschedule(None)
            screen.say(f"\nThe show took {time.monotonic() - started:.0f} s. Stopping everything ...")
    except TimeoutError:
        if not limit.expired():
            raise
        screen.say()
        raise SandboxError(
            f"The demo was not over after {limit_seconds:g} s: it had come to {screen.place}. Its limit can be set"
            f" with --limit SECONDS or {LIMIT_VARIABLE}."
        ) from None


def _seconds(text: str) -> float:
    seconds = float(text)
    if not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(text)
    return seconds


def main(arguments: list[str]) -> int:
    """Run the demo."""
    parser = argparse.ArgumentParser(prog="python -m sandbox demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the folder, with its logs, at the end")
    parser.add_argument(
        "--limit",
        type=_seconds,
        metavar="SECONDS",
        default=os.environ.get(LIMIT_VARIABLE, str(LIMIT_SECONDS)),
        help=f"fail if the show takes longer (default: {LIMIT_VARIABLE}, else {LIMIT_SECONDS})",
    )
    given = parser.parse_args(arguments)
    play: Callable[[], Awaitable[int | None]] = lambda: show(Options(values=VALUES, keep=given.keep), given.limit)  # noqa: E731
    return run_program(play, interactive=True)
