"""Long-running pods on the local Fargate: probes, restarts, logs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tests.support.fargate_process import pod_spec, python_container
from tests.support.waiting import until

if TYPE_CHECKING:
    from tests.support.fargate_process import Cluster, Fargate

Json = dict[str, Any]
ADDRESS = {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
# Serves 200 at every path but /bad, and ends on SIGTERM.
SERVER = """
import http.server, os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(500 if self.path == '/bad' else 200)
        self.end_headers()
print('serving', flush=True)
http.server.ThreadingHTTPServer((os.environ['IP'], 8080), Answers).serve_forever()
"""


def _server(**members: Any) -> Json:
    ports = [{"name": "http", "containerPort": 8080}]
    return python_container(SERVER, env=[ADDRESS], ports=ports, **members)


def _first(pod: Json) -> Json:
    statuses: list[Json] = pod["status"].get("containerStatuses") or [{}]
    return statuses[0]


async def test_deployment_becomes_available(cluster: Cluster, fargate: Fargate) -> None:
    container = _server(
        startupProbe={"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1, "failureThreshold": 60},
        readinessProbe={"httpGet": {"path": "/ok", "port": "http"}, "periodSeconds": 1},
        livenessProbe={"httpGet": {"path": "/ok", "port": 8080}, "timeoutSeconds": 20},
    )
    labels = {"app": "web"}
    template = {"metadata": {"labels": labels}, "spec": pod_spec(container, restartPolicy="Always")}
    spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
    await cluster.create("deployments", {"metadata": {"name": "web"}, "spec": spec}, group="apps/v1")

    async def available() -> bool | None:
        found = await cluster.get("deployments", "web", "apps/v1")
        assert found is not None
        return found["status"].get("availableReplicas") == 2 or None

    await until(available, "both replicas are available")
    # Both listen on the same port, each at its own address.
    assert len({pod["status"]["podIP"] for pod in await cluster.pods()}) == 2


async def test_failing_readiness_keeps_a_pod_unready(cluster: Cluster, fargate: Fargate) -> None:
    probe = {"httpGet": {"path": "/bad", "port": 8080}, "periodSeconds": 1, "failureThreshold": 1}
    await cluster.create_pod("unready", pod_spec(_server(readinessProbe=probe)))

    async def told() -> list[str] | None:
        messages = await cluster.events("Unhealthy")
        return [one for one in messages if "statuscode: 500" in one] or None

    await until(told, "an Event about the probe")
    pod = await cluster.get("pods", "unready")
    assert pod is not None
    assert (_first(pod)["ready"], _first(pod)["restartCount"]) == (False, 0)


async def test_failing_liveness_restarts(cluster: Cluster, fargate: Fargate) -> None:
    probe = {"httpGet": {"path": "/bad", "port": 8080}, "periodSeconds": 1, "failureThreshold": 1}
    spec = pod_spec(_server(livenessProbe=probe, name="main"), restartPolicy="Always")
    await cluster.create_pod("sick", spec)
    pod = await cluster.until_pod("sick", lambda pod: _first(pod).get("restartCount", 0) >= 1, "a restart")
    # The server ended cleanly on SIGTERM; if the signal came before its handler was there, by SIGKILL.
    assert _first(pod)["lastState"]["terminated"]["exitCode"] in {0, 137, 143}


async def test_crash_loop_backs_off_and_keeps_the_previous_log(cluster: Cluster, fargate: Fargate) -> None:
    code = "import os; print('run in', os.getpid()); raise SystemExit(3)"
    container = python_container(code, terminationMessagePolicy="FallbackToLogsOnError")
    await cluster.create_pod("crashes", pod_spec(container, restartPolicy="OnFailure"))

    def waits(pod: Json) -> bool:
        state = _first(pod).get("state", {})
        return "waiting" in state and _first(pod)["restartCount"] >= 2

    pod = await cluster.until_pod("crashes", waits, "CrashLoopBackOff")
    assert _first(pod)["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    last = _first(pod)["lastState"]["terminated"]
    assert (last["exitCode"], last["reason"], last["message"]) == (3, "Error", "run in 1\n")
    assert pod["status"]["phase"] == "Running"
    assert await cluster.logs("crashes", "--previous") == "run in 1\n"


async def test_logs_follow_tail_limit_and_timestamps(cluster: Cluster, fargate: Fargate) -> None:
    code = """
import os, sys, time
for n in range(3):
    print('line', n, flush=True)
while not os.path.exists('/go/now'):
    time.sleep(0.02)
print('to stderr', file=sys.stderr, flush=True)
print('z' * 20000, end='')
"""
    container = python_container(code, volumeMounts=[{"name": "go", "mountPath": "/go"}])
    volumes = [{"name": "go", "configMap": {"name": "go", "optional": True}}]
    await cluster.create_pod("talks", pod_spec(container, volumes=volumes))
    await fargate.until_logged(cluster.namespace, "talks", "line 2")
    follower = await cluster.kubectl("logs", "--follow", "talks")
    assert follower.stdout is not None
    first = [await asyncio.wait_for(follower.stdout.readline(), 20) for _ in range(3)]
    assert first == [b"line 0\n", b"line 1\n", b"line 2\n"]
    assert await cluster.logs("talks", "--tail=1") == "line 2\n"
    assert await cluster.logs("talks", "--limit-bytes=6") == "line 0"
    stamped = (await cluster.logs("talks", "--timestamps", "--tail=1")).split(" ", 1)
    assert stamped[1] == "line 2\n"
    assert await cluster.logs("talks", "--since-time=2999-01-01T00:00:00Z") == ""
    assert await cluster.logs("talks", "--since=1h") == "line 0\nline 1\nline 2\n"
    # An optional ConfigMap that appears is seen by the running container.
    await cluster.create("configmaps", {"metadata": {"name": "go"}, "data": {"now": ""}})
    rest = await asyncio.wait_for(follower.stdout.read(), 30)
    # Too long for one entry of the log, and joined again.
    assert rest == b"to stderr\n" + b"z" * 20000 + b"\n"
    assert await asyncio.wait_for(follower.wait(), 10) == 0
    assert "stderr F to stderr\n" in fargate.log(cluster.namespace, "talks")


async def test_logs_of_a_waiting_container_say_so(cluster: Cluster, fargate: Fargate) -> None:
    env = [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "absent", "key": "x"}}}]
    await cluster.create_pod("blocked", pod_spec(python_container("pass", env=env)))

    def waits(pod: Json) -> bool:
        return "waiting" in _first(pod).get("state", {})

    pod = await cluster.until_pod("blocked", waits, "a waiting container")
    waiting = _first(pod)["state"]["waiting"]
    assert waiting == {"reason": "CreateContainerConfigError", "message": 'secret "absent" not found'}
    process = await cluster.kubectl("logs", "blocked")
    _, errors = await process.communicate()
    assert process.returncode != 0
    assert b"is waiting to start: CreateContainerConfigError" in errors
