# The same endpoints in each framework, for side_by_side.py. Which one is chosen by the variable BENCH_APP.
#
#   /paced?n=&hz=  n events, one now and then, as a language model does: what most streams are
#   /flood?n=      n events as fast as one producer can send    /sub  what is published    /publish?n=&hz=  publish it
#
# Rule: each in the way that its own documentation shows. `bare` is ASGI without any framework, one body message for
#       each event: the limit of its server, for whoever sends one by one. `starlette` is just that behind a route of
#       Starlette's: what of the others' memory and time is the framework's.

from __future__ import annotations

import os
import random
import time
from collections import deque
from contextlib import asynccontextmanager
from functools import partial
from urllib.parse import parse_qs

import anyio
from sniffio import current_async_library

PAD = "x" * 100
APPS = ("bare", "starlette", "sse_trio", "sse_trio_middleware", "sse_starlette", "fastapi", "litestar")
RARE = ("starlette", "sse_trio_middleware")
"""Those that aren't measured unless they are asked for."""


def payload(n):
    return f"{time.monotonic_ns()}:{n}:{PAD}"


async def paced(n, hz):
    """Yield n payloads at this rate. Streams that start together are spread over the first period."""
    began = time.monotonic() + random.random() / hz
    for each in range(n):
        await anyio.sleep(max(0.0, began + each / hz - time.monotonic()))
        yield payload(each)


class Mailboxes:
    """A queue for each subscriber, as one writes it by hand."""

    def __init__(self):
        self._send_streams = set()

    def publish(self, data):
        for send_stream in self._send_streams:
            send_stream.send_nowait(data)

    @asynccontextmanager
    async def subscribe(self):
        send_stream, receive_stream = anyio.create_memory_object_stream(10_000)
        with send_stream, receive_stream:
            self._send_streams.add(send_stream)
            try:
                yield receive_stream
            finally:
                self._send_streams.discard(send_stream)


class Mailbox:
    """A queue of one subscriber that wakes it with the loop's own primitive, the cheapest that there is."""

    def __init__(self):
        self.items = deque()
        self._wake = None

    def put(self, item):
        self.items.append(item)
        if self._wake is not None:
            wake, self._wake = self._wake, None
            wake()

    async def wait(self):
        if "trio" in current_async_library():
            import trio

            def abort(_):
                self._wake = None
                return trio.lowlevel.Abort.SUCCEEDED

            self._wake = partial(trio.lowlevel.reschedule, trio.lowlevel.current_task())
            await trio.lowlevel.wait_task_rescheduled(abort)
        else:
            import asyncio

            future = asyncio.get_running_loop().create_future()
            self._wake = lambda: future.done() or future.set_result(None)
            await future


def bare():
    head = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}
    mailboxes = set()

    def publish(data):
        event = f"data: {data}\n\n".encode()
        for mailbox in mailboxes:
            mailbox.put(event)

    async def pump(mailbox, send):
        while True:
            if not mailbox.items:
                await mailbox.wait()
            await send({"type": "http.response.body", "body": mailbox.items.popleft(), "more_body": True})

    async def subscribe(receive, send):
        mailbox = Mailbox()
        mailboxes.add(mailbox)
        try:
            async with anyio.create_task_group() as nursery:
                nursery.start_soon(pump, mailbox, send)
                while (await receive())["type"] != "http.disconnect":
                    pass
                nursery.cancel_scope.cancel()
        finally:
            mailboxes.discard(mailbox)

    async def send_event(send, data):
        await send({"type": "http.response.body", "body": f"data: {data}\n\n".encode(), "more_body": True})

    async def app(scope, receive, send):
        await send(head)
        if scope["path"] == "/sub":
            await subscribe(receive, send)
            return
        query = parse_qs(scope["query_string"].decode())
        n = int(query["n"][0])
        if scope["path"] == "/paced":
            async for data in paced(n, float(query["hz"][0])):
                await send_event(send, data)
        else:
            for each in range(n):
                await send_event(send, payload(each))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    return app, publish


def starlette():
    from starlette.applications import Starlette
    from starlette.routing import Route

    app, publish = bare()

    async def endpoint(request):
        return app

    return Starlette(routes=[Route(path, endpoint) for path in ("/paced", "/flood", "/sub")]), publish


class PassOn:
    """A middleware of the application's that looks at every message, as one that logs or counts does."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        async def pass_on(message):
            await send(message)

        await self.app(scope, receive, pass_on)


def sse_trio(*middlewares):
    from starlette.applications import Starlette
    from starlette.routing import Route

    from sse_trio import EventSourceResponse, ServerBridge, open_hub

    async def flood(send_channel, n):
        for each in range(n):
            await send_channel.send(payload(each))

    async def send_paced(send_channel, n, hz):
        async for data in paced(n, hz):
            await send_channel.send(data)

    async def paced_endpoint(request):
        n, hz = request.query_params["n"], request.query_params["hz"]
        return EventSourceResponse(send_paced, int(n), float(hz))

    async def flood_endpoint(request):
        return EventSourceResponse(flood, int(request.query_params["n"]))

    async def subscribe(request):
        return EventSourceResponse(request.app.state.hub.subscribe("bench"))

    @asynccontextmanager
    async def lifespan(app):
        async with open_hub() as app.state.hub:
            yield

    routes = [Route("/paced", paced_endpoint), Route("/flood", flood_endpoint), Route("/sub", subscribe)]
    app = Starlette(routes=routes, lifespan=lifespan)
    for middleware in (*middlewares, ServerBridge):
        app.add_middleware(middleware)
    return app, lambda data: app.state.hub.publish("bench", data)


def sse_starlette(boxes):
    from sse_starlette import EventSourceResponse
    from starlette.applications import Starlette
    from starlette.routing import Route

    async def paced_endpoint(request):
        async def events():
            async for data in paced(int(request.query_params["n"]), float(request.query_params["hz"])):
                yield {"data": data}

        return EventSourceResponse(events())

    async def flood(request):
        async def events():
            for n in range(int(request.query_params["n"])):
                yield {"data": payload(n)}

        return EventSourceResponse(events())

    async def subscribe(request):
        async def events():
            async with boxes.subscribe() as published:
                async for data in published:
                    yield {"data": data}

        return EventSourceResponse(events())

    return Starlette(routes=[Route("/paced", paced_endpoint), Route("/flood", flood), Route("/sub", subscribe)])


def fastapi(boxes):
    from collections.abc import AsyncIterable

    from fastapi import FastAPI
    from fastapi.sse import EventSourceResponse, ServerSentEvent

    app = FastAPI()

    async def flood(n: int):
        for each in range(n):
            yield ServerSentEvent(raw_data=payload(each))

    async def paced_endpoint(n: int, hz: float):
        async for data in paced(n, hz):
            yield ServerSentEvent(raw_data=data)

    async def subscribe():
        async with boxes.subscribe() as published:
            async for data in published:
                yield ServerSentEvent(raw_data=data)

    paced_endpoint.__annotations__ = {"n": int, "hz": float, "return": AsyncIterable[ServerSentEvent]}
    flood.__annotations__ = {"n": int, "return": AsyncIterable[ServerSentEvent]}
    subscribe.__annotations__ = {"return": AsyncIterable[ServerSentEvent]}
    app.get("/paced", response_class=EventSourceResponse)(paced_endpoint)
    app.get("/flood", response_class=EventSourceResponse)(flood)
    app.get("/sub", response_class=EventSourceResponse)(subscribe)
    return app


def litestar(boxes):
    from litestar import Litestar, get
    from litestar.response import ServerSentEvent

    async def flood(n):
        for each in range(n):
            yield payload(each)

    async def published():
        async with boxes.subscribe() as events:
            async for data in events:
                yield data

    async def paced_endpoint(n: int, hz: float) -> ServerSentEvent:
        return ServerSentEvent(paced(n, hz))

    async def flood_endpoint(n: int) -> ServerSentEvent:
        return ServerSentEvent(flood(n))

    async def subscribe() -> ServerSentEvent:
        return ServerSentEvent(published())

    paced_endpoint.__annotations__ = {"n": int, "hz": float, "return": ServerSentEvent}
    flood_endpoint.__annotations__ = {"n": int, "return": ServerSentEvent}
    subscribe.__annotations__ = {"return": ServerSentEvent}
    handlers = [get("/paced")(paced_endpoint), get("/flood")(flood_endpoint), get("/sub")(subscribe)]
    return Litestar(handlers, openapi_config=None)


def make(name):
    """Return the application and its publish(), which may be awaitable."""
    if name.startswith("sse_trio"):
        return sse_trio(*([PassOn] if name.endswith("middleware") else []))
    if name in ("bare", "starlette"):
        return bare() if name == "bare" else starlette()
    boxes = Mailboxes()
    make_app = {"sse_starlette": sse_starlette, "fastapi": fastapi, "litestar": litestar}[name]
    return make_app(boxes), boxes.publish


def with_publish(app, publish):
    """Answer /publish?n=&hz= beside the application, and a lifespan where it has none."""

    async def answer(scope, send):
        query = parse_qs(scope["query_string"].decode())
        n, hz = int(query["n"][0]), float(query["hz"][0])
        began = time.monotonic()
        for each in range(n):
            await anyio.sleep(max(0.0, began + each / hz - time.monotonic()))
            published = publish(payload(each))
            if published is not None:
                await published
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    async def outer(scope, receive, send):
        if scope["type"] == "lifespan" and os.environ["BENCH_APP"] == "bare":
            for each in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{each}.complete"})
        elif scope["type"] == "http" and scope["path"] == "/publish":
            await answer(scope, send)
        else:
            await app(scope, receive, send)

    return outer


app = with_publish(*make(os.environ["BENCH_APP"])) if "BENCH_APP" in os.environ else None
