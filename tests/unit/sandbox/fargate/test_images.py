"""Which program stands for an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.fargate.images import Image, default_images, find_image

if TYPE_CHECKING:
    from pathlib import Path


def test_images_are_found_by_name(tmp_path: Path) -> None:
    images = default_images(tmp_path / "venv" / "bin" / "python")
    packager = find_image(images, "1.dkr.example/entrypackage-packager@sha256:abc")
    assert packager is not None
    assert packager.entrypoint == ("python", "-m", "packager")
    other = find_image(images, "busybox")
    assert other is not None
    assert other.entrypoint == ()
    assert other.base_env()["PATH"].startswith(f"{tmp_path}/venv/bin:")
    assert find_image([Image(match="a*")], "b") is None
