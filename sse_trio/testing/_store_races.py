# Checks of the promises of an event store that need several users at once: joins, followers, cancellation, processes.
#
# Rule 1: nothing sleeps. A check waits for events, and check_event_store stops a check that waits too long.
# Rule 2: randomness is seeded, but the scheduler is not, so these checks assert what holds in any order.

from __future__ import annotations

import random
from collections.abc import AsyncIterator

from anyio import create_task_group, move_on_after

from ..stores import Retention
from ..stores._protocol import EventId, EventStore, Page
from ._store_locations import ALL, Locations, read_all

__all__ = ("falling_behind", "follow", "join", "shared", "unknown_outcome")


async def join(locations: Locations) -> None:
    """A reader that joins during appends sees each event once, in order, by reading and then following."""
    live: list[int] = []
    joined: list[tuple[int, list[int], int]] = []  # where a reader came in, what it read, where it stood in `live`

    async def publish(topic: str) -> None:
        for n in range(40):
            await store.append([(topic, b"%d" % n)])

    async def follow_all(start: EventId) -> None:
        async with store.follow(start) as pages:
            await _collect(pages, live, 120)

    async def come(after: EventId) -> None:
        registered = len(live)  # from here on the follower's events are buffered for this reader
        events, _ = await read_all(store, ALL, after, limit=5)
        joined.append((after.sequence, [event.id.sequence for event in events], registered))

    async with locations.open() as store:
        start = (await store.read_last(ALL, 0)).tip
        async with create_task_group() as task_group:
            task_group.start_soon(follow_all, start)
            for topic in ("a", "b", "c"):
                task_group.start_soon(publish, topic)
            for n in range(30):
                await come(EventId(start.epoch, live[-1 - n % len(live)]) if live else start)
        assert live == list(range(start.sequence + 1, start.sequence + 121)), "follow: not each event once, in order"
    for after, read, registered in joined:
        last = read[-1] if read else after
        seen = read + [sequence for sequence in live[registered:] if sequence > last]
        assert seen == list(range(after + 1, live[-1] + 1)), f"join: a reader from {after} saw {seen}"


async def _collect(pages: AsyncIterator[Page], seen: list[int], count: int) -> None:
    while len(seen) < count:
        page = await anext(pages)
        assert page.events or page.gap, "follow: an empty page"
        assert page.gap is None, f"follow: a gap where nothing was trimmed: {page.gap}"
        seen += [event.id.sequence for event in page.events]


async def follow(locations: Locations) -> None:
    """A follower starts after its id, reports what it missed, and loses nothing when it is cancelled."""
    async with locations.open("limited", Retention(max_events=5)) as store:
        ids = [(await store.append([("a", b"%d" % n)]))[0] for n in range(9)]
        for after, missed in ((ids[5], False), (ids[3], False), (ids[2], True), (EventId("other", 3), True)):
            async with store.follow(after) as pages:
                page = await anext(pages)
                assert (page.gap is not None) == missed, f"follow: gap is {page.gap} after {after}"
                left = [id_ for id_ in ids[4:] if missed or id_ > after]
                assert [event.id for event in page.events] == left, f"follow: wrong events after {after}"
    async with locations.open() as store:
        await _cancel_followers_waits(store, EventId(store.epoch, 0))


async def _cancel_followers_waits(store: EventStore, after: EventId) -> None:
    chance = random.Random(1)  # noqa: S311 -- a test
    seen: list[int] = []
    async with store.follow(after) as pages:
        for n in range(40):
            await store.append([("a", b"%d" % n)])
            with move_on_after(chance.random() * 0.004):
                await _collect(pages, seen, n + 1)
        await _collect(pages, seen, 40)
    assert seen == list(range(after.sequence + 1, after.sequence + 41)), (
        "follow: a cancelled wait lost or doubled events"
    )


async def falling_behind(locations: Locations) -> None:
    """A follower that falls behind what is kept gets a gap, and its events stay in order and come once."""
    async with locations.open("limited", Retention(max_events=5)) as store:
        start = (await store.read_last(ALL, 0)).tip
        async with store.follow(start) as pages:
            last = start
            for n in range(60):
                (last,) = await store.append([("a", b"%d" % n)])
                if n == 0:
                    assert [event.id for event in (await anext(pages)).events] == [last], "follow: not the first event"
            seen = start.sequence + 1
            while seen < last.sequence:
                page = await anext(pages)
                for event in page.events:
                    assert event.id.sequence > seen, f"follow: {event.id} came again, or too late"
                    missed = event.id.sequence > seen + 1
                    assert not missed or page.gap, f"follow: no gap, although {event.id} is not the next"
                    seen = event.id.sequence


async def unknown_outcome(locations: Locations) -> None:
    """After more cancelled calls than any pool has slots, each append is kept whole or not at all."""
    chance = random.Random(64)  # noqa: S311 -- a test

    async def cancelled(n: int) -> None:
        with move_on_after(chance.random() * 0.004):
            await store.append([(f"{n}", b"1"), (f"{n}", b"2")])
        with move_on_after(chance.random() * 0.004):
            await store.read(ALL, None, limit=3)

    async with locations.open() as store:
        for start in range(0, 200, 20):
            async with create_task_group() as task_group:
                for n in range(start, start + 20):
                    task_group.start_soon(cancelled, n)
        (id_,) = await store.append([("last", b"")])
        events, _ = await read_all(store, ALL, None)
        assert events[-1].id == id_, "unknown outcome: after 200 cancelled calls an append is not seen"
        kept = [event.topic for event in events[:-1]]
        assert all(kept.count(topic) == 2 for topic in kept), "unknown outcome: a cancelled append was kept in part"


async def shared(locations: Locations) -> None:
    """Two stores at one location share one order, and each follower sees the appends of both."""

    async def publish(store: EventStore, topic: str) -> None:
        for n in range(40):
            await store.append([(topic, b"%d" % n), (topic, b"")], key=(topic, n))

    async def follow_one(store: EventStore, seen: list[int]) -> None:
        async with store.follow(EventId(store.epoch, 0)) as pages:
            await _collect(pages, seen, 160)

    async with locations.open() as one, locations.open() as two:
        assert one.epoch == two.epoch, "epoch: two stores at one location name their history differently"
        seen: tuple[list[int], list[int]] = ([], [])
        async with create_task_group() as task_group:
            for number, store in enumerate((one, two)):
                task_group.start_soon(follow_one, store, seen[number])
                task_group.start_soon(publish, store, f"t/{number}")
        events, _ = await read_all(two, ALL, None)
    order = [event.id.sequence for event in events]
    assert order == sorted(set(order)), "order: two stores at one location gave one id twice"
    assert seen[0] == order, "follow: the first store's follower saw another order than read gives"
    assert seen[1] == order, "follow: the second store's follower saw another order than read gives"
