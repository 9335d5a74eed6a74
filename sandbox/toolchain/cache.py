"""The folder in the user's cache where built programs stay, and the lock against two builders."""

import asyncio
import contextlib
import fcntl
import os
import platform
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sandbox.toolchain.pins import Module, digest

_LOCK_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Cache:
    """`programs/<module>-<digest>/` holds what is finished; `building/` and `go/` are needed for building only."""

    folder: Path

    @classmethod
    def of_user(cls, environment: Mapping[str, str] = os.environ) -> "Cache":
        base = environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        return cls(Path(base) / "entrypackage-operator")

    def programs(self, module: Module) -> Path:
        return self.folder / "programs" / f"{module.name}-{digest(module, this_platform())}"

    @property
    def building(self) -> Path:
        return self.folder / "building"

    @property
    def go(self) -> Path:
        return self.folder / "go"

    @contextlib.asynccontextmanager
    async def locked(self, say: Callable[[str], None]) -> AsyncIterator[None]:
        """Hold the builder's lock; the system releases it when the holder dies."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("a+", encoding="utf-8") as lock:
            waiting = False
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if not waiting:
                        lock.seek(0)
                        say(f"Process {lock.read().strip() or '?'} is building the tool chain; waiting for it.")
                        waiting = True
                    await asyncio.sleep(_LOCK_POLL_SECONDS)
            lock.seek(0)
            lock.truncate()
            lock.write(f"{os.getpid()}\n")
            lock.flush()
            yield

    def remove_build_files(self) -> int:
        """Remove what only a build needs (Go's caches, a Go that was fetched); return the bytes that it freed."""
        freed = size_of(self.building) + size_of(self.go)
        for folder in (self.building, self.go):
            shutil.rmtree(folder, ignore_errors=True)
        return freed

    def remove_all(self) -> int:
        """Remove everything except the lock file; return the bytes that it freed."""
        freed = size_of(self.folder)
        if self.folder.is_dir():
            for entry in self.folder.iterdir():
                if entry.is_dir():
                    shutil.rmtree(entry, ignore_errors=True)
        return freed - size_of(self.folder)

    def free_bytes(self) -> int:
        self.folder.mkdir(parents=True, exist_ok=True)
        return shutil.disk_usage(self.folder).free


def this_platform() -> str:
    return f"{sys.platform}/{platform.machine()}"


def size_of(folder: Path) -> int:
    """Return the bytes of all files below the folder; 0 if it does not exist."""
    total = 0
    pending = [folder]
    while pending:
        with contextlib.suppress(OSError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(Path(entry.path))
                else:
                    total += entry.stat(follow_symlinks=False).st_size
    return total
