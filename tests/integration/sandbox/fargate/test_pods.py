"""Pods on the local Fargate: placement, environment, volumes, ends."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from tests.support.fargate_process import pod_spec, python_container
from tests.support.waiting import until

if TYPE_CHECKING:
    from tests.support.fargate_process import Cluster, Fargate, StartFargate

Json = dict[str, Any]


def _ended(pod: Json) -> Json:
    ended: Json = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    return ended


async def test_job_completes_with_its_report(cluster: Cluster, fargate: Fargate) -> None:
    code = "open('/dev/termination-log', 'w').write('x' * 5000); print('done')"
    await cluster.create_job("good", pod_spec(python_container(code)))

    async def complete() -> Json | None:
        job = await cluster.get("jobs", "good", "batch/v1")
        assert job is not None
        return job if job["status"].get("succeeded") == 1 and job["status"].get("completionTime") else None

    await until(complete, "the Job is complete")
    pod = (await cluster.pods())[0]
    assert _ended(pod)["message"] == "x" * 4096
    assert _ended(pod)["reason"] == "Completed"
    assert pod["metadata"]["annotations"]["CapacityProvisioned"] == "0.25vCPU 0.5GB"
    assert pod["metadata"]["labels"]["eks.amazonaws.com/fargate-profile"] == "fp-0"
    node = await cluster.node(pod["spec"]["nodeName"])
    assert node is not None
    assert node["metadata"]["name"].startswith("fargate-ip-127-")
    assert node["spec"]["taints"][0]["key"] == "eks.amazonaws.com/compute-type"


async def test_exit_code_fails_the_job_by_its_policy(cluster: Cluster, fargate: Fargate) -> None:
    policy = {"rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}]}
    spec = pod_spec(python_container("raise SystemExit(42)"))
    await cluster.create_job("bad", spec, backoffLimit=3, podFailurePolicy=policy)

    async def failed() -> Json | None:
        job = await cluster.get("jobs", "bad", "batch/v1")
        assert job is not None
        conditions = job["status"].get("conditions", [])
        return next((one for one in conditions if one["type"] == "Failed"), None)

    condition = await until(failed, "the Job has failed")
    assert condition["reason"] == "PodFailurePolicy"
    assert "exit code 42" in condition["message"]


async def test_memory_over_the_limit_is_oom_killed(cluster: Cluster, fargate: Fargate) -> None:
    code = "import time; keep = [bytearray(200 << 20) for _ in range(1)]; time.sleep(60)"
    limits = {"cpu": "250m", "memory": "128Mi"}
    container = python_container(code, resources={"limits": limits, "requests": limits})
    await cluster.create_pod("greedy", pod_spec(container))
    ended = _ended(await cluster.until_phase("greedy", "Failed"))
    assert (ended["exitCode"], ended["reason"]) == (137, "OOMKilled")


async def test_grace_ends_in_sigkill(cluster: Cluster, fargate: Fargate) -> None:
    code = "import signal, time; signal.signal(15, lambda *_: print('asked', flush=True)); print('up', flush=True)\n"
    code += "while True: time.sleep(1)"
    await cluster.create_pod("stubborn", pod_spec(python_container(code), terminationGracePeriodSeconds=2))
    await fargate.until_logged(cluster.namespace, "stubborn", "up")
    await cluster.delete("pods", "stubborn")
    await cluster.until_gone("stubborn")
    assert "stdout F asked" in fargate.log(cluster.namespace, "stubborn")
    line = await fargate.until_billed("stubborn")
    assert line.exit_reason == "Deleted"
    assert line.seconds_running > 2


async def test_environment_of_every_kind(cluster: Cluster, fargate: Fargate) -> None:
    await cluster.create("secrets", {"metadata": {"name": "words"}, "stringData": {"WORD": "hush"}})
    await cluster.create("configmaps", {"metadata": {"name": "plain"}, "data": {"A": "1", "B": "2"}})
    env: list[Json] = [
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "PROFILE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['CapacityProvisioned']"}}},
        {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}},
        {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "words", "key": "WORD"}}},
        {"name": "ABSENT", "valueFrom": {"secretKeyRef": {"name": "none", "key": "x", "optional": True}}},
        {"name": "URL", "value": "http://$(IP):80/$(NO)/$$(IP)"},
    ]
    code = "import json, os, sys, socket; json.dump([dict(os.environ), sys.argv[1:], socket.gethostname()], sys.stdout)"
    container = python_container(
        code,
        args=["$(URL)"],
        env=env,
        envFrom=[{"configMapRef": {"name": "plain"}, "prefix": "C_"}],
        resources={"limits": {"cpu": "250m", "memory": "128Mi"}},
    )
    container["command"] = ["python", "-c", code]
    await cluster.create_pod("speaks", pod_spec(container))
    pod = await cluster.until_phase("speaks", "Succeeded")
    seen, arguments, host = json.loads(await cluster.logs("speaks"))
    address = pod["status"]["podIP"]
    assert address.startswith("127.")
    assert address != "127.0.0.1"
    assert seen["IP"] == address
    assert seen["NODE"] == pod["spec"]["nodeName"]
    assert seen["PROFILE"] == "0.25vCPU 0.5GB"
    assert seen["CPU"] == "250"
    assert seen["SECRET"] == "hush"
    assert "ABSENT" not in seen
    assert (seen["C_A"], seen["C_B"]) == ("1", "2")
    assert arguments == [seen["URL"]] == [f"http://{address}:80/$(NO)/$(IP)"]
    assert host == seen["HOSTNAME"] == "speaks"
    assert set(seen) - {str(one["name"]) for one in env} - {"C_A", "C_B", "LC_CTYPE"} == {
        "PATH", "HOME", "LANG", "PYTHONPATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "HOSTNAME",
        "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "KUBERNETES_SERVICE_PORT_HTTPS",
    }  # fmt: skip


async def test_secret_update_is_seen_at_once_and_whole(cluster: Cluster, fargate: Fargate) -> None:
    await cluster.create("secrets", {"metadata": {"name": "pair"}, "stringData": {"a": "old", "b": "old"}})
    code = """
import os, time
before = os.readlink('/pair/..data')
print('first', open('/pair/a').read(), flush=True)
while True:
    # The two are read through the same folder, so a half-written pair would show.
    folder = os.open('/pair/..data/', os.O_RDONLY)
    try:
        a, b = (os.read(os.open(n, os.O_RDONLY, dir_fd=folder), 99).decode() for n in 'ab')
    except OSError:
        continue
    finally:
        os.close(folder)
    assert a == b, (a, b)
    if a == 'new':
        break
    time.sleep(0.01)
assert os.readlink('/pair/..data') != before
try:
    open('/pair/c', 'w')
except OSError as error:
    print('second', a, error.strerror)
"""
    container = python_container(code, volumeMounts=[{"name": "pair", "mountPath": "/pair"}])
    await cluster.create_pod(
        "reader", pod_spec(container, volumes=[{"name": "pair", "secret": {"secretName": "pair"}}])
    )
    await fargate.until_logged(cluster.namespace, "reader", "first old")
    answer = await cluster.api.patch(
        cluster.path("secrets", "pair"),
        json={"stringData": {"a": "new", "b": "new"}},
        headers={"Content-Type": "application/merge-patch+json"},
    )
    assert answer.is_success
    await cluster.until_phase("reader", "Succeeded")
    assert "second new Read-only file system" in await cluster.logs("reader")


async def test_token_is_accepted(cluster: Cluster, fargate: Fargate) -> None:
    code = """
import json, os, ssl, urllib.request
where = '/var/run/secrets/kubernetes.io/serviceaccount'
url = f"https://{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
review = {'apiVersion': 'authentication.k8s.io/v1', 'kind': 'SelfSubjectReview'}
request = urllib.request.Request(url + '/apis/authentication.k8s.io/v1/selfsubjectreviews',
    json.dumps(review).encode(), {'Authorization': 'Bearer ' + open(where + '/token').read(),
    'Content-Type': 'application/json'})
context = ssl.create_default_context(cafile=where + '/ca.crt')
answer = json.load(urllib.request.urlopen(request, context=context))
print(answer['status']['userInfo']['username'], open(where + '/namespace').read())
"""
    await cluster.create_pod("asks", pod_spec(python_container(code)))
    await cluster.until_phase("asks", "Succeeded")
    space = cluster.namespace
    assert await cluster.logs("asks") == f"system:serviceaccount:{space}:default {space}\n"


async def test_empty_dir_over_its_limit_evicts(cluster: Cluster, fargate: Fargate) -> None:
    code = "import time; open('/space/f', 'wb').write(b'x' * (2 << 20)); time.sleep(60)"
    container = python_container(code, volumeMounts=[{"name": "space", "mountPath": "/space"}])
    volumes = [{"name": "space", "emptyDir": {"sizeLimit": "1Mi"}}]
    await cluster.create_pod("hoards", pod_spec(container, volumes=volumes))
    pod = await cluster.until_phase("hoards", "Failed")
    assert pod["status"]["reason"] == "Evicted"
    assert "exceeds the limit" in pod["status"]["message"]
    assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] in (137, 143)


async def test_missing_secret_is_waited_for(cluster: Cluster, fargate: Fargate) -> None:
    container = python_container("print(open('/late/x').read())", volumeMounts=[{"name": "late", "mountPath": "/late"}])
    await cluster.create_pod("waits", pod_spec(container, volumes=[{"name": "late", "secret": {"secretName": "late"}}]))

    async def told() -> list[str] | None:
        return await cluster.events("FailedMount") or None

    assert 'secret "late" not found' in (await until(told, "an Event about the mount"))[0]
    await cluster.create("secrets", {"metadata": {"name": "late"}, "stringData": {"x": "here"}})
    await cluster.until_phase("waits", "Succeeded")
    assert await cluster.logs("waits") == "here\n"


async def test_refused_and_unselected_pods_stay_pending(cluster: Cluster, fargate: Fargate) -> None:
    volumes = [{"name": "host", "hostPath": {"path": "/etc"}}]
    await cluster.create_pod("forbidden", pod_spec(python_container("pass"), volumes=volumes))

    def refused(pod: Json) -> bool:
        return any(one["type"] == "PodScheduled" for one in pod["status"].get("conditions", []))

    pod = await cluster.until_pod("forbidden", refused, "the refusal")
    condition = pod["status"]["conditions"][0]
    assert (pod["status"]["phase"], condition["status"]) == ("Pending", "False")
    assert "Pod not supported on Fargate" in condition["message"]
    assert "hostPath" in condition["message"]

    async def told() -> list[str] | None:
        return await cluster.events("FailedScheduling") or None

    assert "hostPath" in (await until(told, "an Event about it"))[0]


async def test_pod_deadline(cluster: Cluster, fargate: Fargate) -> None:
    spec = pod_spec(python_container("import time; time.sleep(60)"), activeDeadlineSeconds=1)
    await cluster.create_pod("late", spec)
    pod = await cluster.until_phase("late", "Failed")
    assert pod["status"]["reason"] == "DeadlineExceeded"


async def test_read_only_root(cluster: Cluster, fargate: Fargate) -> None:
    code = """
for path in ('/etc/made-by-pod', '/tmp/made-by-pod', '/writable/f'):
    try:
        open(path, 'w').close()
        print(path, 'ok')
    except OSError as error:
        print(path, error.strerror)
"""
    container = python_container(
        code,
        securityContext={"readOnlyRootFilesystem": True},
        volumeMounts=[{"name": "w", "mountPath": "/writable"}],
    )
    await cluster.create_pod("careful", pod_spec(container, volumes=[{"name": "w", "emptyDir": {}}]))
    await cluster.until_phase("careful", "Succeeded")
    lines = (await cluster.logs("careful")).splitlines()
    assert lines == [
        "/etc/made-by-pod Read-only file system",
        "/tmp/made-by-pod Read-only file system",
        "/writable/f ok",
    ]


async def test_command_that_is_not_there(cluster: Cluster, fargate: Fargate) -> None:
    container = {"name": "main", "image": "x", "command": ["/no/such/program"]}
    await cluster.create_pod("lost", pod_spec(container))
    ended = _ended(await cluster.until_phase("lost", "Failed"))
    assert (ended["exitCode"], ended["reason"]) == (128, "StartError")
    assert "/no/such/program" in ended["message"]


async def test_many_pods_at_once(cluster: Cluster, start_node: StartFargate) -> None:
    await start_node("--launch-rate", "100", "--launch-burst", "100")
    names = [f"one-of-many-{number}" for number in range(20)]
    spec = pod_spec({"name": "main", "image": "x", "command": ["true"]})
    await asyncio.gather(*(cluster.create_pod(name, spec) for name in names))
    pods = await asyncio.gather(*(cluster.until_phase(name, "Succeeded", 60) for name in names))
    assert len({pod["status"]["podIP"] for pod in pods}) == len(names)
    assert len({pod["spec"]["nodeName"] for pod in pods}) == len(names)
