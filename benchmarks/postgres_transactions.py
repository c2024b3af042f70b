# Events and transactions: processes publish in transactions of random length, a third of which roll back, while one
# transaction stays open for seconds, and readers come and go.
#
#   python benchmarks/postgres_transactions.py --loop trio --processes 8 --transactions 5000 --open-for 10
#
# Each reader has to see exactly what was committed, each event once, in one order. Prints what was wrong, and how late
# events came from their commit to a follower in another process. Anything wrong but 0 is a bug.

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import random
import secrets
import sys
import time
from pathlib import Path

import anyio
import psycopg
from anyio import to_thread

from sse_trio.stores import EventId, TopicFilter
from sse_trio.stores.postgres import PostgresStore

ALL = TopicFilter("*")


def load_servers():
    """The server is the tests' own."""
    path = Path(__file__).parent.parent / "tests" / "stores" / "_postgres.py"
    spec = importlib.util.spec_from_file_location("postgres_servers", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def publish(url, hub, worker, transactions, results):
    """Publish in transactions, in a process of its own. Returns what was committed, and when."""
    store, chance, committed = PostgresStore(url, name=hub), random.Random(worker), {}
    with psycopg.connect(url) as connection:
        for n in range(transactions):
            names = [f"{worker}-{n}-{m}" for m in range(chance.randrange(1, 4))]
            for name in names:
                store.publish_in(connection, f"t/{worker}", name)
                time.sleep(chance.choice((0, 0, 0.001, 0.01)))
            if chance.random() < 1 / 3:
                connection.rollback()
            else:
                before = time.monotonic()
                connection.commit()
                committed |= dict.fromkeys(names, before)
    results.put(committed)


class Run:
    """One run: what each reader saw, and when the follower saw it."""

    def __init__(self, url, options):
        self.url, self.options = url, options
        self.name = secrets.token_hex(4)
        self.seen = {}
        self.readers = []
        self.done = False

    async def main(self):
        context, workers = multiprocessing.get_context("spawn"), []
        results = context.Queue()
        each = self.options.transactions // self.options.processes
        async with PostgresStore(self.url, name=self.name) as store, anyio.create_task_group() as group:
            group.start_soon(self.follow, store)
            group.start_soon(self.come_and_go, store)
            group.start_soon(to_thread.run_sync, self.stay_open, store)
            for worker in range(self.options.processes):
                workers.append(context.Process(target=publish, args=(self.url, self.name, worker, each, results)))
                workers[-1].start()
            committed = {}
            for _ in workers:
                committed |= await to_thread.run_sync(results.get)
            for worker in workers:
                worker.join()
            with anyio.move_on_after(60):
                while len(self.seen) < len(committed) + (self.options.open_for > 0):
                    await anyio.sleep(0.02)
            self.done = True
            group.cancel_scope.cancel()
        return self.judge(committed)

    def stay_open(self, store):
        if self.options.open_for:
            with psycopg.connect(self.url) as connection:
                store.publish_in(connection, "t/slow", "slow")
                time.sleep(self.options.open_for)

    async def follow(self, store):
        async with store.follow(EventId(store.epoch, 0)) as pages:
            async for page in pages:
                now = time.monotonic()
                for event in page.events:
                    self.seen.setdefault(event.event.data, []).append((event.id, now))

    async def come_and_go(self, store):
        """Read for a while from where the last one stopped, as a client that reconnects."""
        last, chance, mine = EventId(store.epoch, 0), random.Random(0), []
        self.readers.append(mine)
        while not self.done:
            with anyio.move_on_after(chance.uniform(0.01, 0.3)):
                async with store.follow(last) as pages:
                    async for page in pages:
                        mine += [event.event.data for event in page.events]
                        last = page.next
            await anyio.sleep(chance.uniform(0, 0.1))

    def judge(self, committed):
        expected = {*committed, *(["slow"] if self.options.open_for else [])}
        order = [name for name, _ in sorted(self.seen.items(), key=lambda pair: pair[1][0][0])]
        late = sorted(self.seen[name][0][1] - at for name, at in committed.items() if name in self.seen)
        neighbours = {}
        for place, name in enumerate(order):
            neighbours.setdefault(name.rpartition("-")[0], []).append(place)
        return {
            "committed": len(committed),
            "lost": len(expected - set(order)),
            "of nobody, or rolled back": len(set(order) - expected),
            "doubled": sum(len(one) - 1 for one in self.seen.values()),
            "transactions that were torn": sum(
                places[-1] - places[0] != len(places) - 1 for name, places in neighbours.items() if name
            ),
            "readers in another order": sum(mine != order[: len(mine)] for mine in self.readers),
            "ms from commit() to the follower, p50": round(late[len(late) // 2] * 1000, 2),
            "p99": round(late[len(late) * 99 // 100] * 1000, 2),
            "at most": round(late[-1] * 1000, 2),
        }


BAD = ("lost", "of nobody, or rolled back", "doubled", "transactions that were torn", "readers in another order")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--loop", choices=("trio", "asyncio"), default="trio")
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--transactions", type=int, default=5000)
    parser.add_argument("--open-for", type=float, default=10.0, help="seconds that one transaction stays open")
    parser.add_argument("--url", help="of a server that runs; by default one is made")
    options = parser.parse_args()
    if options.url:
        return report(options.url, options)
    servers = load_servers()
    server = servers.PostgresServer(servers.find_postgres())
    try:
        server.start()
        return report(server.url, options)
    finally:
        server.remove()


def report(url, options):
    started = time.monotonic()
    result = anyio.run(Run(url, options).main, backend=options.loop)
    result |= {"loop": options.loop, "seconds": round(time.monotonic() - started)}
    print(json.dumps(result))
    return any(result[what] for what in BAD)


if __name__ == "__main__":
    sys.exit(main())
