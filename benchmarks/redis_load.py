# What a hub costs its Redis: CPU for each event that is published, with so many processes that follow, and for each
# subscriber that comes back. And what following costs a process.
#
#   python benchmarks/redis_load.py redis-server --followers 20 --rate 200 --seconds 8
#
# The server is started for this, with the durability that is recommended; its CPU is what it says of itself. All
# followers are in this process: to Redis they are as many processes.

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import tempfile
import time
from contextlib import AsyncExitStack, contextmanager

import anyio

from sse_trio import ServerSentEvent, open_hub
from sse_trio.stores.redis import RedisStore

EVENT = ServerSentEvent("x" * 100)


@contextmanager
def redis_server(binary):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    options = ["--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--maxmemory-policy", "noeviction"]
    with tempfile.TemporaryDirectory() as folder:
        command = [binary, "--port", str(port), "--dir", folder, "--loglevel", "warning", *options]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            while b"+PONG" not in ask(port, b"PING\r\n"):
                time.sleep(0.05)
            yield port
        finally:
            server.kill()
            server.wait()


def ask(port, command):
    try:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(command)
            return connection.recv(65536)
    except ConnectionRefusedError:
        return b""


def info(port, section, *names):
    lines = ask(port, b"INFO %s\r\n" % section.encode()).decode().splitlines()
    values = dict(line.split(":", 1) for line in lines if ":" in line)
    return sum(float(values[name]) for name in names)


async def publish(hub, until, interval):
    while time.perf_counter() < until:
        await hub.publish("topic", EVENT)
        await anyio.sleep(interval)


async def measure_joins(hub, port, joins=500):
    after = str(await hub.publish("topic", EVENT))
    await hub.publish("topic", EVENT)
    cpu, start = info(port, "cpu", "used_cpu_user", "used_cpu_sys"), time.perf_counter()
    for _ in range(joins):
        async with hub.subscribe("topic", after=after) as subscription:
            await subscription.receive()
    taken = time.perf_counter() - start
    cpu = info(port, "cpu", "used_cpu_user", "used_cpu_sys") - cpu
    return {"joins_per_second": round(joins / taken), "redis_cpu_us_per_join": round(1e6 * cpu / joins)}


async def main(args):
    with redis_server(args.binary) as port:
        async with AsyncExitStack() as stack:
            hubs = [
                await stack.enter_async_context(open_hub(RedisStore(f"redis://127.0.0.1:{port}")))
                for _ in range(args.followers)
            ]
            cpu = info(port, "cpu", "used_cpu_user", "used_cpu_sys")
            network = info(port, "stats", "total_net_output_bytes")
            own, start = time.process_time(), time.perf_counter()
            async with anyio.create_task_group() as task_group:
                for n in range(args.publishers):
                    hub = hubs[n % len(hubs)]
                    task_group.start_soon(publish, hub, start + args.seconds, args.publishers / args.rate)
            taken, own = time.perf_counter() - start, time.process_time() - own
            cpu = info(port, "cpu", "used_cpu_user", "used_cpu_sys") - cpu
            network = info(port, "stats", "total_net_output_bytes") - network
            events = sum(hub.statistics().published for hub in hubs)
            joins = await measure_joins(hubs[0], port)
    print(
        json.dumps(
            {
                "followers": args.followers,
                "events_per_second": round(events / taken),
                "redis_cpu_us_per_event": round(1e6 * cpu / events),
                "redis_bytes_out_per_event": round(network / events),
                "cpu_us_per_event_and_follower": round(1e6 * own / events / args.followers),
                **joins,
            }
        )
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary", help="redis-server or valkey-server")
    parser.add_argument("--followers", type=int, default=20)
    parser.add_argument("--publishers", type=int, default=10)
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--loop", default="trio")
    arguments = parser.parse_args()
    anyio.run(main, arguments, backend=arguments.loop)
