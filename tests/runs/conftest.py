# Runs on each store: several hubs on one store stand for several processes.

from __future__ import annotations

import secrets
from contextlib import asynccontextmanager

import anyio
import pytest

from sse_trio import open_hub, open_runs
from sse_trio.stores import MemoryStore, SQLiteStore

from ..stores.conftest import RedisServer, binary_of


@pytest.fixture(scope="session")
def redis_of_runs(tmp_path_factory):
    server = RedisServer(binary_of("redis"), tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(params=["sqlite", "redis", "postgres"])
def shared_store(request, tmp_path, anyio_backend_name):
    """Return a function that makes a store on one place, which several may be open on."""
    name = secrets.token_hex(4)
    if request.param == "sqlite":
        return lambda **options: SQLiteStore(tmp_path / "runs.sqlite", **options)
    if request.param == "postgres":
        if anyio_backend_name != "trio":
            pytest.skip("not applicable: runs on the slowest store take one loop; its own tests take both")
        pytest.importorskip("psycopg", reason="psycopg is not installed")
        from sse_trio.stores.postgres import PostgresStore

        url = request.getfixturevalue("shared_postgres").url
        return lambda **options: PostgresStore(url, name=name, **options)
    from sse_trio.stores.redis import RedisStore

    url = request.getfixturevalue("redis_of_runs").url
    return lambda **options: RedisStore(url, name=name, **options)


@asynccontextmanager
async def open_process(store=None, **options):
    """Open a hub and its runs, as a process does."""
    async with open_hub(MemoryStore() if store is None else store) as hub, open_runs(hub, **options) as runs:
        yield runs


def stop_keeping(task):
    """Make the owner of a run look dead: it renews no lease, and appends nothing of what the producer sends."""

    async def never(events):
        await anyio.sleep_forever()

    task.log.is_renewable = False
    task._recorder.keep = never
    task._recorder._offer = lambda: None
    task._channel.idle_writer = None
