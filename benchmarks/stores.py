# How fast a store takes events from many publishers, and how soon a follower has them.
#
#   python benchmarks/stores.py sqlite --loop trio --publishers 100 --seconds 5
#   python benchmarks/stores.py postgres --url postgresql://me@localhost/shop

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import anyio

from sse_trio.stores import MemoryStore
from sse_trio.stores.sqlite import SQLiteStore

PAYLOAD = b"data: " + b"x" * 200 + b"\n\n"


def make_store(args, folder):
    if args.store == "memory":
        return MemoryStore()
    if args.store == "postgres":
        from sse_trio.stores.postgres import PostgresStore

        return PostgresStore(args.url, name="benchmark")
    return SQLiteStore(Path(folder) / "bench.db")


async def publish(store, n, until, waits):
    while time.perf_counter() < until:
        start = time.perf_counter()
        await store.append([(f"topic/{n % 10}", PAYLOAD)])
        waits.append(time.perf_counter() - start)


async def follow(store, after, seen):
    async with store.follow(after) as pages:
        async for page in pages:
            seen[0] += len(page.events)


async def main(args):
    with tempfile.TemporaryDirectory() as folder:
        waits, seen = [], [0]
        async with make_store(args, folder) as store, anyio.create_task_group() as group:
            if args.follow:
                group.start_soon(follow, store, (await store.read_last(ALL, 0)).tip, seen)
            cpu, start = time.process_time(), time.perf_counter()
            async with anyio.create_task_group() as publishers:
                for n in range(args.publishers):
                    publishers.start_soon(publish, store, n, start + args.seconds, waits)
            taken = time.perf_counter() - start
            cpu = time.process_time() - cpu
            group.cancel_scope.cancel()
    print(
        json.dumps(
            {
                "store": args.store,
                "loop": args.loop,
                "publishers": args.publishers,
                "events_per_second": round(len(waits) / taken),
                "followed_per_second": round(seen[0] / taken),
                "append_p50_ms": round(statistics.median(waits) * 1000, 2),
                "cpu_us_per_event": round(cpu / len(waits) * 1e6, 1),
            }
        )
    )


if __name__ == "__main__":
    from sse_trio.stores import TopicFilter

    ALL = TopicFilter("*")
    parser = argparse.ArgumentParser()
    parser.add_argument("store", choices=("memory", "sqlite", "postgres"))
    parser.add_argument("--url", help="of the database, for postgres")
    parser.add_argument("--loop", choices=("trio", "asyncio"), default="trio")
    parser.add_argument("--publishers", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--follow", action="store_true")
    args = parser.parse_args()
    anyio.run(main, args, backend=args.loop)
