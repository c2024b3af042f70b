"""A stream that ends without having waited takes short cuts, and keeps every promise of a longer one."""

from __future__ import annotations

import asyncio
import signal
import sys
from time import time

import anyio
import pytest
from anyio.lowlevel import checkpoint

from sse_trio import CloseReason, EventSourceResponse, ServerSentEvent, StreamGroup
from sse_trio._groups.group import run_of
from sse_trio._servers.connection import Connection

pytestmark = pytest.mark.anyio

EVENT = b"data: event\n\n"


class Server(Connection):
    """A known server that may still hold what it was given when the final frame was sent."""

    def __init__(self, *, holds=False, at_final=None):
        super().__init__()
        self.holds = holds
        self.at_final = at_final
        self.sent, self.tasks = [], []
        self.flushed = anyio.Event()
        self.waits = 0
        self.is_aborted = self.notes_tasks = False

    def is_own_send(self, send, /):
        return True

    @property
    def is_lost(self):
        return False

    @property
    def is_flushed(self):
        return not self.holds

    async def wait_flushed(self):
        self.waits += 1
        if self.holds:
            await self.flushed.wait()

    def abort(self):
        self.is_aborted = True
        return True

    async def receive(self):
        await anyio.sleep_forever()

    async def send(self, message):
        self.sent.append(message.get("body", b"head"))
        if self.notes_tasks:
            self.tasks.append(asyncio.current_task())
        if not message.get("more_body", True) and self.at_final is not None:
            self.at_final()

    async def serve(self, response):
        scope = {"type": "http", "http_version": "1.1", "method": "GET", "path": "/", "headers": []}
        with anyio.fail_after(300):
            await response({**scope, "extensions": {"sse_trio": {"connection": self}}}, self.receive, self.send)


async def short(send_channel):
    await send_channel.send("event")


def response_of(produce, **options):
    """Return a response, and the list of its close reasons."""
    reasons = []

    async def on_close(reason):
        reasons.append(reason)

    options.setdefault("group", StreamGroup(signals=False))
    return EventSourceResponse(produce, on_close=on_close, **options), reasons


@pytest.mark.skipif(sys.version_info < (3, 11), reason="not applicable: a producer has a task of its own")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_it_has_no_task_of_its_own():
    """On asyncio, the task that serves the stream gives a known server all of its messages."""
    server = Server()
    server.notes_tasks = True
    before = asyncio.all_tasks()
    response, reasons = response_of(short)
    await server.serve(response)
    assert server.sent == [b"head", EVENT, b""]
    assert set(server.tasks) == {asyncio.current_task()}
    assert asyncio.all_tasks() == before
    assert reasons == [CloseReason.COMPLETED]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_loop_that_writes_at_the_end_of_its_pass():
    """What is flushed by the next pass of the loop, as uvloop does, needs no wait."""

    def write_at_the_end():
        server.holds = True
        asyncio.get_running_loop().call_soon(setattr, server, "holds", False)

    server = Server(at_final=write_at_the_end)
    response, reasons = response_of(short)
    await server.serve(response)
    assert (server.sent, server.waits) == ([b"head", EVENT, b""], 0)
    assert reasons == [CloseReason.COMPLETED]


async def longer(send_channel):
    await short(send_channel)
    send_channel.close()
    await anyio.sleep(1)


@pytest.mark.parametrize("produce", [short, longer])
async def test_a_flush_that_takes_time(produce):
    """The response returns when the connection has taken everything, and not before."""
    server = Server(holds=True)
    response, reasons = response_of(produce)
    began = anyio.current_time()
    async with anyio.create_task_group() as nursery:
        nursery.start_soon(server.serve, response)
        await anyio.sleep(5)
        assert server.sent == [b"head", EVENT, b""]
        assert reasons == []
        server.flushed.set()
    assert reasons == [CloseReason.COMPLETED]
    assert anyio.current_time() - began == pytest.approx(5, abs=0.2)


async def test_a_flush_that_never_ends():
    """A client that takes nothing is dropped within `send_timeout` (C11), however short its stream was."""
    server = Server(holds=True)
    response, reasons = response_of(short, send_timeout=3)
    began = anyio.current_time()
    await server.serve(response)
    assert reasons == [CloseReason.SEND_TIMEOUT]
    assert server.is_aborted
    assert anyio.current_time() - began == pytest.approx(3, abs=0.3)


async def test_a_cancellation_that_meets_the_flush():
    """A stream that is cancelled when only the flush is left is held for a second at most, and drops its client."""
    with anyio.CancelScope() as scope:
        server = Server(holds=True, at_final=scope.cancel)
        response, reasons = response_of(short)
        began = anyio.current_time()
        await server.serve(response)
    assert scope.cancelled_caught
    assert reasons == [CloseReason.CANCELLED]
    assert server.is_aborted
    assert anyio.current_time() - began < 2


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_disconnect_that_meets_the_flush():
    """A client that leaves when only the flush is left ends its stream at once."""

    def leave():
        asyncio.get_running_loop().call_soon(run_of(group).end_all, lambda _: True, CloseReason.DISCONNECTED)

    group = StreamGroup(signals=False)
    server = Server(holds=True, at_final=leave)
    response, reasons = response_of(short, group=group)
    await server.serve(response)
    assert reasons == [CloseReason.DISCONNECTED]
    assert server.waits == 0


async def test_a_cancellation_that_comes_too_late():
    """If all is flushed in the same pass, the stream is complete, and the cancellation is raised all the same."""

    def write_at_the_end():
        scope.cancel()
        server.holds = False

    with anyio.CancelScope() as scope:
        server = Server(at_final=write_at_the_end)
        response, reasons = response_of(short)
        await server.serve(response)
        await checkpoint()
    assert scope.cancelled_caught
    assert server.sent == [b"head", EVENT, b""]
    assert reasons == [CloseReason.COMPLETED]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("overflow", ["wait", "drop_newest", "close"])
async def test_a_channel_without_a_buffer(overflow):
    """The first event finds its writer waiting: it isn't dropped, nor is it too much."""
    server = Server()
    response, reasons = response_of(short, max_buffer_size=0, overflow=overflow)
    await server.serve(response)
    assert server.sent == [b"head", EVENT, b""]
    assert reasons == [CloseReason.COMPLETED]


async def test_a_stream_that_has_expired():
    """A moment that has passed is the reason why even a short stream ends, and it says its farewell."""
    server = Server()
    response, reasons = response_of(short, expires_at=time() - 1, farewell=ServerSentEvent("bye"))
    await server.serve(response)
    assert b"".join(server.sent) == b"head" + EVENT + b"data: bye\n\n"
    assert reasons == [CloseReason.LIFETIME]


async def test_a_kick_by_its_own_producer():
    """A stream that is ended in its first pass gives its producer the grace."""
    group, closing = StreamGroup(signals=False), []

    async def produce(send_channel):
        await send_channel.send("event")
        with anyio.CancelScope() as scope:
            scope.cancel()
            await group.kick()
        await send_channel.wait_closing()
        closing.append(anyio.current_time())
        await anyio.sleep_forever()

    server = Server()
    response, reasons = response_of(produce, group=group, grace=5)
    began = anyio.current_time()
    await server.serve(response)
    assert reasons == [CloseReason.KICKED]
    assert closing == [pytest.approx(began, abs=0.1)]
    assert anyio.current_time() - began == pytest.approx(5, abs=0.2)
    assert server.sent == [b"head", EVENT, b""]


async def test_signals_are_noticed_while_it_closes():
    """`on_close` of a short stream may take a while, and until it is done the stream counts as open."""
    seen = []

    async def on_close(reason):
        seen.append(signal.getsignal(signal.SIGTERM))

    def handler(number, frame):
        """The server's."""

    before = signal.signal(signal.SIGTERM, handler)
    try:
        await Server().serve(EventSourceResponse(short, group=StreamGroup(), on_close=on_close))
        seen.append(signal.getsignal(signal.SIGTERM))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen[0] is not handler
    assert seen[1] is handler
