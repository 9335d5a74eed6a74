"""Notices that Benchling answers again or that the credentials changed, so that failed attempts wait no longer."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from entrypackage.settings import SettingsError

if TYPE_CHECKING:
    from controller.benchling.settings import CredentialsSource

log = logging.getLogger(__name__)

CREDENTIAL_CHECK_SECONDS: Final = 20.0
"""Between two reads of the credentials. Kubernetes itself updates a mounted Secret within about a minute."""


def credential_version(source: CredentialsSource) -> str:
    """Return a keyed hash of the credentials, which reveals nothing about them; empty if they cannot be read."""
    try:
        credentials = source()
    except SettingsError:
        return ""
    key = credentials.client_secret.get_secret_value().encode()
    return hmac.new(key, b"credential version of " + credentials.client_id.encode(), hashlib.sha256).hexdigest()[:16]


@dataclass(slots=True)
class Recovery:
    """Knows when Benchling last came back (`since`) and which credentials are in use (`version`)."""

    source: CredentialsSource
    since: datetime | None = None
    version: str = ""
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def happened(self) -> None:
        """Record that Benchling answers again."""
        self.since = datetime.now(UTC)
        self._changed.set()

    async def start(self) -> None:
        """Read which credentials are in use."""
        self.version = await self._read()

    async def wait(self) -> None:
        """Return when Benchling answers again or the credentials have changed."""
        while True:
            try:
                async with asyncio.timeout(CREDENTIAL_CHECK_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                version = await self._read()
                if version == self.version:
                    continue
                log.info("the credentials have changed")
                self.version = version
                self.since = datetime.now(UTC)
            self._changed.clear()
            return

    async def _read(self) -> str:
        return await asyncio.to_thread(credential_version, self.source)
