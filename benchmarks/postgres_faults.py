# What survives faults: publishers, transactions and followers of one hub in PostgreSQL, while connections are cut, go
# silent, lose answers, are slow, backends are terminated, the hub is locked, and the server is restarted and crashes.
#
#   python benchmarks/postgres_faults.py --loop trio --faults 1000
#   python benchmarks/postgres_faults.py --replica                        # a synchronous standby takes over, too
#   python benchmarks/postgres_faults.py --disk-full                      # the disk is full at times; needs root
#   python benchmarks/postgres_faults.py --pooler                         # through pgbouncer, which is killed at times
#   python benchmarks/postgres_faults.py --replica --disk-full --pooler   # all of it
#
# With --pooler, some publishers and followers connect directly, some through one pgbouncer, which is pointed at the
# new primary after a failover (followers have a direct listen_conninfo there), and, with --replica, some through a
# pgbouncer beside each server.
#
# Prints what was appended, and what of it was lost, doubled or out of order. Anything but 0 is a bug. What a failover
# to an asynchronous standby loses is in postgres_failover.py.

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import random
import secrets
import sys
import time

import anyio
import psycopg
from anyio import to_thread

from sse_trio import StoreUnavailableError
from sse_trio.stores import EventId, TopicFilter
from sse_trio.stores.postgres import PostgresStore

TOPICS = 6
WORKERS = 2  # that publish in transactions
ALL = TopicFilter("*")


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


NEW_KINDS = {"replica": {"failover": 14}, "disk_full": {"disk full": 10}, "pooler": {"pooler killed": 12}}
"""Those that an argument adds. Together they are more than the others."""

EVERY = 25  # faults, after which a line says how far it is


class Run:
    """One run: what was acknowledged, what each follower saw, and the faults that were made.

    Args:
        server: a server, or a pair of them.
        proxies: in front of it.
        faults: their number.
        seed: of the order of the faults.
        kinds: how often each kind of fault is made.
        ways: through the proxies; a store is opened for each.
        site: what makes the faults that need more than one server.
    """

    def __init__(self, server, proxies, faults, seed, *, kinds=KINDS, ways=None, site=None):
        self.server, self.proxies, self.faults, self.site = server, proxies, faults, site
        url = f"postgresql://postgres@{proxies[0].url.removeprefix('redis://')}/postgres"
        self.ways = ways or [{"conninfo": url}] * 2
        self.chance = random.Random(seed)
        self.name = secrets.token_hex(4)
        self.acknowledged = {}
        self.committed, self.rolled_back = set(), set()
        self.failed = self.made = self.gaps = 0
        self.weights = kinds
        self.kinds = dict.fromkeys(kinds, 0)
        self.finished = False
        self.started = time.monotonic()

    def store(self, way):
        options = {"reply_within": 0.3, "retry_for": 60.0, "max_events": None, "max_bytes": None}
        return PostgresStore(name=self.name, **way, **options)

    async def main(self):
        async with contextlib.AsyncExitStack() as stack:
            stores = [await stack.enter_async_context(self.store(way)) for way in self.ways]
            seen = [[] for _ in range(3)]
            async with anyio.create_task_group() as followers:
                for number, one_seen in enumerate(seen):
                    followers.start_soon(self.follow, stores[number % len(stores)], one_seen)
                async with anyio.create_task_group() as group:
                    group.start_soon(self.make_faults)
                    for n in range(TOPICS):
                        group.start_soon(self.publish, stores[n % len(stores)], n)
                    for n in range(WORKERS):
                        group.start_soon(to_thread.run_sync, self.transact, stores[0], n)
                history = await self.settle(stores[0])
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
            except StoreUnavailableError as exc:
                self.failed += 1
                print(f"an error after fault {self.made}: {exc}", file=sys.stderr, flush=True)
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
                if page.gap is not None:
                    self.gaps += 1
                    print(f"a gap after fault {self.made}: {page.gap}", file=sys.stderr, flush=True)
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
                if self.made % EVERY == 0:
                    self.tell()
        finally:
            self.finished = True

    async def make_fault(self, kind):
        if kind == "cut":
            self.cut(self.some_proxies())
        elif kind == "terminate":
            self.server.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'sse_trio' AND random() < 0.5"
            )
        elif kind == "lock":
            await to_thread.run_sync(self.lock, self.chance.uniform(0.01, 0.5))
        elif work := self.work_of(kind):
            await to_thread.run_sync(work)
        else:
            proxies = self.some_proxies()
            self.set_mode(kind, proxies)
            if kind == "refuse":
                self.cut(proxies)
            await anyio.sleep(self.chance.uniform(0.01, 0.12))
            self.set_mode("pass", proxies)

    def work_of(self, kind):
        """What a fault does in a thread, if it does."""
        return {
            "restart": self.server.restart,
            "crash": self.crash,
            "failover": self.site and self.site.fail_over,
            "disk full": lambda: self.site.fill_disk(self.chance.uniform(0.05, 1)),
            "pooler killed": lambda: self.site.kill_pooler(self.chance),
        }.get(kind)

    def some_proxies(self):
        """Those that a fault of the network hits: all of them as often as not, or else a few."""
        if self.chance.random() < 0.5:
            return self.proxies
        return self.chance.sample(self.proxies, self.chance.randrange(1, len(self.proxies) + 1))

    def cut(self, proxies):
        for proxy in proxies:
            proxy.cut()

    def set_mode(self, mode, proxies):
        for proxy in proxies:
            proxy.mode = mode

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

    def tell(self):
        """Say how far it is."""
        seconds = time.monotonic() - self.started
        told = f"{self.made} faults in {seconds:.0f} s, {len(self.acknowledged)} events, {self.kinds}"
        print(told, file=sys.stderr, flush=True)

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
            "gaps": self.gaps,
            "faults": self.kinds,
        }


BAD = ("lost", "doubled", "rolled back and yet there", "out of order", "other ids than acknowledged", "gaps")


def run(args):
    """Make the faults that the arguments allow."""
    from _postgres_site import open_site  # beside this program

    kinds = KINDS.copy()
    for argument, more in NEW_KINDS.items():
        kinds |= more if getattr(args, argument) else {}
    with open_site(replica=args.replica, disk_full=args.disk_full, pooler=args.pooler) as site:
        made = Run(site.server, site.proxies, args.faults, args.seed, kinds=kinds, ways=site.ways, site=site)
        return anyio.run(made.main, backend=args.loop)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--loop", choices=("trio", "asyncio"), default="trio")
    parser.add_argument("--faults", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--replica", action="store_true", help="fail over to a synchronous standby, too")
    parser.add_argument("--disk-full", action="store_true", help="let the primary's disk be full at times; needs root")
    parser.add_argument("--pooler", action="store_true", help="go through pgbouncers in transaction mode, too")
    args = parser.parse_args()
    if args.disk_full and os.getuid():
        parser.error("--disk-full mounts a small disk, and needs root for that")
    logging.basicConfig(level=logging.CRITICAL, format="%(asctime)s %(message)s")
    started = time.monotonic()
    result = run(args)
    result |= {"loop": args.loop, "seconds": round(time.monotonic() - started)}
    print(json.dumps(result))
    sys.exit(any(result[what] for what in BAD))


if __name__ == "__main__":
    main()
