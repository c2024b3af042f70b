"""What a run costs beside a plain stream: the CPU of the server for each event, and the time from publish to watcher.

    python benchmarks/runs_cost.py --streams 200 --rate 20 --seconds 10

Both serve the same events at the same rate under uvicorn, one client for each; the runs are kept in a SQLite file.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from sse_trio import EventSourceResponse, ServerBridge, open_hub, open_runs
from sse_trio.stores import SQLiteStore


async def produce(send_channel, rate: float) -> None:
    """Send the time, again and again."""
    while True:
        await send_channel.send(f"{time.monotonic():.6f} " + "x" * 40)
        await anyio.sleep(1 / rate)


def make_app(rate: float, path: str):
    """Return an application with a plain stream and a run for each key."""

    @asynccontextmanager
    async def lifespan(_):
        async with open_hub(SQLiteStore(path)) as hub, open_runs(hub) as runs:
            yield {"runs": runs}

    async def plain(_):
        return EventSourceResponse(produce, rate)

    async def run(request):
        key = request.path_params["key"]
        await request.state.runs.start(key, produce, rate)
        return request.state.runs.response(key)

    async def cpu(_):
        return PlainTextResponse(str(time.process_time()))

    routes = [Route("/cpu", cpu), Route("/plain/{key}", plain), Route("/run/{key}", run)]
    return ServerBridge(Starlette(routes=routes, lifespan=lifespan))


async def read(port: int, path: str, latencies: list[float]) -> None:
    """Read a stream until cancelled."""
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        async for chunk in stream:
            now = time.monotonic()
            lines = [line for line in chunk.split(b"\n") if line.startswith(b"data: ")]
            latencies += [now - float(line[6:].partition(b" ")[0]) for line in lines]


async def ask_cpu(port: int) -> float:
    """Return the CPU time that the server has used."""
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(b"GET /cpu HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        answer = b"".join([chunk async for chunk in stream])
    return float(answer.rpartition(b"\r\n\r\n")[2])


async def measure(args: argparse.Namespace, port: int, kind: str) -> tuple[float, float]:
    """Return microseconds of the server for each event, and the median time to the watcher in milliseconds."""
    latencies: list[float] = []
    async with anyio.create_task_group() as nursery:
        for n in range(args.streams):
            nursery.start_soon(read, port, f"/{kind}/{n}", latencies)
        await anyio.sleep(3)
        latencies.clear()
        before = await ask_cpu(port)
        await anyio.sleep(args.seconds)
        used, events = await ask_cpu(port) - before, len(latencies)
        nursery.cancel_scope.cancel()
    print(f"{kind}: {events / args.seconds:.0f} events/s, {1e6 * used / events:.0f} us of CPU each, p50 ", end="")
    print(f"{1e3 * statistics.median(latencies):.1f} ms")
    return 1e6 * used / events, 1e3 * statistics.median(latencies)


def start_server(args: argparse.Namespace, path: str) -> tuple[subprocess.Popen, int]:
    """Start a server, and return its process and its port."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, __file__, "--serve", str(port), "--rate", str(args.rate), "--path", path]
    process = subprocess.Popen(command, env=os.environ)
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.05)
        else:
            return process, port


def main() -> None:
    """Measure both, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--serve", type=int)
    parser.add_argument("--path", default="")
    args = parser.parse_args()
    if args.serve:
        import uvicorn

        uvicorn.run(make_app(args.rate, args.path), port=args.serve, log_level="error")
        return
    cpu = {}
    for kind in ("plain", "run"):
        with tempfile.TemporaryDirectory() as folder:
            process, port = start_server(args, str(Path(folder, "runs.sqlite")))
            try:
                cpu[kind], _ = anyio.run(measure, args, port, kind)
            finally:
                process.kill()
                process.wait()
    print(f"a run costs {cpu['run'] / cpu['plain']:.2f} times the CPU of a plain stream")


if __name__ == "__main__":
    main()
