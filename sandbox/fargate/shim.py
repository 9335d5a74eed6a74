# ruff: noqa: PTH102, PTH110, PTH112, PTH114, PTH115, PTH120, PTH123, PTH208, PTH211 (starts with every container: os alone)
"""Becomes one container: builds its file tree, then turns into its command.

Runs as `python -I -S shim.py SPEC_FD STATUS_FD NODE_PID`, so it imports the standard library alone. SPEC_FD holds
the JSON of `isolation.ContainerSpec`. To STATUS_FD it writes `P`, the pid of the container's first process as the node
sees it and a newline, then `S` right before the command takes over, or `E` and a sentence when that fails.

With namespaces it forks: the child is process 1 of a new PID namespace, and this process ends, which makes the
child one of the node's own (the node is a subreaper). So no process stands between the two: the node gets the exit
code and the memory as they are, and the death signal, which is lost when a parent ends, is asked for after that.
(`unshare --fork --kill-child` of util-linux 2.38 turns a death by signal into exit code 1.)

The tree is a fresh tmpfs with the host's folders bound into it. So a volume can be mounted at any path and
nothing is ever made on the host: where a mount point is missing, its parent becomes a tmpfs that holds the
parent's own members and the new one.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import shutil
import signal
import stat
import sys
from contextlib import suppress

# From <sys/mount.h>, <linux/mount.h> and <linux/prctl.h>; Python 3.11 has no names for them.
_MS_BIND, _MS_REC, _MS_PRIVATE, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 0x1000, 0x4000, 0x40000, 0x2, 0x4, 0x8
_CLONE_NEWNS, _CLONE_NEWUTS, _CLONE_NEWUSER, _CLONE_NEWPID = 0x20000, 0x4000000, 0x10000000, 0x20000000
_MNT_DETACH = 2
_AT_RECURSIVE, _AT_FDCWD = 0x8000, -100
_MOUNT_ATTR_RDONLY = 0x1
_SYS_MOUNT_SETATTR = 442
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


def _die_with_parent() -> None:
    _check(_libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0), "ask for the death signal")


def _separate(spec: dict[str, object], status: int) -> None:
    """Go on as process 1 of namespaces of our own, in a child of the node; the parent's part ends here."""
    uid, gid = os.getuid(), os.getgid()
    flags = _CLONE_NEWNS | _CLONE_NEWUTS | _CLONE_NEWPID
    _check(_libc.unshare(flags | (_CLONE_NEWUSER if spec["user_namespace"] else 0)), "make namespaces")
    if spec["user_namespace"]:
        for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    parent = os.pidfd_open(os.getpid())
    child = os.fork()
    if child != 0:
        os.write(status, b"P%d\n" % child)
        os._exit(0)
    # Readable once the parent is a zombie, which is after its children were handed on; the end of a pipe comes
    # before that, and the death signal would still be this parent's.
    select.select([parent], [], [])
    os.close(parent)
    _die_with_parent()
    _mount("none", "/", None, _MS_REC | _MS_PRIVATE)
    _mount("proc", "/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)


def main() -> int:
    """Read the spec, build, become the command; 128 when that is not possible."""
    spec_fd, status, node = (int(text) for text in sys.argv[1:4])
    with os.fdopen(spec_fd, "rb") as file:
        spec = json.load(file)
    os.set_inheritable(status, False)
    try:
        _die_with_parent()
        if os.getppid() != node:
            return 128
        if spec["root"]:
            _separate(spec, status)
        else:
            os.write(status, b"P%d\n" % os.getpid())
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
        # A change of user has cleared it; and if the node is gone already, the status pipe is broken.
        _die_with_parent()
        _become(spec, status)
    except (ShimError, OSError) as error:
        with suppress(OSError):
            os.write(status, b"E" + str(error).encode())
    return 128


if __name__ == "__main__":
    sys.exit(main())
