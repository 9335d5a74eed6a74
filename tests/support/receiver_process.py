"""A receiver as its own process, the key server that it asks, and a way to the API server that can be cut."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

import httpx
import yaml

from tests.support.paths import ROOT
from tests.support.waiting import until_holds, until_true
from tests.support.webhook_signing import APP_DEFINITION, Headers, Signer, body_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

_SETPRIV = shutil.which("setpriv")
_WITH_PARENT: list[str | Path] = [_SETPRIV, "--pdeathsig", "KILL"] if _SETPRIV else []


class KeyServer:
    """Publishes a signer's keys over HTTP, or whatever a test wants."""

    def __init__(self, signer: Signer) -> None:
        self.signer = signer
        self.status = 200
        self.body: bytes | None = None
        """Answered in place of the keys."""
        self.asked: list[str] = []
        keys = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                keys.asked.append(self.path)
                body = keys.body if keys.body is not None else keys.signer.jwks()
                self.send_response(keys.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/{{app_definition_id}}/jwks"


class Gate:
    """Forwards connections to the API server until it is shut; a shut gate refuses, a stuck one says nothing."""

    def __init__(self, server: str) -> None:
        self._host, _, port = server.removeprefix("https://").rpartition(":")
        self._port = int(port)
        self._server: asyncio.Server | None = None
        self._streams: set[asyncio.StreamWriter] = set()
        self._open = asyncio.Event()
        self._open.set()
        self.port = 0

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._open.set()
        await self.shut()

    async def open(self) -> None:
        """Let through, again on the same port."""
        self._open.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._forward, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        """Refuse connections and cut those that there are."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for stream in list(self._streams):
            stream.transport.abort()

    def stick(self) -> None:
        """Take connections and bytes, and pass nothing on."""
        self._open.clear()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._open.wait()
        with contextlib.suppress(OSError):
            behind, to_behind = await asyncio.open_connection(self._host, self._port)
            self._streams |= {writer, to_behind}
            await asyncio.gather(self._pump(reader, to_behind), self._pump(behind, writer))
            self._streams -= {writer, to_behind}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(65536):
                await self._open.wait()
                writer.write(chunk)
                await writer.drain()
        writer.close()


def kubeconfig_through(kubeconfig: Mapping[str, Any], folder: Path, port: int) -> Path:
    """Write a kubeconfig like that one whose server is on another port of loopback."""
    changed = json.loads(json.dumps(kubeconfig))
    changed["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port}"
    path = folder / "gate.kubeconfig"
    path.write_text(yaml.safe_dump(changed))
    return path


class RunningReceiver:
    """``python -m receiver`` with settings of its own, on a free port of loopback."""

    def __init__(self, folder: Path, kubeconfig: str | Path, namespace: str, keys: KeyServer, **changes: Any) -> None:
        folder.mkdir(exist_ok=True)
        self.signer = keys.signer
        self.namespace = namespace
        settings = folder / "receiver.yaml"
        settings.write_text(
            yaml.safe_dump(
                {
                    "appDefinitionIds": [APP_DEFINITION],
                    "jwksUrl": keys.url,
                    "namespace": namespace,
                    "host": "127.0.0.1",
                    "port": 0,
                    "trustedProxyHops": 0,
                    "drainSeconds": 0,
                    "logLevel": "info",
                }
                | changes
            )
        )
        self._command = [
            *_WITH_PARENT, sys.executable, "-m", "receiver", "--settings", settings, "--kubeconfig", str(kubeconfig)
        ]  # fmt: skip
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._http: httpx.AsyncClient | None = None

    def __enter__(self) -> Self:
        self.start()
        self.wait_for("Keys fetched.")
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def start(self) -> None:
        """Start it and wait until it listens, whatever becomes of the keys."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command, cwd=ROOT, stderr=log)
        self.wait_for("The receiver listens.")

    def wait_for(self, message: str) -> None:
        """Wait until it logged that."""

        def logged_or_ended() -> bool:
            return bool(self.logged(message)) or self.process.poll() is not None

        until_true(logged_or_ended, f"the line {message!r}")
        assert self.logged(message), f"no line {message!r}: {self._log.read_text()}"

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    @property
    def lines(self) -> list[dict[str, Any]]:
        """What it logged."""
        return [json.loads(line) for line in self._log.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def logged(self, message: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["message"] == message]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.logged('The receiver listens.')[0]['port']}"

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[Self]:
        """Make `http` and `send` usable within a test's event loop."""
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(base_url=self.url, timeout=30, limits=limits, trust_env=False) as self._http:
            yield self

    @property
    def http(self) -> httpx.AsyncClient:
        assert self._http is not None
        return self._http

    async def send(
        self, message: dict[str, Any], *, path: str = "/", webhook_id: str = "msg_1", headers: Headers | None = None
    ) -> httpx.Response:
        """Sign and send a message as Benchling does."""
        body = body_of(message)
        signed = headers if headers is not None else self.signer.headers(body, webhook_id=webhook_id)
        return await self.http.post(path, content=body, headers=signed)

    async def ended(self) -> int:
        """Wait for the process to end; return the exit code."""
        await until_holds(lambda: self.process.poll() is not None, "the receiver to end")
        return self.process.returncode
