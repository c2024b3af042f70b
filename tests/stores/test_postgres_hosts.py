# PostgresStore with several servers: which of them it takes, and poolers in front of them that lead elsewhere.

from __future__ import annotations

import anyio
import pytest

from sse_trio._errors import StoreUnavailableError
from sse_trio.testing._store_locations import ALL

from ._pgbouncer import PgBouncer, find_pgbouncer
from ._postgres import PostgresReplica, url_through

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")
from sse_trio.stores._postgres.connection import (  # noqa: E402 -- it needs psycopg
    PostgresConnection,
    PostgresServer,
    is_transient,
    transaction,
)
from sse_trio.stores._postgres.hosts import each_host, first_of  # noqa: E402 -- likewise
from sse_trio.stores.postgres import PostgresStore  # noqa: E402 -- likewise

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("real_clock")]
on_one_loop = pytest.mark.parametrize("anyio_backend", ["trio"])  # what happens here happens in threads


def where(conninfo):
    return [[one.get(name) for name in ("host", "hostaddr", "port", "target_session_attrs")] for one in conninfo]


@pytest.mark.parametrize(
    ("conninfo", "expected"),
    [
        ({}, [[None, None, None, None]]),
        ({"service": "shop", "port": "1,2"}, [[None, None, "1,2", None]]),
        ({"host": "a", "target_session_attrs": "primary"}, [["a", None, None, "primary"], ["a", None, None, "any"]]),
        ({"host": "a,b"}, [["a", None, None, None], ["b", None, None, None]]),
        ({"host": "a,b", "port": 5}, [["a", None, "5", None], ["b", None, "5", None]]),
        (
            {"hostaddr": "::1,::2", "port": "1,2", "target_session_attrs": "read-write"},
            [
                [None, "::1", "1", "read-write"],
                [None, "::2", "2", "read-write"],
                [None, "::1", "1", "any"],
                [None, "::2", "2", "any"],
            ],
        ),
        ({"host": "a,b,c", "port": "1,2"}, [["a,b,c", None, "1,2", None]]),
    ],
)
def test_each_server_is_tried_alone(conninfo, expected):
    """A conninfo with several servers is one for each of them, first as libpq chooses, then by what the store asks."""
    assert where(each_host(conninfo)) == expected


def test_the_errors_of_all_servers_are_told():
    """If no server can be taken, the error says of each why."""

    def connect(server):
        raise psycopg.OperationalError(f"no {server['host']}")

    with pytest.raises(psycopg.OperationalError, match="^no a$"):
        first_of([{"host": "a"}], connect)
    with pytest.raises(psycopg.OperationalError, match="^a:5432: no a; b:7: no b$"):
        first_of([{"host": "a"}, {"host": "b", "port": "7"}], connect)


@pytest.fixture(scope="module")
def standby(shared_postgres):
    """A standby of the server that tests share."""
    standby = PostgresReplica(shared_postgres)
    standby.start()
    yield standby
    standby.remove()


@pytest.fixture
def make_pooler(make_proxy):
    """Return a function that makes a pooler in front of a server, and the proxy in between."""
    if find_pgbouncer() is None:
        pytest.skip("there is no pgbouncer: install Debian's pgbouncer")
    poolers = []

    def make(server):
        proxy = make_proxy(server)
        poolers.append(PgBouncer(find_pgbouncer(), int(proxy.url.rpartition(":")[2])))
        psycopg.connect(poolers[-1].url).close()  # now it tells clients what this server is
        return poolers[-1], proxy

    yield make
    for pooler in poolers:
        pooler.remove()


@on_one_loop
async def test_a_standby_is_passed_over(shared_postgres, standby, name):
    """Of several servers the store takes the one that can be written to, without being told to."""
    url = f"postgresql://postgres@127.0.0.1:{standby.port},127.0.0.1:{shared_postgres.port}/postgres"
    async with PostgresStore(url, name=name) as store:
        assert (await store.append([("a", b"1")]))[0].sequence == 1
    with pytest.raises(StoreUnavailableError, match="it is a standby; name all servers"):
        await PostgresStore(standby.url, name=name, retry_for=0).__aenter__()


@on_one_loop
async def test_poolers_that_say_what_their_servers_were(make_pooler, shared_postgres, standby, name):
    """A pooler beside each server, that tells clients which was the primary before a failover, misleads no store."""
    (one, to_one), (two, to_two) = make_pooler(shared_postgres), make_pooler(standby)
    for proxy, server in ((to_one, standby), (to_two, shared_postgres)):  # they change roles
        proxy.lead_to(server)
        proxy.cut()
    async with PostgresStore(url_through([one.port, two.port]), name=name, retry_for=60) as store:
        await store.append([("a", b"1")])
        assert len((await store.read(ALL, None)).events) == 1


@on_one_loop
async def test_a_pooler_that_leads_to_a_standby_for_a_while(make_pooler, shared_postgres, standby, name, caplog):
    """A pooler that is pointed at a server before that is the primary is an outage, and the store goes on after it."""
    pooler, proxy = make_pooler(shared_postgres)
    async with PostgresStore(pooler.url, name=name, retry_for=60) as store:
        (first,) = await store.append([("a", b"1")])
        proxy.lead_to(standby)
        proxy.cut()
        async with anyio.create_task_group() as group:
            group.start_soon(store.append, [("a", b"2")])
            with anyio.fail_after(60):
                while "trying again" not in caplog.text:
                    await anyio.sleep(0.01)
                proxy.lead_to(shared_postgres)
                proxy.cut()
        page = await store.read(ALL, first)
        assert (page.gap, [event.payload for event in page.events]) == (None, [b"2"])


def test_a_transaction_on_another_server_fails(make_pooler, shared_postgres, standby):
    """Behind a pooler a transaction runs on the server that was looked at, or not at all, and can be tried again."""
    pooler, _ = make_pooler(shared_postgres)
    server = PostgresServer(pooler.url, schema="sse_trio", reply_within=30)
    behind_pooler = server.connect()
    with transaction(behind_pooler, server.begin_write):
        pass
    behind_pooler.timeline += 1  # it was another primary
    led_to_standby = PostgresConnection.connect(standby.url, autocommit=True)
    for connection, message in (
        (behind_pooler, "the pooler has led to another server than before"),
        (led_to_standby, "the pooler has led to a standby"),
    ):
        with pytest.raises(psycopg.Error, match=message) as raised, transaction(connection, server.begin_write):
            raise AssertionError("a transaction has begun on another server")
        assert is_transient(raised.value)
        assert connection.closed


def test_a_server_that_fails_while_it_is_looked_at(shared_postgres, monkeypatch):
    """A server that does not answer is tried again, and not taken for one that knows no timelines."""
    ends = "SELECT pg_terminate_backend(pg_backend_pid())"
    monkeypatch.setattr("sse_trio.stores._postgres.connection._TIMELINE", ends)
    with pytest.raises(psycopg.OperationalError, match="terminating connection"):
        PostgresServer(shared_postgres.url, schema="sse_trio", reply_within=30).connect()
