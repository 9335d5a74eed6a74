"""What lies in a pod's volumes, how it gets there and how it stays current, as with a kubelet."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sandbox.fargate.clock import parse_rfc3339, unix_now
from sandbox.fargate.environment import Configuration, ConfigurationError, ConfigurationKey, PodFacts
from sandbox.fargate.isolation import BindMount
from sandbox.fargate.sizes import parse_quantity
from sandbox.kubernetes import SERVICE_ACCOUNTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sandbox.fargate.configurations import Configurations
    from sandbox.fargate.pod import Container, DownwardFile, KeyToPath, ProjectedSource, TokenSource, Volume
    from sandbox.kubernetes import ClusterApi

# A kubelet renews a token at 80 % of its life, or after a day.
_RENEW_AT, _RENEW_SECONDS = 0.8, 86_400.0


class VolumeError(Exception):
    """The volume can't be filled yet; the message is for an Event."""


@dataclass(frozen=True)
class FileContent:
    """One file of a volume."""

    content: bytes
    mode: int


Payload = Mapping[str, FileContent]
"""Relative path → file."""


@dataclass(frozen=True)
class Inputs:
    """What volumes are filled from; tokens by (audience, seconds)."""

    facts: PodFacts
    configurations: Mapping[ConfigurationKey, Configuration]
    tokens: Mapping[tuple[str, int], str] = field(default_factory=dict)


def volume_references(volumes: Iterable[Volume]) -> set[ConfigurationKey]:
    """Every Secret and ConfigMap that the volumes name."""
    found: set[ConfigurationKey] = set()
    for volume in volumes:
        if volume.secret is not None:
            found.add(("Secret", volume.secret.secret_name))
        if volume.config_map is not None:
            found.add(("ConfigMap", volume.config_map.name))
        for source in volume.projected.sources if volume.projected else ():
            if source.secret is not None:
                found.add(("Secret", source.secret.name))
            if source.config_map is not None:
                found.add(("ConfigMap", source.config_map.name))
    return found


def token_sources(volumes: Iterable[Volume]) -> list[TokenSource]:
    """The ServiceAccount tokens that the volumes hold."""
    return [
        source.service_account_token
        for volume in volumes
        for source in (volume.projected.sources if volume.projected else ())
        if source.service_account_token is not None
    ]


def payload(volume: Volume, inputs: Inputs) -> Payload | None:
    """The files of a volume; None for an emptyDir. Raises VolumeError while something is missing."""
    try:
        if volume.secret is not None:
            one = volume.secret
            return _keyed("Secret", one.secret_name, one.items, one.default_mode, one.optional, inputs)
        if volume.config_map is not None:
            other = volume.config_map
            return _keyed("ConfigMap", other.name, other.items, other.default_mode, other.optional, inputs)
        if volume.projected is not None:
            files: dict[str, FileContent] = {}
            for source in volume.projected.sources:
                files |= _projected(source, volume.projected.default_mode, inputs)
            return files
    except ConfigurationError as error:
        raise VolumeError(str(error)) from error
    return None


def _keyed(
    kind: str, name: str, items: Sequence[KeyToPath], mode: int, optional: bool, inputs: Inputs
) -> dict[str, FileContent]:
    found = inputs.configurations.get((kind, name))
    if found is None:
        if optional:
            return {}
        raise VolumeError(f'{kind.lower()} "{name}" not found')
    if not items:
        return {key: FileContent(content, mode) for key, content in found.content.items()}
    files = {}
    for item in items:
        if item.key in found.content:
            files[item.path] = FileContent(found.content[item.key], mode if item.mode is None else item.mode)
        elif not optional:
            raise VolumeError(f'references non-existent {kind.lower()} key: "{item.key}" of "{name}"')
    return files


def _downward(items: Sequence[DownwardFile], mode: int, facts: PodFacts) -> dict[str, FileContent]:
    files = {}
    for item in items:
        text = ""
        if item.field_ref is not None:
            text = facts.field(item.field_ref)
        elif item.resource_field_ref is not None:
            text = facts.resource(item.resource_field_ref, None)
        files[item.path] = FileContent(text.encode(), mode if item.mode is None else item.mode)
    return files


def _projected(source: ProjectedSource, mode: int, inputs: Inputs) -> dict[str, FileContent]:
    if source.secret is not None:
        return _keyed("Secret", source.secret.name, source.secret.items, mode, source.secret.optional, inputs)
    if source.config_map is not None:
        one = source.config_map
        return _keyed("ConfigMap", one.name, one.items, mode, one.optional, inputs)
    if source.downward_api is not None:
        return _downward(source.downward_api.items, mode, inputs.facts)
    if source.service_account_token is not None:
        token = source.service_account_token
        text = inputs.tokens.get((token.audience, token.expiration_seconds))
        if text is None:
            raise VolumeError("the ServiceAccount token has not been issued yet")
        return {token.path: FileContent(text.encode(), mode)}
    return {}


def write_payload(folder: Path, files: Payload) -> bool:
    """Make the folder hold exactly these files, atomically; True when anything changed.

    As a kubelet does: the files lie in a folder with a time in its name, `..data` links to it and is replaced by one
    rename, and each file's visible name is a link through `..data`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / "..data"
    before = Path(os.readlink(link)).name if link.is_symlink() else None  # noqa: PTH115
    if before is not None and _read_payload(folder / before) == dict(files):
        return False
    fresh = _fresh_folder(folder)
    for path, file in files.items():
        place = fresh / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(file.content)
        place.chmod(file.mode)
    temporary = folder / "..data_tmp"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(fresh.name)
    temporary.rename(link)
    tops = {path.split("/", 1)[0] for path in files}
    for name in tops:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    for member in folder.iterdir():
        if not member.name.startswith("..") and member.name not in tops:
            member.unlink()
    if before is not None:
        shutil.rmtree(folder / before, ignore_errors=True)
    return True


def _fresh_folder(folder: Path) -> Path:
    stamp = datetime.now(UTC).strftime("..%Y_%m_%d_%H_%M_%S.%f")
    number = 0
    while (fresh := folder / f"{stamp}{number}").exists():
        number += 1
    fresh.mkdir(mode=0o755)
    return fresh


def _read_payload(folder: Path) -> dict[str, FileContent]:
    return {
        str(file.relative_to(folder)): FileContent(file.read_bytes(), file.stat().st_mode & 0o7777)
        for file in folder.rglob("*")
        if file.is_file()
    }


def folder_bytes(folder: Path) -> int:
    """The space that the files of a folder take, as `du` counts it."""
    total, queue = 0, [os.fspath(folder)]
    while queue:
        # Files come and go meanwhile.
        with suppress(OSError), os.scandir(queue.pop()) as members:
            for member in members:
                with suppress(OSError):
                    if member.is_dir(follow_symlinks=False):
                        queue.append(member.path)
                    else:
                        total += member.stat(follow_symlinks=False).st_blocks * 512
    return total


class PodVolumes:
    """Fills the volumes of a pod and keeps Secrets, ConfigMaps, labels and tokens in them current."""

    def __init__(self, api: ClusterApi, configurations: Configurations, facts: PodFacts, folder: Path) -> None:
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
        answer = await self._api.create_in(SERVICE_ACCOUNTS, meta.namespace, account, "token", body)
        status = answer["status"]
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
