"""Runs in real processes: servers that are killed, watchers that reload, and what each of them has seen.

Every watcher's sequence has to be a prefix of the run's events, without a loss, a double or disorder, and then exactly
one end; no key may stay without one. Prints a line of figures, and fails if anything is wrong.

    python benchmarks/runs_processes.py sqlite
    python benchmarks/runs_processes.py redis --servers 3 --runs 300 --events 300 --watchers 500
    python benchmarks/runs_processes.py sqlite --servers 3 --runs 300 --events 300 --watchers 500 --stay 100 \\
        --kills 2 --seconds 0.4 --lease 5    # with more than a thousand faults
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sse_trio import EventDecoder, RunExistsError, ServerBridge, last_event_id, open_hub, open_runs
from sse_trio.stores import SQLiteStore

# --- one server


def open_store(url: str):
    """Return the store of a URL: of Redis, or the path of a file."""
    if not url.startswith("redis:"):
        return SQLiteStore(url)
    from sse_trio.stores.redis import RedisStore

    return RedisStore(url)


async def produce(send_channel, events: int, seconds: float) -> None:
    """Send numbers."""
    for n in range(events):
        await send_channel.send(str(n))
        await anyio.sleep(seconds * random.random())


def make_app(url: str, lease: float, events: int, seconds: float):
    """Return the application of one server."""

    @asynccontextmanager
    async def lifespan(_):
        async with open_hub(open_store(url)) as hub, open_runs(hub, lease=lease) as runs:
            yield {"runs": runs}

    async def start(request: Request):
        try:
            run = await request.state.runs.start(request.path_params["key"], produce, events, seconds)
        except RunExistsError as exc:
            return JSONResponse({"state": exc.state})
        return JSONResponse({"started_here": run.started_here})

    async def watch(request: Request):
        return request.state.runs.response(request.path_params["key"], after=last_event_id(request))

    async def status(request: Request):
        found = await request.state.runs.status(request.path_params["key"])
        return Response(status_code=404) if found is None else JSONResponse({"state": found.state})

    routes = [
        Route("/{key}", start, methods=["POST"]),
        Route("/{key}", watch),
        Route("/{key}/status", status),
    ]
    return ServerBridge(Starlette(routes=routes, lifespan=lifespan))


def serve(args: argparse.Namespace) -> None:
    """Be a server until killed."""
    import uvicorn

    app = make_app(args.url, args.lease, args.events, args.seconds)
    uvicorn.run(app, port=args.port, log_level="error", timeout_graceful_shutdown=1)


# --- the watchers, and what ends them


class WrongError(Exception):
    """A promise was broken."""


@dataclass
class Trial:
    """The servers, and what was seen."""

    args: argparse.Namespace
    ports: list[int]
    processes: dict[int, subprocess.Popen] = field(default_factory=dict)
    counts: Counter = field(default_factory=Counter)
    faults: int = 0
    kills_until_end: float = 0.0

    def start_server(self, port: int) -> None:
        """Start a server on its port."""
        args = self.args
        command = [sys.executable, __file__, "serve", "--url", args.url, "--port", str(port)]
        command += ["--lease", str(args.lease), "--events", str(args.events), "--seconds", str(args.seconds)]
        self.processes[port] = subprocess.Popen(command)

    def url(self, path: str) -> str:
        """Return a path on any of the servers."""
        return f"http://127.0.0.1:{random.choice(self.ports)}/{path}"

    async def ask(self, client: httpx.AsyncClient, method: str, path: str) -> httpx.Response:
        """Ask any server, until one answers."""
        while True:
            try:
                answer = await client.request(method, self.url(path))
            except httpx.TransportError:
                await anyio.sleep(0.05)
                continue
            if answer.status_code < 500:
                return answer
            await anyio.sleep(0.05)

    async def watch(self, client: httpx.AsyncClient, key: str) -> None:
        """Watch a run to its end, with reloads, and check what was seen."""
        last, seen, ends = None, [], []
        while not ends:
            try:
                last = await self._watch_once(client, key, last, seen, ends)
            except httpx.TransportError:
                self.faults += 1
                await anyio.sleep(0.05)
        if seen != [*range(len(seen))] or len(ends) != 1:
            raise WrongError(f"{key}: {seen} and then {ends}")
        if ends[0] == "completed" and len(seen) != self.args.events:
            raise WrongError(f"{key} has completed after {len(seen)} events")
        answer = await self.ask_again(client, key, last)
        if answer != 204:
            raise WrongError(f"{key}: a client that has seen the end was answered {answer}")
        self.counts[ends[0]] += 1

    async def ask_again(self, client, key, last) -> int:
        """Return the status of a client that comes back with its last id."""
        while True:
            try:
                async with client.stream("GET", self.url(key), headers={"last-event-id": last}) as answer:
                    return answer.status_code
            except httpx.TransportError:
                await anyio.sleep(0.05)

    async def _watch_once(self, client, key, last, seen, ends):
        most = self.args.stay or 2 * self.args.events
        stay = len(seen) + random.randrange(most) if random.random() < 0.7 else sys.maxsize
        decoder = EventDecoder()
        async with client.stream("GET", self.url(key), headers={"last-event-id": last} if last else {}) as answer:
            if answer.status_code != 200:
                raise WrongError(f"{key} after {last}: {answer.status_code}")
            try:
                async for chunk in answer.aiter_bytes():
                    for event in decoder.feed(chunk):
                        if event.event == "end":
                            ends.append(json.loads(event.data)["state"])
                        else:
                            seen.append(int(event.data))
                            self.counts["events"] += 1
                    last = decoder.last_event_id or last
                    if len(seen) >= stay and not ends:
                        self.faults += 1
                        break
            except httpx.TransportError:
                self.faults += 1
        return last

    async def kill(self) -> None:
        """Kill servers, one after another, and start each again."""
        for _ in range(self.args.kills):
            await anyio.sleep(self.args.seconds * self.args.events / (2 * self.args.kills + 2))
            port = random.choice(self.ports)
            self.processes[port].send_signal(signal.SIGKILL)
            self.processes[port].wait()
            self.counts["kills"] += 1
            self.faults += 1
            self.start_server(port)
            await self.wait_up(port)

    async def wait_up(self, port: int) -> None:
        """Wait until a server answers."""
        async with httpx.AsyncClient() as client:
            while True:
                try:
                    await client.get(f"http://127.0.0.1:{port}/none/status")
                except httpx.TransportError:
                    await anyio.sleep(0.05)
                else:
                    return

    async def run(self) -> None:
        """Do it all."""
        for port in self.ports:
            self.start_server(port)
        for port in self.ports:
            await self.wait_up(port)
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(limits=limits, timeout=60.0) as client:
            keys = [f"run-{n}" for n in range(self.args.runs)]
            async with anyio.create_task_group() as starters:
                for key in keys:
                    starters.start_soon(self.ask, client, "POST", key)
            async with anyio.create_task_group() as watchers:
                watchers.start_soon(self.kill)
                for n in range(self.args.watchers):
                    watchers.start_soon(self.watch, client, keys[n % len(keys)])
            for key in keys:
                state = (await self.ask(client, "GET", f"{key}/status")).json()["state"]
                if state not in ("completed", "interrupted"):
                    raise WrongError(f"{key} is {state}")
                self.counts[f"runs {state}"] += 1

    def close(self) -> None:
        """End the servers."""
        for process in self.processes.values():
            process.kill()
            process.wait()


def free_port() -> int:
    """Return a port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def parse() -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("sqlite", "redis", "serve"))
    parser.add_argument("--servers", type=int, default=3)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--events", type=int, default=100)
    parser.add_argument("--watchers", type=int, default=60)
    parser.add_argument("--kills", type=int, default=4)
    parser.add_argument("--stay", type=int, default=0, help="events after which a watcher reloads, at most")
    parser.add_argument("--seconds", type=float, default=0.05, help="at most, between two events of a run")
    parser.add_argument("--lease", type=float, default=1.0)
    parser.add_argument("--within", type=float, default=600.0, help="seconds for all of it")
    parser.add_argument("--redis-server", default=shutil.which("redis-server"))
    parser.add_argument("--url", default="")
    parser.add_argument("--port", type=int, default=0)
    return parser.parse_args()


async def main(args: argparse.Namespace) -> None:
    """Run the trial within its time."""
    trial = Trial(args, [free_port() for _ in range(args.servers)])
    began = time.monotonic()
    try:
        with anyio.fail_after(args.within):
            await trial.run()
    finally:
        trial.close()
    figures = ", ".join(f"{name}: {number}" for name, number in sorted(trial.counts.items()))
    print(f"{figures}, faults: {trial.faults}, seconds: {time.monotonic() - began:.1f}")


def open_redis(binary: str, folder: str) -> tuple[subprocess.Popen, str]:
    """Start a Redis, and return its process and its URL."""
    port = free_port()
    command = [binary, "--port", str(port), "--dir", folder, "--save", "", "--maxmemory-policy", "noeviction"]
    process = subprocess.Popen([*command, "--appendonly", "yes", "--loglevel", "warning"])
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.02)
        else:
            return process, f"redis://127.0.0.1:{port}"


if __name__ == "__main__":
    arguments = parse()
    if arguments.what == "serve":
        serve(arguments)
    else:
        with tempfile.TemporaryDirectory() as made:
            server = None
            arguments.url = str(Path(made, "runs.sqlite"))
            if arguments.what == "redis":
                server, arguments.url = open_redis(arguments.redis_server, made)
            try:
                anyio.run(main, arguments)
            finally:
                if server is not None:
                    server.kill()
                    server.wait()
