"""What volumes hold and how it changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sandbox.fargate.environment import Configuration
from sandbox.fargate.pod import Volume
from sandbox.fargate.volumes import (
    FileContent,
    Inputs,
    VolumeError,
    folder_bytes,
    payload,
    token_sources,
    volume_references,
    write_payload,
)
from tests.support.pods import facts

SECRET = Configuration("Secret", "s", {"k": b"v"})


def _volume(**kind: Any) -> Volume:
    return Volume.model_validate({"name": "v", **kind})


def _inputs() -> Inputs:
    return Inputs(facts(), {("Secret", "s"): SECRET}, {("aud", 600): "token"})


def test_volume_payloads() -> None:
    assert payload(_volume(emptyDir={}), _inputs()) is None
    items = [{"key": "k", "path": "deep/name", "mode": 0o400}]
    assert payload(_volume(secret={"secretName": "s", "items": items}), _inputs()) == {
        "deep/name": FileContent(b"v", 0o400)
    }
    assert payload(_volume(configMap={"name": "no", "optional": True}), _inputs()) == {}
    with pytest.raises(VolumeError, match='configmap "no" not found'):
        payload(_volume(configMap={"name": "no"}), _inputs())
    with pytest.raises(VolumeError, match="non-existent secret key"):
        payload(_volume(secret={"secretName": "s", "items": [{"key": "z", "path": "z"}]}), _inputs())


def test_projected_volume_joins_its_sources() -> None:
    sources = [
        {"secret": {"name": "s", "items": [{"key": "k", "path": "k"}]}},
        {"serviceAccountToken": {"audience": "aud", "expirationSeconds": 600, "path": "token"}},
        {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
    ]
    volume = _volume(projected={"sources": sources, "defaultMode": 0o440})
    files = payload(volume, _inputs())
    assert files == {
        "k": FileContent(b"v", 0o440),
        "token": FileContent(b"token", 0o440),
        "name": FileContent(b"p", 0o440),
    }
    assert [one.path for one in token_sources([volume])] == ["token"]
    assert volume_references([volume]) == {("Secret", "s")}


def _seen(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if not file.name.startswith("..")}


def test_payload_is_replaced_by_one_rename(tmp_path: Path) -> None:
    folder = tmp_path / "v"
    assert write_payload(folder, {"a": FileContent(b"1", 0o400), "b": FileContent(b"1", 0o644)})
    before = (folder / "..data").readlink()
    assert (folder / "a").readlink() == Path("..data/a")
    assert (folder / "a").stat().st_mode & 0o777 == 0o400
    assert not write_payload(folder, {"a": FileContent(b"1", 0o400), "b": FileContent(b"1", 0o644)})
    assert (folder / "..data").readlink() == before
    assert write_payload(folder, {"a": FileContent(b"2", 0o400), "c/d": FileContent(b"3", 0o644)})
    assert (folder / "..data").readlink() != before
    assert not (folder / before).exists()
    assert (folder / "a").read_bytes() == b"2"
    assert (folder / "c" / "d").read_bytes() == b"3"
    assert not (folder / "b").is_symlink()
    assert write_payload(folder, {})
    assert _seen(folder) == {}


def test_folder_bytes_counts_blocks(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "f").write_bytes(b"x" * 100_000)
    assert 100_000 <= folder_bytes(tmp_path) < 200_000
    assert folder_bytes(tmp_path / "absent") == 0
