"""Which local programs stand for a container image.

Containers run as local processes, so an image is only a name. An entry of this map says what the image would
have brought: its interpreter, its code and its entry point.
"""

from __future__ import annotations

import fnmatch
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, TypeAdapter

if TYPE_CHECKING:
    from collections.abc import Sequence

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Image(BaseModel):
    """What runs in place of the images whose name matches `match` (shell wildcards).

    `python` is the interpreter that the command's `python` resolves to, `folder` the working folder where the
    container names none, `python_path` the folders of importable code, `entrypoint` and `arguments` the
    image's ENTRYPOINT and CMD, `env` its ENV.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    match: str = "*"
    python: Path = Path(sys.executable)
    folder: Path = Path(__file__).resolve().parents[2]
    python_path: tuple[Path, ...] = ()
    entrypoint: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    env: dict[str, str] = {}

    def base_env(self) -> dict[str, str]:
        """The environment before the container's own: nothing of the node's is passed on."""
        folders = self.python_path or (self.folder, self.folder / "job-image")
        return {
            "PATH": f"{self.python.parent}:{_SYSTEM_PATH}",
            "HOME": "/tmp",  # noqa: S108 (what it is in images without a home; the user's own stays out)
            "LANG": "C.UTF-8",
            "PYTHONPATH": ":".join(map(str, folders)),
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        } | self.env

    def folders(self) -> tuple[Path, ...]:
        """The folders that must stay visible whatever is mounted: interpreter, its base, code."""
        base = Path(os.path.realpath(self.python)).parents[1]
        return (self.python.parents[1], base, self.folder, *self.python_path)


def default_images(python: Path) -> list[Image]:
    """Every image runs from this checkout; the product's three names bring their entry point."""
    programs = {"*receiver*": "receiver", "*controller*": "controller", "*packager*": "packager"}
    named = [
        Image(match=match, python=python, entrypoint=("python", "-m", program)) for match, program in programs.items()
    ]
    return [*named, Image(python=python)]


def load_images(file: Path) -> list[Image]:
    """Read a JSON list of images; raises ValueError with a sentence when it is not one."""
    try:
        return TypeAdapter(list[Image]).validate_python(json.loads(file.read_text()))
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} is not a JSON list of images: {error}") from error


def find_image(images: Sequence[Image], name: str) -> Image | None:
    """The first entry that matches the image's name (without digest), or None."""
    plain = name.split("@", 1)[0]
    return next((one for one in images if fnmatch.fnmatchcase(plain, one.match)), None)
