# Publishing in a user's own transaction, on the file of a SQLiteStore.

from __future__ import annotations

import sqlite3
from contextlib import closing

import anyio
import pytest

from sse_trio import ServerSentEvent
from sse_trio.stores import EventId, SQLiteStore
from sse_trio.stores._append import Append
from sse_trio.stores._protocol import StoredEvent, pack_event
from sse_trio.stores._sqlite.handover import new_events
from sse_trio.stores.sqlite import opener_of
from sse_trio.testing._store_locations import ALL

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("real_clock")]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "shop.sqlite"


@pytest.fixture
async def store(path):
    async with SQLiteStore(path, poll_interval=0.01) as store:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE orders (id TEXT PRIMARY KEY)")
        yield store


async def take(store, count):
    """Follow from the beginning until there are so many events."""
    events = []
    with anyio.fail_after(30):
        async with store.follow(EventId(store.epoch, 0)) as pages:
            while len(events) < count:
                events += [event.event.data for event in (await anext(pages)).events]
    return events


async def test_an_event_exists_if_and_only_if_its_transaction_commits(store, path):
    """What a transaction publishes is there when it commits, each event once, and never if it rolls back."""
    with closing(sqlite3.connect(path)) as connection:
        for n in range(6):
            connection.execute("INSERT INTO orders VALUES (?)", (n,))
            assert store.publish_in(connection, "orders", f"first {n}") is None
            assert store.publish_in(connection, "orders", f"second {n}") is None
            (connection.rollback if n % 3 == 2 else connection.commit)()
        assert connection.execute("SELECT count(*) FROM orders").fetchone() == (4,)
    expected = [f"{which} {n}" for n in (0, 1, 3, 4) for which in ("first", "second")]
    assert await take(store, 8) == expected
    assert len((await store.read(ALL, None)).events) == 8


async def test_an_append_moves_what_was_committed_before_it(path):
    """With nobody who follows, the next append comes after everything that was committed before it."""
    async with SQLiteStore(path) as store:
        with closing(sqlite3.connect(path)) as connection:
            store.publish_in(connection, "a", "in a transaction", key="named")
            store.publish_in(connection, "a", "doubled", key="named")
            connection.commit()
        (id_,) = await store.append([("a", pack_event(ServerSentEvent("after")))])
        assert id_.sequence == 2
        assert [event.event.data for event in (await store.read(ALL, None)).events] == ["in a transaction", "after"]


async def test_followers_of_the_process_that_moves_it_read_it_at_once(path):
    """All followers of a process get what one of its appends has moved, even if that append itself adds nothing."""
    async with SQLiteStore(path, poll_interval=3600) as store:
        await store.append([("a", b"data: 1\n\n")], key=("me", 1))
        async with store.follow(EventId(store.epoch, 0)) as one, store.follow(EventId(store.epoch, 0)) as other:
            with anyio.fail_after(30):
                for pages in (one, other):
                    assert len((await anext(pages)).events) == 1
                with closing(sqlite3.connect(path)) as connection:
                    store.publish_in(connection, "a", "2")
                    connection.commit()
                await store.append([("a", b"data: 1\n\n")], key=("me", 1))
                for pages in (one, other):
                    assert [event.event.data for event in (await anext(pages)).events] == ["2"]


async def test_one_follower_that_looks_is_enough(path):
    """What one process finds in the outbox reaches the followers of all, also of one that never looks by itself."""
    async with SQLiteStore(path, poll_interval=0.01) as looks, SQLiteStore(path, poll_interval=3600) as waits:
        start = EventId(looks.epoch, 0)
        async with waits.follow(start) as of_waits, looks.follow(start) as of_looks:
            await looks.append([("a", b"data: 1\n\n")])
            with anyio.fail_after(30):
                for pages in (of_waits, of_looks):
                    assert len((await anext(pages)).events) == 1
                with closing(sqlite3.connect(path)) as connection:
                    looks.publish_in(connection, "a", "2")
                    connection.commit()
                for pages in (of_looks, of_waits):
                    assert [event.event.data for event in (await anext(pages)).events] == ["2"]


async def test_a_key_in_the_outbox_and_in_the_append_that_moves_it(path):
    """An append whose key has just come out of the outbox gets the id of that event, and adds none of its own."""
    async with SQLiteStore(path) as store:
        appender = opener_of(store)()
        with closing(appender), closing(sqlite3.connect(path)) as connection:
            store.publish_in(connection, "a", "in the outbox", key=("me", 1))
            store.publish_in(connection, "a", "another")
            connection.commit()
            group = [Append([("a", b"data: again\n\n")], ("me", 1)), Append([("a", b"data: new\n\n")], None)]
            again, new = results = appender.append(group)
            events = new_events(group, results, appender.writer.before)
        assert again == [EventId(store.epoch, 1)]
        assert events == [StoredEvent(new[0], "a", b"data: new\n\n")]
        data = [event.event.data for event in (await store.read(ALL, None)).events]
        assert data == ["in the outbox", "another", "new"]


async def test_a_process_that_writes_alone_does_not_look(path):
    """The outbox costs an append nothing, unless another connection has written since the one before it."""
    async with SQLiteStore(path) as store:
        appender, statements = opener_of(store)(), []
        with closing(appender), closing(sqlite3.connect(path)) as connection:
            store.publish_in(connection, "a", "never")
            connection.rollback()
            appender.append([Append([("a", b"data: 1\n\n")], None)])
            appender.writer.connection.set_trace_callback(statements.append)
            appender.append([Append([("a", b"data: 2\n\n")], None)])
            assert not [statement for statement in statements if "outbox" in statement]
            store.publish_in(connection, "a", "3")
            connection.commit()
            appender.append([Append([("a", b"data: 4\n\n")], None)])
            assert [statement for statement in statements if "outbox" in statement]
        assert [event.event.data for event in (await store.read(ALL, None)).events] == ["1", "2", "3", "4"]


async def test_what_a_transaction_publishes_may_expire(path):
    """With a ttl the event is there until that many seconds after the call, and nobody gets it after them."""
    now = [1.7e9]
    async with SQLiteStore(path, clock=lambda: now[0]) as store:
        with closing(sqlite3.connect(path)) as connection:
            store.publish_in(connection, "a", "short", ttl=5)
            store.publish_in(connection, "a", "longer", ttl=50)
            store.publish_in(connection, "a", "kept")
            now[0] += 4  # between the call and the commit
            connection.commit()
            assert await read_now(store) == ["short", "longer", "kept"]
            store.publish_in(connection, "a", "waits too long", ttl=1)
            connection.commit()
            now[0] += 1
            assert await read_now(store) == ["longer", "kept"]
            now[0] += 45
            assert await read_now(store) == ["kept"]
            await store.append([])  # which deletes what has expired
            assert connection.execute("SELECT payload FROM events").fetchall() == [(b"data: kept\n\n",)]
            for ttl, error in ((0, ValueError), ("5", TypeError)):
                with pytest.raises(error, match="ttl must be a number of seconds, from 0.001 to 1e\\+10, or None; got"):
                    store.publish_in(connection, "a", "x", ttl=ttl)


async def read_now(store):
    """What a read gives, after a look into the outbox."""
    await store.append([])
    page = await store.read(ALL, None)
    assert page.gap is None
    return [event.event.data for event in page.events]


async def test_a_file_that_has_no_outbox_yet(path):
    """An older file, and one that no store has opened, are published to as any."""
    async with SQLiteStore(path) as store:
        await store.append([("a", b"data: 1\n\n")])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE outbox")
    async with SQLiteStore(path) as store, store.follow(EventId(store.epoch, 0)) as pages:
        assert len((await anext(pages)).events) == 1
        with anyio.move_on_after(0.05):
            await anext(pages)
        with closing(sqlite3.connect(path)) as connection:
            store.publish_in(connection, "a", "2")
            connection.commit()
        with anyio.fail_after(30):
            assert [event.event.data for event in (await anext(pages)).events] == ["2"]


async def test_sqlalchemy(store, path):
    """The same on a Connection of SQLAlchemy's, and on a Session."""
    sqlalchemy = pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed")
    from sqlalchemy.orm import Session

    engine = sqlalchemy.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        assert store.publish_in(connection, "a", "connection") is None
    with Session(engine) as session:
        store.publish_in(session, "a", "never")
        session.rollback()
        store.publish_in(session, "a", "session")
        session.commit()
    engine.dispose()
    assert await take(store, 2) == ["connection", "session"]


class _Cursor:
    def __init__(self, executed):
        self._executed = executed

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._executed.append("closed")

    def execute(self, statement, values):
        self._executed.append((statement.split()[0], statement.count("%s"), values))


async def test_connections_of_other_kinds(store):
    """Django's execute by cursors, aiosqlite's are awaited; what is none of these is a TypeError."""
    executed = []

    class OfDjango:
        def cursor(self):
            return _Cursor(executed)

    class OfAiosqlite:
        async def execute(self, statement, values):
            executed.append((statement.split()[0], statement.count("?"), values))

    OfDjango.__module__, OfAiosqlite.__module__ = "django.db", "aiosqlite.core"
    assert store.publish_in(OfDjango(), "a", "x") is None
    values = ("a", b"data: x\n\n", None, None)
    assert executed == [("CREATE", 0, None), "closed", ("INSERT", 4, values), "closed"]
    executed.clear()
    await store.publish_in(OfAiosqlite(), "a", "x", key=("me", 7))
    assert executed == [("CREATE", 0, ()), ("INSERT", 4, (*values[:2], "me", 7))]
    with pytest.raises(TypeError, match="connection must be a connection of sqlite3, aiosqlite, SQLAlchemy or Django"):
        store.publish_in(object(), "a", "x")
