# A storm of connections, for real: what it does to the latency of the streams that are open, with and without limits.
#
#   python benchmarks/admission_storm.py [--server uvicorn|hypercorn-trio|hypercorn-asyncio] [--connections 2000]
#
# Rule 1: the server, the streams that are open before, and the storm are three processes. On a machine of two cores
#         they take time from each other, so the figures are worse than a server's alone.
# Rule 2: an event carries the time at which it was published; its latency is what has passed when its client reads it.
#         It counts in the storm if any of that was.
# Rule 3: the storm connects all at once, or over some seconds, and takes every answer: who gets a stream keeps it to
#         the end of the run, who is refused closes the connection.

from __future__ import annotations

import argparse
import json
import os
import resource
import selectors
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import anyio
from side_by_side import free_port, running, used
from starlette.applications import Starlette
from starlette.routing import Route

from sse_trio import EventSourceResponse, ServerBridge, StreamGroup, open_hub

HERE = Path(__file__).parent
HZ = 20
SERVERS = {
    "uvicorn": ["uvicorn", "--no-access-log", "--log-level", "error", "--port"],
    "hypercorn-trio": ["hypercorn", "--log-level", "error", "-k", "trio", "-b"],
    "hypercorn-asyncio": ["hypercorn", "--log-level", "error", "-k", "asyncio", "-b"],
}
SEEN = b"data: "


def address_of(request):
    return request.client.host


def limits_of(name, streams):
    return {
        "none": {},
        "max_streams": {"max_streams": streams},
        "max_streams_per": {"max_streams_per": (address_of, streams)},
        "accept_rate": {"accept_rate": 100},
    }[name]


# --- the server


def make_app(limits):
    group = StreamGroup(**limits)

    async def publish(hub):
        while True:
            await hub.publish("time", str(time.monotonic_ns()))
            await anyio.sleep(1 / HZ)

    @asynccontextmanager
    async def lifespan(app):
        async with open_hub() as app.state.hub, anyio.create_task_group() as task_group:
            task_group.start_soon(publish, app.state.hub)
            yield
            task_group.cancel_scope.cancel()

    async def stream(request):
        return EventSourceResponse(request.app.state.hub.subscribe("time"), group=group)

    return ServerBridge(Starlette(routes=[Route("/", stream)], lifespan=lifespan))


if "STORM_LIMIT" in os.environ:
    app = make_app(limits_of(os.environ["STORM_LIMIT"], int(os.environ["STORM_STREAMS"])))


def serve(server, limit, streams):
    port = free_port()
    where = str(port) if server == "uvicorn" else f"127.0.0.1:{port}"
    arguments = [*SERVERS[server], where, "--backlog", "2048", "admission_storm:app"]
    return running(arguments, port, STORM_LIMIT=limit, STORM_STREAMS=str(streams))


# --- the storm, in a process of its own


def storm(port, connections, over):
    """Connect at once, take every answer, say what they were; keep what is open until the end of stdin."""
    statuses = {}
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        print(time.monotonic_ns(), flush=True)
        began, made, answered = time.monotonic(), 0, 0
        while answered < connections:
            while made < connections and time.monotonic() - began >= over * made / connections:
                connection = stack.enter_context(socket.socket())
                connection.setblocking(False)
                connection.connect_ex(("127.0.0.1", port))
                selector.register(connection, selectors.EVENT_WRITE)
                made += 1
            for key, _ in selector.select(1 if made == connections else 0.001):
                answered += take(selector, key, statuses)
        print(json.dumps({"at": time.monotonic_ns(), "statuses": statuses}), flush=True)
        selector.register(sys.stdin, selectors.EVENT_READ, "stdin")
        while True:
            for key, _ in selector.select():
                if key.data == "stdin":
                    return
                key.fileobj.recv(65_536)


def take(selector, key, statuses):
    """Ask, or take an answer; say whether it was one."""
    connection = key.fileobj
    if key.events == selectors.EVENT_WRITE:
        connection.send(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        selector.modify(connection, selectors.EVENT_READ)
        return False
    data = connection.recv(65_536)
    if key.data is not None:
        return False
    status = data[9:12].decode()
    statuses[status] = statuses.get(status, 0) + 1
    if status == "200":
        selector.modify(connection, selectors.EVENT_READ, status)
    else:
        selector.unregister(connection)
        connection.close()
    return True


# --- the streams that are open before, and what is measured


class Readers:
    """Streams that are open, and when each event came to them."""

    def __init__(self, port, count):
        self._stack = ExitStack()
        self._selector = self._stack.enter_context(selectors.DefaultSelector())
        self.came = []  # when it was published, in ns, and how long it took, in ms
        for _ in range(count):
            connection = self._stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            connection.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
            self._selector.register(connection, selectors.EVENT_READ)
            time.sleep(0.011)  # the rate holds for these as well

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._stack.close()

    def also(self, file):
        """Wait for this file as well."""
        self._selector.register(file, selectors.EVENT_READ, file)

    def read(self, seconds):
        """Read for so long, or until the other file has a line, which is returned."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            for key, _ in self._selector.select(left):
                if key.data is not None:
                    return key.data.readline()
                data = key.fileobj.recv(65_536)
                if not data:
                    raise RuntimeError("a stream that was open has ended")
                now = time.monotonic_ns()
                for line in data.split(b"\n"):
                    if line.startswith(SEEN):
                        at = int(line[len(SEEN) :])
                        self.came.append((at, (now - at) / 1e6))
        return None


def figures(latencies):
    latencies = sorted(latencies)
    if not latencies:
        return "-"
    at = lambda share: latencies[min(int(len(latencies) * share), len(latencies) - 1)]  # noqa: E731
    return f"{at(0.5):7.1f} {at(0.99):7.1f} {latencies[-1]:7.1f}"


def measure(server, limit, streams, connections, over):
    with serve(server, limit, streams) as (port, process), Readers(port, streams) as readers:
        readers.read(1.5)
        calm = time.monotonic_ns()
        readers.read(1.5)
        command = [
            sys.executable,
            __file__,
            "--storm",
            str(port),
            "--connections",
            str(connections),
            "--over",
            str(over),
        ]
        storming = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            readers.also(storming.stdout)
            began = int(readers.read(20))
            cpu, _ = used(process)
            answer = json.loads(readers.read(60))
            cpu = used(process)[0] - cpu
            readers.read(3)
        finally:
            storming.kill()
            storming.wait()
    ended = answer["at"]
    name = f"{server} {limit}"
    came = [(at, at + took * 1e6, took) for at, took in readers.came]
    told = (
        figures([took for at, came_at, took in came if calm <= at and came_at < began]),
        figures([took for at, came_at, took in came if began <= came_at and at < ended]),
        figures([took for at, came_at, took in came if ended <= at]),
    )
    answers = " ".join(f"{count} x {status}" for status, count in sorted(answer["statuses"].items()))
    print(f"{name:30}{told[0]:>26}{told[1]:>26}{told[2]:>26}{(ended - began) / 1e9:7.2f} s {cpu:6.2f} s  {answers}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", choices=SERVERS, nargs="*", default=["uvicorn", "hypercorn-trio"])
    parser.add_argument("--limit", nargs="*", default=["none", "max_streams", "max_streams_per", "accept_rate"])
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument(
        "--over", type=float, default=0.0, help="seconds over which the storm connects; default: at once"
    )
    parser.add_argument("--connections", type=int, default=2000)
    parser.add_argument("--storm", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    if args.storm:
        storm(args.storm, args.connections, args.over)
        sys.exit()
    print(f"{args.streams} streams of {HZ} events a second; latencies in ms: p50, p99, largest")
    print(f"{'':30}{'before':>26}{'in the storm':>26}{'3 s after':>26}{'lasted':>9}{'CPU':>9}  answers")
    for server in args.server:
        for limit in args.limit:
            measure(server, limit, args.streams, args.connections, args.over)
