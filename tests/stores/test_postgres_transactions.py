# Publishing in a user's own transaction: publish_in() on every kind of connection, the functions for SQL, the outbox.

from __future__ import annotations

import math
import subprocess
import sys

import anyio
import pytest

from sse_trio import ServerSentEvent
from sse_trio.stores import EventId
from sse_trio.stores._expiry import due_of
from sse_trio.stores._protocol import pack_event
from sse_trio.testing._store_locations import ALL

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")
from sse_trio.stores._postgres.connection import PostgresServer  # noqa: E402 -- it needs psycopg
from sse_trio.stores.postgres import PostgresStore  # noqa: E402 -- likewise

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("real_clock")]


@pytest.fixture
async def store(shared_postgres, name):
    async with PostgresStore(shared_postgres.url, name=name) as store:
        yield store


async def take(store, count):
    """Follow from the beginning until there are so many events."""
    events = []
    with anyio.fail_after(30):
        async with store.follow(EventId(store.epoch, 0)) as pages:
            while len(events) < count:
                events += (await anext(pages)).events
    return events


async def datas(store, count):
    return [event.event.data for event in await take(store, count)]


def connect(server):
    return psycopg.connect(server.url)


# --- every kind of connection


async def by_psycopg(server, store, events, *, commits):
    with connect(server) as connection:
        for topic, event in events:
            assert store.publish_in(connection, topic, event) is None
        if not commits:
            connection.rollback()


async def by_psycopg_async(server, store, events, *, commits):
    async with await psycopg.AsyncConnection.connect(server.url) as connection:
        for topic, event in events:
            await store.publish_in(connection, topic, event)
        if not commits:
            await connection.rollback()


async def by_asyncpg(server, store, events, *, commits):
    asyncpg = pytest.importorskip("asyncpg", reason="asyncpg is not installed")
    connection = await asyncpg.connect(server.url)
    transaction = connection.transaction()
    await transaction.start()
    for topic, event in events:
        await store.publish_in(connection, topic, event)
    await (transaction.commit() if commits else transaction.rollback())
    await connection.close()


def engine_url(server, driver):
    return server.url.replace("postgresql:", f"postgresql+{driver}:")


async def by_sqlalchemy(server, store, events, *, commits):
    sqlalchemy = pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed")
    engine = sqlalchemy.create_engine(engine_url(server, "psycopg"))
    with engine.connect() as connection:
        for topic, event in events:
            assert store.publish_in(connection, topic, event) is None
        if commits:
            connection.commit()
    engine.dispose()


async def by_sqlalchemy_session(server, store, events, *, commits):
    sqlalchemy = pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed")
    from sqlalchemy.orm import Session

    engine = sqlalchemy.create_engine(engine_url(server, "psycopg"))
    with Session(engine) as session:
        for topic, event in events:
            store.publish_in(session, topic, event)
        if commits:
            session.commit()
    engine.dispose()


async def by_sqlalchemy_async(server, store, events, *, commits, driver="psycopg"):
    pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed")
    from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

    engine = create_async_engine(engine_url(server, driver))
    async with AsyncSession(engine) as session:
        for topic, event in events:
            await store.publish_in(session, topic, event)
        if commits:
            await session.commit()
    await engine.dispose()


async def by_sqlalchemy_asyncpg(server, store, events, *, commits):
    pytest.importorskip("asyncpg", reason="asyncpg is not installed")
    await by_sqlalchemy_async(server, store, events, commits=commits, driver="asyncpg")


_OF_ASYNCIO = [by_psycopg_async, by_asyncpg, by_sqlalchemy_async, by_sqlalchemy_asyncpg]


@pytest.mark.parametrize("publish", [by_psycopg, by_sqlalchemy, by_sqlalchemy_session, *_OF_ASYNCIO])
async def test_an_event_exists_if_and_only_if_its_transaction_commits(
    shared_postgres, store, publish, anyio_backend_name
):
    """What a transaction publishes is there when it commits, each event once, and never if it rolls back."""
    if publish in _OF_ASYNCIO and anyio_backend_name == "trio":
        pytest.skip("not applicable: this driver needs asyncio")
    events = [("orders/1", "paid"), ("orders/\0/\1", ServerSentEvent("x\ny", event="e"))]
    await publish(shared_postgres, store, [("orders/1", "never")], commits=False)
    await publish(shared_postgres, store, events, commits=True)
    taken = await take(store, 2)
    assert [(event.topic, event.payload) for event in taken] == [
        (topic, pack_event(event if isinstance(event, ServerSentEvent) else ServerSentEvent(event)))
        for topic, event in events
    ]
    assert (await store.read(ALL, None)).events == tuple(taken)


_DJANGO = """
import sys
from django.conf import settings
at, port = sys.argv[1:]
database = {"ENGINE": "django.db.backends.postgresql", "HOST": "127.0.0.1", "PORT": port}
database |= {"USER": "postgres", "NAME": "postgres"}
settings.configure(DATABASES={"default": database})
from django.db import connection, transaction
from sse_trio.stores.postgres import PostgresStore
store = PostgresStore(f"postgresql://postgres@127.0.0.1:{port}/postgres", name=at)
with transaction.atomic():
    assert store.publish_in(connection, "orders/1", "paid") is None
try:
    with transaction.atomic():
        store.publish_in(connection, "orders/1", "never")
        raise LookupError
except LookupError:
    pass
"""


def test_django(shared_postgres, name):
    """The same on Django's connection, with `transaction.atomic()`, in a process that has no store open."""
    pytest.importorskip("django", reason="Django is not installed")

    async def read():
        async with PostgresStore(shared_postgres.url, name=name) as store:
            return await datas(store, 1)

    async def make_tables():
        async with PostgresStore(shared_postgres.url, name=name):
            pass

    anyio.run(make_tables)
    subprocess.run([sys.executable, "-c", _DJANGO, name, str(shared_postgres.port)], check=True)
    assert anyio.run(read, backend="trio") == ["paid"]


async def test_a_connection_that_has_cursors_only(store):
    """Django's connections execute by cursors, which are closed again."""
    executed = []

    class Cursor:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            executed.append("closed")

        def execute(self, *statement):
            executed.append(statement)

    class Connection:
        cursor = Cursor

    Connection.__module__ = "django.db"
    assert store.publish_in(Connection(), "orders/1", "paid") is None
    ((statement, values), end) = executed
    assert statement.startswith("SELECT sse_trio.publish_packed(%s::text")
    assert values[1:] == ("orders/1", b"data: paid\n\n", None, None)
    assert end == "closed"


async def test_a_connection_of_no_driver_is_refused(store):
    """A connection that is none of these is a TypeError that says which are."""
    with pytest.raises(TypeError, match="connection must be a connection of psycopg, asyncpg, SQLAlchemy or Django"):
        store.publish_in(object(), "orders/1", "paid")


# --- order


async def test_events_come_in_the_order_of_the_commits(shared_postgres, store):
    """A transaction that began first and commits last is last, and no reader that was faster misses it."""
    async with store.follow(EventId(store.epoch, 0)) as pages:
        with connect(shared_postgres) as early, connect(shared_postgres) as late, anyio.fail_after(30):
            store.publish_in(early, "t", "began first")
            store.publish_in(late, "t", "committed first")
            late.commit()
            (first,) = (await anext(pages)).events
            await store.append([("t", pack_event(ServerSentEvent("in between")))])
            (second,) = (await anext(pages)).events
            early.commit()
            (third,) = (await anext(pages)).events
    found = [event.event.data for event in (first, second, third)]
    assert found == ["committed first", "in between", "began first"]
    assert first.id < second.id < third.id


async def test_transactions_that_wait_together_are_moved_in_the_order_of_their_commits(shared_postgres, name):
    """With nobody there to move them, events wait in the order of the commits, and those of one commit together."""
    store = PostgresStore(shared_postgres.url, name=name)
    async with store:
        with connect(shared_postgres) as one, connect(shared_postgres) as other:
            for n in range(3):
                store.publish_in(one, "t", f"one {n}")
                store.publish_in(other, "t", f"other {n}")
            other.commit()
            one.commit()
        await store.append([("t", pack_event(ServerSentEvent("after both")))])
        found = [event.event.data for event in (await store.read(ALL, None)).events]
    assert found == ["other 0", "other 1", "other 2", "one 0", "one 1", "one 2", "after both"]


async def test_an_open_transaction_keeps_nobody_waiting(shared_postgres, store):
    """While a transaction that has published stays open, others publish and commit, and followers hear of them."""
    async with store.follow(EventId(store.epoch, 0)) as pages:
        with connect(shared_postgres) as slow, anyio.fail_after(30):
            store.publish_in(slow, "t", "slow")
            for n in range(20):
                with connect(shared_postgres) as quick:
                    store.publish_in(quick, "t", f"quick {n}")
                (event,) = (await anext(pages)).events
                assert event.event.data == f"quick {n}"
            slow.rollback()


async def test_a_repeatable_read_transaction_can_publish(shared_postgres, store):
    """Events that others publish meanwhile make no transaction fail, whatever its isolation."""
    with connect(shared_postgres) as connection:
        connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        connection.execute("SELECT 1")
        await store.append([("t", b"data: other\n\n")])
        store.publish_in(connection, "t", "mine")
    assert await datas(store, 2) == ["other", "mine"]


async def test_whoever_finds_the_hub_locked_leaves_the_outbox_to_its_holder(shared_postgres, store, name):
    """Moving events waits for no lock: whoever holds the hub moves them, or the next one who looks."""
    mover = PostgresServer(shared_postgres.url, schema="sse_trio", reply_within=30).connect()
    with connect(shared_postgres) as holder, mover:
        holder.execute("SELECT FROM sse_trio.hubs WHERE name = %s FOR UPDATE", (name,))
        with connect(shared_postgres) as connection:
            store.publish_in(connection, "t", "waits")
        store._writer.move(mover)
        assert (await store.read(ALL, None)).events == ()
        holder.rollback()
        with anyio.fail_after(30):
            while not (await store.read(ALL, None)).events:
                store._writer.move(mover)  # the maintenance of the store may have the lock for a moment
        store._writer.move(mover)  # nothing is left
    assert await datas(store, 1) == ["waits"]


# --- keys


async def test_a_key_is_used_once(shared_postgres, store):
    """Of several events with one key, published in transactions or by the hub, the first to commit is kept."""
    await store.append([("t", b"data: 0\n\n")], key=("me", 1))
    with connect(shared_postgres) as connection:
        store.publish_in(connection, "t", "doubled", key=("me", 1))
        store.publish_in(connection, "t", "1", key="named")
        store.publish_in(connection, "t", "doubled", key="named")
        connection.execute("SELECT sse_trio.publish(%s, 't', 'doubled', NULL, 'named')", (store._hub,))
        store.publish_in(connection, "t", "2")
    assert await datas(store, 3) == ["0", "1", "2"]
    assert len((await store.read(ALL, None)).events) == 3


# --- SQL


async def test_sql_publishes_what_python_publishes(shared_postgres, store, name):
    """The SQL function makes the same event as the library, byte for byte."""
    data = ["", "x", "a\nb", "a\r\nb\rc\n", "\n", "ü€😀", "a: b", " x ", "\x01"]
    events = [(f"t/{text or 0}", ServerSentEvent(text, event=event)) for text in data for event in (None, "paid")]
    with connect(shared_postgres) as connection:
        for topic, event in events:
            connection.execute("SELECT sse_trio.publish(%s, %s, %s, %s)", (name, topic, event.data, event.event))
    found = [(event.topic, event.payload) for event in await take(store, len(events))]
    assert found == [(topic, pack_event(event)) for topic, event in events]


async def test_what_a_transaction_publishes_may_expire(shared_postgres, name):
    """With a ttl the event is there until that many seconds after the call, and nobody gets it after them."""
    now = [1.7e9]
    async with PostgresStore(shared_postgres.url, name=name, clock=lambda: now[0]) as store:
        with connect(shared_postgres) as connection:
            store.publish_in(connection, "t", "short", ttl=5)
            store.publish_in(connection, "t", "longer", ttl=50)
            store.publish_in(connection, "t", "kept")
            now[0] += 4  # between the call and the commit
        assert await read_now(store) == ["short", "longer", "kept"]
        with connect(shared_postgres) as connection:
            store.publish_in(connection, "t", "waits too long", ttl=1)
            connection.commit()
            now[0] += 1
        assert await read_now(store) == ["longer", "kept"]
        now[0] += 45
        assert await read_now(store) == ["kept"]
        for ttl, error in ((0, ValueError), ("5", TypeError)):
            with pytest.raises(error, match="ttl must be a number of seconds, from 0.001 to 1e\\+10, or None; got"):
                store.publish_in(None, "t", "x", ttl=ttl)


async def read_now(store):
    """What a read gives, after a look into the outbox."""
    await store.append([])
    page = await store.read(ALL, None)
    assert page.gap is None
    return [event.event.data for event in page.events]


async def test_what_sql_publishes_may_expire(shared_postgres, name):
    """A ttl in SQL counts by the server's clock, and gives the event that Python's gives."""
    now = [0.0]
    async with PostgresStore(shared_postgres.url, name=name, clock=lambda: now[0]) as store:
        ((before,),) = shared_postgres.sql("SELECT extract(epoch FROM clock_timestamp())::float8")
        for ttl in ("60", "6e1::real", "60::numeric", "60.0", "1e10", "0.001"):
            call = f"SELECT sse_trio.publish(%s, 't', 'x', 'e', ttl => {ttl})"
            shared_postgres.sql(call, name)
        for ttl in ("NULL", "NULL::float8"):
            shared_postgres.sql(f"SELECT sse_trio.publish(%s, 't', 'kept', NULL, NULL, {ttl})", name)
        ((after,),) = shared_postgres.sql("SELECT extract(epoch FROM clock_timestamp())::float8")
        assert await read_now(store) == ["x"] * 6 + ["kept"] * 2
        page = await store.read(ALL, None)
        dues = [due_of(event.payload) for event in page.events]
        assert [due is None for due in dues] == [False] * 6 + [True] * 2
        least = [before + ttl for ttl in (60, 60, 60, 60, 1e10, 0.001)]
        for due, wanted in zip(dues[:6], least, strict=True):
            assert wanted - 0.001 <= due <= wanted + after - before + 0.001
        for event in page.events[:6]:
            assert event.payload.partition(b"\n")[2] == b"event: e\ndata: x\n\n"
        now[0] = after + 61
        assert await read_now(store) == ["x", "kept", "kept"]


_REFUSED = [
    (("", "x"), "a topic must have"),
    ((None, "x"), "a topic must have"),
    (("a/*", "x"), "a topic must have"),
    (("t" * 1025, "x"), "a topic must have"),
    (("$sse_trio/kick", "x"), "must not begin"),
    (("t", None), "must not be null"),
    (("t", "x", "a\nb"), "event must be one line"),
    (("t", "x", None, ""), "key must not be empty"),
    *[
        (("t", "x", None, None, ttl), r"ttl must be a number of seconds, from 0.001 to 1e\+10, or NULL; got")
        for ttl in (0, -1, 0.0009, 1.1e10, math.inf, -math.inf, math.nan)
    ],
]


async def test_sql_refuses_what_python_refuses(shared_postgres, name, store):
    """What the library would refuse raises an error in SQL, and the transaction fails rather than the hub."""
    for arguments, complaint in _REFUSED:
        marks = ", ".join(["%s"] * len(arguments))
        with pytest.raises(psycopg.errors.RaiseException, match=complaint):
            shared_postgres.sql(f"SELECT sse_trio.publish(%s, {marks})", name, *arguments)


async def test_what_a_trigger_publishes_may_expire(shared_postgres, store, name):
    """One more argument of the trigger is the ttl of its events."""
    table = f"orders_{name}"
    with connect(shared_postgres) as connection:
        connection.execute(f"CREATE TABLE {table} (id text PRIMARY KEY)")
        connection.execute(
            f"CREATE TRIGGER publish AFTER INSERT ON {table} FOR EACH ROW "
            f"EXECUTE FUNCTION sse_trio.publish_row('{name}', 'orders', 'id', 3600)"
        )
        connection.execute(f"INSERT INTO {table} VALUES ('7')")
    (event,) = await take(store, 1)
    assert (event.topic, event.event.data) == ("orders/7", '{"id": "7"}')
    assert due_of(event.payload) is not None


async def test_a_trigger_publishes_what_happens_to_a_table(shared_postgres, store, name):
    """With one CREATE TRIGGER a table publishes each of its rows that is inserted, changed or deleted."""
    table = f"orders_{name}"
    with connect(shared_postgres) as connection:
        connection.execute(f"CREATE TABLE {table} (id text PRIMARY KEY, state text)")
        connection.execute(
            f"CREATE TRIGGER publish AFTER INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW "
            f"EXECUTE FUNCTION sse_trio.publish_row('{name}', 'orders', 'id')"
        )
        connection.execute(f"INSERT INTO {table} VALUES ('7', 'new'), ('50%*', 'new')")
        connection.execute(f"UPDATE {table} SET state = 'paid' WHERE id = '7'")
        connection.execute(f"DELETE FROM {table} WHERE id = '7'")
    found = [(event.topic, event.event.event, event.event.data) for event in await take(store, 4)]
    assert found == [
        ("orders/7", "insert", '{"id": "7", "state": "new"}'),
        ("orders/50%25%2A", "insert", '{"id": "50%*", "state": "new"}'),
        ("orders/7", "update", '{"id": "7", "state": "paid"}'),
        ("orders/7", "delete", '{"id": "7", "state": "paid"}'),
    ]
