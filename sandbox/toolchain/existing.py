"""Find programs that the machine has already."""

import asyncio
import os
import shutil
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path

from sandbox.toolchain.pins import Program, read_version

_VERSION_SECONDS = 20.0


def candidates(program: Program, environment: Mapping[str, str]) -> Iterator[Path]:
    """Yield where the program may be, best first: KUBEBUILDER_ASSETS, this virtual environment, PATH."""
    assets = environment.get("KUBEBUILDER_ASSETS")
    folders = [assets] if assets else []
    folders.append(sysconfig.get_path("scripts"))
    folders.extend(environment.get("PATH", os.defpath).split(os.pathsep))
    seen: set[str] = set()
    for folder in folders:
        found = shutil.which(program.name, path=folder)
        if found and found not in seen:
            seen.add(found)
            yield Path(found)


async def version_of(program: Program, path: Path) -> tuple[int, int] | None:
    """Ask a found program for its version; None if it does not say."""
    try:
        process = await asyncio.create_subprocess_exec(
            path,
            *program.version_arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except OSError:
        return None
    try:
        output, _ = await asyncio.wait_for(process.communicate(), _VERSION_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
        return None
    return read_version(output.decode(errors="replace"))


async def find(program: Program, environment: Mapping[str, str]) -> Path | None:
    """Return the first found program whose version serves."""
    for path in candidates(program, environment):
        if program.accepts(await version_of(program, path)):
            return path
    return None
