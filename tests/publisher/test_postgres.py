"""Publishing to a PostgreSQL that fails."""

from __future__ import annotations

import secrets
import threading

import anyio
import pytest

from sse_trio import StoreUnavailableError
from sse_trio.publisher import Publisher
from sse_trio.testing._store_locations import ALL, read_all

stores_postgres = pytest.importorskip("sse_trio.stores.postgres", reason="psycopg is not installed")


@pytest.fixture
def name():
    return secrets.token_hex(4)


def data_of(url, name):
    async def read():
        async with stores_postgres.PostgresStore(url, name=name) as store:
            events, _ = await read_all(store, ALL, None, limit=5000)
        return [event.event.data for event in events]

    return anyio.run(read)


def test_a_server_that_crashes_and_comes_back_delays_a_publish(shared_postgres, name):
    """An event that is published while the server is down is kept once it is there again, once."""
    with Publisher(shared_postgres.url, name=name, retry_for=60) as publisher:
        publisher.publish("a", "before")
        shared_postgres.crash()
        starting = threading.Thread(target=shared_postgres.start)
        starting.start()
        publisher.publish("a", "while")
        starting.join()
        assert data_of(shared_postgres.url, name) == ["before", "while"]


def test_a_server_that_is_not_there(name):
    """The error says where it is not, and not with which password."""
    url = "postgresql://me:secret@127.0.0.1:1/shop"
    where = pytest.raises(StoreUnavailableError, match="PostgreSQL at 127.0.0.1:1/shop")
    with Publisher(url, name=name, retry_for=0) as publisher, where as caught:
        publisher.publish("a", "x")
    assert "secret" not in str(caught.value)


def test_a_schema_without_tables(shared_postgres, name):
    """With migrate=False nothing is made, and the error says at once what to run."""
    options = {"schema": f"x{name}", "migrate": False, "retry_for": 3600}
    refused = pytest.raises(StoreUnavailableError, match="has no tables of sse_trio's")
    with Publisher(shared_postgres.url, **options) as publisher, refused:
        publisher.publish("a", "x")
