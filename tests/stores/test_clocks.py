# Retention by age where clocks are wrong: at boot, between machines, or set back. SQLite and Redis; a MemoryStore goes
# by the event loop's clock, which nobody sets.

from __future__ import annotations

import contextlib
import secrets
import sqlite3
import time

import anyio
import pytest

from sse_trio.stores import MemoryStore, Retention, SQLiteStore, TopicFilter
from sse_trio.stores._cuts import Cuts
from sse_trio.testing._store_locations import ALL

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("real_clock", "forgive_coredis")]
HOUR, YEAR = 3600, 365 * 86400


@pytest.fixture(params=["sqlite", "redis", "valkey"])
def make_store(request, tmp_path):
    """Makes stores of one kind at one location, which keep events for an hour of the clock that they are given."""
    if request.param == "sqlite":
        return lambda clock, **more: SQLiteStore(tmp_path / "hub.db", max_age=HOUR, clock=clock, **more)
    redis = pytest.importorskip("sse_trio.stores.redis", reason="coredis is not installed")
    if request.param == "redis":
        server = request.getfixturevalue("shared_redis")
    else:
        server = request.getfixturevalue("shared_valkey")
    name = secrets.token_hex(4)
    return lambda clock, **more: redis.RedisStore(server.url, name=name, max_age=HOUR, clock=clock, **more)


class Clock:
    """A clock that is set."""

    def __init__(self):
        self.now = 1.7e9

    def __call__(self):
        return self.now


async def kept(store):
    return [event.payload for event in (await store.read(ALL, None, limit=1000)).events]


async def maintain(store):
    if isinstance(store, SQLiteStore):
        await store._in_thread(store._writer.maintain, store._write_limiter)  # the store's own may be under way
    else:
        await store._writer.call(store._log.maintain)


async def cuts_of(store):
    if isinstance(store, SQLiteStore):
        return store._writer.connection.execute("SELECT count(*) FROM cuts").fetchone()[0]
    async with store._server.connect() as client:
        return (await client.hget(f"{store._log._root}meta", "cuts") or b"").count(b":")


async def test_a_clock_that_was_ahead_keeps_nothing_longer(make_store):
    """Stamps ahead of the clock are cut once the clock is right again, so their events go an hour later."""
    clock = Clock()
    async with make_store(clock) as store:
        clock.now += YEAR
        await store.append([("a", b"ahead"), ("b", b"ahead too")])
        clock.now -= YEAR - 5
        await store.append([("a", b"right")])
        assert await kept(store) == [b"ahead", b"ahead too", b"right"]
        clock.now += HOUR - 10
        await store.append([("a", b"later")])
        assert await kept(store) == [b"ahead", b"ahead too", b"right", b"later"]
        clock.now += 11
        await store.append([("a", b"an hour later")])
        assert await kept(store) == [b"later", b"an hour later"]


async def test_stamps_ahead_are_cut_though_nobody_publishes(make_store):
    """Maintenance cuts stamps that are ahead, too, without an append."""
    clock = Clock()
    async with make_store(clock) as store:
        clock.now += YEAR
        await store.append([("a", b"ahead")])
        clock.now -= YEAR
        await maintain(store)
        clock.now += HOUR - 1
        await maintain(store)
        assert await kept(store) == [b"ahead"]
        clock.now += 2
        await maintain(store)
        assert await kept(store) == []


async def test_a_clock_that_was_behind_lets_nothing_go_early(make_store):
    """Time never goes back in a log: an event is at least as new as the one before it."""
    clock = Clock()
    async with make_store(clock) as store:
        await store.append([("a", b"1")])
        clock.now += HOUR - 100
        await store.append([("a", b"2")])
        clock.now -= YEAR
        await store.append([("a", b"3")])
    async with make_store(clock) as store:  # a restart on a machine without a battery
        await store.append([("a", b"4")])
        clock.now += YEAR + 90
        await store.append([("a", b"5")])
        assert await kept(store) == [b"1", b"2", b"3", b"4", b"5"]
        clock.now += 11
        await maintain(store)
        assert await kept(store) == [b"2", b"3", b"4", b"5"]
        clock.now += HOUR - 100
        await maintain(store)
        assert await kept(store) == [b"5"]


async def test_an_event_that_was_stamped_behind_may_become_the_oldest(make_store):
    """An event stamped behind stays as long as the one before it would have, even if that one is gone."""
    clock = Clock()
    async with make_store(clock, per_topic=Retention(max_events=1)) as store:
        await store.append([("a", b"1")])
        clock.now -= YEAR
        await store.append([("b", b"2")])
        clock.now += YEAR
        await store.append([("a", b"3")])
        await maintain(store)
        assert await kept(store) == [b"2", b"3"]


async def test_a_clock_that_is_behind_at_each_start(make_store):
    """Notes about a clock that was behind are forgotten once it is right."""
    clock = Clock()
    async with make_store(clock) as store:
        for behind in (90 * 60, 20 * 60, YEAR, YEAR - 2 * HOUR):
            await store.append([("a", b"right")])
            clock.now -= behind
            await store.append([("a", b"behind")])
            clock.now += behind
        assert len(await kept(store)) == 8


async def test_a_clock_that_was_behind_after_another_was_ahead(make_store):
    """An event whose stamp is not ahead of the clock is as old as its stamp, whatever was noted about others."""
    clock = Clock()
    async with make_store(clock) as store:
        await store.append([("a", b"right")])
        for wrong in (HOUR // 2, -YEAR):
            clock.now += wrong
            await store.append([("a", b"wrong")])
            clock.now -= wrong
            await store.append([("a", b"right")])
        assert len(await kept(store)) == 5


async def test_clocks_that_never_agree(make_store):
    """With two processes whose clocks differ by a minute, all events go, within the promised accuracy."""
    right, ahead = Clock(), Clock()
    ahead.now += 60
    async with make_store(right) as one, make_store(ahead) as two:
        for n in range(120):
            await one.append([("a", b"%d" % n)])
            await two.append([("a", b"%d" % n)])
            right.now += 60
            ahead.now += 60
            events = await kept(one)
            assert len(events) >= 2 * min(n + 1, 58), "an event went early"
            assert len(events) <= 2 * 62, "an event stayed too long"


@pytest.mark.untraced
async def test_what_is_noted_of_a_wrong_clock_is_little(make_store):
    """After one event stamped ahead, the notes stay small, no event goes early, and all of them go."""
    clock = Clock()
    async with make_store(clock) as store:
        clock.now += YEAR
        await store.append([("a", b"ahead")])
        clock.now -= YEAR
        for _ in range(400):
            await store.append([("a", b"right")])
            await maintain(store)
            clock.now += 5
        assert len(await kept(store)) == 401
        assert await cuts_of(store) <= 2 * (400 * 5) / (HOUR / 100) + 2
        clock.now += HOUR - 400 * 5 + 1 + HOUR / 100
        await maintain(store)
        assert 390 <= len(await kept(store)) <= 400
        clock.now += 400 * 5
        await maintain(store)
        assert await kept(store) == []


async def forget_clocks(store):
    """Leave the stamps alone, as in a log that an earlier release has written."""
    if isinstance(store, SQLiteStore):
        with contextlib.closing(sqlite3.connect(store._path, isolation_level=None)) as earlier:
            earlier.execute("UPDATE events SET time = 1.7e9 WHERE id = 2")
            earlier.execute("DROP TABLE cuts")
    else:
        async with store._server.connect() as client:
            await client.hset(f"{store._log._root}meta", {"time": "1.7e9", "cuts": ""})


async def test_stamps_of_an_earlier_release_are_cut_where_they_are(make_store):
    """If an earlier release stamped the oldest event ahead, it doesn't stay for a year."""
    clock = Clock()
    async with make_store(clock) as store:
        clock.now += YEAR
        await store.append([("a", b"ahead")])
        clock.now -= YEAR
        await store.append([("a", b"right")])
        await forget_clocks(store)
        await maintain(store)
        clock.now += HOUR + 1
        await maintain(store)
        assert await kept(store) == []


async def test_a_key_outlives_a_clock_that_is_set(tmp_path):
    """A key is remembered for ten minutes, not for a year, whatever the clock said when it was used."""
    clock = Clock()
    async with SQLiteStore(tmp_path / "hub.db", clock=clock) as store:
        await store.append([("a", b"1")])
        clock.now -= YEAR
        ids = await store.append([("a", b"2")], key=("p", 1))
        clock.now += YEAR
        await maintain(store)
        assert await store.append([("a", b"2")], key=("p", 1)) == ids
        clock.now += YEAR
        ids = await store.append([("a", b"3")], key=("p", 2))
        clock.now -= YEAR
        await maintain(store)
        assert await store.append([("a", b"3")], key=("p", 2)) == ids
        clock.now += 601
        await maintain(store)
        assert await store.append([("a", b"3")], key=("p", 2)) != ids


async def test_a_memory_store_asks_no_clock_that_can_be_set(monkeypatch):
    """MemoryStore measures age with the event loop's clock, which never goes back."""
    monkeypatch.setattr(time, "time", lambda: 0.0)
    async with MemoryStore(max_age=HOUR) as store:
        await store.append([("a", b"1")])
        monkeypatch.setattr(time, "time", lambda: float(YEAR))
        await store.append([("a", b"2")])
        await anyio.lowlevel.checkpoint()
        assert len((await store.read(TopicFilter("a"), None)).events) == 2


def test_clocks_that_differ_a_little():
    """A stamp that is ahead by less than a second is not noted, because machines' clocks differ that much."""
    cuts = Cuts([], (None, None))
    cuts.see(100.0, 100.5, 7)
    assert cuts.pairs == []
    cuts.see(100.0, 101.5, 7)
    assert cuts.pairs == [(7, 100.0)]
