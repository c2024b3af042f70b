# PostgresStore when a replica takes over. The servers are real, and one streams to the other.

from __future__ import annotations

import anyio
import pytest

from sse_trio._errors import StoreUnavailableError
from sse_trio.stores import EventId
from sse_trio.testing._store_locations import ALL

from ._postgres import PostgresReplica, PostgresServer, find_postgres

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")
from sse_trio.stores.postgres import PostgresStore, opener_of  # noqa: E402 -- it needs psycopg

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("real_clock")]


@pytest.fixture
def make_pair(anyio_backend_name):
    """Return a function that makes a primary and its standby."""
    if find_postgres() is None:
        pytest.skip("there is no PostgreSQL: install Debian's postgresql, or set SSE_TRIO_POSTGRES_BIN")
    servers = []

    def make(*settings):
        primary = PostgresServer(find_postgres(), *settings)
        servers.append(primary)
        primary.start()
        replica = PostgresReplica(primary)
        servers.append(replica)
        replica.start()
        return primary, replica

    yield make
    for server in servers:
        server.remove()


async def wait_replicated(primary):
    """Return when a standby has everything."""
    with anyio.fail_after(30):
        while primary.sql("SELECT 1 FROM pg_stat_replication WHERE replay_lsn = pg_current_wal_lsn()") == []:
            await anyio.sleep(0.01)


async def test_a_synchronous_replica_takes_over(make_pair, name):
    """With a synchronous replica a failover loses nothing, and no reader is told of a gap."""
    primary, replica = await anyio.to_thread.run_sync(make_pair)
    primary.sql("ALTER SYSTEM SET synchronous_standby_names = 'replica'")
    primary.sql("SELECT pg_reload_conf()")
    url = primary.url_with(replica)
    async with PostgresStore(url, name=name, retry_for=60) as store, store.follow(EventId(store.epoch, 0)) as pages:
        with anyio.fail_after(60):
            (before,) = await store.append([("a", b"before")])
            assert (await anext(pages)).next == before
            primary.crash()
            await anyio.to_thread.run_sync(replica.promote)
            (after,) = await store.append([("a", b"after")])
            page = await anext(pages)
            assert (page.gap, [event.payload for event in page.events]) == (None, [b"after"])
            assert after > before
            assert after.epoch == before.epoch
            assert [event.payload for event in (await store.read(ALL, EventId(store.epoch, 0))).events] == [
                b"before",
                b"after",
            ]


@pytest.mark.parametrize("anyio_backend", ["trio"])  # what happens here happens in threads: one loop suffices
async def test_what_an_asynchronous_replica_lacked_is_a_gap(make_pair, name):
    """If a failover loses events, their publishers and readers notice it, however much others publish before them."""
    primary, replica = await anyio.to_thread.run_sync(make_pair)
    url = primary.url_with(replica)
    async with PostgresStore(url, name=name, retry_for=60) as one, PostgresStore(url, name=name, retry_for=60) as two:
        (kept,) = await two.append([("a", b"kept")])
        await wait_replicated(primary)
        await anyio.to_thread.run_sync(replica.fall_behind)
        (lost,) = await one.append([("a", b"lost")])
        primary.crash()
        await anyio.to_thread.run_sync(replica.promote)
        others = [(await two.append([("a", b"%d" % n)]))[0] for n in range(3)]
        assert others[0].epoch == kept.epoch
        assert others[0] > lost
        page = await two.read(ALL, lost)
        assert page.gap.after == lost
        assert [event.payload for event in page.events] == [b"kept", b"0", b"1", b"2"]
        page = await two.read(ALL, kept)
        assert page.gap is None
        assert [event.id for event in page.events] == others
        (new,) = await one.append([("a", b"new")])
        assert new.epoch != kept.epoch  # now it is known that an event is gone
        assert (await two.read(ALL, kept)).gap is not None


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # likewise
async def test_a_reader_whose_events_are_gone_gets_a_gap(make_pair, name):
    """A follower that has seen an event which a failover lost gets a gap, and so does everybody else."""
    primary, replica = await anyio.to_thread.run_sync(make_pair)
    with pytest.raises(StoreUnavailableError, match="it is a standby; name all servers"):
        await PostgresStore(replica.url, name=name, retry_for=0).__aenter__()
    url = primary.url_with(replica)
    async with PostgresStore(url, name=name, retry_for=60) as one, one.follow(EventId(one.epoch, 0)) as pages:
        await wait_replicated(primary)
        await anyio.to_thread.run_sync(replica.fall_behind)
        async with PostgresStore(primary.url, name=name) as publisher:
            (lost,) = await publisher.append([("a", b"lost")])
        with anyio.fail_after(60):
            assert (await anext(pages)).next == lost
            primary.crash()
            await anyio.to_thread.run_sync(replica.promote)
            page = await anext(pages)
        assert page.gap is not None
        assert page.next.epoch != lost.epoch
        assert (await one.read(ALL, EventId(lost.epoch, 0))).gap is not None


async def test_a_server_that_does_not_tell_its_timeline(shared_postgres, name, monkeypatch):
    """Where a service has no such function the store works, and notices losses by its own publishers' ids."""
    monkeypatch.setattr("sse_trio.stores._postgres.connection._TIMELINE", "SELECT no_such_function()")
    async with PostgresStore(shared_postgres.url, name=name) as store:
        (id_,) = await store.append([("a", b"1")])
        assert (await store.read(ALL, EventId(store.epoch, 0))).next == id_
    assert shared_postgres.sql("SELECT 1 FROM sse_trio.writers WHERE time = 'infinity' AND hub = "
                               "(SELECT id FROM sse_trio.hubs WHERE name = %s)", name) == []  # fmt: skip


async def test_a_hub_that_is_gone_has_no_timelines(shared_postgres, name):
    """Where a history is lost as a whole nothing is noted of it."""
    appender = opener_of(PostgresStore(shared_postgres.url, name=name))()
    connection = appender._prepared()
    shared_postgres.sql("DELETE FROM sse_trio.hubs WHERE name = %s", name)
    store = PostgresStore(shared_postgres.url, name=name)
    failovers = store._new_writer().failovers
    failovers.look(connection)
    appender.close()
    assert not failovers.has_lost(EventId("", 5))


# --- a promotion that is only told of: the server says that it is on another timeline


@pytest.fixture
def promote(monkeypatch):
    """Return a function after which new connections find a server that was promoted."""

    def promote():
        monkeypatch.setattr("sse_trio.stores._postgres.connection._TIMELINE", "SELECT 1000")

    return promote


async def test_whoever_reads_on_from_a_lost_event_gets_a_gap(shared_postgres, name, promote):
    """A client, a reader of pages and a follower that come with the id of a lost event get a gap, and only they."""
    async with PostgresStore(shared_postgres.url, name=name) as store:
        (kept,) = await store.append([("a", b"kept")])
    lost = kept._replace(sequence=kept.sequence + 1)
    promote()
    async with PostgresStore(shared_postgres.url, name=name) as store:
        page = await store.read(ALL, kept)
        assert (page.gap, page.events) == (None, ())
        for after in (lost, page._replace(next=lost)):
            found = await store.read(ALL, after)
            assert found.gap.after == lost
            assert [event.id for event in found.events] == [kept]
        async with store.follow(lost) as pages:
            with anyio.fail_after(30):
                assert (await anext(pages)).gap.after == lost
        assert (await store.read(ALL, kept)).gap is None


async def test_followers_that_are_unequally_fast(shared_postgres, name):
    """The newest event that any follower of a process has seen is what a failover must not lack."""
    failovers = PostgresStore(shared_postgres.url, name=name)._new_writer().failovers
    failovers.note(EventId("e", 10))
    failovers.note(EventId("e", 8))
    assert failovers.lack("e", 9)
    failovers.note(EventId("f", 3))
    assert not failovers.lack("e", 9)
    assert failovers.lack("f", 2)


async def test_a_lost_event_that_is_told_of_late(shared_postgres, name, promote):
    """If a thread tells only after a failover that it has seen what was lost, the history gets its new epoch then."""
    async with PostgresStore(shared_postgres.url, name=name) as store:
        (kept,) = await store.append([("a", b"kept")])
    promote()
    appender = opener_of(PostgresStore(shared_postgres.url, name=name))()
    connection = appender._prepared()
    failovers = appender._writer.failovers
    failovers.note(kept._replace(sequence=kept.sequence + 1))
    failovers.look(connection)
    assert shared_postgres.sql("SELECT 1 FROM sse_trio.hubs WHERE name = %s AND epoch = %s", name, kept.epoch) == []
    failovers.look(connection)  # there is one new epoch, not one with each look
    assert not failovers.has_lost(kept._replace(sequence=kept.sequence + 1))
    appender.close()
