# What an event of a paced stream costs in this process: many streams, a producer each, which sends now and then.
#
#   python benchmarks/paced.py [--loop asyncio|trio] [--streams 100] [--events 200] [--rounds 5]
#
# The server is one that does nothing, so that what remains is the library's own share: the CPU time of an event, minus
# that of a bare ASGI application that awaits `send`. `direct` is a connection that takes direct writes, `own send` a
# known server's `send` without them (as for HTTP/1.0), `middleware` a `send` of which nothing is known. Rounds are
# interleaved; the median counts. Compare figures of one machine only.

from __future__ import annotations

import argparse
import gc
import statistics
import time

import anyio

from sse_trio import EventSourceResponse, StreamGroup
from sse_trio._servers.connection import Connection
from sse_trio._servers.direct_write import DirectWriter

HEAD = {"type": "http.response.start", "status": 200, "headers": []}
END = {"type": "http.response.body", "body": b"", "more_body": False}
PAUSE = 0.02  # seconds between a stream's events


class NothingWriter(DirectWriter):
    """Writes nothing, at once."""

    is_in_chunks = True

    def write_nowait(self, chunk, /):
        return len(chunk)


class Server(Connection):
    """A server that does nothing with what it gets."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.gone = anyio.Event()

    def is_own_send(self, send, /):
        return self.kind != "middleware"

    def new_direct_writer(self, send, /):
        return NothingWriter(send) if self.kind == "direct" else None

    async def receive(self):
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        pass


class Count:
    """How many events were sent."""

    events = 0


async def produce(send_channel, events, count):
    for n in range(events):
        await anyio.sleep(PAUSE)
        await send_channel.send(str(n))
        count.events += 1


async def serve_bare(events, count):
    send = Server("bare").send
    await send(HEAD)
    for n in range(events):
        await anyio.sleep(PAUSE)
        await send({"type": "http.response.body", "body": f"data: {n}\n\n".encode(), "more_body": True})
        count.events += 1
    await send(END)


async def serve_ours(kind, events, count, group):
    server = Server(kind)
    scope = {"type": "http", "http_version": "1.1", "method": "GET", "path": "/", "headers": []}
    response = EventSourceResponse(produce, events, count, group=group)
    await response({**scope, "extensions": {"sse_trio": {"connection": server}}}, server.receive, server.send)


async def measure(kind, streams, events):
    """Return the CPU microseconds of an event, without what opening and ending the streams costs."""
    count, group = Count(), StreamGroup(signals=False)
    async with anyio.create_task_group() as nursery:
        for _ in range(streams):
            if kind == "bare":
                nursery.start_soon(serve_bare, events, count)
            else:
                nursery.start_soon(serve_ours, kind, events, count, group)
        await anyio.sleep(0.2 * events * PAUSE)  # all streams are open
        cpu, before = time.process_time(), count.events
        await anyio.sleep(0.6 * events * PAUSE)
        return (time.process_time() - cpu) / (count.events - before) * 1e6


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--loop", choices=("asyncio", "trio"), default="asyncio")
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--events", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    kinds = ("bare", "direct", "own send", "middleware")
    figures = {kind: [] for kind in kinds}
    for _ in range(args.rounds):
        for kind in kinds:
            gc.collect()
            figures[kind].append(anyio.run(measure, kind, args.streams, args.events, backend=args.loop))
    bare = figures["bare"]
    print(f"{args.loop}, {args.streams} streams: CPU us for an event, and more than bare in the same round")
    for kind in kinds:
        own = statistics.median(a - b for a, b in zip(figures[kind], bare, strict=True))
        print(f"  {kind:12}{statistics.median(figures[kind]):8.1f}{own:8.1f}")


if __name__ == "__main__":
    main()
