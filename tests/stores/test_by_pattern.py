# Limits of age by pattern, in every store: what goes and what stays, by a clock that the test sets.

from __future__ import annotations

import secrets
import time

import anyio
import pytest

from sse_trio.stores import Claim, EventId, MemoryStore, Retention, SQLiteStore, TopicFilter
from sse_trio.stores._redis.calls import RedisCalls
from sse_trio.stores._topic_limits import TopicLimits
from sse_trio.testing._store_locations import ALL, read_all

pytestmark = pytest.mark.anyio

LIMITS = {"fast/*": Retention(max_age=60), "slow/*": Retention(max_age=3600), "fast/kept": Retention()}


class Clock:
    """A clock that is set."""

    def __init__(self):
        self.now = 1.7e9

    def __call__(self):
        return self.now


class Place:
    """A store of one kind, and what makes it look at ages as it does itself from time to time."""

    def __init__(self, make):
        self._make = make
        self.clock = Clock()

    def open(self, per_topic=None, **options):
        self.store = self._make(clock=self.clock, per_topic=LIMITS if per_topic is None else per_topic, **options)
        return self.store

    async def maintain(self):
        store = self.store
        if isinstance(store, SQLiteStore):
            await store._in_thread(store._writer.maintain, store._write_limiter)
            while await store._in_thread(store._writer.sweep, store._write_limiter):
                pass
        elif hasattr(store, "_appender"):
            await store._try(store._appender.maintain, store._write_limiter)
            while await store._try(store._appender.sweep, store._write_limiter):
                pass
        else:
            while await store._writer.call(store._log.maintain):
                pass

    async def kept(self):
        return [event.payload.decode() for event in (await read_all(self.store, ALL, None))[0]]


@pytest.fixture(params=["sqlite", "redis", "valkey", "postgres"])
def place(request, tmp_path, real_clock):
    name = secrets.token_hex(4)
    if request.param == "sqlite":
        return Place(lambda **options: SQLiteStore(tmp_path / "hub.db", **options))
    if request.param == "postgres":
        postgres = pytest.importorskip("sse_trio.stores.postgres", reason="psycopg is not installed")
        server = request.getfixturevalue("shared_postgres")
        return Place(lambda **options: postgres.PostgresStore(server.url, name=name, **options))
    redis = pytest.importorskip("sse_trio.stores.redis", reason="coredis is not installed")
    request.getfixturevalue("forgive_coredis")
    server = request.getfixturevalue(f"shared_{request.param}")
    return Place(lambda **options: redis.RedisStore(server.url, name=name, **options))


async def gap_of(store, pattern):
    return (await store.read(TopicFilter(pattern), EventId(store.epoch, 0))).gap is not None


async def test_each_topic_has_its_age(place):
    """An event goes when it is too old for its topic, whatever is older elsewhere, and counts as missed there alone."""
    async with place.open() as store:
        await store.append([("other", b"0"), ("slow/1", b"1"), ("fast/1", b"2"), ("fast/kept", b"3")])
        place.clock.now += 50
        await store.append([("fast/2", b"4")])
        place.clock.now += 11
        await place.maintain()
        assert await place.kept() == ["0", "1", "3", "4"]
        assert [await gap_of(store, one) for one in ("fast/*", "fast/1", "slow/*", "fast/2")] == [1, 1, 0, 0]
        place.clock.now += 50
        await place.maintain()
        assert await place.kept() == ["0", "1", "3"]
        place.clock.now += 3600
        await place.maintain()
        assert await place.kept() == ["0", "3"]
        place.clock.now += 10**6
        await place.maintain()
        assert await place.kept() == ["0", "3"]


async def test_an_append_trims_its_topic_by_age(place):
    """Where nobody maintains the store, as with a Publisher alone, an append takes what is too old in its topic."""
    few = {"fast/few": Retention(max_age=60, max_events=3), "last": Retention(max_events=1)}
    async with place.open({**LIMITS, **few}) as store:
        await store.append([("fast/1", b"1"), ("fast/few", b"2"), ("fast/1", b"3")])
        await place.maintain()
        place.clock.now += 61
        await store.append([("fast/1", b"4"), ("fast/few", b"5")])
        await store.append([("fast/few", b"%d" % n) for n in range(6, 10)])
        assert await place.kept() == ["4", "7", "8", "9"]
        await store.append([("last", b"10")])
        await store.append([("last", b"11")])
        assert await place.kept() == ["4", "7", "8", "9", "11"]


async def test_all_of_many_old_events_go(place):
    """Thousands of old events are found step by step, also by a store that was opened after they were written."""
    async with place.open() as store:
        await store.append([(("fast/1", "other", "fast/2")[n % 3], b"%d" % n) for n in range(6000)])
    place.clock.now += 61
    async with place.open() as store:
        await place.maintain()
        (page, newest) = (await store.read(TopicFilter("fast/*"), None), await store.read_last(ALL, 1))
        assert page.events == ()
        assert newest.events[0].topic == "other"
        place.clock.now += 10**6
        await place.maintain()
        assert len(await place.kept()) == 2000


async def test_held_topics_are_passed_over(place):
    """A held topic has no limits, by pattern neither."""
    async with place.open() as store:
        await store.append_held([("fast/1", b"0")], Claim("fast/1", None, "t", b"v", 1e6))
        await store.append([("fast/2", b"1")])
        place.clock.now += 61
        await place.maintain()
        await store.append_held([("fast/1", b"2")], Claim("fast/1", "t", "t"))
        assert await place.kept() == ["0", "2"]
        await store.append_held([], Claim("fast/1", "t", None, clear=True))
        await store.append([("fast/1", b"3")])
        assert await place.kept() == ["3"]


async def test_a_stamp_ahead_is_cut_for_topics_too(place):
    """If the clock was ahead, an event with an age of its own topic's is as old as the first look at it."""
    async with place.open() as store:
        place.clock.now += 365 * 86400
        await store.append([("fast/1", b"ahead"), ("slow/1", b"ahead too")])
        place.clock.now -= 365 * 86400
        await place.maintain()
        place.clock.now += 59
        await place.maintain()
        assert await place.kept() == ["ahead", "ahead too"]
        place.clock.now += 2
        await place.maintain()
        assert await place.kept() == ["ahead too"]
        place.clock.now += 3600
        await place.maintain()
        assert await place.kept() == []


async def test_a_store_maintains_itself(place):
    """A store that is open takes what is too old for its topic, though nobody publishes."""
    place.clock = time.time
    async with place.open({"fast/*": Retention(max_age=0.05)}) as store:
        await store.append([("fast/1", b"1"), ("other", b"2")])
        with anyio.fail_after(30):
            while await place.kept() != ["2"]:
                await anyio.sleep(0.01)


async def test_memory_has_ages_by_pattern():
    """MemoryStore: an event is not read once it is too old for its topic, and others stay."""
    async with MemoryStore(per_topic=LIMITS) as store:
        await store.append([("other", b"0"), ("slow/1", b"1"), ("fast/1", b"2"), ("fast/kept", b"3"), ("fast/1", b"4")])
        await anyio.sleep(50)
        await store.append([("fast/1", b"5")])
        await store.append_held([("fast/2", b"6")], Claim("fast/2", None, "t", b"v", 1e6))
        await anyio.sleep(11)
        kept = [event.payload for event in (await store.read(ALL, None)).events]
        assert kept == [b"0", b"1", b"3", b"5", b"6"]
        assert [await gap_of(store, one) for one in ("fast/*", "fast/1", "slow/*")] == [1, 1, 0]
        await anyio.sleep(50)
        assert [event.payload for event in (await store.read(ALL, None)).events] == [b"0", b"1", b"3", b"6"]
        await store.append_held([], Claim("fast/2", "t", None, clear=True))
        await store.append([("fast/2", b"7")])
        await anyio.sleep(3600)
        assert [event.payload for event in (await store.read(ALL, None)).events] == [b"0", b"3"]


def test_redis_looks_at_a_new_history_from_its_beginning():
    """If Redis has lost the history, the marks up to which old events were looked at are of no use any more."""
    limits = TopicLimits(LIMITS, Retention())
    calls = RedisCalls("hub", Retention(), limits, Clock())
    assert calls.maintain()[-4:] == [60, 0, 3600, 0]
    assert calls.maintained([b"one", b"9", b"0", b"7", b"5"])
    assert calls.maintain()[-4:] == [60, 7, 3600, 5]
    assert not calls.maintained([b"one", b"9", b"1", b"8", b"5"])
    calls.saw(EventId("two", 9))
    assert calls.maintain()[-4:] == [60, 0, 3600, 0]
