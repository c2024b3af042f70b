# What it costs to look at a group: `statistics()` and `streams()`, with many streams open.
#
#   python benchmarks/snapshots.py [--streams 5000] [--loop trio|asyncio]
#
# The inspector asks for `streams()` once a second while a page is open, a scrape of the metrics for `statistics()`.
# Nothing is written to a socket. The median of thirty calls, in CPU time.

from __future__ import annotations

import argparse
import json
from statistics import median
from time import process_time

import anyio

from sse_trio import EventSourceResponse, StreamGroup

SCOPE = {"type": "http", "method": "GET", "path": "/", "headers": [], "http_version": "1.1"}


async def first_event(send_channel):
    await send_channel.send("hello")
    await anyio.sleep_forever()


async def stay():
    await anyio.sleep_forever()


async def take(_message):
    pass


def cost_in_ms(function):
    took = []
    for _ in range(30):
        began = process_time()
        function()
        took.append(process_time() - began)
    return round(1000 * median(took), 1)


async def measure(count):
    async with anyio.create_task_group() as task_group:
        group = StreamGroup(signals=False)
        for _ in range(count):
            task_group.start_soon(EventSourceResponse(first_event, group=group, ping=None), SCOPE, stay, take)
        while group.statistics().open_streams < count:
            await anyio.sleep(0.05)
        figures = {"statistics_ms": cost_in_ms(group.statistics), "streams_ms": cost_in_ms(lambda: [*group.streams()])}
        task_group.cancel_scope.cancel()
        return {"streams": count} | figures


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--streams", type=int, default=5000)
    parser.add_argument("--loop", choices=["trio", "asyncio"], default="trio")
    arguments = parser.parse_args()
    print(json.dumps(anyio.run(measure, arguments.streams, backend=arguments.loop)))
