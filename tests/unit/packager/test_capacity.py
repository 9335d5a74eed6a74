"""The capacity that content in flight shares, and the buffers of parts."""

from __future__ import annotations

import asyncio

from packager.capacity import Capacity, PartBuffers

MIB = 1024 * 1024


async def test_part_buffers_are_used_again_and_never_exceed_the_capacity() -> None:
    buffers = PartBuffers(Capacity(10 * MIB))
    first, second = await buffers.acquire(5 * MIB), await buffers.acquire(5 * MIB)

    third = asyncio.ensure_future(buffers.acquire(5 * MIB))
    await asyncio.sleep(0)
    assert not third.done()

    buffers.release(first)
    assert await third is first
    buffers.release(second)
    assert await buffers.acquire(5 * MIB) is second


async def test_buffers_that_come_back_at_once_are_all_used_again() -> None:
    buffers = PartBuffers(Capacity(20 * MIB))
    used = [await buffers.acquire(5 * MIB) for _ in range(4)]
    waiting = [asyncio.ensure_future(buffers.acquire(5 * MIB)) for _ in range(4)]
    await asyncio.sleep(0)

    for buffer in used:
        buffers.release(buffer)

    assert {id(buffer) for buffer in await asyncio.gather(*waiting)} == {id(buffer) for buffer in used}


async def test_buffers_of_another_size_do_not_come_on_top() -> None:
    buffers = PartBuffers(Capacity(10 * MIB))
    small = await buffers.acquire(5 * MIB)
    buffers.release(small)

    large = await buffers.acquire(10 * MIB)
    buffers.release(large)

    assert (large.size, (await buffers.acquire(5 * MIB)) is small) == (10 * MIB, False)


async def test_idle_buffers_make_way_for_small_members() -> None:
    capacity = Capacity(10 * MIB)
    buffers = PartBuffers(capacity)
    first, second = await buffers.acquire(5 * MIB), await buffers.acquire(5 * MIB)
    buffers.release(first)
    buffers.release(second)

    await capacity.acquire(6 * MIB)
    assert buffers.idle_bytes == 0
    assert capacity.free == 4 * MIB


async def test_a_buffer_takes_what_fits() -> None:
    buffer = await PartBuffers(Capacity(MIB)).acquire(10)

    assert buffer.fill(0, memoryview(b"1234567")) == 7
    assert buffer.fill(7, memoryview(b"89abc")) == 3
    assert bytes(buffer.content(10)) == b"123456789a"
