# PostgresStore: the conformance kit, and what is its own: the schema, roles, locks, pollers.

from __future__ import annotations

import re
from pathlib import Path

import anyio
import pytest

from sse_trio._errors import StoreUnavailableError
from sse_trio.stores import EventId, Gap, MemoryStore, Retention, TopicFilter
from sse_trio.testing import _store_checks as checks
from sse_trio.testing import _store_holds as holds
from sse_trio.testing._check_store import check_event_store
from sse_trio.testing._store_locations import ALL, Locations, plain, read_all

postgres = pytest.importorskip("sse_trio.stores.postgres", reason="psycopg is not installed")
PostgresStore = postgres.PostgresStore

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("real_clock")]


@pytest.mark.untraced
async def test_conformance(shared_postgres, name):
    """PostgresStore keeps every promise of the protocol."""

    def make(place, hub, topic):
        limits = {"max_events": hub.max_events, "max_age": hub.max_age, "max_bytes": hub.max_bytes}
        return PostgresStore(shared_postgres.url, name=f"{name}-{place}", **limits, per_topic=topic)

    await check_event_store(make, make_by_prefix=make)


async def test_claims(shared_postgres, name):
    """What it promises of held topics, of keys and of order, where coverage looks; the kit runs without it."""

    def make(place, hub, topic):
        limits = {"max_events": hub.max_events, "max_age": hub.max_age, "max_bytes": hub.max_bytes}
        return PostgresStore(shared_postgres.url, name=f"{name}-{place}", **limits, per_topic=topic)

    for check in (checks.idempotent, checks.gap_while_reading, holds.hold, holds.due, holds.held):
        await check(Locations(make, check.__name__))


async def test_reads_give_what_memory_gives(shared_postgres, name, monkeypatch):
    """Few topics and many, rare and frequent ones, named and by prefix: every read is that of the memory store."""
    monkeypatch.setattr("sse_trio.stores._postgres.reader._SCAN", 20)
    monkeypatch.setattr("sse_trio.stores._postgres.selection._MERGED", 2)
    items = [(f"often/{n % 3}", b"%d" % n) for n in range(60)]
    items += [(f"rare/{n}", b"%d" % n) for n in range(5)] + items[:40]
    patterns = [
        ("*",),
        ("rare/*",),
        ("often/*",),
        ("rare/1",),
        ("rare/1", "often/*"),
        ("rare/*", "often/1"),
        ("no/*", "x"),
    ]
    async with MemoryStore() as memory, PostgresStore(shared_postgres.url, name=name) as store:
        await memory.append(items)
        await store.append(items)
        for chosen in patterns:
            topics = TopicFilter(*chosen)
            for after in (None, 0, 3, 59, 63, 105):
                ids = [None if after is None else EventId(each.epoch, after) for each in (memory, store)]
                expected, _ = await read_all(memory, topics, ids[0], limit=7)
                found, gap = await read_all(store, topics, ids[1], limit=7)
                assert (plain(found), gap) == (plain(expected), None)
            foreign = EventId("other", 1)
            expected, _ = await read_all(memory, topics, foreign, limit=7)
            found, gap = await read_all(store, topics, foreign, limit=7)
            assert plain(found) == plain(expected)
            assert gap == Gap(foreign, found[0].id if found else None)
            for count in (0, 2, 5, 200):
                expected_last, last = await memory.read_last(topics, count), await store.read_last(topics, count)
                assert plain(last.events) == plain(expected_last.events)


# --- names


async def test_topics_tokens_and_keys_may_have_any_characters(shared_postgres, name):
    """What PostgreSQL's text can't hold, or its indexes, is kept and found all the same."""
    topics = ["\0", "\1", "a\0/\1\2", "a\0/b", "\U0001f600" * 1024, "\U0001f600" * 1023 + "x"]
    async with PostgresStore(shared_postgres.url, name=name, per_topic=Retention(max_events=2)) as store:
        for topic in topics:
            for n in range(3):
                await store.append([(topic, b"%d" % n)], key=(topic * 100, n))
            (again,) = await store.append([(topic, b"doubled")], key=(topic * 100, 2))
            events, gap = await read_all(store, TopicFilter(topic), EventId(store.epoch, 0))
            assert [(event.topic, event.payload) for event in events] == [(topic, b"1"), (topic, b"2")]
            assert (events[-1].id, gap is not None) == (again, True)


async def test_names_are_kept_one_to_one():
    """No two texts are kept as one, and each comes back as it was."""
    from sse_trio.stores._postgres.names import from_text, to_text

    texts = ["", "a", "\0", "\1", "\1\1", "\1\2", "\0\1", "\1\0", "\2", "a\0\1\2b"]
    assert [from_text(to_text(text)) for text in texts] == texts
    assert len({to_text(text) for text in texts}) == len(texts)
    assert not any("\0" in to_text(text) for text in texts)


async def test_two_hubs_and_two_schemas_do_not_meet(shared_postgres, name):
    """Hubs of other names, and of other schemas, keep their events to themselves."""
    schema = f"s{name}"
    async with (
        PostgresStore(shared_postgres.url, name="one", schema=schema) as one,
        PostgresStore(shared_postgres.url, name="two", schema=schema) as two,
        PostgresStore(shared_postgres.url, name="one", schema=f"{schema}_other") as other,
    ):
        await one.append([("a", b"1")], key=("p", 1))
        for store in (two, other):
            assert (await store.read(ALL, None)).events == ()
            (id_,) = await store.append([("a", b"2")], key=("p", 1))
            assert plain((await store.read(ALL, None)).events) == [(id_.sequence, "a", b"2")]


# --- the schema


async def test_the_migration_runs_in_a_tool_of_ones_own(shared_postgres, name):
    """With migrate=False the store makes nothing, says what to run, and works when that was run, in one transaction."""
    schema = f"m{name}"
    make = {"schema": schema, "migrate": False}
    with pytest.raises(StoreUnavailableError, match=rf"{schema} has no tables of sse_trio's; run what .*migration"):
        async with PostgresStore(shared_postgres.url, **make):
            pass
    sqlalchemy = pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed")
    engine = sqlalchemy.create_engine(shared_postgres.url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:  # as Alembic's op.execute() does
        connection.execute(sqlalchemy.text(postgres.migration(schema)))
    engine.dispose()
    async with PostgresStore(shared_postgres.url, **make) as store:
        await store.append([("a", b"1")])
        shared_postgres.sql(f"UPDATE {schema}.version SET version = 99")
    with pytest.raises(StoreUnavailableError, match="has version 99; this release of sse_trio knows version 1"):
        async with PostgresStore(shared_postgres.url, **make):
            pass


async def test_many_that_start_at_once_make_the_tables_once(shared_postgres, name):
    """Processes that find no tables at the same time all open their store."""
    events = []

    async def open_and_append(n):
        async with PostgresStore(shared_postgres.url, schema=f"n{name}") as store:
            events.extend(await store.append([("a", b"%d" % n)]))

    async with anyio.create_task_group() as group:
        for n in range(5):
            group.start_soon(open_and_append, n)
    assert sorted(event.sequence for event in events) == [1, 2, 3, 4, 5]
    assert len({event.epoch for event in events}) == 1


def grants(schema, server, publisher):
    """The statements that docs/postgres.md lists, for these roles."""
    page = (Path(__file__).parents[2] / "docs" / "postgres.md").read_text(encoding="utf-8")
    of_server, of_publisher = [
        block.replace("sse_trio", schema) for block in re.findall(r"```sql\n(GRANT.*?)```", page, re.DOTALL)
    ]
    return of_server.replace("TO server", f"TO {server}"), of_publisher.replace("TO publisher", f"TO {publisher}")


async def test_the_least_privileges(shared_postgres, name):
    """What the docs list suffices: a server needs the tables, a publisher functions and no table."""
    schema, server, publisher = f"p{name}", f"server_{name}", f"publisher_{name}"
    shared_postgres.sql(postgres.migration(schema))
    for role in (server, publisher):
        shared_postgres.sql(f"CREATE ROLE {role} LOGIN")
    of_server, of_publisher = grants(schema, server, publisher)
    shared_postgres.sql(of_server)
    shared_postgres.sql(f"GRANT USAGE ON SCHEMA {schema} TO {publisher}")
    call = f"SELECT {schema}.publish('sse_trio', 'a', 'from SQL')"
    import psycopg

    packed = f"SELECT {schema}.publish_packed('sse_trio', 'a', 'x', NULL, NULL)"
    for refused in (call, packed, f"SELECT * FROM {schema}.events", f"INSERT INTO {schema}.outbox (hub) VALUES ('h')"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            shared_postgres.sql(refused, user=publisher)
    shared_postgres.sql(of_publisher)

    def make(place, hub, topic):
        limits = {"max_events": hub.max_events, "max_age": hub.max_age, "max_bytes": hub.max_bytes}
        return PostgresStore(shared_postgres.url_of(server), schema=schema, name=place, **limits, per_topic=topic)

    for check in (checks.gap_while_reading, holds.held, holds.clear):
        await check(Locations(make, check.__name__))
    async with PostgresStore(shared_postgres.url_of(server), schema=schema) as store:
        shared_postgres.sql(call, user=publisher)
        async with store.follow(EventId(store.epoch, 0)) as pages:
            with anyio.fail_after(30):
                assert (await anext(pages)).events[0].event.data == "from SQL"


async def test_nobody_gets_the_rights_of_the_owner(shared_postgres, name):
    """A table of another role's, whose type has a cast to JSON, publishes nothing, and the cast does not run."""
    schema, role = f"p{name}", f"other_{name}"
    shared_postgres.sql(postgres.migration(schema))
    shared_postgres.sql(f"CREATE ROLE {role} LOGIN")
    shared_postgres.sql(f"CREATE SCHEMA {role} AUTHORIZATION {role}")
    shared_postgres.sql(f"GRANT USAGE ON SCHEMA {schema} TO {role}")
    shared_postgres.sql(f"GRANT EXECUTE ON FUNCTION {schema}.publish_row TO {role}")
    for statement in (
        f"CREATE TYPE {role}.t AS ENUM ('a')",
        f"CREATE FUNCTION {role}.f({role}.t) RETURNS json LANGUAGE sql AS $$ SELECT to_json(current_user::text) $$",
        f"CREATE CAST ({role}.t AS json) WITH FUNCTION {role}.f({role}.t)",
        f"CREATE TABLE {role}.x (v {role}.t)",
        f"CREATE TRIGGER p AFTER INSERT ON {role}.x FOR EACH ROW EXECUTE FUNCTION {schema}.publish_row('h', 'x', 'v')",
    ):
        shared_postgres.sql(statement, user=role)
    insert = f"INSERT INTO {role}.x VALUES ('a')"
    import psycopg

    for user in (role, "postgres"):
        with pytest.raises(psycopg.errors.RaiseException, match=f"this table, {role}, does not have them") as caught:
            shared_postgres.sql(insert, user=user)
    for statement in caught.value.diag.message_hint.split(";"):
        shared_postgres.sql(statement)
    shared_postgres.sql(insert)  # with the rights of the table's owner
    ((payload,),) = shared_postgres.sql(f"SELECT payload FROM {schema}.outbox")
    assert payload == f'event: insert\ndata: {{"v": "{role}"}}\n\n'.encode()


# --- what it says at the start


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"conninfo": 5}, TypeError, "conninfo must be a str such as"),
        ({"listen_conninfo": 5}, TypeError, "listen_conninfo must be a str such as"),
        ({"conninfo": "postgresql://u:secret@[h"}, ValueError, "conninfo must be .* this one can't be read"),
        ({"conninfo": "postgresql://u:se/cret@h/shop"}, ValueError, "user and password percent-encoded"),
        ({"conninfo": "postgres://u:secret@secret@h/shop"}, ValueError, "user and password percent-encoded"),
        ({"conninfo": "postgresql://u:secret/"}, ValueError, "user and password percent-encoded"),
        ({"listen_conninfo": "postgresql://u:5/secret@h"}, ValueError, "^listen_conninfo .* percent-encoded"),
        ({"name": ""}, ValueError, "name must be a str of 1 to 200"),
        ({"name": "a\0"}, ValueError, "name must be"),
        ({"schema": "No"}, ValueError, "schema must be a str of a-z"),
        ({"schema": 5}, TypeError, "schema must be a str of a-z"),
        ({"migrate": 1}, TypeError, "migrate must be"),
        ({"poll_interval": 0}, ValueError, "poll_interval must be"),
        ({"reply_within": 0}, ValueError, "reply_within must be"),
        ({"retry_for": -1}, ValueError, "retry_for must be"),
        ({"clock": 5}, TypeError, "clock must be"),
        ({"remember_keys": 0}, ValueError, "remember_keys must be"),
        ({"per_topic": 5}, TypeError, "per_topic must be"),
        ({"max_events": 0}, ValueError, "max_events must be"),
    ],
)
def test_bad_arguments(options, error, message):
    """A mistake is told when the store is made, and a password in the conninfo is not quoted."""
    with pytest.raises(error, match=message) as caught:
        PostgresStore(**{"conninfo": "postgresql://localhost", **options})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "conninfo",
    [
        "postgresql://u:se%2Fcre%40t@one:5432,two:5433/shop?application_name=a@b",
        "postgresql:///shop?host=/run/postgresql&user=a@b",
        "postgresql://[::1]/shop",
        "host=one,two port=5432, dbname=a@b",
        "",
    ],
)
def test_every_conninfo_that_can_be_meant_is_taken(conninfo):
    """An @ where libpq takes it for no part of an address is nobody's mistake."""
    assert "not open yet" in repr(PostgresStore(conninfo))


def test_the_repr_has_no_password():
    """The store shows which hub it is, where, and its state."""
    store = PostgresStore("postgresql://me:secret@db.example.org:7000/shop", name="orders")
    assert repr(store) == "<PostgresStore 'orders' in PostgreSQL at db.example.org:7000/shop: not open yet>"


async def test_a_server_that_is_not_there_fails_the_start(shared_postgres):
    """If the database can't be reached, the store says so at once, without a password."""
    with pytest.raises(StoreUnavailableError, match="PostgreSQL at 127.0.0.1:1/x is not available") as caught:
        async with PostgresStore("postgresql://me:secret@127.0.0.1:1/x"):
            pass
    assert "secret" not in str(caught.value)


async def test_a_database_that_is_not_fit_is_refused(shared_postgres, name):
    """Text in another encoding than UTF-8 could not be kept, so such a database is refused."""
    shared_postgres.sql(f"CREATE DATABASE l{name} ENCODING 'LATIN1' TEMPLATE template0")
    with pytest.raises(StoreUnavailableError, match="has the encoding LATIN1; make one with UTF8"):
        async with PostgresStore(shared_postgres.url_of("postgres", f"l{name}")):
            pass


async def test_a_server_that_is_too_old_is_refused(shared_postgres, monkeypatch):
    """PostgreSQL 12 lacks what the schema is written in, and the store says so."""
    monkeypatch.setattr("sse_trio.stores._postgres.install._OLDEST", 1_000_000)
    with pytest.raises(StoreUnavailableError, match="it is older than PostgreSQL 13"):
        async with PostgresStore(shared_postgres.url):
            pass


async def test_synchronous_commit_off_is_warned_of(shared_postgres, name, caplog):
    """A role whose commits return before they are safe is told so at the start."""
    shared_postgres.sql(f"CREATE ROLE lax_{name} LOGIN SUPERUSER")
    shared_postgres.sql(f"ALTER ROLE lax_{name} SET synchronous_commit = off")
    async with PostgresStore(shared_postgres.url_of(f"lax_{name}"), name=name) as store:
        await store.append([("a", b"")])
    assert "may lose acknowledged events at a crash; set synchronous_commit = on" in caplog.text
