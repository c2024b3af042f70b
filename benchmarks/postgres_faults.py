# What survives faults: publishers, transactions and followers of one hub in PostgreSQL, while connections are cut, go
# silent, lose answers, are slow, backends are terminated, the hub is locked, and the server is restarted and crashes.
#
#   python benchmarks/postgres_faults.py --loop trio --faults 1000
#   python benchmarks/postgres_faults.py --loop trio --faults 200 --replica      # a synchronous standby takes over, too
#   python benchmarks/postgres_faults.py --loop trio --faults 200 --disk-full    # the disk is full at times; needs root
#   python benchmarks/postgres_faults.py --loop trio --faults 200 --pooler       # through pgbouncer
#
# Prints what was appended, and what of it was lost, doubled or out of order. Anything but 0 is a bug.

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import logging
import os
import random
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import anyio
import psycopg
from anyio import to_thread

from sse_trio import StoreUnavailableError
from sse_trio.stores import EventId, TopicFilter
from sse_trio.stores.postgres import PostgresStore

TOPICS = 6
WORKERS = 2  # that publish in transactions
ALL = TopicFilter("*")


def load(name):
    """The server and the proxy are the tests' own."""
    path = Path(__file__).parent.parent / "tests" / "stores" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"postgres_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


KINDS = {
    "cut": 10,
    "terminate": 6,
    "lock": 4,
    "black hole": 2,
    "lose replies": 3,
    "delay": 2,
    "refuse": 2,
    "restart": 1,
    "crash": 1,
}


class Run:
    """One run: what was acknowledged, what each follower saw, and the faults that were made."""

    def __init__(self, server, proxies, faults, seed, *, kinds=KINDS, url=None):
        self.server, self.proxies, self.faults = server, proxies, faults
        self.url = url or f"postgresql://postgres@{proxies[0].url.removeprefix('redis://')}/postgres"
        self.chance = random.Random(seed)
        self.name = secrets.token_hex(4)
        self.acknowledged = {}
        self.committed, self.rolled_back = set(), set()
        self.failed = self.made = 0
        self.weights = kinds
        self.kinds = dict.fromkeys(kinds, 0)
        self.finished = False

    def store(self):
        options = {"reply_within": 0.3, "retry_for": 60.0, "max_events": None, "max_bytes": None}
        return PostgresStore(self.url, name=self.name, **options)

    async def main(self):
        seen = [[] for _ in range(3)]
        async with self.store() as one, self.store() as two, anyio.create_task_group() as followers:
            for number, store in enumerate((one, two, two)):
                followers.start_soon(self.follow, store, seen[number])
            async with anyio.create_task_group() as group:
                group.start_soon(self.make_faults)
                for n in range(TOPICS):
                    group.start_soon(self.publish, (one, two)[n % 2], n)
                for n in range(WORKERS):
                    group.start_soon(to_thread.run_sync, self.transact, one, n)
            history = await self.settle(one)
            with anyio.move_on_after(60):
                while not all(len(one_seen) >= len(history) for one_seen in seen):
                    await anyio.sleep(0.05)
            followers.cancel_scope.cancel()
        return self.judge(history, seen)

    async def publish(self, store, topic):
        n = 0
        while not self.finished:
            n += 1
            try:
                # Half of them without a key: what the store sends again by itself must not be doubled either.
                (id_,) = await store.append([(f"t/{topic}", b"%d" % n)], key=(f"p{topic}", n) if topic % 2 else None)
                self.acknowledged[topic, n] = id_
            except StoreUnavailableError:
                self.failed += 1
            await anyio.sleep(0.002)

    def transact(self, store, worker):
        """Publish in transactions, a third of which roll back. In a thread."""
        chance, n = random.Random(worker), 0
        while not self.finished:
            n += 1
            event = f"{worker}-{n}"
            try:
                with psycopg.connect(self.server.url, connect_timeout=2) as connection:
                    store.publish_in(connection, "transactions", event)
                    time.sleep(chance.uniform(0, 0.01))
                    if n % 3 == 0:
                        self.rolled_back.add(event)
                        connection.rollback()
                        continue
                self.committed.add(event)
            except psycopg.Error:  # of a commit: nobody knows
                time.sleep(0.01)

    async def follow(self, store, seen):
        async with store.follow(EventId(store.epoch, 0)) as pages:
            async for page in pages:
                assert page.gap is None, page.gap
                seen.extend(event.id for event in page.events)

    async def settle(self, store):
        """Read everything, when the outbox is empty."""
        with anyio.fail_after(60):
            while self.server.sql("SELECT 1 FROM sse_trio.outbox WHERE hub = %s", self.name):
                await anyio.sleep(0.05)
        page = await store.read(ALL, None, limit=1000)
        events = list(page.events)
        while page.next != page.tip:
            page = await store.read(ALL, page, limit=1000)
            events += page.events
        return events

    async def make_faults(self):
        try:
            while self.made < self.faults:
                (kind,) = self.chance.choices(list(self.weights), list(self.weights.values()))
                self.kinds[kind] += 1
                self.made += 1
                await self.make_fault(kind)
                await self.recover()
        finally:
            self.finished = True

    async def make_fault(self, kind):
        if kind == "cut":
            self.cut()
        elif kind == "terminate":
            self.server.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'sse_trio' AND random() < 0.5"
            )
        elif kind == "lock":
            await to_thread.run_sync(self.lock, self.chance.uniform(0.01, 0.5))
        elif kind in {"restart", "crash", "failover", "disk full"}:
            works = self.server.restart, self.crash, self.fail_over, self.fill_disk
            await to_thread.run_sync(works[("restart", "crash", "failover", "disk full").index(kind)])
        else:
            self.set_mode(kind)
            if kind == "refuse":
                self.cut()
            await anyio.sleep(self.chance.uniform(0.01, 0.12))
            self.set_mode("pass")

    def cut(self):
        for proxy in self.proxies:
            proxy.cut()

    def set_mode(self, mode):
        for proxy in self.proxies:
            proxy.mode = mode

    def fail_over(self):
        self.server.fail_over()

    def fill_disk(self):
        """Leave no block free for a while. A server that can't write its log ends, and is started again."""
        ballast = self.server.place / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(65536))
        time.sleep(self.chance.uniform(0.05, 1))
        ballast.unlink(missing_ok=True)
        while not self.server.answers():  # it recovers, or has given up
            if self.server.has_ended():
                self.server.start()
            time.sleep(0.05)

    def lock(self, seconds):
        with psycopg.connect(self.server.url) as connection:
            connection.execute("SELECT FROM sse_trio.hubs WHERE name = %s FOR UPDATE", (self.name,))
            time.sleep(seconds)

    def crash(self):
        self.server.crash()
        self.server.start()

    async def recover(self):
        """Mostly let all go on for a while, so that the next fault meets work; sometimes strike while it recovers."""
        if self.chance.random() < 0.75:
            enough = len(self.acknowledged) + self.chance.randrange(2, 30)
            with anyio.move_on_after(5):
                while len(self.acknowledged) < enough:
                    await anyio.sleep(0.002)

    def judge(self, history, seen):
        ids = [event.id for event in history]
        appended = [event for event in history if event.topic != "transactions"]
        kept = [(int(event.topic[2:]), int(event.payload)) for event in appended]
        transacted = [event.event.data for event in history if event.topic == "transactions"]
        seen = [one_seen[: len(ids)] for one_seen in seen]  # a follower may be ahead of the history that was read
        own_order = [
            sorted(events, key=lambda event: int(event.partition("-")[2])) != events
            for worker in range(WORKERS)
            for events in [[event for event in transacted if event.startswith(f"{worker}-")]]
        ]
        return {
            "acknowledged": len(self.acknowledged) + len(self.committed),
            "rolled back": len(self.rolled_back),
            "publishers that got an error": self.failed,
            "lost": len(self.acknowledged.keys() - set(kept))
            + len(self.committed - set(transacted))
            + sum(len(set(ids) - set(one)) for one in seen),
            "doubled": len(kept)
            - len(set(kept))
            + len(transacted)
            - len(set(transacted))
            + sum(len(one) - len(set(one)) for one in seen),
            "rolled back and yet there": len(self.rolled_back & set(transacted)),
            "out of order": sum(one != sorted(one) for one in (ids, *seen))
            + sum(kept_n != sorted(kept_n) for t in range(TOPICS) for kept_n in [[n for k, n in kept if k == t]])
            + sum(own_order),
            "other ids than acknowledged": sum(
                self.acknowledged.get(key, event.id) != event.id for key, event in zip(kept, appended, strict=True)
            ),
            "faults": self.kinds,
        }


BAD = ("lost", "doubled", "rolled back and yet there", "out of order", "other ids than acknowledged")


@contextlib.contextmanager
def server_of(args, servers):
    """Start a server, or a pair of them, or one on a small disk."""
    programs = servers.find_postgres()
    if args.replica:
        server = servers.PostgresPair(programs)
    elif args.disk_full:
        with small_disk() as place:
            server = servers.PostgresServer(programs, "max_wal_size=32MB", "min_wal_size=32MB", place=place)
            server.place = place
            try:
                yield server
            finally:
                server.remove()
        return
    else:
        server = servers.PostgresServer(programs)
    try:
        yield server
    finally:
        server.remove()


@contextlib.contextmanager
def small_disk():
    """Mount a disk of 400 MB in memory, of which the server gets all but what the faults take."""
    with tempfile.TemporaryDirectory() as place:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m,mode=1777", "tmpfs", place], check=True)
        try:
            yield Path(place)
        finally:
            subprocess.run(["umount", "--lazy", place], check=True)


@contextlib.contextmanager
def proxies_of(args, server, servers):
    """Put a proxy in front of each server, or of the pooler in front of it."""
    make = load("conftest").FaultProxy
    pooler = servers.PgBouncer(servers.find_pgbouncer(), server) if args.pooler else None
    ports = server.ports if args.replica else [(pooler or server).port]
    proxies = [make(argparse.Namespace(port=port)) for port in ports]
    try:
        yield proxies
    finally:
        for proxy in proxies:
            proxy.close()
        if pooler is not None:
            pooler.remove()


def run(args, servers):
    """Make the faults that the arguments allow."""
    kinds = KINDS | ({"failover": 2} if args.replica else {}) | ({"disk full": 3} if args.disk_full else {})
    with server_of(args, servers) as server:
        server.start()
        with proxies_of(args, server, servers) as proxies:
            ports = [proxy.url.rpartition(":")[2] for proxy in proxies]
            url = server.url_through(ports) if args.replica else None
            return anyio.run(Run(server, proxies, args.faults, args.seed, kinds=kinds, url=url).main, backend=args.loop)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--loop", choices=("trio", "asyncio"), default="trio")
    parser.add_argument("--faults", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--replica", action="store_true", help="fail over to a synchronous standby, too")
    which.add_argument("--disk-full", action="store_true", help="let the disk be full at times; needs root")
    which.add_argument("--pooler", action="store_true", help="go through pgbouncer in transaction mode")
    args = parser.parse_args()
    if args.disk_full and os.getuid():
        parser.error("--disk-full mounts a small disk, and needs root for that")
    logging.basicConfig(level=logging.CRITICAL)
    started = time.monotonic()
    result = run(args, load("_postgres"))
    result |= {"loop": args.loop, "seconds": round(time.monotonic() - started)}
    print(json.dumps(result))
    sys.exit(any(result[what] for what in BAD))


if __name__ == "__main__":
    main()
