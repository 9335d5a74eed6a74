"""``python -m receiver --settings FILE``: take Benchling's webhooks."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from entrypackage.kubernetes import ConfigurationError, Kubernetes
from entrypackage.settings import SettingsError, read_settings
from entrypackage.telemetry import configure_logging
from receiver.server import ListenError, listen, raise_open_files_limit, serve
from receiver.settings import ReceiverSettings

if TYPE_CHECKING:
    import socket

USAGE_ERROR = 2
"""The exit code when settings or surroundings are wrong: one sentence on standard error says what to change."""


def main(arguments: list[str] | None = None) -> int:
    """Run until stopped; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m receiver", description=__doc__)
    parser.add_argument("--settings", type=Path, required=True, help="the YAML file with the receiver's settings")
    parser.add_argument("--kubeconfig", help="a kubeconfig file; absent: the pod's ServiceAccount")
    chosen = parser.parse_args(arguments)
    try:
        settings = read_settings(chosen.settings, ReceiverSettings)
        configure_logging(settings.log_level)
        raise_open_files_limit()
        with listen(settings.listen_host(), settings.port) as listening:
            asyncio.run(_run(settings, chosen.kubeconfig, listening))
    except (SettingsError, ConfigurationError, ListenError) as error:
        sys.stderr.write(f"{error}\n")
        return USAGE_ERROR
    return 0


async def _run(settings: ReceiverSettings, kubeconfig: str | None, listening: socket.socket) -> None:
    async with await Kubernetes.connect(kubeconfig, timeout_seconds=settings.write_deadline_seconds) as kubernetes:
        await serve(settings, kubernetes, listening)


if __name__ == "__main__":
    raise SystemExit(main())
