# How much more two processes deliver than one, over a shared store.
#
#   python benchmarks/processes.py sqlite --loop trio --subscribers 2000 --seconds 4
#   python benchmarks/processes.py redis --loop asyncio
#
# A worker is a process with a hub and so many responses, served to an ASGI `send` that does nothing: what is measured
# is the hub, the streams and the store, without a server and without sockets.
#
# Rule 1: one event is under way at a time. The next is published when every worker has written the last one to all its
#         streams, so nothing is batched, and the rate is what the workers do and not what the publisher does.
# Rule 2: the publisher and Redis are on the same cores as the workers, and take part of them. Beside the ratio of what
#         was delivered per second stands the workers' own CPU for a delivery, which should not grow with their number.
#         From it follows what they would deliver with a core for each (`times_with_cores_of_their_own`).
# Rule 3: what other programs take of the machine meanwhile (and Redis) stands beside it, in cores: the rates are of
#         what is left, and where that is less than two cores, two workers can't do twice as much.

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, nullcontext
from pathlib import Path

import anyio
from redis_load import redis_server

from sse_trio import EventSourceResponse, ServerSentEvent, open_hub
from sse_trio.stores import SQLiteStore
from sse_trio.stores._protocol import pack_event

EVENT = ServerSentEvent("x" * 100)
SCOPE = {"type": "http", "method": "GET", "path": "/", "headers": [], "asgi": {"spec_version": "2.4"}}


def make_store(where):
    if where.startswith("redis://"):
        from sse_trio.stores.redis import RedisStore

        return RedisStore(where, name="bench")
    return SQLiteStore(where)


class Worker:
    """Counts what is written, and says so when every stream has one more event."""

    def __init__(self, subscribers):
        self.subscribers = subscribers
        self.heads = self.written = 0

    async def send(self, message):
        if message["type"] == "http.response.start":
            self.heads += 1
        elif EVENT.data.encode() in message["body"]:
            self.written += 1
            if self.written % self.subscribers == 0:
                print(time.process_time(), flush=True)

    async def receive(self):
        await anyio.sleep_forever()

    async def main(self, where):
        async with open_hub(make_store(where)) as hub, anyio.create_task_group() as task_group:
            for _ in range(self.subscribers):
                response = EventSourceResponse(hub.subscribe("topic"), ping=None)
                task_group.start_soon(response, SCOPE, self.receive, self.send)
            while self.heads < self.subscribers:
                await anyio.sleep(0.01)
            await anyio.sleep(0.5)
            print(time.process_time(), flush=True)
            await anyio.sleep_forever()


async def publish(where, workers, seconds):
    """Publish one event after the other, and return the time and the workers' CPU for each."""
    payload = pack_event(EVENT)
    cpu = [float(worker.stdout.readline()) for worker in workers]
    async with make_store(where) as store:
        taken, start = [], time.perf_counter()
        while time.perf_counter() - start < seconds:
            begin = time.perf_counter()
            await store.append([("topic", payload)])
            now = [float(worker.stdout.readline()) for worker in workers]
            taken.append(time.perf_counter() - begin)
    used = sum(now) - sum(cpu)
    return {"median_ms": 1000 * statistics.median(taken), "cpu_s": used / len(taken)}


def measure(where, count, args):
    before = busy_seconds(), own_seconds(), time.perf_counter()
    command = [sys.executable, __file__, "worker", where, "--loop", args.loop, "--subscribers", str(args.subscribers)]
    with ExitStack() as stack:
        workers = []
        for _ in range(count):
            worker = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            stack.callback(worker.kill)
            workers.append(worker)
        result = anyio.run(publish, where, workers, args.seconds, backend=args.loop)
    others = (busy_seconds() - before[0] - own_seconds() + before[1]) / (time.perf_counter() - before[2])
    streams = count * args.subscribers
    return streams / result["median_ms"] * 1000, 1e6 * result["cpu_s"] / streams, others


def own_seconds():
    """CPU of this program and of the processes that it started and that have ended."""
    return sum(os.times()[:4])


def busy_seconds():
    """CPU of all programs of the machine (Linux)."""
    user, nice, system, _idle, _wait, irq, soft, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")


def main(args):
    rounds = {count: [] for count in args.workers}
    with tempfile.TemporaryDirectory() as folder:
        server = redis_server(args.redis) if args.store == "redis" else nullcontext()
        with server as port:
            for number in range(args.rounds):
                for count in args.workers:
                    file = str(Path(folder) / f"{number}-{count}.db")
                    where = f"redis://127.0.0.1:{port}" if port else file
                    rounds[count].append(measure(where, count, args))
    report = {"store": args.store, "loop": args.loop, "subscribers_each": args.subscribers}
    first = [statistics.median(values) for values in zip(*rounds[args.workers[0]], strict=True)]
    for count, results in rounds.items():
        rate, cpu, others = [statistics.median(values) for values in zip(*results, strict=True)]
        report[f"{count} workers"] = {
            "deliveries_per_second": round(rate),
            "times_the_first": round(rate / first[0], 2),
            "worker_cpu_us_per_delivery": round(cpu, 2),
            "times_with_cores_of_their_own": round(count / args.workers[0] * first[1] / cpu, 2),
            "cores_taken_by_others": round(others, 2),
        }
    print(json.dumps(report))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("store", choices=("sqlite", "redis", "worker"))
    parser.add_argument("where", nargs="?", help="for the workers, which this program starts itself")
    parser.add_argument("--redis", default="redis-server", help="or valkey-server")
    parser.add_argument("--loop", choices=("trio", "asyncio"), default="trio")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--subscribers", type=int, default=2000, help="of each worker")
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.store == "worker":
        anyio.run(Worker(arguments.subscribers).main, arguments.where, backend=arguments.loop)
    else:
        main(arguments)
