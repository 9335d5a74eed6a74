# ruff: noqa: PTH102, PTH110, PTH112, PTH114, PTH115, PTH120, PTH123, PTH208, PTH211 (starts with every container: os alone)
"""Becomes one container: builds its file tree, then turns into its command.

Runs as process 1 of new mount and PID namespaces, as `python -I -S shim.py SPEC_FD STATUS_FD`, so it imports the
standard library alone. SPEC_FD holds the JSON of `isolation.ContainerSpec`. To STATUS_FD it writes `S` right
before the command takes over, or `E` and a sentence when that fails.

The tree is a fresh tmpfs with the host's folders bound into it. So a volume can be mounted at any path and
nothing is ever made on the host: where a mount point is missing, its parent becomes a tmpfs that holds the
parent's own members and the new one.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import stat
import sys
from contextlib import suppress

# From <sys/mount.h>, <linux/mount.h> and <linux/prctl.h>; Python 3.11 has no names for them.
_MS_BIND, _MS_REC, _MS_NOSUID, _MS_NODEV = 0x1000, 0x4000, 0x2, 0x4
_MNT_DETACH = 2
_AT_RECURSIVE, _AT_FDCWD = 0x8000, -100
_MOUNT_ATTR_RDONLY = 0x1
_SYS_MOUNT_SETATTR = 442
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_PR_SET_PDEATHSIG = 1
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_DEVICE_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
}
_MOST_LINKS = 40

_libc = ctypes.CDLL(None, use_errno=True)


class ShimError(Exception):
    """The container can't be started; the text is what the pod's status says."""


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def _check(result: int, what: str) -> None:
    if result != 0:
        raise ShimError(f"{what}: {os.strerror(ctypes.get_errno())}")


def _mount(source: str, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    texts = [None if text is None else os.fsencode(text) for text in (source, target, kind, options)]
    _check(_libc.mount(texts[0], texts[1], texts[2], flags, texts[3]), f"mount {source} at {target}")


def _bind(source: str, target: str, *, read_only: bool = False) -> None:
    _mount(source, target, None, _MS_BIND | _MS_REC)
    if read_only:
        _freeze(target)


def _freeze(target: str) -> None:
    attributes = _MountAttr(_MOUNT_ATTR_RDONLY, 0, 0, 0)
    result = _libc.syscall(
        _SYS_MOUNT_SETATTR,
        _AT_FDCWD,
        os.fsencode(target),
        _AT_RECURSIVE,
        ctypes.byref(attributes),
        ctypes.sizeof(attributes),
    )
    _check(result, f"make {target} read-only")


class Tree:
    """The container's file tree, built under `root` from what the host has."""

    def __init__(self, root: str) -> None:
        """Mount the tmpfs and bind the host's top-level members."""
        self.root = root
        self._own = {root}
        _mount("tmpfs", root, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=755")
        for name in os.listdir("/"):
            if name != "dev":
                self._adopt(f"/{name}", f"{root}/{name}")
        self._make_devices(f"{root}/dev")

    def folder(self, path: str) -> str:
        """The real place of this folder of the container, made if missing."""
        return self._walk(path, make_file=False)

    def file(self, path: str) -> str:
        """The real place of this file of the container, made if missing."""
        return self._walk(path, make_file=True)

    def cover(self, real: str, *, extensible: bool) -> None:
        """Note that a volume is mounted here; mount points inside are made in it only if it is writable."""
        self._own = {one for one in self._own if one != real and not one.startswith(f"{real}/")}
        if extensible:
            self._own.add(real)

    def _walk(self, path: str, *, make_file: bool) -> str:
        names = [name for name in path.split("/") if name not in ("", ".")]
        current, links = self.root, 0
        while names:
            name = names.pop(0)
            if name == "..":
                current = self.root if current == self.root else os.path.dirname(current)
                continue
            here = f"{current}/{name}"
            if os.path.islink(here):
                links += 1
                if links > _MOST_LINKS:
                    raise ShimError(f"too many symbolic links in {path}")
                target = os.readlink(here)
                current = self.root if target.startswith("/") else current
                names = [part for part in target.split("/") if part not in ("", ".")] + names
                continue
            if not os.path.exists(here):
                self._add(current, here, as_file=make_file and not names)
            current = here
        return current

    def _add(self, parent: str, here: str, *, as_file: bool) -> None:
        if parent not in self._own:
            self._open(parent)
        if as_file:
            os.close(os.open(here, os.O_CREAT | os.O_WRONLY, 0o644))
        else:
            os.mkdir(here, 0o755)
            self._own.add(here)

    def _open(self, folder: str) -> None:
        """Put a tmpfs over a folder of the host and bind the folder's members into it."""
        before = os.open(folder, os.O_PATH | os.O_DIRECTORY)
        mode = stat.S_IMODE(os.fstat(before).st_mode)
        members = os.listdir(f"/proc/self/fd/{before}")
        _mount("tmpfs", folder, "tmpfs", _MS_NOSUID | _MS_NODEV, f"mode={mode:o}")
        for name in members:
            self._adopt(f"/proc/self/fd/{before}/{name}", f"{folder}/{name}")
        os.close(before)
        self._own.add(folder)

    @staticmethod
    def _adopt(source: str, target: str) -> None:
        kind = os.lstat(source).st_mode
        if stat.S_ISLNK(kind):
            os.symlink(os.readlink(source), target)
        elif stat.S_ISDIR(kind):
            os.mkdir(target)
            _bind(source, target)
        else:
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY))
            _bind(source, target)

    def _make_devices(self, folder: str) -> None:
        os.mkdir(folder)
        for name in _DEVICES:
            self._adopt(f"/dev/{name}", f"{folder}/{name}")
        for name in ("pts", "shm"):
            if os.path.isdir(f"/dev/{name}"):
                self._adopt(f"/dev/{name}", f"{folder}/{name}")
        for name, target in _DEVICE_LINKS.items():
            os.symlink(target, f"{folder}/{name}")
        self._own.add(folder)


def _build(spec: dict[str, object]) -> None:
    """Mount everything under the new root and move into it."""
    tree = Tree(str(spec["root"]))
    if spec["read_only_root"]:
        for name in os.listdir(tree.root):
            place = f"{tree.root}/{name}"
            if name not in ("dev", "proc", "sys") and os.path.ismount(place):
                _freeze(place)
    # Working folders exist in images; volumes come later and may lie below them.
    tree.folder(str(spec["cwd"]))
    mounts = spec["mounts"]
    assert isinstance(mounts, list)
    for mount in sorted(mounts, key=lambda one: str(one["target"]).rstrip("/").count("/")):
        place = tree.folder(mount["target"]) if mount["folder"] else tree.file(mount["target"])
        _bind(mount["source"], place, read_only=mount["read_only"])
        tree.cover(place, extensible=not mount["read_only"])
    _enter(tree.root)


def _enter(root: str) -> None:
    """Make `root` the process's root and forget the host's."""
    os.chdir(root)
    number = _SYS_PIVOT_ROOT.get(os.uname().machine)
    if number is not None and _libc.syscall(number, b".", b".") == 0:
        _check(_libc.umount2(b".", _MNT_DETACH), "leave the host's file tree")
    else:
        os.chroot(root)
    os.chdir("/")


def _identity(spec: dict[str, object]) -> None:
    group, user = spec["gid"], spec["uid"]
    if isinstance(group, int) or isinstance(user, int):
        os.setgroups([])
    if isinstance(group, int):
        os.setgid(group)
    if isinstance(user, int):
        os.setuid(user)
    _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    # A change of user cleared the death signal that `unshare --kill-child` had set.
    _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def _become(spec: dict[str, object], status: int) -> None:
    """Turn into the command; returns only by raising ShimError."""
    argv, env = spec["argv"], spec["env"]
    assert isinstance(argv, list)
    assert isinstance(env, dict)
    cwd = str(spec["cwd"])
    try:
        os.chdir(cwd)
    except OSError as error:
        raise ShimError(f"the working folder {cwd} cannot be entered: {error.strerror}") from error
    program = shutil.which(argv[0], path=env.get("PATH", os.defpath))
    if program is None:
        raise ShimError(f'exec: "{argv[0]}": executable file not found in $PATH')
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    os.write(status, b"S")
    try:
        os.execve(program, argv, env)  # noqa: S606 (this is what the shim is for)
    except OSError as error:
        raise ShimError(f'exec: "{argv[0]}": {error.strerror}') from error


def main() -> int:
    """Read the spec, build, become the command; 128 when that is not possible."""
    spec_fd, status = int(sys.argv[1]), int(sys.argv[2])
    with os.fdopen(spec_fd, "rb") as file:
        spec = json.load(file)
    os.set_inheritable(status, False)
    try:
        if group := spec["cgroup"]:
            for procs in group:
                with open(procs, "w") as file:
                    file.write("0")
        if spec["hostname"]:
            with suppress(OSError):
                _libc.sethostname(os.fsencode(spec["hostname"]), len(os.fsencode(spec["hostname"])))
        if spec["root"]:
            _build(spec)
        _identity(spec)
        _become(spec, status)
    except (ShimError, OSError) as error:
        os.write(status, b"E" + str(error).encode())
    return 128


if __name__ == "__main__":
    sys.exit(main())
