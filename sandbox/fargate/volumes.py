"""What lies in a pod's volumes, and how it gets there as a kubelet does it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sandbox.fargate.environment import (
    Configuration,
    ConfigurationError,
    ConfigurationKey,
    PodFacts,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sandbox.fargate.pod import DownwardFile, KeyToPath, ProjectedSource, TokenSource, Volume


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
        if volume.downward_api is not None:
            return _downward(volume.downward_api.items, volume.downward_api.default_mode, inputs.facts)
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
        # Files come and go while this looks.
        with suppress(OSError), os.scandir(queue.pop()) as members:
            for member in members:
                with suppress(OSError):
                    if member.is_dir(follow_symlinks=False):
                        queue.append(member.path)
                    else:
                        total += member.stat(follow_symlinks=False).st_blocks * 512
    return total
