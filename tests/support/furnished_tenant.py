"""A simulator in its own process, with one of everything in it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

import httpx

Json = dict[str, Any]


@dataclass
class Tenant:
    """A running simulator and the ids of what it holds, by OpenAPI parameter name."""

    process: subprocess.Popen[str]
    ready: Json
    known: dict[str, list[str]] = field(default_factory=dict)

    @property
    def headers(self) -> dict[str, str]:
        """A fresh token."""
        answer = httpx.post(
            f"{self.ready['api']}/token",
            data={"grant_type": "client_credentials"},
            auth=(self.ready["clientId"], self.ready["clientSecret"]),
        )
        return {"authorization": f"Bearer {answer.json()['access_token']}"}

    def act(self, verb: str, **members: Any) -> Any:
        """Do something in the tenant."""
        answer = httpx.post(f"{self.ready['control']}/{verb}", json=members, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def read(self, verb: str, **parameters: Any) -> Any:
        """Read something by the control API."""
        answer = httpx.get(f"{self.ready['control']}/{verb}", params=parameters, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def stop(self) -> None:
        """End the process."""
        self.process.terminate()
        self.process.wait(10)
        if self.process.stdout is not None:
            self.process.stdout.close()


def start(*arguments: str) -> Tenant:
    """A simulator with room for any number of calls; more arguments of `serve` as given."""
    command = [sys.executable, "-m", "sandbox.simulator", "serve", "--app-rate", "100000000"]
    command += ["--tenant-rate", "100000000", "--export-seconds", "0", "--retries", "none", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "the simulator ended before it was ready"
    return Tenant(process, json.loads(line))


def furnish(tenant: Tenant) -> None:
    """Entries with files, links, canvases; a session; an export: and the ids of it all."""
    links = [
        "user", "folder", "request", "custom_entity", "aa_sequence", "dna_sequence", "box", "container", "location",
        "plate", "entry", "link", "stage_entry",
    ]  # fmt: skip
    files = [{"name": "plate.csv", "size": 5000, "deflated": True}, {"name": "raw.bin", "size": 70_000}]
    entries = tenant.act("entry/create", count=3, links=links, attachments=files, canvas=True)
    tenant.act("entry/edit", entry=entries[0]["id"], kind="fields", count=3)
    tenant.act("entry/edit", entry=entries[1]["id"], kind="review")
    headers = tenant.headers
    with httpx.Client(base_url=tenant.ready["api"], headers=headers) as api:
        entry = api.get(f"/entries/{entries[0]['id']}").json()["entry"]
        session = {"appId": tenant.ready["appId"], "name": "furnishing", "timeoutSeconds": 86_400}
        task = api.post("/exports", json={"id": entry["id"]}).json()["taskId"]
        sessions = [api.post("/app-sessions", json=session).json()["id"] for _ in range(3)]
    found = {
        link["type"]: link["id"] for day in entry["days"] for note in day["notes"] for link in note.get("links", [])
        if "id" in link
    }  # fmt: skip
    tenant.known = {
        "entry_id": [line["id"] for line in entries],
        "external_file_id": [entries[0]["attachments"][0]["id"]],
        "task_id": [task],
        "canvas_id": [line["canvases"][0] for line in entries],
        "id": sessions,
        "app_id": [tenant.ready["appId"]],
        "item_id": ["aci_bucket"],
        "project_id": [],
        **{f"{kind}_id": [identifier] for kind, identifier in found.items() if kind != "entry"},
    }
    folder = httpx.get(f"{tenant.ready['api']}/folders/{found['folder']}", headers=headers).json()
    tenant.known["project_id"] = [folder["projectId"]]
    tenant.known["event_id"] = [
        event["id"] for event in httpx.get(f"{tenant.ready['api']}/events", headers=headers).json()["events"]
    ]
