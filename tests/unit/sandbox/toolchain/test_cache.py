"""The folder that builds share."""

import asyncio
import os
from pathlib import Path

from sandbox.toolchain.cache import Cache, size_of


async def test_a_second_builder_waits_and_says_so(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    said: list[str] = []
    order: list[str] = []
    inside, waiting = asyncio.Event(), asyncio.Event()

    def say(text: str) -> None:
        said.append(text)
        waiting.set()

    async def first() -> None:
        async with cache.locked(said.append):
            inside.set()
            await waiting.wait()
            order.append("first")

    async def second() -> None:
        await inside.wait()
        async with cache.locked(say):
            order.append("second")

    async with asyncio.timeout(20):
        await asyncio.gather(first(), second())
    assert order == ["first", "second"]
    assert said == [f"Process {os.getpid()} is building the tool chain; waiting for it."]


def test_clean_removes_everything_and_says_how_much(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    for folder in ("programs/x", "building/go-mod/deep", "go"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "file").write_bytes(bytes(1_000_000))
    assert size_of(tmp_path) == 3_000_000
    assert cache.remove_build_files() == 2_000_000
    assert cache.remove_all() == 1_000_000
    assert list(tmp_path.iterdir()) == []
