# What failovers to an asynchronous standby lose, and what is told of it. The primary ends for good each time.
#
#   python benchmarks/postgres_failover.py --failovers 100
#   python benchmarks/postgres_failover.py --pooler --loop asyncio   # two of three ways lead through pgbouncers
#
# Of three failovers one loses events on purpose (the standby is cut off, and then events are acknowledged), one loses
# none (publishers pause until the standby has everything), and one comes as it comes. After each one the log is
# compared with what publishers and followers know of. If an event is gone that anybody knows of, each follower and
# each client that returns must get a gap, once; if none is gone nobody may get one. No id may name two events, under
# whatever epoch.

from __future__ import annotations

import argparse
import json
import logging
import secrets
import sys
import time
from contextlib import AsyncExitStack

import anyio
from _postgres_site import open_site
from _waiting import PATIENCE, comes_true
from anyio import to_thread

from sse_trio import StoreUnavailableError
from sse_trio.stores import EventId, TopicFilter
from sse_trio.stores.postgres import PostgresStore

ALL = TopicFilter("*")
PUBLISHERS = 6
HOW = ("lossy", "lossless", "as it comes")


class Run:
    """One run: what is known of each event, and what was told."""

    def __init__(self, site):
        self.site = site
        self.name = secrets.token_hex(4)
        self.payloads = {}  # of every event that anybody has been told of, by its sequence
        self.known = set()  # (sequence, payload), since the latest failover
        self.acks = [0] * PUBLISHERS
        self.idle = 0
        self.going = anyio.Event()
        self.errors = self.two_events = 0
        self.longest = 0.0
        self.is_over = False

    def know(self, id_, payload):
        self.two_events += self.payloads.setdefault(id_.sequence, payload) != payload
        self.known.add((id_.sequence, payload))

    async def publish(self, store, which):
        n = 0
        while not self.is_over:
            self.idle += 1
            await self.going.wait()
            self.idle -= 1
            n += 1
            payload, began = b"%d/%d" % (which, n), time.monotonic()
            try:
                (id_,) = await store.append([(f"t/{which}", payload)])
                self.know(id_, payload)
                self.acks[which] += 1
            except StoreUnavailableError:
                self.errors += 1
            self.longest = max(self.longest, time.monotonic() - began)
            await anyio.sleep(0.005)

    async def follow(self, store, which, after):
        async with store.follow(after) as pages:
            async for page in pages:
                self.gaps[which] += page.gap is not None
                self.tips[which] = page.next
                for event in page.events:
                    self.know(event.id, event.payload)

    async def pause(self):
        self.going = anyio.Event()
        assert await comes_true(lambda: self.idle == PUBLISHERS), "a publisher hangs"

    async def publish_some(self, number=3):
        """Return when each publisher has had this many more events acknowledged."""
        before = [*self.acks]
        done = await comes_true(lambda: all(b >= a + number for a, b in zip(before, self.acks, strict=True)))
        assert done, "a publisher hangs"

    async def calm_down(self, stores):
        """Let all publish, stop, and let the followers see it. Return the end of the log."""
        await self.publish_some()
        await self.pause()
        end = (await stores[0].read_last(ALL, 0)).tip
        assert await comes_true(lambda: all(tip == end for tip in self.tips)), f"a follower hangs: {self.tips}"
        return end

    async def fail_over(self, stores, how):
        """Return what came of one failover."""
        before = await self.calm_down(stores)
        await to_thread.run_sync(self.wait_until_replicated)
        self.known, self.gaps = set(), [0] * len(stores)
        if how != "lossless":
            self.going.set()
            await self.publish_some()
        if how == "lossy":
            await to_thread.run_sync(self.site.server.standby.fall_behind)
            await self.publish_some()
        await to_thread.run_sync(self.site.lose_primary)
        self.going.set()
        await self.calm_down(stores)
        result = await self.judge(stores, before)
        await to_thread.run_sync(self.site.server.make_standby)
        self.going.set()
        return result

    def wait_until_replicated(self):
        self.site.server.wait_in_sync()
        until = time.monotonic() + PATIENCE
        while not self.site.server.sql("SELECT 1 FROM pg_stat_replication WHERE replay_lsn = pg_current_wal_lsn()"):
            assert time.monotonic() < until, "the standby lacks something"
            time.sleep(0.01)

    async def judge(self, stores, before):
        rows = self.site.server.sql(
            "SELECT e.id, e.payload FROM sse_trio.events e JOIN sse_trio.hubs h ON h.id = e.hub "
            "WHERE h.name = %s AND e.id > %s", self.name, before.sequence,
        )  # fmt: skip
        there = {(sequence, bytes(payload)) for sequence, payload in rows}
        lost = sorted(pair for pair in self.known if pair[0] > before.sequence and pair not in there)
        clients = [before._replace(sequence=sequence) for sequence, _ in lost[:3]] + [before]
        told = [(await store.read(ALL, id_)).gap is not None for store in stores for id_ in clients]
        return {
            "events gone": len(lost),
            "failovers that lost events": bool(lost),
            "gaps told to followers": sum(self.gaps),
            "losses not told": (self.gaps.count(0) + told.count(False)) if lost else 0,
            "told twice": sum(max(0, gaps - 1) for gaps in self.gaps),
            "gaps without a loss": 0 if lost else sum(self.gaps) + sum(told),
        }

    async def main(self, failovers):
        began, total = time.monotonic(), {}
        options = {"reply_within": 0.5, "retry_for": 60.0, "max_events": None, "max_bytes": None}
        ways = (self.site.ways * 3)[:3]
        async with AsyncExitStack() as stack:
            stores = [await stack.enter_async_context(PostgresStore(name=self.name, **way, **options)) for way in ways]
            group = await stack.enter_async_context(anyio.create_task_group())
            self.gaps, self.tips = [0] * len(stores), [EventId("", 0)] * len(stores)
            start = EventId(stores[0].epoch, 0)
            for which, store in enumerate(stores):
                group.start_soon(self.follow, store, which, start)
            for which in range(PUBLISHERS):
                group.start_soon(self.publish, stores[which % len(stores)], which)
            self.going.set()
            for n in range(failovers):
                for what, number in (await self.fail_over(stores, HOW[n % len(HOW)])).items():
                    total[what] = total.get(what, 0) + number
                if (n + 1) % 10 == 0:
                    print(
                        f"{n + 1} failovers in {time.monotonic() - began:.0f} s: {total}", file=sys.stderr, flush=True
                    )
            self.is_over = True
            group.cancel_scope.cancel()
        return {
            "failovers": failovers,
            "acknowledged": sum(self.acks),
            **total,
            "ids of two events": self.two_events,
            "publishes that raised": self.errors,
            "longest publish, seconds": round(self.longest, 1),
            "seconds": round(time.monotonic() - began),
        }


BAD = ("losses not told", "told twice", "gaps without a loss", "ids of two events", "publishes that raised")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--loop", choices=("trio", "asyncio"), default="trio")
    parser.add_argument("--failovers", type=int, default=100)
    parser.add_argument("--pooler", action="store_true", help="two of three ways lead through pgbouncers")
    args = parser.parse_args()
    logging.basicConfig(level=logging.CRITICAL)
    with open_site(replica=True, disk_full=False, pooler=args.pooler, is_synchronous=False) as site:
        result = anyio.run(Run(site).main, args.failovers, backend=args.loop)
    print(json.dumps(result | {"loop": args.loop}))
    sys.exit(any(result[what] for what in BAD))


if __name__ == "__main__":
    main()
