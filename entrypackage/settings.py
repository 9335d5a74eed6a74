"""Settings files: one YAML file a program, read once, with a sentence for every mistake."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class SettingsError(Exception):
    """The settings are missing or wrong; the text names file and setting and says what is expected."""


class Settings(BaseModel):
    """A group of settings: camelCase in the file, unknown names refused, values fixed once read."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
    )


SettingsType = TypeVar("SettingsType", bound=Settings)


def read_settings(path: Path, kind: type[SettingsType]) -> SettingsType:
    """Read a settings file; raises `SettingsError` with one line for each wrong or missing setting."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"There is no settings file {path}: name it with --settings.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"The settings file {path} cannot be read: {error}.") from None
    except yaml.YAMLError as error:
        raise SettingsError(f"The settings file {path} is not YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(content, dict):
        raise SettingsError(f"The settings file {path} holds no settings: a mapping of names to values is expected.")
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise SettingsError(f"The settings file {path} is wrong. " + " ".join(_sentences(error))) from None


def _sentences(error: ValidationError) -> Iterable[str]:
    for item in error.errors(include_url=False, include_input=False):
        name = ".".join(str(part) for part in item["loc"])
        match item["type"]:
            case "missing":
                yield f"The setting {name} is missing."
            case "extra_forbidden":
                yield f"There is no setting {name}."
            case _:
                yield f"The setting {name}: {item['msg']}."


def read_secret(path: Path, setting: str) -> str:
    """Read a mounted secret without its trailing newline; raises `SettingsError` that names the setting."""
    try:
        value = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise SettingsError(f"The file {path} for {setting} cannot be read: is the Secret there and mounted?") from None
    if not value:
        raise SettingsError(f"The file {path} for {setting} is empty.")
    return value
