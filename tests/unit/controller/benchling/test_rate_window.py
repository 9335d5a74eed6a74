"""The budget's arithmetic: never above the limit in any window, and nobody starves."""

from __future__ import annotations

import heapq
from random import Random

from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from controller.benchling.priority import SHARES, Priority
from controller.benchling.rate_window import RateWindow
from controller.benchling.wire import RateLimit
from tests.support.scripted_benchling import in_window

PERIOD = 30.0
LATENCIES = st.sampled_from([0.0, 0.05, 0.5, 3.0, 29.9, 45.0])


def serve(
    limit: int,
    arrivals: list[tuple[float, Priority]],
    latency: list[float],
    *,
    concurrency: int = 32,
    chance: Random | None = None,
) -> tuple[list[tuple[float, float, Priority]], dict[Priority, float]]:
    """Let callers come as given; return begin, end and class of each request, and the longest wait of each class."""
    chance = chance or Random(1)
    window = RateWindow(limit, PERIOD, concurrency)
    window.accepted(0.0)
    waiting: dict[Priority, list[float]] = {priority: [] for priority in Priority}
    events: list[tuple[float, int, Priority | None]] = [(at, i, who) for i, (at, who) in enumerate(arrivals)]
    heapq.heapify(events)
    ends: list[tuple[float, int, object]] = []
    done: list[tuple[float, float, Priority]] = []
    longest = dict.fromkeys(Priority, 0.0)
    now = 0.0
    count = 0
    while events or any(waiting.values()) or ends:
        moments = [queue[0][0] for queue in (events, ends) if queue]
        change = window.next_change(now) if any(waiting.values()) else None
        now = min([*moments, *([change] if change is not None else [])])
        while events and events[0][0] <= now:
            _, _, who = heapq.heappop(events)
            assert who is not None
            waiting[who].append(now)
        while ends and ends[0][0] <= now:
            _, _, charge = heapq.heappop(ends)
            window.finish(now, charge, None)  # type: ignore[arg-type]
        while heads := {who: queue[0] for who, queue in waiting.items() if queue}:
            who = window.choose(now, heads)
            if who is None:
                break
            longest[who] = max(longest[who], now - waiting[who].pop(0))
            charge = window.begin(now, who)
            took = chance.choice(latency)
            count += 1
            heapq.heappush(ends, (now + took, count, charge))
            done.append((now, now + took, who))
    return done, longest


@given(
    limit=st.integers(1, 40),
    arrivals=st.lists(st.tuples(st.floats(0, 90), st.sampled_from(list(Priority))), max_size=120),
    latency=st.lists(LATENCIES, min_size=1, max_size=4),
    moments=st.randoms(use_true_random=False),
)
@hypothesis_settings(max_examples=80, deadline=None)
@example(limit=1, arrivals=[(0.0, Priority.SWEEP)] * 5, latency=[45.0], moments=Random(3))
def test_no_window_of_a_period_ever_holds_more_than_the_limit(
    limit: int, arrivals: list[tuple[float, Priority]], latency: list[float], moments: Random
) -> None:
    """Benchling counts a request at some moment between its start and its end; whichever, the limit holds."""
    done, _ = serve(limit, arrivals, latency, chance=moments)
    assert len(done) == len(arrivals)
    for pick in (lambda b, e: b, lambda b, e: e, lambda b, e: moments.uniform(b, e)):
        assert in_window([pick(begin, end) for begin, end, _ in done], PERIOD) <= limit


@given(
    limit=st.integers(20, 300),
    high=st.sampled_from([Priority.EXPORT, Priority.POLL, Priority.READ]),
    low=st.sampled_from([Priority.READ, Priority.SWEEP]),
)
@hypothesis_settings(max_examples=60, deadline=None)
def test_no_waiter_starves_while_others_flood(limit: int, high: Priority, low: Priority) -> None:
    """However much of higher classes waits, one caller of a lower class is served within two periods."""
    arrivals = [(0.0, high)] * (limit * 6) + [(0.0, Priority.CLICK)] * limit + [(1.0, low)]
    done, _ = serve(limit, arrivals, [0.2])
    served = min(begin for begin, _, who in done if who is low and (low is not high or begin >= 1.0))
    assert served <= 2 * PERIOD


@given(st.lists(st.tuples(st.floats(0, 60), st.sampled_from(list(Priority))), min_size=1, max_size=150))
@hypothesis_settings(max_examples=80, deadline=None)
def test_everybody_is_served_in_the_order_of_their_class(arrivals: list[tuple[float, Priority]]) -> None:
    done, longest = serve(10, arrivals, [0.1, 1.0])
    assert len(done) == len(arrivals)
    assert max(longest.values()) <= (len(arrivals) / 3 + 2) * PERIOD


def test_no_class_exceeds_its_share_in_any_window() -> None:
    """The shares hold even when only one class wants anything."""
    for priority in Priority:
        done, _ = serve(100, [(0.0, priority)] * 300, [0.2])
        most = in_window([begin for begin, _, _ in done], PERIOD)
        assert most <= max(1, int(100 * SHARES[priority].ceiling)), priority
    assert SHARES[Priority.POLL].ceiling <= 0.5


def test_clicks_find_room_in_a_flood() -> None:
    """A click that comes when all else is spent does not wait for the window."""
    flood = [(0.0, who) for who in (Priority.EXPORT, Priority.POLL, Priority.READ, Priority.SWEEP) for _ in range(300)]
    clicks = [(5.0 + i, Priority.CLICK) for i in range(10)]
    _, longest = serve(300, flood + clicks, [0.2])
    assert longest[Priority.CLICK] < 0.5


def test_a_fresh_ledger_sends_one_and_takes_what_is_left_as_its_bucket() -> None:
    """A former leader spent the window; this one learns it from one call."""
    window = RateWindow(300, PERIOD, 32)
    waiting = {Priority.READ: 0.0}
    first = window.choose(0.0, waiting)
    assert first is Priority.READ
    charge = window.begin(0.0, first)
    assert window.choose(0.0, waiting) is None
    window.finish(0.2, charge, RateLimit(300, 20, 12.0))
    window.accepted(0.2)
    sent, now = 0, 0.2
    while now < 13.0:
        if window.choose(now, waiting) is not None:
            window.finish(now, window.begin(now, Priority.READ), None)
            sent += 1
        now += 0.05
    assert sent == 20 - int(300 * 0.05)
    assert window.choose(13.3, waiting) is Priority.READ


def test_requests_leave_evenly_after_a_small_burst() -> None:
    """A flood of reads does not spend the window at once, so an export finds room right away."""
    done, longest = serve(300, [(0.0, Priority.READ)] * 600 + [(4.0, Priority.EXPORT)], [0.2])
    begins = [begin for begin, _, _ in done]
    assert in_window(begins, 1.0) <= 20 + 10 + 1
    assert longest[Priority.EXPORT] < 0.2


def test_the_limit_follows_the_headers_down_and_up() -> None:
    window = RateWindow(300, PERIOD, 32)
    window.finish(0.0, window.begin(0.0, Priority.READ), RateLimit(60, 59, 30.0))
    assert window.limit == 60
    window.finish(31.5, window.begin(31.5, Priority.READ), RateLimit(600, 599, 30.0))
    assert window.limit == 600


def test_an_answer_of_an_earlier_period_does_not_count_against_this_one() -> None:
    window = RateWindow(300, PERIOD, 32)
    late = window.begin(0.0, Priority.READ)
    window.finish(31.0, window.begin(30.9, Priority.READ), RateLimit(300, 290, 29.0))
    window.accepted(31.0)
    window.finish(31.1, late, RateLimit(300, 0, 0.0))
    assert window.choose(31.2, {Priority.READ: 0.0}) is Priority.READ


def test_a_hidden_429_halves_the_limit_and_it_grows_back() -> None:
    window = RateWindow(300, PERIOD, 32)
    window.accepted(0.0)
    together = [window.begin(0.0, Priority.READ) for _ in range(20)]
    for charge in together:
        window.finish(0.2, charge, RateLimit(300, 250, 29.0))
        window.refused(0.2, charge, RateLimit(300, 250, 29.0), None, 0.0)
    assert window.limit == 150
    assert window.numbers(0.2).hidden_throttled == 20
    assert 0 < window.numbers(0.2).paused_seconds <= 1
    now = 1.0
    assert window.choose(now, {Priority.READ: 0.0}) is Priority.READ
    window.finish(now, window.begin(now, Priority.READ), None)
    for _ in range(6):
        window.accepted(now)
        now += PERIOD + 1
    assert window.limit == 300


def test_after_a_429_one_request_goes_alone() -> None:
    window = RateWindow(300, PERIOD, 32)
    window.accepted(0.0)
    charge = window.begin(0.0, Priority.READ)
    window.finish(0.1, charge, None)
    assert not window.refused(0.1, charge, RateLimit(300, 0, 5.0), None, 0.5)
    waiting = {Priority.CLICK: 0.0}
    assert window.choose(6.0, waiting) is None
    assert window.choose(6.7, waiting) is Priority.CLICK
    window.begin(6.7, Priority.CLICK)
    assert window.choose(6.8, waiting) is None


def test_a_429_storm_is_met_with_ever_longer_pauses() -> None:
    """Ten minutes of 429: some thirty requests, not thousands."""
    window = RateWindow(300, PERIOD, 32)
    window.accepted(0.0)
    now, sent = 0.0, 0
    while now < 600:
        if window.choose(now, {Priority.READ: 0.0}) is None:
            now = window.next_change(now) or now + 1
            continue
        charge = window.begin(now, Priority.READ)
        sent += 1
        window.finish(now, charge, None)
        assert window.refused(now, charge, None, None, 0.5) == (now > 2 * PERIOD)
    assert sent < 40
    window.accepted(now)
    assert window.limit == 300
