"""Paths with and without namespaces."""

from __future__ import annotations

from pathlib import Path

from sandbox.fargate.isolation import BindMount, ContainerSpec, substitute, visible_runtime


def test_without_namespaces_paths_become_the_real_ones() -> None:
    mounts = [
        BindMount(Path("/real/etc"), "/etc/app", read_only=True),
        BindMount(Path("/real/deep"), "/etc/app/deep", read_only=True),
    ]
    spec = ContainerSpec(
        ["cat", "/etc/app/x", "--file=/etc/app/deep/y", "/etc/application", "/a/etc/app"],
        {"PATH": "/etc/app", "F": "/etc/app:/etc/app/deep"},
        "/etc/app",
        mounts,
    )
    done = substitute(spec)
    assert done.argv == ["cat", "/real/etc/x", "--file=/real/deep/y", "/etc/application", "/a/etc/app"]
    assert done.env == {"PATH": "/etc/app", "F": "/real/etc:/real/deep"}
    assert done.cwd == "/real/etc"


def test_runtime_stays_visible_under_a_mount() -> None:
    mounts = [BindMount(Path("/real"), "/srv", read_only=False)]
    runtime = [Path("/srv/checkout"), Path("/srv/checkout/.venv"), Path("/usr")]
    spec = ContainerSpec(["true"], {}, "/", mounts, runtime)
    assert [mount.target for mount in visible_runtime(spec)] == ["/srv/checkout"]
