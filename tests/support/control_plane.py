"""One control plane per test run, shared by the workers of pytest-xdist.

Whichever worker needs it first starts a keeper process; the others find it by its folder, whose name all of them can
tell: it holds the pid of the process that the run belongs to. The keeper ends with that process, however it ends.
"""

import fcntl
import json
import os
import select
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import yaml

from sandbox import janitor
from sandbox.controlplane import ADDRESS_FILE, Address
from tests.support.paths import ROOT

_STOP_SECONDS = 60.0
_SERVED_SECONDS = 120.0


def run_pid() -> int:
    """Return the pid of the process that the test run belongs to: a worker's parent, else this one."""
    return os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()


def folder_of_run() -> Path:
    pid = run_pid()
    return Path(tempfile.gettempdir()) / f"entrypackage-tests-{pid}-{janitor.start_time(pid)}"


def running() -> Address | None:
    """Return the run's control plane if there is one."""
    try:
        return Address.from_json(json.loads((folder_of_run() / ADDRESS_FILE).read_text()))
    except FileNotFoundError:
        return None


def ensure_running() -> Address:
    """Return the run's control plane, with the CRDs applied; start it if nobody has yet.

    Raises `RuntimeError` with the keeper's own sentence if it can't.
    """
    # Any file will do for the lock; this one leaves nothing behind.
    with Path(__file__).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        address = running()
        if address is None:
            address = _start()
            apply_definitions(address)
        return address


def _start() -> Address:
    keeper = subprocess.Popen(
        [
            *(sys.executable, "-m", "sandbox.controlplane"),
            *("--folder", str(folder_of_run()), "--until-exit-of", str(run_pid())),
        ],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # neither Ctrl-C nor the end of this worker concerns it
    )
    assert keeper.stdout is not None
    for line in keeper.stdout:
        if line.startswith('{"ready": true'):
            return Address.from_json(json.loads(line))
        rest = line + keeper.stdout.read()
        raise RuntimeError(f"the control plane did not start: {rest.strip()}")
    raise RuntimeError(f"the control plane ended with exit code {keeper.wait()} and said nothing")


def stop() -> None:
    """Stop the run's control plane and wait until it is gone; does nothing if there is none."""
    try:
        pid = int(json.loads((folder_of_run() / ADDRESS_FILE).read_text())["pid"])
        watched = os.pidfd_open(pid)
    except (FileNotFoundError, ProcessLookupError):
        return
    try:
        signal.pidfd_send_signal(watched, signal.SIGTERM)
        select.select([watched], [], [], _STOP_SECONDS)
    finally:
        os.close(watched)


def apply_definitions(address: Address) -> None:
    """Apply `crds/*.yaml` and wait until the API server serves them."""
    with httpx.Client(
        base_url=address.server,
        headers={"Authorization": f"Bearer {address.token}"},
        verify=ssl.create_default_context(cafile=address.ca_file),
        trust_env=False,
    ) as client:
        paths = []
        for file in sorted((ROOT / "crds").glob("*.yaml")):
            definition = yaml.safe_load(file.read_text())
            answer = client.patch(
                f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{definition['metadata']['name']}",
                params={"fieldManager": "tests", "force": "true"},
                headers={"Content-Type": "application/apply-patch+yaml"},
                content=json.dumps(definition),
            )
            if answer.is_error:
                raise RuntimeError(f"{file.name} was refused: {answer.json().get('message')}")
            group = definition["spec"]["group"]
            version = definition["spec"]["versions"][0]["name"]
            paths.append(f"/apis/{group}/{version}/{definition['spec']['names']['plural']}")
        for path in paths:
            _wait_until_served(client, path)


def _wait_until_served(client: httpx.Client, path: str) -> None:
    deadline = time.monotonic() + _SERVED_SECONDS
    while client.get(path).status_code != 200:
        if time.monotonic() > deadline:
            raise RuntimeError(f"the API server does not serve {path} {_SERVED_SECONDS:.0f} s after its definition")
        select.select([], [], [], 0.02)
