"""What the client costs beside Benchling's SDK: to import, in memory, and for each call. Same machine, same run."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from typing import Any

from tests.support.paths import ROOT

_REPORT = """
import json, resource, sys
usage = resource.getrusage(resource.RUSAGE_SELF)
status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
print(json.dumps({"cpu": usage.ru_utime + usage.ru_stime, "mib": int(status["VmRSS"].split()[0]) / 1024,
                  "modules": len(sys.modules), "per_call": per_call}))
"""

_ANSWER = """
ENTRY = {"id": "etr_1", "displayId": "EXP1", "name": "n", "webURL": "https://x.invalid/e", "apiURL": "https://x.invalid",
         "createdAt": "2026-01-01T00:00:00+00:00", "modifiedAt": "2026-01-01T00:00:00+00:00", "folderId": "lib_1",
         "creator": {"id": "ent_1", "name": "A", "handle": "a"}, "authors": [], "assignedReviewers": [], "schema": None,
         "fields": {}, "customFields": {}, "days": [], "entryTemplateId": None, "reviewRecord": None,
         "archiveRecord": None}
RATE = {"x-rate-limit-limit": "100000000", "x-rate-limit-remaining": "99999999", "x-rate-limit-reset": "30"}
def handler(request):
    if request.url.path.endswith("/token"):
        return httpx.Response(200, json={"access_token": "t", "token_type": "Bearer", "expires_in": 900}, headers=RATE)
    return httpx.Response(200, json={"entry": ENTRY}, headers=RATE)
"""

PROGRAMS = {
    "python": "per_call = 0.0",
    "ours, imported and built": """
import httpx
from pydantic import SecretStr
from controller.benchling.client import BenchlingClient
from controller.benchling.settings import AppCredentials, BenchlingSettings
client = BenchlingClient(BenchlingSettings("https://x.invalid", lambda: AppCredentials("a", SecretStr("b"))))
per_call = 0.0
""",
    "SDK, imported and built": """
from benchling_sdk.auth.client_credentials_oauth2 import ClientCredentialsOAuth2
from benchling_sdk.benchling import Benchling
client = Benchling(url="https://x.invalid", auth_method=ClientCredentialsOAuth2("a", "b", "https://x.invalid/token"))
client.exports, client.tasks, client.entries, client.apps
from benchling_sdk.models import Entry, ExportItemRequest, AsyncTask
per_call = 0.0
""",
    "ours, 2,000 calls": """
import asyncio, time, httpx
from pydantic import SecretStr
from controller.benchling.client import BenchlingClient
from controller.benchling.settings import AppCredentials, BenchlingSettings
"""
    + _ANSWER
    + """
async def run():
    settings = BenchlingSettings("https://x.invalid", lambda: AppCredentials("a", SecretStr("b")),
                                 requests_per_period=10**8)
    async with BenchlingClient(settings, transport=httpx.MockTransport(handler)) as client:
        await client.get_entry("etr_1")
        began = time.process_time()
        for _ in range(2000):
            await client.get_entry("etr_1")
        return (time.process_time() - began) / 2000
per_call = asyncio.run(run())
""",
    "SDK, 2,000 calls": """
import time, httpx, warnings
warnings.simplefilter("ignore")
from benchling_sdk.auth.api_key_auth import ApiKeyAuth
from benchling_sdk.benchling import Benchling
"""
    + _ANSWER
    + """
client = Benchling(url="https://x.invalid", auth_method=ApiKeyAuth("k"),
                   httpx_client=httpx.Client(transport=httpx.MockTransport(handler)))
client.entries.get_entry_by_id("etr_1")
began = time.process_time()
for _ in range(2000):
    client.entries.get_entry_by_id("etr_1")
per_call = (time.process_time() - began) / 2000
""",
    "httpx alone, 2,000 calls": """
import asyncio, time, httpx
"""
    + _ANSWER
    + """
async def run():
    async with httpx.AsyncClient(transport=httpx.MockTransport(handler)) as client:
        began = time.process_time()
        for _ in range(2000):
            (await client.get("https://x.invalid/api/v2/entries/etr_1")).json()
        return (time.process_time() - began) / 2000
per_call = asyncio.run(run())
""",
}


def measure(program: str, times: int = 3) -> dict[str, Any]:
    """Return the median of some runs, each in a process of its own."""
    runs = []
    for _ in range(times):
        done = subprocess.run(
            [sys.executable, "-c", program + _REPORT], cwd=ROOT, capture_output=True, text=True, check=True
        )
        runs.append(json.loads(done.stdout))
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def test_the_client_is_cheaper_than_the_sdk() -> None:
    found = {name: measure(program) for name, program in PROGRAMS.items()}
    print()
    for name, figures in found.items():
        print(
            f"{name:28} {figures['cpu']:.2f} CPU-s {figures['mib']:6.1f} MiB {figures['modules']:5.0f} modules"
            + (f"  {figures['per_call'] * 1e6:6.0f} us a call" if figures["per_call"] else "")
        )
    ours, sdk = found["ours, imported and built"], found["SDK, imported and built"]
    assert ours["cpu"] < sdk["cpu"]
    assert ours["mib"] < sdk["mib"]
    assert found["ours, 2,000 calls"]["per_call"] < found["SDK, 2,000 calls"]["per_call"]
