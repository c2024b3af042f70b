# PostgresStore: what one transaction does is bounded, however much there is to do, so that it gets its answer in time.

from __future__ import annotations

import anyio
import pytest

from sse_trio.stores import EventId, Retention
from sse_trio.stores._append import Append
from sse_trio.stores._expiry import expiring
from sse_trio.testing._store_locations import ALL

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")
from sse_trio.stores.postgres import PostgresStore, opener_of  # noqa: E402 -- it needs psycopg

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("real_clock")]


@pytest.fixture
def bounds(monkeypatch):
    """Let a transaction do a few events' work."""
    monkeypatch.setattr("sse_trio.stores._postgres.group._TAKEN_OUT", 10)
    monkeypatch.setattr("sse_trio.stores._postgres.outbox._AT_ONCE", 4)


def fill_outbox(store, server, *transactions):
    for events in transactions:
        with psycopg.connect(server.url) as connection:
            for event in events:
                store.publish_in(connection, "t", event)


async def payloads_of(store):
    return [event.payload for event in (await store.read(ALL, None, limit=1000)).events]


@pytest.mark.usefixtures("bounds")
async def test_an_append_waits_until_all_is_moved(shared_postgres, name):
    """What waits is moved in pieces, in the order of the commits, and nothing comes between the pieces."""
    store = PostgresStore(shared_postgres.url, name=name)
    async with store, PostgresStore(shared_postgres.url, name=name) as other:
        fill_outbox(store, shared_postgres, range(10), range(10, 13))
        async with anyio.create_task_group() as group:
            for one in (store, other):
                group.start_soon(one.append, [("own", b"data: own\n\n")])
        assert await payloads_of(store) == [b"data: %d\n\n" % n for n in range(13)] + [b"data: own\n\n"] * 2


@pytest.mark.usefixtures("bounds")
async def test_a_follower_moves_one_piece_after_another(shared_postgres, name):
    """Without an append, whoever follows finds all of it."""
    store = PostgresStore(shared_postgres.url, name=name)
    async with store:
        fill_outbox(store, shared_postgres, range(10))
        found = []
        with anyio.fail_after(60):
            async with store.follow(EventId(store.epoch, 0)) as pages:
                while len(found) < 10:
                    page = await anext(pages)
                    assert len(page.events) <= 4
                    found += [event.event.data for event in page.events]
        assert found == [str(n) for n in range(10)]


async def test_a_piece_is_bounded_in_bytes(shared_postgres, name, monkeypatch):
    """A few large events are moved one by one."""
    monkeypatch.setattr("sse_trio.stores._postgres.outbox._BYTES_AT_ONCE", 100)
    store = PostgresStore(shared_postgres.url, name=name)
    appender = opener_of(store)()
    appender.prepare()
    fill_outbox(store, shared_postgres, ["x" * 300, "y" * 300, "z"])
    moved = []
    for _ in range(3):
        appender._writer.move(appender._prepared())
        moved += shared_postgres.sql("SELECT events FROM sse_trio.hubs WHERE name = %s", name)
    appender.close()
    assert moved == [(1,), (2,), (3,)]


@pytest.mark.usefixtures("bounds")
async def test_what_is_too_much_goes_in_pieces(shared_postgres, name):
    """A hub with far more events than it may keep loses a bounded number of them in each transaction."""
    async with PostgresStore(shared_postgres.url, name=name, max_events=1000) as store:
        await store.append([("a", b"%d" % n) for n in range(45)])
    appender = opener_of(PostgresStore(shared_postgres.url, name=name, max_events=5))()
    left = []
    async with PostgresStore(shared_postgres.url, name=name, max_events=1000) as store:
        appender.append(appender.new_group([Append([("a", b"new")], None)]))
        left.append(len(await payloads_of(store)))
        while appender.maintain():
            left.append(len(await payloads_of(store)))
        appender.close()
        assert left[:4] == [35, 25, 15, 5]
        assert await payloads_of(store) == [b"41", b"42", b"43", b"44", b"new"]


@pytest.mark.usefixtures("bounds")
async def test_a_topic_and_what_has_expired_go_in_pieces(shared_postgres, name):
    """The same is true of a topic with more than it may keep, and of events that expire together."""
    async with PostgresStore(shared_postgres.url, name=name) as store:
        await store.append([("a", b"%d" % n) for n in range(25)] + [("b", b"%d" % n) for n in range(5)])
        await store.append(expiring([("c", b"")] * 25, 1.0))
    few = PostgresStore(shared_postgres.url, name=name, per_topic=Retention(max_events=1), clock=lambda: 2.0)
    appender = opener_of(few)()
    async with PostgresStore(shared_postgres.url, name=name, clock=lambda: 0.0) as store:
        left = []
        for _ in range(3):
            appender.append(appender.new_group([Append([("a", b"last"), ("b", b"last")], None)]))
            left.append(len(await payloads_of(store)))
        assert left == [45, 35, 27]
        assert appender.maintain()
        assert len(await payloads_of(store)) == 17
        while appender.maintain():
            pass
        appender.close()
        assert await payloads_of(store) == [b"last", b"last"]


async def test_a_store_that_opens_goes_on_until_it_has_few_enough(shared_postgres, name, bounds):
    """The first maintenance of a store does not end before all is gone that has to."""
    async with PostgresStore(shared_postgres.url, name=name) as store:
        await store.append([("a", b"%d" % n) for n in range(100)])
    async with PostgresStore(shared_postgres.url, name=name, max_events=5) as store:
        with anyio.fail_after(60):
            while len(await payloads_of(store)) > 5:
                await anyio.sleep(0.01)


@pytest.mark.parametrize(("retry_for", "seconds"), [(10.0, 500), (3600.0, 7000)])
async def test_a_group_is_known_for_as_long_as_it_is_sent_again(shared_postgres, name, retry_for, seconds):
    """However short keys are remembered, and however long a group is tried, it is appended once."""
    now = [1e9]
    options = {"name": name, "remember_keys": 1.0, "retry_for": retry_for, "clock": lambda: now[0]}
    store = PostgresStore(shared_postgres.url, **options)
    async with store:
        appender = opener_of(store)()
        sent = appender.new_group([Append([("a", b"1")], None)])
        first = appender.append(sent)
        now[0] += seconds
        appender.maintain()
        assert appender.append(sent) == first
        now[0] += 10**4
        appender.maintain()
        appender.close()
        left = shared_postgres.sql(
            "SELECT count(*) FROM sse_trio.writers w JOIN sse_trio.hubs h ON h.id = w.hub "
            "WHERE h.name = %s AND w.time < 'infinity'",
            name,
        )
        assert left == [(0,)]
