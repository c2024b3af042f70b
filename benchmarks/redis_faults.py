# What survives a bad network: publishers and followers of one hub in Redis, while connections are cut, go silent, lose
# answers, are slow, and the server is killed and started again.
#
#   python benchmarks/redis_faults.py --loop trio --faults 1000
#
# Prints what was appended, and what of it was lost, doubled or out of order. Anything but 0 is a bug.

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import random
import sys
import tempfile
import time
from pathlib import Path

import anyio
from anyio import to_thread

from sse_trio import _errors
from sse_trio.stores import EventId, TopicFilter
from sse_trio.stores.redis import RedisStore

TOPICS = 8


def load_servers():
    """The server and the proxy are the tests' own."""
    path = Path(__file__).parent.parent / "tests" / "stores" / "conftest.py"
    spec = importlib.util.spec_from_file_location("redis_servers", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Run:
    """One run: what was acknowledged, what each follower saw, and the faults that were made."""

    def __init__(self, server, proxy, faults, seed):
        self.server, self.proxy, self.faults = server, proxy, faults
        self.chance = random.Random(seed)
        self.acknowledged = {}
        self.failed = self.made = 0
        self.kinds = dict.fromkeys(("cut", "black hole", "lose replies", "delay", "refuse", "restart"), 0)
        self.finished = False

    def store(self):
        return RedisStore(
            self.proxy.url, name="faults", reply_within=0.3, retry_for=20.0, max_events=None, max_bytes=None
        )

    async def main(self):
        seen = [[] for _ in range(3)]
        async with self.store() as one, self.store() as two, anyio.create_task_group() as followers:
            for number, store in enumerate((one, two, two)):
                followers.start_soon(self.follow, store, seen[number])
            async with anyio.create_task_group() as group:
                group.start_soon(self.make_faults)
                for n in range(TOPICS):
                    group.start_soon(self.publish, (one, two)[n % 2], n)
            history = await self.read_all(one)
            with anyio.move_on_after(20):
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
                self.acknowledged[topic, n] = id_.sequence
            except _errors.StoreUnavailableError:
                self.failed += 1
            await anyio.sleep(0.002)

    async def follow(self, store, seen):
        async with store.follow(EventId(store.epoch, 0)) as pages:
            async for page in pages:
                assert page.gap is None, page.gap
                seen.extend(event.id.sequence for event in page.events)

    async def read_all(self, store):
        page = await store.read(TopicFilter("*"), None, limit=1000)
        events = list(page.events)
        while page.next != page.tip:
            page = await store.read(TopicFilter("*"), page, limit=1000)
            events += page.events
        return events

    async def make_faults(self):
        kinds, weights = list(self.kinds), (10, 3, 4, 2, 2, 1)
        while self.made < self.faults:
            (kind,) = self.chance.choices(kinds, weights)
            self.kinds[kind] += 1
            self.made += 1
            if kind == "cut":
                self.proxy.cut()
            elif kind == "restart":
                await to_thread.run_sync(self.server.restart)
            else:
                self.proxy.mode = kind
                if kind == "refuse":
                    self.proxy.cut()
                await anyio.sleep(self.chance.uniform(0.01, 0.12))
                self.proxy.mode = "pass"
            await self.recover()
        self.finished = True

    async def recover(self):
        """Mostly let all go on for a while, so that the next fault meets work; sometimes strike while it recovers."""
        if self.chance.random() < 0.75:
            enough = len(self.acknowledged) + self.chance.randrange(2, 30)
            with anyio.move_on_after(5):
                while len(self.acknowledged) < enough:
                    await anyio.sleep(0.002)

    def judge(self, history, seen):
        kept = [(int(event.topic[2:]), int(event.payload)) for event in history]
        ids = [event.id.sequence for event in history]  # each restart begins an epoch, in which the numbers go on
        # A follower may be ahead of the history that was read, not behind it.
        seen = [one_seen[: len(ids)] for one_seen in seen]
        return {
            "acknowledged": len(self.acknowledged),
            "publishers that got an error": self.failed,
            "lost": len(self.acknowledged.keys() - set(kept)) + sum(len(set(ids) - set(one)) for one in seen),
            "doubled": len(kept) - len(set(kept)) + sum(len(one) - len(set(one)) for one in seen),
            "out of order": sum(one != sorted(one) for one in (ids, *seen))
            + sum(kept_n != sorted(kept_n) for t in range(TOPICS) for kept_n in [[n for k, n in kept if k == t]]),
            "other ids than acknowledged": sum(
                self.acknowledged.get(key, id_) != id_ for key, id_ in zip(kept, ids, strict=True)
            ),
            "faults": self.kinds,
        }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--loop", choices=("trio", "asyncio"), default="trio")
    parser.add_argument("--server", choices=("redis", "valkey"), default="redis")
    parser.add_argument("--faults", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    logging.basicConfig(level=logging.CRITICAL)
    servers = load_servers()
    with tempfile.TemporaryDirectory() as folder:
        server = servers.RedisServer(servers.find_redis_servers()[args.server], folder)
        server.start()
        proxy = servers.FaultProxy(server)
        started = time.monotonic()
        try:
            result = anyio.run(Run(server, proxy, args.faults, args.seed).main, backend=args.loop)
        finally:
            proxy.close()
            server.kill()
    result |= {"loop": args.loop, "seconds": round(time.monotonic() - started)}
    print(json.dumps(result))
    sys.exit(any(result[what] for what in ("lost", "doubled", "out of order", "other ids than acknowledged")))


if __name__ == "__main__":
    main()
