"""What a run costs beside a plain stream: the CPU of the server for each event, and the time from publish to watcher.

    python benchmarks/runs_cost.py --streams 200 --rate 20 --seconds 10 --rounds 3

All serve the same events at the same rate under uvicorn, one client for each; the runs are kept in a SQLite file. The
floor is what no implementation can go below: plain streams whose events are sent once a thread has committed them to a
table with the runs' index and figures, without ids, owners, other processes, retention or resume. Rounds are
interleaved; the median counts.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from itertools import chain, product
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


class Floor:
    """Keeps events and then sends them: one table, one thread, groups of whatever has come during a commit."""

    def __init__(self, path: str) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.connection.executescript("""
            PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
            CREATE TABLE events (id INTEGER PRIMARY KEY, topic TEXT, payload BLOB);
            CREATE INDEX events_of_topic ON events (topic, id);
            CREATE TABLE topics (name TEXT PRIMARY KEY, events INTEGER, bytes INTEGER) WITHOUT ROWID;
        """)
        self.thread = ThreadPoolExecutor(1)
        self.waiting = []
        self.is_busy = False

    def keep(self, topic: str, payload: str, send_channel) -> None:
        """Send this once it is committed."""
        self.waiting.append((topic, payload, send_channel))
        if not self.is_busy:
            self.start()

    def start(self) -> None:
        """Commit what waits."""
        self.is_busy = bool(self.waiting)
        if self.is_busy:
            group, self.waiting = self.waiting, []
            done = asyncio.get_running_loop().run_in_executor(self.thread, self.commit, group)
            done.add_done_callback(lambda _: self.send(group))

    def commit(self, group) -> None:
        """Commit a group, in the thread."""
        execute, rows = self.connection.execute, [(topic, payload) for topic, payload, _ in group]
        figures = [(topic, len(payload)) for topic, payload in rows]
        execute("BEGIN IMMEDIATE")
        execute(f"INSERT INTO events (topic, payload) VALUES {', '.join(['(?, ?)'] * len(rows))}", [*chain(*rows)])
        execute(
            f"INSERT INTO topics VALUES {', '.join(['(?, 1, ?)'] * len(rows))} "
            "ON CONFLICT (name) DO UPDATE SET events = events + 1, bytes = bytes + excluded.bytes",
            [*chain(*figures)],
        )
        execute("COMMIT")

    def send(self, group) -> None:
        """Send a group that was committed."""
        self.start()
        for _, payload, send_channel in group:
            with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
                send_channel.send_nowait(payload)


async def produce_floor(send_channel, rate: float, floor: Floor, key: str) -> None:
    """Do as produce(), with events that are kept first."""
    while True:
        floor.keep(key, f"{time.monotonic():.6f} " + "x" * 40, send_channel)
        await anyio.sleep(1 / rate)


def make_app(rate: float, path: str):
    """Return an application with a plain stream, a run and the floor for each key."""
    floor = Floor(f"{path}.floor")

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

    async def least(request):
        return EventSourceResponse(produce_floor, rate, floor, request.path_params["key"])

    async def cpu(_):
        return PlainTextResponse(str(time.process_time()))

    streams = {"plain": plain, "floor": least, "run": run}
    routes = [Route("/cpu", cpu), *[Route(f"/{kind}/{{key}}", each) for kind, each in streams.items()]]
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
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--serve", type=int)
    parser.add_argument("--path", default="")
    args = parser.parse_args()
    if args.serve:
        import uvicorn

        uvicorn.run(make_app(args.rate, args.path), port=args.serve, log_level="error")
        return
    cpu: dict[str, list[float]] = {"plain": [], "floor": [], "run": []}
    for _, kind in product(range(args.rounds), cpu):
        with tempfile.TemporaryDirectory() as folder:
            process, port = start_server(args, str(Path(folder, "runs.sqlite")))
            try:
                cpu[kind].append(anyio.run(measure, args, port, kind)[0])
            finally:
                process.kill()
                process.wait()
    plain, floor, run = [statistics.median(each) for each in cpu.values()]
    print(f"a run costs {run / plain:.2f} times the CPU of a plain stream; the floor {floor / plain:.2f} times")


if __name__ == "__main__":
    main()
