# A real reconnect storm, as large as one machine makes it, beside the simulated one: for reconnect_storm.py --check.
#
# One process serves, on a Redis of its own; this process is all the clients, plain sockets that ask with the id of the
# event before the last. All at once they say what a stream that is opened costs; then they come within half of the time
# that this took, and within twice of it, and the simulation has to say how long they wait.

from __future__ import annotations

import json
import random
import selectors
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, asynccontextmanager

from _load import cpu_seconds
from fanout import serve_app, wait_listening
from reconnect_storm import Storm
from redis_load import info, redis_server


def make_app(url):
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    from sse_trio import EventSourceResponse, ServerBridge, last_event_id, open_hub
    from sse_trio.stores.redis import RedisStore

    @asynccontextmanager
    async def lifespan(_):
        async with open_hub(RedisStore(url)) as hub:
            yield {"hub": hub}

    async def subscribe(request):
        return EventSourceResponse(request.state.hub.subscribe("topic", after=last_event_id(request)))

    async def publish(request):
        ids = [await request.state.hub.publish("topic", "x" * 100) for _ in range(2)]
        return PlainTextResponse(str(ids[0]))

    return ServerBridge(Starlette(routes=[Route("/topic", subscribe), Route("/publish", publish)], lifespan=lifespan))


def serve(server, url, port):
    serve_app(make_app(url), server, port, backlog=8192)


def storm(port, id_, arrivals):
    """Ask at each of these times; return how long each waited for its event."""
    asked, waits = {}, []
    request = f"GET /topic HTTP/1.1\r\nhost: localhost\r\nlast-event-id: {id_}\r\n\r\n".encode()
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        start, waiting = time.perf_counter(), sorted(arrivals, reverse=True)
        while len(waits) < len(arrivals):
            while waiting and waiting[-1] <= time.perf_counter() - start:
                asked_at = start + waiting.pop()  # where this loop is late, that is a wait as well
                connection = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
                connection.sendall(request)
                asked[connection] = asked_at
                selector.register(connection, selectors.EVENT_READ)
            for key, _ in selector.select(0.001):
                data = key.fileobj.recv(65536)
                assert data, "a stream has ended"
                if b"\nid:" in data and key.fileobj in asked:
                    waits.append(time.perf_counter() - asked.pop(key.fileobj))
                    selector.unregister(key.fileobj)
    return sorted(waits)


def check(args):
    with redis_server(args.redis) as redis, socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
        probe.close()
        command = [sys.executable, __file__, args.server, f"redis://127.0.0.1:{redis}", str(port)]
        server = subprocess.Popen(command)
        try:
            wait_listening(port)
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(b"GET /publish HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
                id_ = b"".join(iter(lambda: connection.recv(65536), b"")).split()[-1].decode()
            storm(port, id_, [0.0] * 100)
            burst = real_storm(args, server.pid, redis, port, id_, 0.0)
            # On the clock: of what a stream costs on a machine that does other things as well.
            open_s = burst["last_is_back_after_s"] / args.clients
            for share in (0.0, 0.5, 2.0):
                within = share * open_s * args.clients
                real = real_storm(args, server.pid, redis, port, id_, within) if share else burst
                simulation = Storm(
                    args.clients, 1, open_s, real["read_us"] / 1e6, within=max(within, 0.001), horizon=60.0
                )
                simulation.run()
                simulated = {
                    "last_is_back_after_s": simulation.back_after(1),
                    "wait_p50_s": simulation.wait(0.5),
                    "wait_p99_s": simulation.wait(0.99),
                }
                print(
                    json.dumps(
                        {"server": args.server, "within_s": round(within, 2), "real": real, "simulated": simulated}
                    )
                )
        finally:
            server.kill()
            server.wait()


def real_storm(args, pid, redis, port, id_, within):
    chance = random.Random(1)
    arrivals = [chance.uniform(0, within) for _ in range(args.clients)]
    cpu, store, began = cpu_seconds(pid), redis_cpu(redis), time.perf_counter()
    waits = storm(port, id_, arrivals)
    taken, cpu, store = time.perf_counter() - began, cpu_seconds(pid) - cpu, redis_cpu(redis) - store
    time.sleep(0.5)
    return {
        "open_cpu_us": round(1e6 * cpu / args.clients),
        "read_us": round(1e6 * store / args.clients),
        "last_is_back_after_s": round(taken, 2),
        "wait_p50_s": round(waits[len(waits) // 2], 3),
        "wait_p99_s": round(waits[len(waits) * 99 // 100], 3),
    }


def redis_cpu(port):
    return info(port, "cpu", "used_cpu_user", "used_cpu_sys")


if __name__ == "__main__":
    serve(*sys.argv[1:])
