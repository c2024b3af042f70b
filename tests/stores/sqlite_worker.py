# ruff: noqa: T201 -- a program
#
# What test_sqlite_processes.py runs in processes of their own. Each role prints one line of JSON at its end.

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import statistics
import sys
import time

import anyio
from anyio import to_thread

from sse_trio.stores import EventId
from sse_trio.stores.sqlite import SQLiteStore

ITEMS = 5  # of one append, which must be kept whole


async def write_until_killed(path, pipe, writer):
    """Append groups, and say so only when they are acknowledged."""

    async def publish(n):
        number = 0
        while True:
            number += 1
            ids = await store.append([(f"t/{n}", f"{writer}:{n}:{number}:{m}".encode()) for m in range(ITEMS)])
            os.write(pipe, b"%d\n" % ids[0].sequence)

    async with SQLiteStore(path) as store, anyio.create_task_group() as group:
        for n in range(10):
            group.start_soon(publish, n)


def crash(path, loop, kills):
    """Fork writers two at a time and kill each in mid-write; tell what they had acknowledged."""
    chance = random.Random(int(kills))
    acknowledged = []
    for kill in range(0, int(kills), 2):
        pair = [fork_writer(path, loop, kill + n) for n in range(2)]
        for pid, pipe in pair:
            data = os.read(pipe, 65536)  # the first acknowledgement: it is at work
            time.sleep(chance.uniform(0.005, 0.06))
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            while chunk := os.read(pipe, 65536):
                data += chunk
            os.close(pipe)
            acknowledged += [int(line) for line in data.split(b"\n")[:-1]]
    print(json.dumps(acknowledged))


def fork_writer(path, loop, writer):
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        anyio.run(write_until_killed, path, writing, writer, backend=loop)
        os._exit(1)
    os.close(writing)
    return pid, reading


async def share(path, events, number):
    """Publish some events and follow those of all; tell what was seen, and in which order."""
    mine, everybodys = int(events) // 4, int(events)
    seen, digest = 0, hashlib.sha256()
    last_of = {}
    ordered = True

    async def publish(n):
        for m in range(mine // 50):
            await store.append([(f"t/{number}", b"%d:%d" % (n, m))])

    async with SQLiteStore(path) as store, store.follow(EventId(store.epoch, 0)) as pages:
        print("ready", flush=True)
        await to_thread.run_sync(sys.stdin.readline)  # all start at once
        async with anyio.create_task_group() as group:
            for n in range(50):
                group.start_soon(publish, n)
            async for page in pages:
                assert page.gap is None
                for event in page.events:
                    seen += 1
                    ordered &= event.id.sequence == seen
                    digest.update(b"%d %s %s\n" % (event.id.sequence, event.topic.encode(), event.payload))
                    n, m = event.payload.split(b":")
                    ordered &= int(m) == last_of.get((event.topic, n), -1) + 1
                    last_of[event.topic, n] = int(m)
                if seen >= everybodys:
                    break
    print(json.dumps({"seen": seen, "ordered": ordered, "digest": digest.hexdigest()}))


async def tick(path, number):
    """Publish the time, again and again."""
    async with SQLiteStore(path) as store:
        await to_thread.run_sync(sys.stdin.readline)
        for _ in range(int(number)):
            await store.append([("time", b"%d" % time.monotonic_ns())])
            await anyio.sleep(0.005)
    print("null")


async def measure(path, number):
    """Follow what `tick` publishes and tell how late it comes, in milliseconds."""
    late = []
    async with SQLiteStore(path) as store, store.follow(EventId(store.epoch, 0)) as pages:
        print("ready", flush=True)
        async for page in pages:
            now = time.monotonic_ns()
            late += [(now - int(event.payload)) / 1e6 for event in page.events]
            if len(late) >= int(number):
                break
    late.sort()
    print(json.dumps({"p50": statistics.median(late), "p99": late[len(late) * 99 // 100]}))


def main():
    role, loop, path, *args = sys.argv[1:]
    if role == "crash":
        crash(path, loop, *args)
    else:
        anyio.run({"share": share, "tick": tick, "measure": measure}[role], path, *args, backend=loop)


if __name__ == "__main__":
    main()
