"""Get hold of every program: what the machine has, what was built before, else build it."""

import asyncio
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from entrypackage.human_size import human_size
from sandbox.processes import SandboxError
from sandbox.toolchain.build import Builder
from sandbox.toolchain.cache import Cache
from sandbox.toolchain.existing import find
from sandbox.toolchain.pins import CLUSTER, KUBECTL, S3, Module, Program
from sandbox.toolchain.progress import Reporter, elapsed


@dataclass(frozen=True)
class Programs:
    """Paths of programs that run on this machine."""

    etcd: Path
    kube_apiserver: Path
    kube_controller_manager: Path
    helm: Path
    kubectl: Path


class Toolchain:
    """Finds the programs and builds what is missing."""

    def __init__(
        self,
        cache: Cache | None = None,
        *,
        environment: Mapping[str, str] = os.environ,
        reporter: Reporter | None = None,
    ) -> None:
        self._cache = cache or Cache.of_user(environment)
        self._environment = environment
        self._reporter = reporter or Reporter()

    async def ensure(self, *, build: bool = True) -> Programs:
        """Return the cluster's programs; with `build` unset, raise `SandboxError` instead of building for minutes."""
        kubectl = await find(KUBECTL, self._environment)
        if kubectl is None:
            raise SandboxError("kubectl is missing: install the development dependencies (`make setup`).")
        paths = await self._ensure_module(CLUSTER, build=build)
        return Programs(
            etcd=paths["etcd"],
            kube_apiserver=paths["kube-apiserver"],
            kube_controller_manager=paths["kube-controller-manager"],
            helm=paths["helm"],
            kubectl=kubectl,
        )

    async def ensure_versitygw(self, *, build: bool = True) -> Path:
        """Return the S3 server over a folder, which is built only when somebody asks for it."""
        return (await self._ensure_module(S3, build=build))["versitygw"]

    async def _ensure_module(self, module: Module, *, build: bool) -> dict[str, Path]:
        paths = await self._present(module)
        missing = tuple(program for program in module.programs if program.name not in paths)
        if not missing:
            return paths
        names = ", ".join(program.name for program in missing)
        if not build:
            raise SandboxError(f"Not built yet: {names}. Run `{_command(module)}` once; it takes minutes.")
        self._reporter.say(
            f"Building {names} from pinned Go modules, once: some minutes, kept in {self._cache.folder}."
        )
        async with self._cache.locked(self._reporter.say):
            paths = await self._present(module)  # whoever held the lock may have built them
            missing = tuple(program for program in module.programs if program.name not in paths)
            if missing:
                await self._build(module, missing)
        return await self._present(module)

    async def _build(self, module: Module, missing: tuple[Program, ...]) -> None:
        started = time.monotonic()
        await Builder(self._cache, self._reporter, self._environment).build(module, missing)
        seconds = time.monotonic() - started
        freed = await asyncio.to_thread(self._cache.remove_build_files)
        self._reporter.say(
            f"Built in {elapsed(seconds)}; {human_size(freed)} of build files removed again. `make clean-cache`"
            " removes the programs too."
        )

    async def _present(self, module: Module) -> dict[str, Path]:
        folder = self._cache.programs(module)
        paths: dict[str, Path] = {}
        for program in module.programs:
            built = folder / program.name
            found = await self._in_assets(program) or (built if built.is_file() else None)
            found = found or await find(program, self._environment)
            if found is not None:
                paths[program.name] = found
        return paths

    async def _in_assets(self, program: Program) -> Path | None:
        assets = self._environment.get("KUBEBUILDER_ASSETS")
        if not assets or not (Path(assets) / program.name).is_file():
            return None
        return await find(program, {"KUBEBUILDER_ASSETS": assets, "PATH": ""})


def _command(module: Module) -> str:
    return f"{Path(sys.executable).name} -m sandbox.toolchain" + (" --s3" if module is S3 else "")
