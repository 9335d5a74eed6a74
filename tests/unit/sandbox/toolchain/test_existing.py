"""Programs that are there already."""

import os
from pathlib import Path

from sandbox.toolchain.existing import candidates, find
from sandbox.toolchain.pins import CLUSTER
from tests.support.toolchain_programs import make_program

PROGRAMS = {program.name: program for program in CLUSTER.programs}


def test_assets_come_before_path(tmp_path: Path) -> None:
    asset = make_program(tmp_path / "assets", "etcd", "etcd Version: 3.6.1")
    on_path = make_program(tmp_path / "bin", "etcd", "etcd Version: 3.6.2")
    environment = {"KUBEBUILDER_ASSETS": str(asset.parent), "PATH": str(on_path.parent)}
    assert list(candidates(PROGRAMS["etcd"], environment)) == [asset, on_path]


async def test_a_program_of_a_wrong_version_is_passed_over(tmp_path: Path) -> None:
    old = make_program(tmp_path / "old", "etcd", "etcd Version: 3.4.0")
    new = make_program(tmp_path / "new", "etcd", "etcd Version: 3.6.0")
    assert await find(PROGRAMS["etcd"], {"PATH": f"{old.parent}{os.pathsep}{new.parent}"}) == new
    assert await find(PROGRAMS["etcd"], {"PATH": str(old.parent)}) is None
