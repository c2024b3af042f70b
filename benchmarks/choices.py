# What it costs when everybody has chosen other topics, or filters, beside everybody choosing the same.
#
#   python benchmarks/choices.py                      # all of it, on trio, each in a process of its own
#   python benchmarks/choices.py memory --choices own
#
# memory: the growth of the process for each of 10,000 subscribers, after 2,000 events of 100 bytes for all of them.
# publish: what a publish to a topic without subscribers costs beside 10,000 private prefixes.
# resume: how long a filtered client that comes back after 100,000 events of others waits for its next event, alone and
#         as one of twenty. It was sent its position by its earlier stream, and comes back with that.
#
# Rule 1: nothing is written to a socket: what is measured is the hub.

from __future__ import annotations

import argparse
import gc
import json
import resource
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import anyio
from anyio.lowlevel import checkpoint

from sse_trio import EventSourceResponse, open_hub
from sse_trio.stores import MemoryStore
from sse_trio.testing import open_test_stream

CHOICES = {
    "shared": lambda n: ["topic"],
    "own": lambda n: ["topic", f"user/{n}"],
    "prefixes": lambda n: ["topic", f"user/{n}/*"],
}
COUNT = 10_000


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def memory(choices):
    async with open_hub() as hub, AsyncExitStack() as stack:
        gc.collect()
        before = resident()
        for n in range(COUNT):
            await stack.enter_async_context(hub.subscribe(*CHOICES[choices](n)))
        for _ in range(2000):
            await hub.publish("topic", "x" * 100)
        gc.collect()
        return {"choices": choices, "kb_for_a_subscriber": round((resident() - before) / COUNT / 1024, 2)}


async def publish(choices):
    async with open_hub() as hub, AsyncExitStack() as stack:
        for n in range(COUNT):
            await stack.enter_async_context(hub.subscribe(*CHOICES[choices](n)))
        took = []
        for _ in range(30):
            began = process_time()
            for _ in range(100):
                await hub.publish("other/topic", "x" * 100)
            took.append((process_time() - began) / 100)
        return {"choices": choices, "us_for_a_publish": round(1e6 * median(took), 1)}


def is_mine(topic, _event):
    return topic == "mine"


async def resume(choices):
    del choices
    async with open_hub(MemoryStore(None, max_bytes=None)) as hub:
        response = EventSourceResponse(hub.subscribe("*", filter=is_mine))
        async with open_test_stream(response) as stream:
            await hub.publish("mine", "first")
            await stream.receive()
            for n in range(100_000):
                await hub.publish("others", "x" * 100)
                if n % 50 == 0:
                    await checkpoint()
            await anyio.sleep(0.01)
            told = stream.body.decode().rpartition("id: ")[2].split("\n")[0]
        missed = str(await hub.publish("mine", "missed"))
        alone = await _come_back(hub, told, missed, 1)
        twenty = await _come_back(hub, told, missed, 20)
        return {"ms_alone": alone, "ms_twenty": twenty, "gaps": hub.statistics().gaps}


async def _come_back(hub, told, missed, count):
    async def client():
        async with hub.subscribe("*", filter=is_mine, after=told) as subscription:
            assert (await subscription.receive()).id == missed

    began = perf_counter()
    async with anyio.create_task_group() as task_group:
        for _ in range(count):
            task_group.start_soon(client)
    return round(1000 * (perf_counter() - began), 2)


MEASURES = {"memory": memory, "publish": publish, "resume": resume}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("measure", nargs="?", choices=MEASURES)
    parser.add_argument("--choices", choices=CHOICES, default="shared")
    parser.add_argument("--loop", choices=["trio", "asyncio"], default="trio")
    args = parser.parse_args()
    if args.measure:
        result = anyio.run(MEASURES[args.measure], args.choices, backend=args.loop)
        print(json.dumps({"measure": args.measure, **result}))
        return
    for measure in MEASURES:
        for choices in CHOICES if measure != "resume" else ["shared"]:
            command = [sys.executable, __file__, measure, "--choices", choices, "--loop", args.loop]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
