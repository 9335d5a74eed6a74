"""The volumes of one pod on disk, kept current."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sandbox.fargate.clock import parse_rfc3339, unix_now
from sandbox.fargate.isolation import BindMount
from sandbox.fargate.sizes import parse_quantity
from sandbox.fargate.volumes import (
    Inputs,
    folder_bytes,
    payload,
    token_sources,
    volume_references,
    write_payload,
)

if TYPE_CHECKING:
    from pathlib import Path

    from sandbox.fargate.api import Api
    from sandbox.fargate.configurations import Configurations
    from sandbox.fargate.environment import Configuration, ConfigurationKey, PodFacts
    from sandbox.fargate.pod import Container, TokenSource

# A kubelet renews a token at 80 % of its life, or after a day.
_RENEW_AT, _RENEW_SECONDS = 0.8, 86_400.0


class PodVolumes:
    """Fills the volumes of a pod and keeps Secrets, ConfigMaps, labels and tokens in them current."""

    def __init__(self, api: Api, configurations: Configurations, facts: PodFacts, folder: Path) -> None:
        """Volumes lie at `folder/<volume name>`."""
        self._api, self._configurations = api, configurations
        self.facts = facts
        self._folder = folder
        self._spec = facts.pod.spec
        self.references = volume_references(self._spec.volumes)
        self._immutable: dict[ConfigurationKey, Configuration] = {}
        self._tokens: dict[tuple[str, int], str] = {}
        self.renew_at: float | None = None
        self._filling = asyncio.Lock()

    async def fill(self) -> None:
        """Write all volumes as they should be now; raises VolumeError while something is missing."""
        async with self._filling:
            inputs = Inputs(self.facts, await self._read(), await self._fresh_tokens())
            for volume in self._spec.volumes:
                place = self._folder / volume.name
                files = payload(volume, inputs)
                if files is not None:
                    write_payload(place, files)
                elif not place.exists():
                    place.mkdir(parents=True)
                    place.chmod(0o777)

    async def _read(self) -> dict[ConfigurationKey, Configuration]:
        namespace = self.facts.pod.metadata.namespace
        found = await self._configurations.read(namespace, self.references - self._immutable.keys())
        self._immutable |= {key: one for key, one in found.items() if one.immutable}
        return self._immutable | found

    async def _fresh_tokens(self) -> dict[tuple[str, int], str]:
        sources = token_sources(self._spec.volumes)
        if sources and (self.renew_at is None or unix_now() >= self.renew_at):
            self.renew_at = None
            for source in sources:
                await self._issue(source)
        return self._tokens

    async def _issue(self, source: TokenSource) -> None:
        meta = self.facts.pod.metadata
        bound = {"apiVersion": "v1", "kind": "Pod", "name": meta.name, "uid": meta.uid}
        spec = {"expirationSeconds": source.expiration_seconds, "boundObjectRef": bound}
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": spec | ({"audiences": [source.audience]} if source.audience else {}),
        }
        account = self._spec.service_account_name
        path = f"/api/v1/namespaces/{meta.namespace}/serviceaccounts/{account}/token"
        status = (await self._api.post(path, body))["status"]
        self._tokens[source.audience, source.expiration_seconds] = status["token"]
        life = parse_rfc3339(status["expirationTimestamp"]) - unix_now()
        renew_at = unix_now() + min(life * _RENEW_AT, _RENEW_SECONDS)
        self.renew_at = renew_at if self.renew_at is None else min(self.renew_at, renew_at)

    def mounts(self, container: Container) -> list[BindMount]:
        """Where the container sees them; what a kubelet fills is read-only."""
        filled = {volume.name for volume in self._spec.volumes if volume.empty_dir is None}
        return [
            BindMount(self._folder / one.name, one.mount_path, one.read_only or one.name in filled)
            for one in container.volume_mounts
        ]

    def limited(self) -> bool:
        """Whether any emptyDir has a size limit."""
        return any(one.empty_dir and one.empty_dir.size_limit for one in self._spec.volumes)

    def over_limit(self) -> str | None:
        """The sentence for an eviction when an emptyDir is larger than its limit. Reads the disk."""
        for volume in self._spec.volumes:
            if volume.empty_dir is None or not volume.empty_dir.size_limit:
                continue
            limit = volume.empty_dir.size_limit
            if folder_bytes(self._folder / volume.name) > parse_quantity(limit) > 0:
                return f'Usage of EmptyDir volume "{volume.name}" exceeds the limit "{limit}". '
        return None
