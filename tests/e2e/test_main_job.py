"""The main job through the real chart: webhooks become packages, once each, and a person can see and steer it."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from sandbox.simulator.settings import LEAK_MARK
from tests.support.paths import ROOT
from tests.support.scene import PACKAGER, condition

if TYPE_CHECKING:
    from tests.support.scene import Scene

# One event loop holds the sandbox for all tests.
pytestmark = pytest.mark.asyncio(loop_scope="session")

OPERATIONS = ROOT / "docs" / "operations.md"
METADATA_FILES = {"README.md", "entry.json", "entry_data.json", "input.json", "links.json"}
LARGE_BYTES = 1_000_000_000
"""What takes minutes where archives come slowly: no test waits for its end."""


async def test_a_new_entry_becomes_a_package(scene: Scene) -> None:
    entry = await scene.benchling.create_entry(
        "Growth curve", attachments=[{"name": "plate.csv", "content": "well,od\nA1,0.4\n"}], links=["dna_sequence"]
    )

    package = await scene.packaged(entry)
    name = package["metadata"]["name"]

    stored = await scene.objects(entry)
    assert set(stored) == {f"{entry['displayId']}.pdf", "plate.csv", *METADATA_FILES}
    assert stored["plate.csv"] == b"well,od\nA1,0.4\n"
    assert stored[f"{entry['displayId']}.pdf"].startswith(b"%PDF")
    assert package["status"]["package"]["files"] == len(stored)
    assert package["status"]["package"]["bytes"] == sum(len(content) for content in stored.values())

    messages = await scene.messages(entry)
    assert len(messages) == 1
    assert messages[0]["source_prefix"] == f"s3://{scene.sandbox.aws.bucket}/benchling/{entry['displayId']}/"
    assert messages[0]["metadata_uri"] == "entry.json"
    assert messages[0]["commit_message"].startswith("Benchling v2.entry.created at ")
    assert await scene.exports(entry) == 1

    wide = (await scene.kubectl("get", "epkg", name, "-o", "wide")).splitlines()
    assert wide[0].split() == [
        "NAME",
        "ENTRY",
        "READY",
        "REASON",
        "FILES",
        "SIZE",
        "PACKAGED",
        "AGE",
        "URI",
        "JOB",
        "MESSAGE",
    ]
    assert entry["displayId"] in wide[1]
    assert " True " in wide[1]
    described = await scene.kubectl("describe", "epkg", name)
    assert re.search(r"Normal\s+Packaged\s.*files at s3://", described)
    assert "condition met" in await scene.kubectl("wait", "--for=condition=Ready", f"epkg/{name}", "--timeout=5s")
    explained = await scene.kubectl("explain", "epkg.spec.event")
    assert "only moves forward" in explained
    await scene.nothing_left(entry)


async def test_the_packager_can_be_listened_to(scene: Scene) -> None:
    """While it is at work, which an archive that comes slowly makes last; every line is JSON."""
    async with scene.slow_archives():
        entry = await scene.benchling.create_entry(attachments=[{"name": "large.bin", "size": LARGE_BYTES}])
        packing = await scene.because(entry, "Packing")

        async def log() -> str:
            return await scene.kubectl("logs", "-l", PACKAGER, "--tail=50", "--ignore-errors")

        lines = await scene.until("a line of the packager's log", log)

        assert all(json.loads(line)["level"] for line in lines.splitlines())
        await scene.kubectl("delete", "epkg", packing["metadata"]["name"], "--wait=true", "--timeout=60s")


async def test_a_burst_of_edits_is_one_attempt_or_two_with_the_last_edit_in_it(scene: Scene) -> None:
    entry = await scene.benchling.create_entry(fields={"Batch": "edit 0"})
    for number in range(1, 21):
        await scene.benchling.edit_entry(entry["id"], fields={"Batch": f"edit {number}"})

    package = await scene.packaged(entry, event=await scene.newest_event(entry))

    assert package["status"]["attempts"] <= 2
    stored = json.loads((await scene.objects(entry))["entry_data.json"])
    assert stored["fields"]["Batch"]["value"] == "edit 20"


async def test_suspend_and_labels_make_no_export(scene: Scene) -> None:
    entry = await scene.benchling.create_entry()
    name = (await scene.packaged(entry))["metadata"]["name"]

    for suspend in (True, False, True, False):
        patch = json.dumps({"spec": {"suspend": suspend}})
        await scene.kubectl("patch", "epkg", name, "--type=merge", "-p", patch)
        await scene.kubectl("label", "epkg", name, f"seen=toggle-{suspend}", "--overwrite")

        async def said(wanted: str = "True" if suspend else "False") -> bool:
            found = await scene.package(entry)
            return found is not None and condition(found, "Suspended")["status"] == wanted

        await scene.until("the Suspended condition", said)

    assert await scene.exports(entry) == 1
    assert (await scene.packaged(entry))["status"]["attempts"] == 1


async def test_a_suspended_entry_is_served_when_it_is_released(scene: Scene) -> None:
    entry = await scene.benchling.create_entry()
    name = (await scene.packaged(entry))["metadata"]["name"]
    await scene.kubectl("patch", "epkg", name, "--type=merge", "-p", '{"spec":{"suspend":true}}')
    await scene.benchling.edit_entry(entry["id"])
    await scene.because(entry, "Suspended")

    await scene.kubectl("patch", "epkg", name, "--type=merge", "-p", '{"spec":{"suspend":false}}')
    await scene.packaged(entry, event=await scene.newest_event(entry))

    assert await scene.exports(entry) == 2


async def test_a_failed_export_says_what_to_do_and_the_documented_patch_runs_it_again(scene: Scene) -> None:
    entry = await scene.benchling.create_entry(silent=True)
    await scene.benchling.set_fault("task_failed", subject=entry["id"], message="The table is too wide.")
    await scene.benchling.edit_entry(entry["id"])
    failed = await scene.because(entry, "ExportFailed")
    name = failed["metadata"]["name"]

    described = await scene.kubectl("describe", "epkg", name)
    assert "The table is too wide." in described
    assert "Export the entry by hand in Benchling" in described

    await scene.benchling.clear_faults("task_failed")
    await scene.kubectl("patch", "epkg", name, "--type=json", "-p", documented_patch("again-1"))
    await scene.packaged(entry, request="again-1")
    first = await scene.messages(entry)
    await scene.kubectl("patch", "epkg", name, "--type=json", "-p", documented_patch("again-2"))
    await scene.packaged(entry, request="again-2")
    second = await scene.messages(entry)

    assert first
    assert len(second) == 1, "a wish is announced even if nothing has changed"


async def test_deleting_the_object_of_a_running_job_leaves_nothing(scene: Scene) -> None:
    async with scene.slow_archives():
        entry = await scene.benchling.create_entry(attachments=[{"name": "large.bin", "size": LARGE_BYTES}])
        packing = await scene.because(entry, "Packing")

        await scene.kubectl("delete", "epkg", packing["metadata"]["name"], "--wait=true", "--timeout=60s")

    owner = f"benchling.quilt.bio/owner-uid={packing['metadata']['uid']}"

    async def gone() -> bool:
        return not (await scene.kubectl("get", "jobs,pods,secrets", "-l", owner, "-o", "name")).strip()

    await scene.until("the end of Job, pod and order", gone)


async def test_no_secret_is_seen_anywhere(scene: Scene) -> None:
    """Not in objects, logs (all programs run at level debug), metrics, files and the API server's audit log."""
    entry = await scene.benchling.create_entry(attachments=[{"name": "a.txt", "content": "a"}])
    await scene.packaged(entry)

    cluster = await scene.kubectl("get", "epkg,jobs,pods,events,configmaps,leases", "-o", "yaml")
    files = (scene.sandbox.folder / "fargate" / "logs").rglob("*.log")
    logs = {str(file): file.read_text(errors="replace") for file in files}
    metrics = await scene.metrics()
    stored = await scene.objects(entry)

    assert LEAK_MARK not in cluster
    assert cluster.count("logLevel: debug") >= 3, "of receiver, controller and packager"
    for program in ("receiver", "controller", "epkg-"):
        assert any(program in name and text for name, text in logs.items()), program
    assert not [name for name, text in logs.items() if LEAK_MARK in text]
    assert {name.split("-")[1] for name in metrics} == {"receiver", "controller"}
    assert all("# TYPE" in text for text in metrics.values())
    assert not [name for name, text in metrics.items() if LEAK_MARK in text]
    assert not [name for name, content in stored.items() if LEAK_MARK.encode() in content]
    audit = scene.sandbox.control_plane.audit_log.read_text(errors="replace")
    assert LEAK_MARK not in audit


def documented_patch(identifier: str) -> str:
    """Return the patch of the operations page as a shell would send it, with that id."""
    text = OPERATIONS.read_text(encoding="utf-8")
    found = re.search(r"patch epkg \S+ --type=json -p '(\[.*?\}\]?)'\n", text, re.DOTALL)
    assert found is not None, "the page shows how to run an entry again"
    patch = found.group(1)
    patch = re.sub(r"'\"\$\(date \+%s\)-\$USER\"'", identifier, patch)
    patch = re.sub(r"'\"\$\(date -u \+%FT%TZ\)\"'", f"{datetime.now(UTC):%FT%TZ}", patch)
    return patch.replace("'\"$USER\"'", "on-call")
