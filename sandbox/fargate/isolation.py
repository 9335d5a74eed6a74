"""How a container's process is started so that it sees its volumes and dies with the node.

Three ways, the first that works on the machine is taken:

* `root`: new mount, PID and UTS namespaces, made by root.
* `user`: the same inside a user namespace, for machines where people may make those.
* `none`: no namespaces. A process then sees no volume at an absolute path, so the volumes' paths are replaced by
  the real folders in command, arguments and variables. Paths that a program has built in stay wrong, and of a
  killed node's containers only the main process dies.

The shim does the work; see there.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

Isolation = Literal["root", "user", "none"]

_SHIM = Path(__file__).with_name("shim.py")
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class BindMount:
    """A file or folder of the host and the container's path that shows it."""

    source: Path
    target: str
    read_only: bool
    folder: bool = True


@dataclass(frozen=True)
class ContainerSpec:
    """All that the shim must know. `runtime` are the folders that no mount may hide."""

    argv: Sequence[str]
    env: dict[str, str]
    cwd: str
    mounts: Sequence[BindMount] = ()
    runtime: Sequence[Path] = ()
    hostname: str = ""
    read_only_root: bool = False
    uid: int | None = None
    gid: int | None = None
    cgroup_files: Sequence[Path] = field(default=())


def visible_runtime(spec: ContainerSpec) -> list[BindMount]:
    """The binds that bring back runtime folders which a mount above them would hide."""
    hiding = [Path(mount.target) for mount in spec.mounts if mount.folder]
    hidden = {
        folder for folder in spec.runtime if any(target in folder.parents or target == folder for target in hiding)
    }
    return [
        BindMount(folder, str(folder), read_only=False)
        for folder in sorted(hidden)
        if not any(parent in hidden for parent in folder.parents) and not _mounted(folder, hiding)
    ]


def _mounted(folder: Path, targets: Sequence[Path]) -> bool:
    return folder in targets


def substitute(spec: ContainerSpec) -> ContainerSpec:
    """The spec for a process without namespaces: mount paths become the real ones, longest first."""
    pairs = sorted(((mount.target.rstrip("/"), str(mount.source)) for mount in spec.mounts), key=_by_length)

    def real(text: str) -> str:
        for target, source in pairs:
            text = _replace_path(text, target, source)
        return text

    return replace(
        spec,
        argv=[real(text) for text in spec.argv],
        env={name: value if name == "PATH" else real(value) for name, value in spec.env.items()},
        cwd=real(spec.cwd),
        mounts=(),
    )


def _by_length(pair: tuple[str, str]) -> int:
    return -len(pair[0])


def _replace_path(text: str, target: str, source: str) -> str:
    """Replace whole leading path components only: `/var/x` is not part of `/var/xy` or `/a/var/x`."""
    result, start = "", 0
    while target and (at := text.find(target, start)) >= 0:
        end = at + len(target)
        before, after = text[at - 1 : at], text[end : end + 1]
        whole = not (before.isalnum() or before in tuple("/._-")) and not (after.isalnum() or after in tuple("._-"))
        result += text[start:at] + (source if whole else target)
        start = end
    return result + text[start:]


@dataclass
class Started:
    """A started container: the shim's first process and where it writes."""

    process: subprocess.Popen[bytes]
    stdout: int
    stderr: int
    status: int


def start(spec: ContainerSpec, isolation: Isolation, root: Path) -> Started:
    """Start the container's process; `root` is an empty folder of the host for its file tree.

    Returns at once; the `status` pipe carries what the shim's docstring describes. The pipes and the process are the
    caller's, and so is the container's first process, if it is another: call `adopt_orphans` before.
    """
    if isolation == "none":
        spec = substitute(spec)
    stdout, stdout_end = os.pipe2(os.O_CLOEXEC)
    stderr, stderr_end = os.pipe2(os.O_CLOEXEC)
    status, status_end = os.pipe2(os.O_CLOEXEC)
    document = _document(spec, isolation, root)
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_SHIM), str(document), str(status_end), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=stdout_end,
            stderr=stderr_end,
            env={"PATH": os.environ.get("PATH", os.defpath)},
            cwd="/",
            pass_fds=(document, status_end),
            start_new_session=True,
        )
    except OSError:
        for end in (stdout, stderr, status):
            os.close(end)
        raise
    finally:
        for end in (stdout_end, stderr_end, status_end, document):
            os.close(end)
    return Started(process, stdout, stderr, status)


def _document(spec: ContainerSpec, isolation: Isolation, root: Path) -> int:
    """A file without a name that holds the shim's JSON: variables can be secret and long."""
    mounts = [*spec.mounts, *visible_runtime(spec)]
    content = {
        "root": "" if isolation == "none" else str(root),
        "user_namespace": isolation == "user",
        "hostname": "" if isolation == "none" else spec.hostname,
        "argv": list(spec.argv),
        "env": spec.env,
        "cwd": spec.cwd,
        "read_only_root": spec.read_only_root,
        "uid": spec.uid,
        "gid": spec.gid,
        "cgroup": [str(file) for file in spec.cgroup_files],
        "mounts": [
            {"source": str(m.source), "target": m.target, "read_only": m.read_only, "folder": m.folder} for m in mounts
        ],
    }
    document = os.memfd_create("container", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(document), "wb") as file:
        file.write(json.dumps(content).encode(errors="surrogateescape"))
    os.lseek(document, 0, os.SEEK_SET)
    return document


def adopt_orphans() -> None:
    """Let processes whose parent ended become this process's children; containers are started so."""
    if ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError("this process can't become a subreaper")


def works(isolation: Isolation) -> bool:
    """Whether a container can be started this way here, found out by starting one."""
    adopt_orphans()
    with tempfile.TemporaryDirectory(prefix="fargate-try-") as folder:
        source, root = Path(folder, "source"), Path(folder, "root")
        source.mkdir()
        root.mkdir()
        mount = BindMount(source, "/entrypackage-try/volume", read_only=True)
        spec = ContainerSpec(["true"], {"PATH": os.defpath}, "/", [mount], read_only_root=True)
        try:
            started = start(spec, isolation, root)
        except OSError:
            return False
        code = started.process.wait()
        with os.fdopen(started.status, "rb") as status:
            first = status.readline()
            answer = status.read()
        for end in (started.stdout, started.stderr):
            os.close(end)
        if isolation != "none" and code == 0:
            _, end_status = os.waitpid(int(first[1:]), 0)
            code = os.waitstatus_to_exitcode(end_status)
        return code == 0 and answer == b"S"


def best_isolation() -> Isolation:
    """The strongest isolation that this machine allows."""
    order: tuple[Isolation, ...] = ("root", "user")
    return next((one for one in order if works(one)), "none")
