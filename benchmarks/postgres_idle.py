# What an open hub in PostgreSQL costs while nothing is published: CPU of its process, and of the server's processes
# that serve it. Both together should be at most 1 % of a core.
#
#   python benchmarks/postgres_idle.py --loop trio --seconds 60
#
# CPU is counted and not the time, so other programs on the machine matter little. Linux only.

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

import anyio
from postgres_transactions import load_servers

from sse_trio import open_hub
from sse_trio.stores.postgres import PostgresStore

LIMIT = 1.0  # percent of a core
PIDS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'sse_trio'"


def cpu_of(pid):
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(server, seconds):
    async with open_hub(PostgresStore(server.url, name="idle")) as hub, hub.subscribe("news/*") as subscription:
        await hub.publish("news/1", "the last one")
        await subscription.receive()
        await anyio.sleep(2)  # what follows an event
        pids = [pid for (pid,) in server.sql(PIDS)]
        theirs, own, began = sum(map(cpu_of, pids)), time.process_time(), time.monotonic()
        await anyio.sleep(seconds)
        own, theirs = time.process_time() - own, sum(map(cpu_of, pids)) - theirs
        taken = time.monotonic() - began
    return {
        "percent of a core": round(own / taken * 100, 2),
        "percent of a core in the server": round(theirs / taken * 100, 2),
        "connections": len(pids),
        "seconds": round(taken),
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--loop", choices=("trio", "asyncio"), default="trio")
    parser.add_argument("--seconds", type=float, default=60)
    args = parser.parse_args()
    servers = load_servers()
    server = servers.PostgresServer(servers.find_postgres())
    try:
        server.start()
        result = anyio.run(measure, server, args.seconds, backend=args.loop)
    finally:
        server.remove()
    print(json.dumps(result | {"loop": args.loop}))
    return result["percent of a core"] + result["percent of a core in the server"] > LIMIT


if __name__ == "__main__":
    sys.exit(main())
