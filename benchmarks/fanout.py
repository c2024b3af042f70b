# What a subscriber of a hub costs its server: memory while nothing comes, CPU for each event that is delivered.
#
#   python benchmarks/fanout.py hypercorn --subscribers 1000 --rate 20 --seconds 8
#   python benchmarks/fanout.py hypercorn --through-send     # without direct writes, as behind a middleware
#
# The server is a process of its own, on trio (hypercorn) or asyncio (uvicorn, uvloop); its CPU and memory are read from
# the system. The clients are plain sockets of this process, which only counts. Linux only. Compare figures of one
# machine only.

from __future__ import annotations

import argparse
import json
import selectors
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

from _load import cpu_seconds

PAYLOAD = "x" * 100
END = b"\n\n"


def make_app(rate, middlewares):
    import anyio
    from starlette.applications import Starlette
    from starlette.routing import Route

    from sse_trio import EventSourceResponse, ServerBridge, open_hub

    async def publish(hub):
        while True:
            await hub.publish("topic", PAYLOAD)
            await anyio.sleep(1 / rate)

    @asynccontextmanager
    async def lifespan(_):
        async with open_hub() as hub, anyio.create_task_group() as task_group:
            yield {"hub": hub, "task_group": task_group}
            task_group.cancel_scope.cancel()

    async def subscribe(request):
        return EventSourceResponse(request.state.hub.subscribe("topic"))

    async def begin(request):
        request.state.task_group.start_soon(publish, request.state.hub)
        return EventSourceResponse(request.state.hub.subscribe("topic"))

    routes = [Route("/topic", subscribe), Route("/begin", begin)]
    app = Starlette(routes=routes, lifespan=lifespan)
    for middleware in (*middlewares, ServerBridge):
        app.add_middleware(middleware)
    return app


def serve(args):
    from side_by_side_apps import PassOn

    serve_app(make_app(args.rate, [PassOn] if args.through_send else []), args.server, args.serve)


def serve_app(app, server, port, *, backlog=4096):
    """Serve an application in this process, on trio (hypercorn) or asyncio (uvicorn)."""
    if server == "uvicorn":
        import uvicorn

        uvicorn.run(app, port=port, loop="uvloop", http="httptools", log_level="warning", backlog=backlog)
    else:
        import trio
        from hypercorn.config import Config
        from hypercorn.trio import serve as hypercorn_serve

        config = Config.from_mapping(bind=f"127.0.0.1:{port}", backlog=backlog, loglevel="WARNING")
        trio.run(hypercorn_serve, app, config)


def memory_kb(pid):
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty"))


def connect(port, target, stack):
    connection = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
    connection.sendall(f"GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
    assert connection.recv(65536).startswith(b"HTTP/1.1 200"), "no stream"
    return connection


def wait_listening(port):
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.05)


def count_deliveries(connections, seconds):
    count = 0
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            selector.register(connection, selectors.EVENT_READ)
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            for key, _ in selector.select(until - time.perf_counter()):
                count += key.fileobj.recv(65536).count(END)
    return count


def measure(args, pid, port):
    with ExitStack() as stack:
        warm = [connect(port, "/topic", stack) for _ in range(50)]
        time.sleep(1)
        before = memory_kb(pid)
        connections = [connect(port, "/topic", stack) for _ in range(args.subscribers - len(warm))]
        time.sleep(1)
        memory = (memory_kb(pid) - before) / len(connections)
        idle = cpu_seconds(pid)
        time.sleep(2)
        idle = (cpu_seconds(pid) - idle) / 2
        everybody = [*warm, *connections, connect(port, "/begin", stack)]
        count_deliveries(everybody, 1)
        cpu, start = cpu_seconds(pid), time.perf_counter()
        deliveries = count_deliveries(everybody, args.seconds)
        cpu, taken = cpu_seconds(pid) - cpu, time.perf_counter() - start
    return {
        "server": args.server,
        "subscribers": args.subscribers,
        "kb_per_subscriber": round(memory, 1),
        "idle_cpu_percent": round(100 * idle, 2),
        "deliveries_per_second": round(deliveries / taken),
        "cpu_us_per_delivery": round(1e6 * cpu / deliveries, 1),
        "cpu_percent": round(100 * cpu / taken),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("server", choices=("hypercorn", "uvicorn"))
    parser.add_argument("--subscribers", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--through-send", action="store_true", help="behind a middleware, so without direct writes")
    parser.add_argument("--serve", type=int, metavar="PORT", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve is not None:
        serve(args)
        return
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = subprocess.Popen([sys.executable, *sys.argv, "--serve", str(port)])
    try:
        wait_listening(port)
        print(json.dumps(measure(args, server.pid, port)))
    finally:
        server.send_signal(signal.SIGKILL)
        server.wait()


if __name__ == "__main__":
    main()
