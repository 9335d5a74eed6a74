"""The work queue: each key once, in order of urgency, at its time."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from controller.watch.work_queue import Schedule, Urgency, WorkQueue


def test_a_key_is_given_out_once_however_often_it_is_added() -> None:
    schedule = Schedule()
    schedule.add("a", 0)
    schedule.add("a", 0)

    assert schedule.take(0) == "a"
    assert schedule.take(0) is None


def test_the_more_urgent_goes_first_and_equals_in_turn() -> None:
    schedule = Schedule()
    schedule.add("sweep", 0, Urgency.SWEEP)
    schedule.add("first", 0)
    schedule.add("second", 0)
    schedule.add("click", 0, Urgency.CLICK)

    assert [schedule.take(0) for _ in range(4)] == ["click", "first", "second", "sweep"]


def test_an_earlier_time_and_a_higher_priority_win() -> None:
    schedule = Schedule()
    schedule.add("a", 10, Urgency.SWEEP)
    schedule.add("b", 5)
    schedule.add("a", 5, Urgency.CLICK)
    schedule.add("a", 20)

    assert schedule.take(4) is None
    assert schedule.next_due() == 5
    assert schedule.take(5) == "a"


def test_a_key_at_work_waits_for_its_return() -> None:
    schedule = Schedule()
    schedule.add("a", 0)
    assert schedule.take(0) == "a"
    schedule.add("a", 0)
    schedule.add("b", 1)

    assert schedule.take(0) is None
    assert schedule.take(1) == "b"
    schedule.done("a")
    assert schedule.take(1) == "a"


def test_a_forgotten_key_is_not_given_out() -> None:
    schedule = Schedule()
    schedule.add("a", 0)
    schedule.discard("a")

    assert schedule.take(0) is None
    assert len(schedule) == 0


steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from("abcd"), st.integers(0, 5), st.sampled_from(Urgency)),
        st.tuples(st.just("take")),
        st.tuples(st.just("done"), st.sampled_from("abcd")),
        st.tuples(st.just("pass")),
    ),
    max_size=60,
)


@given(steps)
def test_nothing_is_lost_and_nothing_is_worked_on_twice(script: list[tuple[object, ...]]) -> None:
    schedule, now, working, wanted = Schedule(), 0.0, set[str](), set[str]()
    for step in script:
        match step:
            case ("add", str(key), int(delay), Urgency() as urgency):
                schedule.add(key, now + delay, urgency)
                wanted.add(key)
            case ("take",):
                taken = schedule.take(now)
                if taken is not None:
                    assert taken not in working
                    working.add(taken)
                    wanted.discard(taken)
            case ("done", str(key)) if key in working:
                schedule.done(key)
                working.discard(key)
            case _:
                now += 1
    for key in working:
        schedule.done(key)
    left = set()
    while (remaining := schedule.take(now + 100)) is not None:
        left.add(remaining)
    assert left == wanted


async def test_waiting_ends_when_a_key_is_added() -> None:
    queue = WorkQueue(asyncio.get_running_loop().time)
    waiting = asyncio.ensure_future(queue.take())
    await asyncio.sleep(0)
    queue.add("a")

    assert await waiting == "a"


async def test_waiting_ends_when_a_key_becomes_due() -> None:
    queue = WorkQueue(asyncio.get_running_loop().time)
    queue.add("a", delay=0.01)

    assert await queue.take() == "a"
