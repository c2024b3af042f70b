# Worker processes on one SQLite file: whether each sees every event in one order, how late an event is in another
# process, and what a process costs that has nothing to do.
#
#   python benchmarks/sqlite_processes.py order --events 100000     # anything lost, doubled or out of order is a bug
#   python benchmarks/sqlite_processes.py latency --loop asyncio    # from hub.publish() to receive() elsewhere, in ms
#   python benchmarks/sqlite_processes.py idle --seconds 10         # CPU of each process, in percent of a core
#
# Rule 1: a worker is a process of its own, and prints "ready" when it follows the file, then waits for a line on its
#         stdin, then prints one line of JSON: all of them start at once, whatever the machine does meanwhile.
# Rule 2: times are of the machine's one monotonic clock, so that processes can be compared.
# Rule 3: where lateness is measured nobody polls: an event of which no wake-up tells never comes.

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

import anyio
from anyio import to_thread

from sse_trio import open_hub
from sse_trio.stores import EventId, SQLiteStore

NEVER = 3600.0
PUBLISHERS = 50  # tasks of a worker


# --- what a worker does


async def wait_start():
    print("ready", flush=True)
    await to_thread.run_sync(sys.stdin.readline)


async def share(path, events, workers, number):
    """Publish a part of the events and follow all of them."""
    topic, each = f"topic/{number}", events // workers // PUBLISHERS
    seen, last, digest = Seen(), 0, hashlib.sha256()

    async def publish(n):
        for m in range(each):
            await store.append([(topic, b"%d:%d" % (n, m))])

    async with SQLiteStore(path) as store, store.follow(EventId(store.epoch, 0)) as pages:
        await wait_start()
        start = time.perf_counter()
        async with anyio.create_task_group() as group:
            for n in range(PUBLISHERS):
                group.start_soon(publish, n)
            while last < events:  # ids of a new file are counted from 1
                page = await anext(pages)
                assert page.gap is None, page.gap
                for event in page.events:
                    seen.add(event)
                    digest.update(b"%d %s %s\n" % (event.id.sequence, event.topic.encode(), event.payload))
                last = page.events[-1].id.sequence
    return {
        "seconds": time.perf_counter() - start,
        "order": digest.hexdigest(),
        "lost": events - len(seen.distinct),
        "doubled": seen.count - len(seen.distinct),
        "out_of_order": seen.out_of_order,
    }


class Seen:
    """What a follower saw: ids have to grow, and so do the numbers of each publisher."""

    def __init__(self):
        self.count = self.out_of_order = self.last_id = 0
        self.distinct = set()
        self.last_of = {}

    def add(self, event):
        n, m = event.payload.split(b":")
        publisher, number = (event.topic, n), int(m)
        self.count += 1
        self.out_of_order += event.id.sequence <= self.last_id or number <= self.last_of.get(publisher, -1)
        self.distinct.add((publisher, number))
        self.last_id, self.last_of[publisher] = event.id.sequence, number


async def publish_times(path, count, interval):
    """Publish the time, again and again."""
    async with open_hub(SQLiteStore(path)) as hub:
        await wait_start()
        for _ in range(count):
            await hub.publish("time", str(time.monotonic_ns()))
            await anyio.sleep(interval)


async def subscribe_times(path, count):
    """Return how late each event of publish_times comes, in milliseconds."""
    late = []
    async with open_hub(SQLiteStore(path, poll_interval=NEVER)) as hub, hub.subscribe("time") as subscription:
        await wait_start()
        while len(late) < count:
            event = await subscription.receive()
            late.append((time.monotonic_ns() - int(event.data)) / 1e6)
    return late


async def idle(path, seconds):
    """Return the share of a core that a hub with a subscriber takes while nothing comes."""
    async with open_hub(SQLiteStore(path)) as hub, hub.subscribe("topic"):
        await wait_start()
        await anyio.sleep(1)  # what the start leaves behind
        wall, cpu = time.monotonic(), time.process_time()
        await anyio.sleep(seconds)
        return (time.process_time() - cpu) / (time.monotonic() - wall)


# --- what this program makes of it


def run_workers(loop, *calls):
    """Run each call in a process of its own, all of them at once; return what they return."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    with ExitStack() as stack:
        workers = []
        for name, *args in calls:
            command = [sys.executable, __file__, "worker", json.dumps([loop, name, *map(str, args)])]
            worker = stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
            )
            stack.callback(worker.kill)
            workers.append(worker)
        for worker in workers:
            assert worker.stdout.readline() == "ready\n", "a worker has ended"
        for worker in workers:
            worker.stdin.write("go\n")
            worker.stdin.flush()
        return [json.loads(worker.stdout.readline()) for worker in workers]


def order(path, loop, *, events, workers):
    """Have the workers publish and follow so many events in all; tell what is wrong with what they saw."""
    results = run_workers(loop, *(("share", path, events, workers, n) for n in range(workers)))
    return {
        "events": events,
        "workers": workers,
        **{what: sum(result[what] for result in results) for what in ("lost", "doubled", "out_of_order")},
        "orders": len({result["order"] for result in results}),
        "events_per_second": round(events / max(result["seconds"] for result in results)),
    }


def latency(path, loop, *, events, workers, interval):
    """Publish in one process and subscribe in the others; tell how late the events came."""
    subscribers = [("subscribe_times", path, events)] * (workers - 1)
    _, *results = run_workers(loop, ("publish_times", path, events, interval), *subscribers)
    late = sorted(chain.from_iterable(results))
    return {f"p{p}_ms": round(late[len(late) * p // 100], 2) for p in (50, 95, 99)}


def idle_cost(path, loop, *, workers, seconds):
    shares = run_workers(loop, *[("idle", path, seconds)] * workers)
    return {"workers": workers, "percent_of_a_core": [round(100 * share, 3) for share in shares]}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("order", "latency", "idle"))
    parser.add_argument("--loop", choices=("trio", "asyncio"), default="trio")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--events", type=int, help="default: 100,000 of order, 1,000 of latency")
    parser.add_argument("--interval", type=float, default=0.01, help="seconds between the events of latency")
    parser.add_argument("--seconds", type=float, default=10.0, help="of idle")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "hub.db")
        if args.what == "order":
            result = order(path, args.loop, events=args.events or 100_000, workers=args.workers)
        elif args.what == "latency":
            result = latency(path, args.loop, events=args.events or 1000, workers=args.workers, interval=args.interval)
        else:
            result = idle_cost(path, args.loop, workers=args.workers, seconds=args.seconds)
    print(json.dumps({"loop": args.loop, **result}))


def work(call):
    loop, name, path, *args = json.loads(call)
    function = {"share": share, "publish_times": publish_times, "subscribe_times": subscribe_times, "idle": idle}[name]
    print(json.dumps(anyio.run(function, path, *map(json.loads, args), backend=loop)))


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        work(sys.argv[2])
    else:
        main()
