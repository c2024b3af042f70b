# PostgresStore behind pgbouncer in transaction mode: a real one, in front of the real server.

from __future__ import annotations

import anyio
import pytest

from sse_trio.stores import EventId
from sse_trio.testing._store_locations import ALL, plain

from ._pgbouncer import PgBouncer, find_pgbouncer
from ._postgres import follow_by_looking

pytest.importorskip("psycopg", reason="psycopg is not installed")
from sse_trio.stores.postgres import PostgresStore, opener_of

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("real_clock")]


@pytest.fixture(scope="module")
def pooler(shared_postgres):
    """A pgbouncer in transaction mode, in front of the server that tests share."""
    program = find_pgbouncer()
    if program is None:
        pytest.skip("there is no pgbouncer: install Debian's pgbouncer")
    pooler = PgBouncer(program, shared_postgres.port)
    yield pooler
    pooler.remove()


async def test_transactions_that_share_server_processes(pooler, name):
    """Behind a pooler that gives each transaction any server process, nothing is lost, doubled or mixed up."""
    stores = [PostgresStore(pooler.url, name=f"{name}-{n}") for n in range(3)]

    async def append(store, number):
        async with store:
            for n in range(20):  # more than psycopg executes before it prepares
                await store.append([(f"t/{number}", b"%d" % n)], key=(f"p{number}", n))
                await store.held("t/1")
            page = await store.read(ALL, EventId(store.epoch, 0))
        assert plain(page.events) == [(n + 1, f"t/{number}", b"%d" % n) for n in range(20)]

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            for number, store in enumerate(stores):
                group.start_soon(append, store, number)


async def test_no_statement_is_prepared_behind_a_pooler(pooler, shared_postgres, name):
    """A pooler is recognized, and a server without one too, so that only there statements are prepared."""
    async with PostgresStore(shared_postgres.url, name=name):  # makes the tables
        pass
    thresholds = []
    for url in (pooler.url, shared_postgres.url):
        appender = opener_of(PostgresStore(url, name=name))()
        thresholds.append(appender._prepared().prepare_threshold)
        appender.close()
    assert thresholds == [None, 5]


async def test_events_are_found_by_looking(pooler, shared_postgres, name, caplog):
    """A follower behind the pooler finds events by looking, on one connection, and its log says what to pass."""
    async with PostgresStore(shared_postgres.url, name=name):  # makes the tables
        pass

    def is_done(found):
        return "pass listen_conninfo=" in caplog.text and len(found) >= 15

    found, connections = await follow_by_looking(PostgresStore(pooler.url, name=name, poll_interval=0.01), is_done)
    assert found == [*range(1, len(found) + 1)]
    assert len(connections) == 1


async def test_wake_ups_by_a_connection_of_their_own(pooler, shared_postgres, name):
    """With ``listen_conninfo`` a follower is woken, although everything else goes through the pooler."""
    store = PostgresStore(pooler.url, listen_conninfo=shared_postgres.url, name=name, poll_interval=3600)
    async with store, store.follow(EventId(store.epoch, 0)) as pages:
        for n in range(3):
            async with anyio.create_task_group() as group:
                group.start_soon(store.append, [("a", b"%d" % n)])
                with anyio.fail_after(30):
                    assert [event.payload for event in (await anext(pages)).events] == [b"%d" % n]
