"""Failovers of a Redis behind Sentinel, or of a Cluster, under load.

    python benchmarks/redis_failover.py redis-server --failovers 100
    python benchmarks/redis_failover.py redis-server --failovers 100 --cluster

In turn, the primary is killed, killed after its replica was cut off (so that events are lost), handed over by an
operator, and in a Cluster the hub's slot moves. Four tasks and a thread publish, two other stores follow. After each
failover the log is compared with what publishers and followers know of: a follower must have had a gap if an event is
gone that it has seen, and none otherwise; and no id may name two events.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import anyio
from _redis_site import HUB, ClusterSite, SentinelSite
from _waiting import comes_true

from sse_trio import StoreUnavailableError
from sse_trio.publisher import Publisher
from sse_trio.stores import EventId, TopicFilter
from sse_trio.stores.redis import RedisStore

ALL = TopicFilter("*")
PUBLISHERS = 4


class Run:
    def __init__(self, site):
        self.site = site
        self.known = {}  # what each event was that publishers and followers have been told of, by its id
        self.seen = [set(), set()]  # (sequence, payload) of what each follower has had since the last failover
        self.acked = set()  # and what publishers have been told of
        self.doubled = 0
        self.acks = [0] * (PUBLISHERS + 1)
        self.gaps = [0, 0]
        self.tips = [EventId("", 0)] * 2
        self.errors = self.published = 0
        self.longest = self.behind = 0.0
        self.going = anyio.Event()
        self.thread_goes = threading.Event()
        self.is_over = False

    def pause(self):
        self.going = anyio.Event()
        self.thread_goes.clear()

    def resume(self):
        self.going.set()
        self.thread_goes.set()

    def know(self, id_, payload):
        self.doubled += self.known.setdefault(id_, payload) != payload

    def acknowledged(self, which, began, id_, payload):
        self.know(id_, payload)
        self.longest = max(self.longest, time.monotonic() - began)
        self.acked.add((id_.sequence, payload))
        self.acks[which] += 1
        self.published += 1

    async def publish(self, store, which):
        n = 0
        while not self.is_over:
            await self.going.wait()
            n += 1
            payload, began = b"data: %d/%d\n\n" % (which, n), time.monotonic()
            try:
                (id_,) = await store.append([(f"t/{which}", payload)])
                self.acknowledged(which, began, id_, payload)
            except StoreUnavailableError:
                self.errors += 1
            await anyio.sleep(0.005)

    def publish_by_thread(self):
        n = 0
        with Publisher(self.site.url, name=HUB, retry_for=30) as publisher:
            while not self.is_over:
                self.thread_goes.wait()
                n += 1
                began = time.monotonic()
                try:
                    id_ = publisher.publish("thread", str(n))
                    self.acknowledged(PUBLISHERS, began, id_, b"data: %d\n\n" % n)
                except StoreUnavailableError:
                    self.errors += 1
                time.sleep(0.005)

    async def follow(self, store, which, after):
        async with store.follow(after) as pages:
            async for page in pages:
                self.gaps[which] += page.gap is not None
                self.tips[which] = page.next
                for event in page.events:
                    self.know(event.id, event.payload)
                    if page.gap is None:  # after a gap come all kept events, which may have been seen under other ids
                        self.seen[which].add((event.id.sequence, event.payload))

    async def kept(self, store, after):
        page = await store.read(ALL, after)
        kept = {(event.id.sequence, event.payload) for event in page.events}
        while page.next != page.tip:
            page = await store.read(ALL, page)
            kept |= {(event.id.sequence, event.payload) for event in page.events}
        return kept

    async def fail_over(self, store, kind):
        """Return how many events are gone, for each follower how many of these it has seen, and its gaps."""
        in_thread = anyio.to_thread.run_sync
        await in_thread(self.site.wait_until_ready)
        tip = (await store.read_last(ALL, 0)).tip
        self.seen, self.acked, self.gaps = [set(), set()], set(), [0, 0]
        self.resume()
        await anyio.sleep(0.1)
        await in_thread(self.site.prepare, kind)
        await anyio.sleep(0.1)
        await in_thread(self.site.fail_over, kind)
        before = list(self.acks)
        assert await comes_true(lambda: all(a > b for a, b in zip(self.acks, before, strict=True))), "a publisher hangs"
        failed_over = time.monotonic()
        self.pause()
        await in_thread(self.site.restore)
        await anyio.sleep(0.2)  # what is under way
        end = (await store.read_last(ALL, 0)).tip
        assert await comes_true(lambda: self.tips == [end, end]), f"a follower hangs: {self.tips}, not at {end}"
        self.behind = max(self.behind, time.monotonic() - failed_over)
        there = await self.kept(store, EventId(end.epoch, tip.sequence))
        gone = [{pair for pair in seen if pair[0] > tip.sequence} - there for seen in self.seen]
        return len((self.acked - there).union(*gone)), [*map(len, gone)], [*self.gaps]

    async def main(self, failovers):
        told = missed = false = 0
        began, kinds, gone = time.monotonic(), Counter(), Counter()
        url = self.site.url
        async with (
            RedisStore(url, name=HUB, retry_for=30) as store,
            RedisStore(url, name=HUB) as first,
            RedisStore(url, name=HUB) as second,
            anyio.create_task_group() as group,
        ):
            start = (await store.append([("start", b"\n")]))[0]
            for which, other in enumerate((first, second)):
                group.start_soon(self.follow, other, which, EventId(start.epoch, 0))
            for which in range(PUBLISHERS):
                group.start_soon(self.publish, store, which)
            thread = threading.Thread(target=self.publish_by_thread)
            thread.start()
            try:
                for n in range(failovers):
                    kind = self.site.kinds[n % len(self.site.kinds)]
                    kinds[kind] += 1
                    lost, seen, gaps = await self.fail_over(store, kind)
                    gone[kind] += lost
                    told += sum(map(bool, gaps))
                    missed += sum(had > 0 and not gap for had, gap in zip(seen, gaps, strict=True))
                    false += sum(had == 0 and gap > 0 for had, gap in zip(seen, gaps, strict=True))
                    if (n + 1) % 10 == 0:
                        lost = sum(gone.values())
                        print(f"{n + 1} failovers: {lost} events gone, {told} gaps, {missed} missed, {false} false")
            finally:
                self.is_over = True
                self.resume()
                await anyio.to_thread.run_sync(thread.join)
                group.cancel_scope.cancel()
        return {
            "failovers": ", ".join(f"{count} {kind}" for kind, count in kinds.items()),
            "published": self.published,
            "publishes that raised": self.errors,
            "longest publish, seconds": round(self.longest, 2),
            "longest until followers had all, from when all could publish again, seconds": round(self.behind, 2),
            "events gone": ", ".join(f"{gone[kind]} by {kind}" for kind in kinds),
            "followers that were told of a gap": told,
            "losses without a gap": missed,
            "gaps without a loss": false,
            "ids of two events": self.doubled,
            "seconds": round(time.monotonic() - began),
        }


def main():
    logging.getLogger("coredis").disabled = logging.getLogger("sse_trio").disabled = True  # a line for each attempt
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", help="redis-server or valkey-server")
    parser.add_argument("--failovers", type=int, default=100)
    parser.add_argument("--cluster", action="store_true", help="a Cluster instead of a Sentinel")
    parser.add_argument("--loop", choices=["trio", "asyncio"], default="trio")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        site = (ClusterSite if arguments.cluster else SentinelSite)(arguments.binary, Path(folder))
        try:
            result = anyio.run(Run(site).main, arguments.failovers, backend=arguments.loop)
        finally:
            site.stop()
    for what, figure in result.items():
        print(f"{what}: {figure}")


if __name__ == "__main__":
    main()
