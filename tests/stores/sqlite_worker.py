# ruff: noqa: T201 -- a program
#
# What test_sqlite_processes.py has killed in mid-write, in a process that may fork.

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time

import anyio

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


def crash(loop, path, kills):
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


if __name__ == "__main__":
    crash(*sys.argv[1:])
