# How long a publish to many subscribers holds up the loop at a time.
#
#   python benchmarks/stalls.py                                    # 10,000 streams on each loop
#   python benchmarks/stalls.py --loops trio --gc-threshold 50000
#   python benchmarks/stalls.py --choices own                      # each with a topic of its own beside the shared one
#
# A task that does nothing but let others run sees how long each pass of the scheduler takes. The longest of them is
# what any other task of the process, a ping or a new request, has to wait for at worst.
#
# Rule 1: streams are whole responses, served to an ASGI `send` that takes a server's time (--send-us) and does nothing.
# Rule 2: each event is its own burst: the next is published when everybody has the last.
# Rule 3: a pass has a length in CPU time, which is ours, and one on the clock, which is also the machine's: where other
#         processes want the same cores, a pass in which this one had to stand aside is longer than it is.
# Rule 4: the cyclic collector stops the loop as well. A pass in which it ran is counted by itself, as what makes it
#         run, and what it walks, is the whole application's.

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
from array import array
from time import perf_counter, thread_time

import anyio
from anyio.lowlevel import checkpoint

from sse_trio import EventSourceResponse, open_hub

SCOPE = {"type": "http", "method": "GET", "path": "/", "headers": [], "asgi": {"spec_version": "2.4"}}


CHOICES = {
    "shared": lambda n: ["topic"],
    "own": lambda n: ["topic", f"user/{n}"],
    "prefixes": lambda n: ["topic", f"user/{n}/*"],
    "ten": lambda n: ["topic", *[f"user/{n}/{m}" for m in range(9)]],
}
"""What the n-th subscriber chooses. All of them are sent what is published to the topic."""


class Streams:
    """So many streams, and what each pass of the scheduler took while an event was on its way to them."""

    def __init__(self, count, choice, send_s):
        self.count, self.choice, self.send_s = count, choice, send_s
        self.heads = self.written = 0
        # Arrays, which are no work for the collector: what is measured isn't to make what it measures.
        self.cpu, self.wall, self.wall_with_gc = array("d"), array("d"), array("d")
        self.collections = self.collection_s = 0
        self.measuring = False

    async def send(self, message):
        if message["type"] == "http.response.start":
            self.heads += 1
        elif message["body"]:
            until = perf_counter() + self.send_s
            while perf_counter() < until:
                pass
            self.written += 1

    async def receive(self):
        await anyio.sleep_forever()

    def note_collection(self, phase, _info):
        self.collections += phase == "start"

    async def watch_passes(self):
        while True:
            collections, began, cpu = self.collections, perf_counter(), thread_time()
            await checkpoint()
            used, taken = thread_time() - cpu, perf_counter() - began
            if not self.measuring:
                continue
            if self.collections > collections:
                self.wall_with_gc.append(taken)
            else:
                self.cpu.append(used)
                self.wall.append(taken)

    async def run(self, events):
        async with open_hub() as hub, anyio.create_task_group() as task_group:
            for n in range(self.count):
                subscription = hub.subscribe(*self.choice(n))
                task_group.start_soon(EventSourceResponse(subscription, ping=None), SCOPE, self.receive, self.send)
            while self.heads < self.count:
                await anyio.sleep(0.05)
            began = perf_counter()
            gc.collect()
            self.collection_s = perf_counter() - began
            await anyio.sleep(0.2)
            gc.callbacks.append(self.note_collection)
            task_group.start_soon(self.watch_passes)
            await self.publish(hub, 1)  # the first one warms up
            self.collections = 0
            self.measuring = True
            took = await self.publish(hub, events)
            gc.callbacks.clear()
            task_group.cancel_scope.cancel()
        return took / events

    async def publish(self, hub, events):
        began = perf_counter()
        for _ in range(events):
            expected = self.written + self.count
            await hub.publish("topic", "x" * 100)
            while self.written < expected:
                await checkpoint()
        return perf_counter() - began


def percentiles(values):
    places = {"p50": len(values) // 2, "p99": len(values) * 99 // 100, "longest": -1}
    values = sorted(values)
    return {name: round(1000 * values[place], 2) for name, place in places.items()}


def measure(loop, args):
    if args.gc_threshold:
        gc.set_threshold(args.gc_threshold, 10, 10)
    streams = Streams(args.subscribers, CHOICES[args.choices], args.send_us / 1e6)
    options = {"use_uvloop": loop == "uvloop"} if loop != "trio" else {}
    backend = "trio" if loop == "trio" else "asyncio"
    seconds = anyio.run(streams.run, args.events, backend=backend, backend_options=options)
    return {
        "loop": loop,
        "subscribers": args.subscribers,
        "choices": args.choices,
        "ms_for_an_event": round(1000 * seconds, 1),
        "passes": len(streams.cpu),
        "cpu_ms": percentiles(streams.cpu),
        "wall_ms": percentiles(streams.wall),
        "collections": streams.collections,
        "full_collection_ms": round(1000 * streams.collection_s),
        "longest_with_gc_ms": round(1000 * max(streams.wall_with_gc, default=0), 2),
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--loops", nargs="+", default=["trio", "asyncio", "uvloop"])
    parser.add_argument("--subscribers", type=int, default=10_000)
    parser.add_argument("--choices", choices=CHOICES, default="shared", help="the same for all, or one for each")
    parser.add_argument("--events", type=int, default=20)
    parser.add_argument("--send-us", type=float, default=10.0, help="of CPU that a server takes for each write")
    parser.add_argument("--gc-threshold", type=int, help="of the youngest generation; default: Python's own")
    args = parser.parse_args()
    if len(args.loops) == 1:
        print(json.dumps(measure(*args.loops, args)))
        return
    for loop in args.loops:  # each in a process of its own, with a heap of its own
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--loops", loop], check=True)


if __name__ == "__main__":
    main()
