"""The one clock of all streams: who is called when, and when it is there at all."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import anyio
import pytest

from sse_trio._loops.current import current_loop
from sse_trio._loops.loop import Loop
from sse_trio._loops.ticker import Entry, Ticker
from sse_trio.testing import wait_all_tasks_blocked

pytestmark = pytest.mark.anyio


class Item:
    """Is called, notes when, and wants to be called every so often."""

    def __init__(self, every: float = math.inf) -> None:
        self.tick_entry: Entry | None = None
        self.called: list[float] = []
        self.every = every
        self.on_tick: Callable[[], None] = lambda: None

    def tick(self, now: float) -> float:
        """Be called."""
        self.called.append(now)
        self.on_tick()
        return now + self.every


class CountingLoop:
    """The running loop, and how many tasks were started on it and are there."""

    def __init__(self) -> None:
        self.started = self.running = 0
        self._loop = current_loop()
        self.current_time = self._loop.current_time
        self.new_parking = self._loop.new_parking
        self.call_soon_threadsafe = self._loop.call_soon_threadsafe

    def spawn_detached(self, async_fn: Callable[[], object]) -> object:
        """Start a task and count it."""

        async def run() -> None:
            self.running += 1
            try:
                await async_fn()  # type: ignore[misc]
            finally:
                self.running -= 1

        self.started += 1
        return self._loop.spawn_detached(run)


def new_ticker() -> tuple[Ticker, CountingLoop]:
    """A ticker, and the loop that knows of its task."""
    loop = CountingLoop()
    return Ticker(cast("Loop", loop)), loop


async def test_called_at_its_time() -> None:
    """An item is called at the time that it was scheduled for, and then at the times that it asks for."""
    ticker, _ = new_ticker()
    item = Item(every=10)
    ticker.schedule(item, 5)
    await anyio.sleep(36)
    assert item.called == [5, 15, 25, 35]
    ticker.discard(item)
    ticker.clear()


async def test_each_at_its_own_time() -> None:
    """Items are called each at its own time, those of one time in the order in which they were scheduled."""
    ticker, loop = new_ticker()
    order: list[int] = []
    items = [Item() for _ in range(5)]
    for n, (item, at) in enumerate(zip(items, [3, 1, 2, 1, 1], strict=True)):
        item.on_tick = lambda n=n: order.append(n)  # type: ignore[misc]
        ticker.schedule(item, at)
    await anyio.sleep(4)
    assert order == [1, 3, 4, 2, 0]
    assert loop.started == 1
    ticker.clear()


async def test_scheduled_twice() -> None:
    """Of two times the earlier one counts, whichever was said first, and the item is called once."""
    ticker, _ = new_ticker()
    for first, second in [(5, 9), (9, 5)]:
        item = Item()
        began = anyio.current_time()
        ticker.schedule(item, began + first)
        ticker.schedule(item, began + second)
        await anyio.sleep(20)
        assert item.called == [began + 5]
    ticker.clear()


async def test_earlier_than_what_the_ticker_waits_for() -> None:
    """An item with an earlier time wakes the ticker; one with a later time doesn't."""
    ticker, loop = new_ticker()
    late, early = Item(), Item()
    ticker.schedule(late, 100)
    await anyio.sleep(1)
    ticker.schedule(early, 10)
    await anyio.sleep(10)
    assert (late.called, early.called) == ([], [10])
    await anyio.sleep(90)
    assert late.called == [100]
    assert loop.started == 1
    ticker.clear()


async def test_discarded_item() -> None:
    """An item that is discarded is not called, may be discarded again, and can be scheduled anew."""
    ticker, _ = new_ticker()
    item, other = Item(), Item()
    ticker.schedule(item, 5)
    ticker.schedule(other, 5)
    ticker.discard(item)
    ticker.discard(item)
    await anyio.sleep(10)
    assert (item.called, other.called) == ([], [5])
    ticker.schedule(item, 15)
    await anyio.sleep(10)
    assert item.called == [15]
    ticker.clear()


async def test_discarded_by_another_items_tick() -> None:
    """An item that is discarded while others of its time are called is not called any more."""
    ticker, _ = new_ticker()
    first, second = Item(), Item()
    first.on_tick = lambda: ticker.discard(second)
    ticker.schedule(first, 5)
    ticker.schedule(second, 5)
    await anyio.sleep(10)
    assert (first.called, second.called) == ([5], [])
    ticker.clear()


async def test_scheduled_within_its_tick() -> None:
    """A time that an item schedules while it is called counts, if it is earlier than what it then asks for."""
    ticker, _ = new_ticker()
    item = Item(every=50)
    item.on_tick = lambda: ticker.schedule(item, anyio.current_time() + 7) if len(item.called) == 1 else None
    ticker.schedule(item, 1)
    await anyio.sleep(20)
    assert item.called == [1, 8]
    ticker.clear()


async def test_past_and_never() -> None:
    """A call that is due already is made at once, and one that is never due is never made."""
    ticker, _ = new_ticker()
    await anyio.sleep(10)
    due, never = Item(), Item()
    ticker.schedule(never, math.inf)
    ticker.schedule(due, 3)
    await wait_all_tasks_blocked()
    assert due.called == [10]
    await anyio.sleep(10_000)
    assert (due.called, never.called) == ([10], [])
    ticker.clear()


async def test_lives_only_while_there_is_something_to_call() -> None:
    """Its task is there from the first item to clear(), and again for the next one."""
    ticker, loop = new_ticker()
    assert loop.started == 0
    for n in range(1, 4):
        ticker.schedule(Item(), anyio.current_time() + 5)
        await wait_all_tasks_blocked()
        assert (loop.started, loop.running) == (n, 1)
        ticker.clear()
        await wait_all_tasks_blocked()
        assert loop.running == 0


async def test_cleared_and_scheduled_at_once() -> None:
    """A call scheduled right after clear(), before the task has ended, is made."""
    ticker, _ = new_ticker()
    for began in (False, True):
        forgotten, item = Item(), Item()
        now = anyio.current_time()
        ticker.schedule(forgotten, now + 5)
        if began:
            await wait_all_tasks_blocked()
        ticker.clear()
        ticker.schedule(item, now + 7)
        await anyio.sleep(10)
        assert (forgotten.called, item.called) == ([], [now + 7])
        ticker.clear()
        await wait_all_tasks_blocked()


async def test_what_is_over_is_held_by_nothing() -> None:
    """Of an item that was discarded or scheduled earlier the ticker keeps an empty entry at most, until its time."""
    ticker, _ = new_ticker()
    item = Item()
    ticker.schedule(item, 50)
    ticker.schedule(item, 40)
    ticker.discard(item)
    assert [entry.item for entry in ticker._heap] == [None, None]
    await anyio.sleep(60)
    assert not ticker._heap
