"""The node program itself: its bill, its faults, its deaths."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.fargate_process import pod_spec, processes_of, python_container
from tests.support.isolations import NAMESPACED, require
from tests.support.paths import ROOT
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.fargate.isolation import Isolation
    from tests.support.fargate_process import Cluster, Fargate, StartFargate

Json = dict[str, Any]
SLEEPS = "import time; print('up', flush=True); time.sleep(600)"


async def _gone_node(cluster: Cluster, name: str) -> None:
    async def look() -> bool | None:
        return await cluster.node(name) is None or None

    await until(look, f"the Node {name} is gone")


async def test_finished_pod_is_billed_until_its_object_is_gone(cluster: Cluster, fargate: Fargate) -> None:
    code = "keep = bytearray(64 << 20)"
    limits = {"cpu": "500m", "memory": "1Gi"}
    await cluster.create_pod("costs", pod_spec(python_container(code, resources={"limits": limits})))
    pod = await cluster.until_phase("costs", "Succeeded")
    line = fargate.line("costs", now=4_000_000_000.0)
    assert line.open
    assert line.size == "0.5vCPU 2GB"
    assert line.seconds_kept > 1_000_000
    assert 64 << 20 < line.peak_rss_bytes["main"] < 200 << 20
    assert await cluster.node(pod["spec"]["nodeName"]) is not None
    await cluster.delete("pods", "costs")
    await _gone_node(cluster, pod["spec"]["nodeName"])
    closed = fargate.line("costs", now=4_000_000_000.0)
    assert not closed.open
    assert closed.seconds_kept < 1_000
    assert closed.exit_reason == "Completed"


async def test_bill_on_the_command_line(cluster: Cluster, fargate: Fargate) -> None:
    await cluster.create_pod("shown", pod_spec({"name": "main", "image": "x", "command": ["true"]}))
    await cluster.until_phase("shown", "Succeeded")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sandbox.fargate", "bill", "--folder", str(fargate.folder)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    assert f"{cluster.namespace}/shown" in output.decode()
    assert "vCPU-s" in output.decode().splitlines()[-1]


@pytest.mark.parametrize("isolation", NAMESPACED)
async def test_killed_node_leaves_no_process(cluster: Cluster, start_node: StartFargate, isolation: Isolation) -> None:
    require(isolation)
    node = await start_node("--isolation", isolation)
    word = secrets.token_hex(8)
    # The container's own child, in a session of its own, must die as well.
    child = f"subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)', '{word}-child'],"
    code = f"import subprocess, sys, time; {child} start_new_session=True); print('up', flush=True); time.sleep(600)"
    container = python_container(code)
    container["command"] += [f"{word}-main"]
    spec = pod_spec(container, restartPolicy="Always")
    await cluster.create_pod("dies", spec)
    await node.until_logged(cluster.namespace, "dies", "up")
    assert len(processes_of(word)) == 2
    os.kill(node.pid, signal.SIGKILL)

    async def none() -> bool | None:
        return not processes_of(word) or None

    await until(none, "no process of the container lives")
    await start_node("--isolation", isolation)
    await cluster.until_phase("dies", "Failed")


async def test_pod_without_a_report_is_lost_with_its_node(cluster: Cluster, start_node: StartFargate) -> None:
    # A pull that does not end keeps the pod between its binding and the first report of its status.
    node = await start_node("--pull-delay", "3600")
    await cluster.create_pod("silent", pod_spec(python_container(SLEEPS), restartPolicy="Always"))
    bound = await cluster.until_pod("silent", lambda pod: "nodeName" in pod["spec"], "its binding")
    assert "podIP" not in bound["status"]
    os.kill(node.pid, signal.SIGKILL)
    await start_node()
    lost = await cluster.until_phase("silent", "Failed")
    assert lost["status"]["reason"] == "NodeLost"
    await cluster.create_pod("next", pod_spec({"name": "main", "image": "x", "command": ["true"]}))
    other = await cluster.until_phase("next", "Succeeded")
    assert other["spec"]["nodeName"] != lost["spec"]["nodeName"]


async def test_restarted_node_clears_left_overs(cluster: Cluster, start_node: StartFargate) -> None:
    node = await start_node()
    ignore = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    spec = pod_spec(python_container(SLEEPS))
    await cluster.create_job("works", spec, podFailurePolicy={"rules": [ignore]})
    await cluster.create_pod("ended", pod_spec({"name": "main", "image": "x", "command": ["echo", "hello"]}))
    await cluster.until_phase("ended", "Succeeded")

    async def running() -> Json | None:
        pods = [pod for pod in await cluster.pods() if pod["metadata"]["name"].startswith("works-")]
        return next((pod for pod in pods if pod["status"]["phase"] == "Running"), None)

    first = await until(running, "the Job's pod runs")
    os.kill(node.pid, signal.SIGKILL)
    node = await start_node()
    lost = await cluster.until_phase(first["metadata"]["name"], "Failed")
    assert lost["status"]["reason"] == "NodeLost"
    # The Job's policy does not count the loss and makes another pod, which this node runs.
    second = await until(running, "another pod of the Job runs")
    assert second["metadata"]["uid"] != first["metadata"]["uid"]
    assert second["status"]["podIP"] != first["status"]["podIP"]
    # A finished pod keeps its Node, and its log stays readable through it.
    assert await cluster.logs("ended") == "hello\n"
    assert node.line("ended", now=4_000_000_000.0).open


async def test_never_start_and_delay(cluster: Cluster, fargate: Fargate) -> None:
    held = f"{cluster.namespace}/held"
    assert (await fargate.put("/faults", {"never_start": [held]})).is_success
    spec = pod_spec({"name": "main", "image": "x", "command": ["true"]})
    await cluster.create_pod("held", spec)
    await cluster.create_pod("free", spec)
    await cluster.until_phase("free", "Succeeded")
    pod = await cluster.get("pods", "held")
    assert pod is not None
    assert "nodeName" not in pod["spec"]
    assert (await fargate.put("/faults", {})).is_success
    await cluster.until_phase("held", "Succeeded")


async def test_killed_container(cluster: Cluster, fargate: Fargate) -> None:
    await cluster.create_pod("victim", pod_spec(python_container(SLEEPS)))
    await fargate.until_logged(cluster.namespace, "victim", "up")
    answer = await fargate.post(f"/pods/{cluster.namespace}/victim/kill?container=main")
    assert answer.json() == {"containers": 1}
    pod = await cluster.until_phase("victim", "Failed")
    ended = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (137, "Error")


@pytest.mark.parametrize("force", ["false", "true"])
async def test_eviction_does_not_count_for_the_job(cluster: Cluster, fargate: Fargate, force: str) -> None:
    ignore = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    await cluster.create_job("moves", pod_spec(python_container(SLEEPS)), podFailurePolicy={"rules": [ignore]})

    async def running(other_than: str = "") -> Json | None:
        pods = [pod for pod in await cluster.pods() if pod["metadata"]["uid"] != other_than]
        return next((pod for pod in pods if pod["status"]["phase"] == "Running"), None)

    first = (await until(running, "the Job's pod runs"))["metadata"]
    answer = await fargate.post(f"/pods/{cluster.namespace}/{first['name']}/evict?force={force}")
    assert answer.is_success, answer.text

    async def another() -> Json | None:
        return await running(first["uid"])

    await until(another, "another pod of the Job runs")
    assert fargate.line(first["name"]).exit_reason in {"Deleted", "Error(137)"}


async def test_frozen_container_stands_still(cluster: Cluster, fargate: Fargate) -> None:
    code = "import time\nfor n in range(10**6):\n    print('tick', n, flush=True); time.sleep(0.01)"
    await cluster.create_pod("ticks", pod_spec(python_container(code)))
    await fargate.until_logged(cluster.namespace, "ticks", "tick 5")
    path = f"/pods/{cluster.namespace}/ticks"
    assert (await fargate.post(f"{path}/freeze")).json() == {"containers": 1}
    (pid,) = processes_of("print('tick', n, flush=True)")

    async def state() -> str:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123, ASYNC230
            return file.read().rpartition(")")[2].split()[0]

    assert await state() == "T"
    assert (await fargate.post(f"{path}/thaw")).json() == {"containers": 1}
    assert await state() != "T"


async def test_without_namespaces_volumes_are_found_by_their_paths(cluster: Cluster, start_node: StartFargate) -> None:
    await start_node("--isolation", "none")
    await cluster.create("configmaps", {"metadata": {"name": "c"}, "data": {"f": "content"}})
    code = "import os, sys; print(open(sys.argv[1]).read(), open(os.environ['FILE']).read())"
    container = python_container(
        code, env=[{"name": "FILE", "value": "/etc/c/f"}], volumeMounts=[{"name": "c", "mountPath": "/etc/c"}]
    )
    container["command"].append("/etc/c/f")
    await cluster.create_pod("plain", pod_spec(container, volumes=[{"name": "c", "configMap": {"name": "c"}}]))
    await cluster.until_phase("plain", "Succeeded")
    assert await cluster.logs("plain") == "content content\n"


@pytest.mark.root
async def test_user_and_cpu_quota_where_asked_for(cluster: Cluster, start_node: StartFargate) -> None:
    """Only root can change users and make control groups."""
    node = await start_node("--isolation", "root", "--honour-run-as-user", "--cpu-quota")
    limits = {"cpu": "250m", "memory": "128Mi"}
    context = {"runAsUser": 65534, "runAsGroup": 65534}
    command = ["sh", "-c", "id -u; id -g; grep -c local-fargate /proc/self/cgroup"]
    container = {"name": "main", "image": "x", "command": command, "resources": {"limits": limits}}
    await cluster.create_pod("other", pod_spec(container, securityContext=context))
    await cluster.until_phase("other", "Succeeded")
    assert [line.split(" ")[3] for line in node.log(cluster.namespace, "other").splitlines()] == ["65534", "65534", "1"]


async def test_image_without_program_and_named_entry_points(
    cluster: Cluster, start_node: StartFargate, tmp_path: Path
) -> None:
    images = tmp_path / "images.json"
    images.write_text(json.dumps([{"match": "known*", "entrypoint": ["echo", "from"], "arguments": ["the image"]}]))
    await start_node("--images", str(images))
    await cluster.create_pod("known", pod_spec({"name": "main", "image": "known:1"}))
    await cluster.create_pod("told", pod_spec({"name": "main", "image": "known:1", "args": ["me"]}))
    await cluster.create_pod("unknown", pod_spec({"name": "main", "image": "other:1"}))
    await cluster.until_phase("known", "Succeeded")
    await cluster.until_phase("told", "Succeeded")
    assert await cluster.logs("known") == "from the image\n"
    assert await cluster.logs("told") == "from me\n"

    def waits(pod: Json) -> bool:
        statuses = pod["status"].get("containerStatuses") or [{"state": {}}]
        waiting = statuses[0]["state"].get("waiting", {})
        return "ImagePullBackOff" in waiting.values()

    await cluster.until_pod("unknown", waits, "ImagePullBackOff")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "no API server: give --kubeconfig FILE"),
        (("--kubeconfig", "absent"), "no Fargate profile: give --profile FILE or --profile-namespace NS"),
        (("--kubeconfig", "absent", "--profile-namespace", "x"), "there is no kubeconfig absent"),
        (("--kubeconfig", "absent", "--profile-namespace", "x", "--start-delay", "soon"), "is not a number of seconds"),
        (("--kubeconfig", "absent", "--profile-namespace", "x", "--env", "X"), "is not NAME=VALUE"),
    ],
)
async def test_wrong_settings_are_one_sentence(tmp_path: Path, arguments: tuple[str, ...], sentence: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sandbox.fargate", "--folder", str(tmp_path), *arguments),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert (process.returncode, output) == (1, b"")
    assert sentence in errors.decode()
    assert len(errors.splitlines()) == 1
