# Events that expire, in every store: no read gives them after their moment, they are no gap, and they are deleted.

from __future__ import annotations

import sqlite3

import anyio
import pytest

from sse_trio import open_hub
from sse_trio.stores import Claim, EventId, MemoryStore, Retention, SQLiteStore, TopicFilter
from sse_trio.stores._expiry import ExpiringStore, expiring
from sse_trio.testing._store_locations import ALL

from .test_by_pattern import place

__all__ = ("place",)

pytestmark = pytest.mark.anyio


def short(place, *items, ttl=60):
    return expiring([(topic, b"data: %s\n\n" % data) for topic, data in items], place.clock() + ttl)


def plain(*items):
    return [(topic, b"data: %s\n\n" % data) for topic, data in items]


async def data_of(store, pattern="*", after=None, **options):
    page = await store.read(TopicFilter(pattern), after, **options)
    assert page.gap is None
    return [event.event.data for event in page.events]


async def last_of(store, count, pattern="*"):
    return [event.event.data for event in (await store.read_last(TopicFilter(pattern), count)).events]


async def figures_of(place):
    """Return how many events and bytes the store says that it has, and what it still knows of expiries."""
    store = place.store
    if isinstance(store, SQLiteStore):
        connection = sqlite3.connect(store._path)
        with connection:
            figures = connection.execute("SELECT events, bytes FROM hub").fetchone()
            stored = connection.execute("SELECT count(*), coalesce(sum(length(payload)), 0) FROM events").fetchone()
            expiries = connection.execute("SELECT count(*) FROM expiries").fetchone()[0]
        connection.close()
        assert figures == stored
        return (*figures, expiries)
    if hasattr(store, "_appender"):

        def read():
            connection, schema = store._reading.get(), store._server.schema
            query = f"SELECT h.id, h.events, h.bytes FROM {schema}.hubs h WHERE name = %s"
            hub, *figures = connection.run(query, (store._hub,)).fetchone()
            query = f"SELECT count(*), coalesce(sum(length(payload)), 0) FROM {schema}.events WHERE hub = %s"
            assert figures == [*connection.run(query, (hub,)).fetchone()]
            return (*figures, 0)

        return await store._read(read)
    async with store._server.connect() as client:
        root = store._log._root
        count, size, expiries, generation = await client.hmget(
            f"{root}meta", ["count", "bytes", "expiring", "generation"]
        )
        generation = generation.decode()
        assert await client.zcard(f"{root}{generation}:expires") == int(expiries)
        assert await client.xlen(f"{root}{generation}:log") == int(count)
        return int(count), int(size), int(expiries)


async def test_no_read_gives_it_after_its_moment(place):
    """Until its moment every read gives an event that expires, and from then on none, without a gap."""
    async with place.open({}) as store:
        assert isinstance(store, ExpiringStore)
        first = (await store.append(plain(("a", b"1"))))[0]
        await store.append([*short(place, ("a", b"2"), ("b/1", b"3")), *plain(("b/2", b"4"))])
        await store.append(short(place, ("a", b"5"), ttl=100))
        assert await data_of(store) == ["1", "2", "3", "4", "5"]
        assert await last_of(store, 4) == ["2", "3", "4", "5"]
        place.clock.now += 60
        assert await data_of(store) == ["1", "4", "5"]
        assert await data_of(store, "a", first) == ["5"]
        assert await data_of(store, "b/*", EventId(store.epoch, 0)) == ["4"]
        assert [await last_of(store, n) for n in (0, 1, 2)] == [[], ["5"], ["4", "5"]]
        assert await last_of(store, 3) == await last_of(store, 9) == ["1", "4", "5"]
        assert await last_of(store, 2, "a") == ["1", "5"]
        await place.maintain()
        assert await data_of(store, "*", EventId(store.epoch, 0)) == ["1", "4", "5"]
        assert await data_of(store, "a", first) == ["5"]
        assert await data_of(store, "b/1", EventId(store.epoch, 0)) == []
        assert await last_of(store, 2, "a") == ["1", "5"]


async def test_it_is_deleted_and_counts_no_more(place):
    """After maintenance a store has nothing left of it, and its figures are those of what is there."""
    async with place.open({}) as store:
        await store.append([*short(place, ("a", b"1"), ("b", b"2"), ttl=10), *plain(("a", b"3"))])
        await store.append(short(place, ("a", b"4"), ttl=20))
        assert (await figures_of(place))[0] == 4
        place.clock.now += 10
        await place.maintain()
        events, size, expiries = await figures_of(place)
        assert (events, expiries) in {(2, 1), (2, 0)}  # PostgreSQL keeps no list of them
        place.clock.now += 10
        await place.maintain()
        assert await figures_of(place) == (1, len(b"data: 3\n\n"), 0)
        assert size > len(b"data: 3\n\n")
        await store.append(plain(("b", b"5")))
        assert await data_of(store) == ["3", "5"]


async def test_one_that_was_trimmed_before_is_a_gap(place):
    """An event that a limit took before its moment is missed as any other, and its expiry then changes nothing."""
    async with place.open({}, max_events=2) as store:
        await store.append(short(place, ("a", b"1")))
        await store.append(plain(("a", b"2"), ("a", b"3")))
        for _ in range(2):
            page = await store.read(ALL, EventId(store.epoch, 0))
            assert page.gap is not None
            assert [event.event.data for event in page.events] == ["2", "3"]
            place.clock.now += 100
            await place.maintain()
        assert (await figures_of(place))[0] == 2


async def test_what_the_limits_took_is_forgotten(place):
    """However long events have until they expire, a store remembers no more of them than it keeps."""
    async with place.open({"b": Retention(max_events=1)}, max_events=10) as store:
        for _ in range(6):
            await store.append(short(place, *[("a", b"x")] * 200, *[("b", b"y")] * 2, ttl=1e6))
        await store.append_held(short(place, ("a", b"z"), ttl=1e6), Claim("a", "*", "t", b"v", 1e6, clear=True))
        await store.append(short(place, *[("c", b"w")] * 20, ttl=1e6))
        await place.maintain()
        assert (await figures_of(place))[0] == 10
        assert (await figures_of(place))[2] <= 10
        place.clock.now += 1e6
        await place.maintain()
        assert await figures_of(place) == (0, 0, 0)


async def test_many_expire_at_once(place):
    """Thousands that expire together are deleted, and a read of the latest finds what is left."""
    async with place.open({}) as store:
        await store.append(plain(("a", b"left")))
        for _ in range(3):
            await store.append(short(place, *[(f"t/{n % 7}", b"%d" % n) for n in range(500)]))
        place.clock.now += 61
        assert await last_of(store, 1) == ["left"]
        for _ in range(3):
            await place.maintain()
        assert (await figures_of(place))[0] == 1


async def test_a_restart_knows_it(place):
    """An event expires though the store was closed meanwhile, and a key that it was published with is remembered."""
    async with place.open({}) as store:
        items = short(place, ("a", b"1"))
        ids = await store.append(items, key=("p", 1))
    place.clock.now += 61
    async with place.open({}) as store:
        assert await data_of(store) == []
        assert await store.append(items, key=("p", 1)) == ids
        await place.maintain()
        assert await figures_of(place) == (0, 0, 0)
        after = await store.append(plain(("a", b"2")))
        assert after[0].sequence == ids[0].sequence + 1


async def test_a_follower_is_not_held_up_by_it(place):
    """What follows events that have expired reaches a follower that was behind them, and it hears of no gap."""
    async with place.open({}) as store:
        start = (await store.append(plain(("a", b"0"))))[0]
        await store.append(short(place, ("a", b"1"), ("a", b"2")))
        place.clock.now += 61
        await place.maintain()
        await store.append([*short(place, ("a", b"3"), ttl=-1), *plain(("a", b"4"))])
        data = []
        async with store.follow(start) as pages:
            with anyio.fail_after(30):
                while "4" not in data:
                    page = await anext(pages)
                    assert page.gap is None
                    data += [event.event.data for event in page.events]
        assert data[-1] == "4"
        assert "1" not in data


async def test_in_a_hub(place):
    """A hub on this store sends it in time, and not to who comes later."""
    async with open_hub(place.open({})) as hub:
        async with hub.subscribe("a") as subscription:
            await hub.publish("a", "x", ttl=60)
            with anyio.fail_after(30):
                assert (await subscription.receive()).data == "x"
        place.clock.now += 61
        await hub.publish("a", "y")
        assert [event.data for event in (await hub.history("a")).events] == ["y"]


async def test_held_topics_have_it_hidden(place):
    """In a topic that is held nothing is deleted, but no read gives an event that has expired there either."""
    async with place.open({}, max_events=2) as store:
        await store.append_held(plain(("r", b"1")), Claim("r", None, "t", b"v", 1e6))
        await store.append(short(place, ("r", b"2")))
        await store.append(plain(("b", b"3"), ("b", b"4")))
        assert await data_of(store, "r") == ["1", "2"]
        place.clock.now += 61
        await place.maintain()
        assert await data_of(store, "r") == ["1"]
        assert await last_of(store, 1, "r") == ["1"]


async def test_what_only_looks_like_a_mark_does_no_harm(place):
    """A payload that some other program wrote, and that begins almost as one that expires, is kept as any other."""
    odd = [b":expires soon\n\n", b":expires 1\n\n", b":expires 1.000000", b":expires ", b":expires \xff\x00\n"]
    async with place.open({}) as store:
        await store.append([("a", payload) for payload in odd])
        await place.maintain()
        assert [event.payload for event in (await store.read(ALL, None)).events] == odd
    async with MemoryStore() as store:
        await store.append([("a", payload) for payload in odd])
        assert [event.payload for event in (await store.read(ALL, None)).events] == odd


async def test_memory_forgets_them():
    """MemoryStore: what has expired takes no memory, of a topic that is held or not, with an age of its own or not."""
    async with MemoryStore(2) as store:
        await store.append_held(plain(("r", b"1")), Claim("r", None, "t", b"v", 1e6))
        await store.append(expiring(plain(("r", b"2")), store.expiry_clock() + 5))
        await store.append(plain(("b", b"3")))
        await store.append(expiring(plain(("c", b"4")), store.expiry_clock() + 5))
        await store.append(expiring(plain(("d", b"5")), store.expiry_clock() + 5))
        await store.append(plain(("b", b"6")))
        assert await data_of(store, "r") == ["1", "2"]
        await anyio.sleep(5)
        assert await data_of(store, "r") == ["1"]
        assert await last_of(store, 5) == ["6"]
        assert "1 events" in repr(store)


async def test_memory_remembers_no_more_than_it_keeps():
    """MemoryStore: what the limits took before its moment takes no memory until then, and what is left expires."""
    async with MemoryStore(10) as store:
        due = store.expiry_clock() + 1e6
        for n in range(3000):
            await store.append(expiring(plain((f"t/{n % 3}", b"%d" % n)), due))
        assert len(store._log._expiries) < 1100
        await store.append(plain(("a", b"kept")))
        await anyio.sleep(1e6)
        assert await data_of(store) == ["kept"]
        assert len(store._log._expiries) == 0
