# What compressing a JSON ticker saves in bytes, and costs in CPU and memory: each coding, by itself for every
# connection and once for all subscribers of a hub.
#
#   python benchmarks/compression.py                  # one table, of trio; a minute
#   python benchmarks/compression.py --loop asyncio --subscribers 1000
#   python benchmarks/compression.py --backlog        # a megabyte in one go, as for a client that comes back
#
# A hub and its streams in one process, each case in a process of its own, under a server that counts what it is sent
# and does nothing else: the server's own cost is in benchmarks/fanout.py. One event after another, each taken by all
# before the next. Bytes are the body's, without the framing of HTTP, which takes some 6 for each. CPU is the process's.
# Memory is what a case takes more than identity with as many streams, where these are 100 or more. Linux only; compare
# figures of one machine only.

from __future__ import annotations

import argparse
import gc
import itertools
import json
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

import anyio
from anyio.lowlevel import checkpoint

CASES = [
    (None, "text"),
    ("gzip", "own"),
    ("gzip", "shared"),
    ("zstd", "own"),
    ("zstd", "shared"),
    ("br", "own"),
]
DELIVERIES = 100_000
EVENTS = (300, 5000)  # at least, at most
SYMBOLS = ("ACME", "GLOB", "INIT", "UMBR", "WAYN", "STRK", "HOOL", "PIED")


class Ticker:
    """What a feed of quotes looks like."""

    def __init__(self):
        self._random = random.Random(1)
        self._numbers = itertools.count()

    def quote(self):
        price, n = self._random.uniform(90, 110), next(self._numbers)
        return {
            "symbol": self._random.choice(SYMBOLS),
            "price": round(price, 2),
            "bid": round(price - self._random.random(), 2),
            "ask": round(price + self._random.random(), 2),
            "volume": self._random.randrange(1, 10_000),
            "time": f"2026-11-25T21:{n // 600 % 60:02}:{n // 10 % 60:02}.{n % 10}00Z",
        }


class Client:
    """A client that takes everything at once, and counts it."""

    def __init__(self, coding, gone):
        headers = [] if coding is None else [(b"accept-encoding", coding.encode())]
        self.scope = {"type": "http", "method": "GET", "path": "/", "headers": headers}
        self.bytes = self.bodies = 0
        self.awaited = 1  # its place in the hub
        self._gone = gone

    async def receive(self):
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        if body := message.get("body"):
            self.bytes += len(body)
            self.bodies += 1


def memory_kib():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


async def run_case(coding, how, subscribers):
    import sse_trio._streams.response
    from sse_trio import EventSourceResponse, ServerSentEvent, open_hub
    from sse_trio._compression.codings import check_codings

    check_codings(["zstd", "br", "gzip"])  # imports all of them, so that each case has the same in memory

    if how == "own":
        sse_trio._streams.response.SHARED_CODINGS = ()  # as a producer's stream is compressed
    ticker, gone = Ticker(), anyio.Event()
    clients = [Client(coding, gone) for _ in range(subscribers)]
    compress = () if coding is None else (coding,)
    events = max(EVENTS[0], min(EVENTS[1], DELIVERIES // subscribers))

    async with open_hub() as hub, anyio.create_task_group() as nursery:

        async def publish(count):
            for _ in range(count):
                await hub.publish("quotes", ServerSentEvent.json(ticker.quote(), event="quote"))
                for client in clients:
                    client.awaited += 1
                for client in clients:
                    while client.bodies < client.awaited:
                        await checkpoint()

        for client in clients:
            response = EventSourceResponse(hub.subscribe("quotes"), compress=compress, ping=None)
            nursery.start_soon(response, client.scope, client.receive, client.send)
        await anyio.sleep(0.5)
        await publish(10)
        sent, began = sum([client.bytes for client in clients]), time.process_time()
        await publish(events)
        cpu = time.process_time() - began
        sent = sum([client.bytes for client in clients]) - sent
        gc.collect()
        used = memory_kib()
        gone.set()
    return {"bytes": sent / events / subscribers, "cpu": cpu / events / subscribers * 1e6, "memory": used / subscribers}


def measure(loop, coding, how, subscribers):
    command = [sys.executable, __file__, "--loop", loop, "--case", f"{coding or ''},{how},{subscribers}"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def print_backlog():
    from sse_trio import ServerSentEvent
    from sse_trio._compression.codings import new_compressor

    ticker = Ticker()
    quotes = (ServerSentEvent.json(ticker.quote(), event="quote").encode() for _ in range(10_000))
    text = b"".join(quotes)[: 1 << 20]
    for coding in ("gzip", "zstd", "br"):
        took = []
        for _ in range(9):
            compressor, began = new_compressor(coding), time.process_time()
            compressor.compress(text)
            took.append(time.process_time() - began)
        print(f"{coding}: {1000 * statistics.median(took):.0f} ms")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--loop", choices=["trio", "asyncio"], default="trio")
    parser.add_argument("--subscribers", type=int, nargs="+", default=[1, 100, 1000])
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--backlog", action="store_true")
    options = parser.parse_args()
    if options.backlog:
        print_backlog()
        return
    if options.case:
        coding, how, subscribers = options.case.split(",")
        print(json.dumps(anyio.run(run_case, coding or None, how, int(subscribers), backend=options.loop)))
        return
    print("| subscribers | coding | compressor | bytes an event | of text | CPU, µs a delivery | KiB more a stream |")
    print("|--:|---|---|--:|--:|--:|--:|")
    for subscribers in options.subscribers:
        text = measure(options.loop, *CASES[0], subscribers)
        print(f"| {subscribers:,} | identity | | {text['bytes']:.0f} | | {text['cpu']:.1f} | |", flush=True)
        for coding, how in CASES[1:]:
            case = measure(options.loop, coding, how, subscribers)
            share, memory = case["bytes"] / text["bytes"], case["memory"] - text["memory"]
            figures = (
                f"{case['bytes']:.0f} | {share:.0%} | {case['cpu']:.1f} | {f'{memory:.0f}' if subscribers > 99 else ''}"
            )
            print(f"| {subscribers:,} | {coding} | {how} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
