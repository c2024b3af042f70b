# How many bytes each store keeps for an event of 100 bytes.
#
#   python benchmarks/store_sizes.py memory sqlite postgres redis-server
#
# 20,000 events in ten topics, and no limits. Memory is what Python's allocator says, SQLite is the file after a
# checkpoint, PostgreSQL is the table with its indexes, Redis is what it says of its data. Servers are started for this.

from __future__ import annotations

import argparse
import gc
import sqlite3
import tempfile
import tracemalloc
from pathlib import Path

import anyio
import psycopg
from postgres_transactions import load_servers
from redis_load import info, redis_server

from sse_trio.stores import MemoryStore
from sse_trio.stores.postgres import PostgresStore
from sse_trio.stores.redis import RedisStore
from sse_trio.stores.sqlite import SQLiteStore

EVENTS = 20_000


async def fill(store, measure):
    """Append the events. What there was before the second half doesn't count: tables, indexes, the first pages."""
    async with store:
        for half in range(2):
            before = measure()
            for n in range(0, EVENTS // 2, 100):
                numbers = range(half * EVENTS + n, half * EVENTS + n + 100)  # no two events share their bytes
                await store.append([(f"topic/{number % 10}", b"data: %094d\n\n" % number) for number in numbers])
        return (measure() - before) / (EVENTS // 2)


def size_of_memory():
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


async def memory():
    tracemalloc.start()
    return await fill(MemoryStore(None, max_bytes=None), size_of_memory)


async def sqlite():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.sqlite"

        def size():
            with sqlite3.connect(path) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return path.stat().st_size

        return await fill(SQLiteStore(path), size)


async def postgres():
    servers = load_servers()
    server = servers.PostgresServer(servers.find_postgres())
    try:
        server.start()

        def size():
            with psycopg.connect(server.url) as connection:
                return connection.execute("SELECT pg_total_relation_size('sse_trio.events')").fetchone()[0]

        return await fill(PostgresStore(server.url, name="sizes"), size)
    finally:
        server.remove()


async def redis():
    with redis_server("redis-server") as port:
        store = RedisStore(f"redis://127.0.0.1:{port}", name="sizes")
        return await fill(store, lambda: info(port, "memory", "used_memory_dataset"))


STORES = {"memory": memory, "sqlite": sqlite, "postgres": postgres, "redis-server": redis}

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("stores", nargs="+", choices=STORES)
    for name in parser.parse_args().stores:
        print(f"{name}: {anyio.run(STORES[name]):.0f} bytes for each event")
