"""Settings files and mounted secrets: a sentence for every mistake, and no value in it that may be secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import pytest
from pydantic import Field

from entrypackage.settings import Settings, SettingsError, read_secret, read_settings

if TYPE_CHECKING:
    from pathlib import Path


class Place(Settings):
    base_url: str


class Example(Settings):
    place: Place
    port: Annotated[int, Field(ge=1, le=65535)] = 80


def refused(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        read_settings(path, Example)
    return str(caught.value)


def test_settings_are_camel_case(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("place:\n  baseUrl: https://a\n")
    assert read_settings(path, Example) == Example(place=Place(base_url="https://a"))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"place: {}", ["The setting place.baseUrl is missing."]),
        (b"place: {baseUrl: a}\nport: 0", ["The setting port: Input should be greater than or equal to 1."]),
        (b"place: {baseUrl: a, baseurl: b}", ["There is no setting place.baseurl."]),
        (b"port: x\nnope: 1", ["place is missing", "port: ", "There is no setting nope"]),
        (b"", ["holds no settings"]),
        (b"- a", ["holds no settings"]),
        (b"a: [\n", ["is not YAML"]),
        (b"\xff\xfe\x00", ["cannot be read"]),
        (b"a: \x00", ["is not YAML"]),
    ],
)
def test_each_mistake_is_named_on_one_line(content: bytes, expected: list[str], tmp_path: Path) -> None:
    said = refused(tmp_path / "settings.yaml", content)
    assert str(tmp_path / "settings.yaml") in said
    assert "\n" not in said
    for part in expected:
        assert part in said


def test_a_wrong_value_is_not_repeated(tmp_path: Path) -> None:
    assert "hunter2" not in refused(tmp_path / "s.yaml", b"place: {baseUrl: a}\nport: hunter2")


def test_a_folder_or_nothing_is_no_settings_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(SettingsError, match=str(path)):
            read_settings(path, Example)


def test_secrets_lose_their_line_end_only(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("s3 cret\n")
    assert read_secret(path, "benchling.secret") == "s3 cret"
    for content in (b"", b"\n", b"\xff"):
        path.write_bytes(content)
        with pytest.raises(SettingsError, match=r"benchling\.secret"):
            read_secret(path, "benchling.secret")
    with pytest.raises(SettingsError, match="is the Secret there and mounted"):
        read_secret(tmp_path / "none", "benchling.secret")
