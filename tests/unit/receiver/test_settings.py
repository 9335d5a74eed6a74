"""Settings: every mistake is one sentence and exit code 2."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml
from pydantic import ValidationError

from receiver.__main__ import main
from receiver.settings import ReceiverSettings

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = {"appDefinitionIds": ["appdef_1"], "namespace": "lab"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "holds no settings"),
        ("a: [", "is not YAML"),
        (yaml.safe_dump({"namespace": "lab"}), "The setting appDefinitionIds is missing."),
        (yaml.safe_dump(SETTINGS | {"appDefinitionIds": []}), "The setting appDefinitionIds: "),
        (yaml.safe_dump(SETTINGS | {"jwksUrl": "https://keys.example/jwks"}), "The setting jwksUrl: "),
        (yaml.safe_dump(SETTINGS | {"namespace": "No Such"}), "The setting namespace: "),
        (yaml.safe_dump(SETTINGS | {"allowedSources": ["10.0.0.0/99"]}), "The setting allowedSources.0"),
        (yaml.safe_dump(SETTINGS | {"loglevel": "info"}), "There is no setting loglevel."),
        (yaml.safe_dump(SETTINGS | {"jwksTimeoutSeconds": 3}), "jwksTimeoutSeconds must not exceed"),
    ],
)
def test_wrong_settings_are_one_sentence_and_exit_code_2(
    content: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "receiver.yaml"
    path.write_text(content)
    assert main(["--settings", str(path)]) == 2
    said = capsys.readouterr().err
    assert expected in said
    assert len(said.splitlines()) == 1


def test_a_missing_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--settings", str(tmp_path / "none.yaml")]) == 2
    assert capsys.readouterr().err == f"There is no settings file {tmp_path / 'none.yaml'}: name it with --settings.\n"


def test_the_defaults_are_benchlings_terms() -> None:
    settings = ReceiverSettings.model_validate(SETTINGS)
    assert settings.jwks_url == "https://apps.benchling.com/api/v1/apps/{app_definition_id}/jwks"
    assert settings.timestamp_tolerance_seconds == 300
    assert settings.write_deadline_seconds < 3
    assert settings.jwks_ttl_seconds <= 6 * 3600


def test_it_listens_where_the_settings_or_the_pod_say(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ReceiverSettings.model_validate(SETTINGS)
    monkeypatch.delenv("POD_IP", raising=False)
    assert settings.listen_host() == "0.0.0.0"
    monkeypatch.setenv("POD_IP", "127.3.4.5")
    assert settings.listen_host() == "127.3.4.5"
    assert ReceiverSettings.model_validate(SETTINGS | {"host": "127.0.0.1"}).listen_host() == "127.0.0.1"


@pytest.mark.parametrize("app_id", ["", "a/b", "../x", "a b", "x" * 129])
def test_an_app_definition_id_cannot_change_the_key_address(app_id: str) -> None:
    with pytest.raises(ValidationError):
        ReceiverSettings.model_validate(SETTINGS | {"appDefinitionIds": [app_id]})
