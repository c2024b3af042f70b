"""A stream that ends without having waited takes short cuts, and keeps every promise of a longer one."""

from __future__ import annotations

import asyncio
import signal
import sys
from functools import partial
from time import time

import anyio
import pytest
from anyio.lowlevel import checkpoint

from sse_trio import CloseReason, EventSourceResponse, ServerSentEvent, StreamGroup, open_event_channel
from sse_trio._channels import pacer
from sse_trio._channels import send_channel as send_end
from sse_trio._groups.group import run_of
from sse_trio._streams.server_send import MOST_JOINED
from sse_trio.testing import virtual_backend

from ._known_server import KnownServer, response_of

pytestmark = pytest.mark.anyio

EVENT = b"data: event\n\n"


class Server(KnownServer):
    """A known server that may still hold what it was given when the final frame was sent."""

    joins_final = False

    def __init__(self, *, holds=False, at_final=None, is_own=True):
        super().__init__(is_own=is_own)
        self.holds = holds
        self.at_final = at_final
        self.sent, self.tasks = [], []
        self.flushed = anyio.Event()
        self.waits = 0
        self.is_aborted = self.notes_tasks = self.has_ended = False

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

    def has_all(self):
        """Whether it has the event and the end, in whatever messages."""
        return b"".join(self.sent) == b"head" + EVENT and self.has_ended

    async def send(self, message):
        assert not self.has_ended
        self.has_ended = not message.get("more_body", True)
        self.sent.append(message.get("body", b"head"))
        if self.notes_tasks:
            self.tasks.append(asyncio.current_task())
        if self.has_ended and self.at_final is not None:
            self.at_final()


@pytest.fixture(autouse=True, params=[False, True], ids=["apart", "joined"])
def joins_final(request, monkeypatch):
    """Whether the server writes an event and the final frame together."""
    monkeypatch.setattr(Server, "joins_final", request.param)
    return request.param


async def short(send_channel):
    await send_channel.send("event")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="not applicable: a producer has a task of its own")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_it_has_no_task_of_its_own():
    """On asyncio, the task that serves the stream gives a known server all of its messages."""
    server = Server()
    server.notes_tasks = True
    before = asyncio.all_tasks()
    response, reasons = response_of(short)
    await server.serve(response)
    assert server.has_all()
    assert set(server.tasks) == {asyncio.current_task()}
    assert asyncio.all_tasks() == before
    assert reasons == [CloseReason.COMPLETED]


async def two(send_channel):
    await send_channel.send("event")
    await send_channel.send("event")


async def large(send_channel):
    await send_channel.send("x" * MOST_JOINED)


async def nothing(send_channel):
    """Send nothing."""


@pytest.mark.skipif(sys.version_info < (3, 11), reason="not applicable: a producer has a task of its own")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(
    ("produce", "is_own", "compress", "can_join"),
    [
        (short, True, None, True),
        (two, True, None, True),
        (nothing, True, None, True),
        (short, False, None, False),
        (large, True, None, False),
        (short, True, ["gzip"], False),
    ],
    ids=["one", "two", "none", "behind a middleware", "large", "compressed"],
)
async def test_the_last_event_and_the_final_frame(produce, is_own, compress, can_join, joins_final):
    """They are one message where the server writes them together and nobody else sees them; otherwise two (C6)."""
    server = Server(is_own=is_own)
    group = StreamGroup(signals=False)
    response, reasons = response_of(produce, group=group, compress=compress)
    await server.serve(response, [(b"accept-encoding", b"gzip")])
    assert server.has_ended
    assert (server.sent[-1] == b"") is (produce is nothing or not (can_join and joins_final))
    assert group.statistics().written_bytes == sum(map(len, server.sent[1:]))
    assert reasons == [CloseReason.COMPLETED]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="not applicable: a producer has a task of its own")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_its_first_event_needs_no_slice(monkeypatch):
    """It is queued whatever the clock says; the second one begins a slice, which is over after a millisecond."""
    now, checkpoints = 1.0, []

    async def note_checkpoint():
        checkpoints.append(now)
        await checkpoint()

    async def produce(send_channel):
        nonlocal now
        for passes in (3600, 3600, pacer.SLICE_SECONDS / 2, pacer.SLICE_SECONDS):
            now += passes
            await send_channel.send("event")

    for module in (pacer, send_end):
        monkeypatch.setattr(module, "perf_counter", lambda: now)
    monkeypatch.setattr(send_end, "checkpoint", note_checkpoint)
    server = Server()
    await server.serve(response_of(produce)[0])
    assert checkpoints == [now]
    assert b"".join(server.sent) == b"head" + 4 * EVENT


@pytest.mark.parametrize("limits", [{"max_buffer_size": 1}, {"max_buffer_bytes": 5}], ids=["events", "bytes"])
async def test_its_first_event_counts(limits):
    """The first event passes alone, whatever its size, and the second one waits for room behind it."""
    seen = []

    async def produce(send_channel):
        await send_channel.send("event")
        seen.append(send_channel.statistics().current_buffer_used)
        with pytest.raises(anyio.WouldBlock):
            send_channel.send_nowait("event")
        await send_channel.send("event")

    server = Server()
    await server.serve(response_of(produce, **limits)[0])
    assert seen == [1]
    assert b"".join(server.sent) == b"head" + 2 * EVENT


async def test_an_end_that_outlives_its_producer():
    """While another task holds a clone of the send end, the last event hasn't come, so no final frame goes with it."""

    async def produce(send_channel):
        await send_channel.send("event")
        nursery.start_soon(send_later, send_channel.clone())

    async def send_later(send_channel):
        async with send_channel:
            await anyio.sleep(1)
            await send_channel.send("event")

    server = Server()
    async with anyio.create_task_group() as nursery:
        await server.serve(response_of(produce)[0])
    assert b"".join(server.sent) == b"head" + 2 * EVENT


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_loop_that_writes_at_the_end_of_its_pass():
    """What is flushed by the next pass of the loop, as uvloop does, needs no wait."""

    def write_at_the_end():
        server.holds = True
        asyncio.get_running_loop().call_soon(setattr, server, "holds", False)

    server = Server(at_final=write_at_the_end)
    response, reasons = response_of(short)
    await server.serve(response)
    assert (server.has_all(), server.waits) == (True, 0)
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
        assert server.has_all()
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
    assert server.has_all()
    assert reasons == [CloseReason.COMPLETED]


LOOPS = {"asyncio": virtual_backend("asyncio"), "trio": virtual_backend("trio")}
if sys.platform != "win32":
    LOOPS["uvloop"] = ("asyncio", {"use_uvloop": True})
ON_EACH_LOOP = pytest.mark.parametrize("anyio_backend", LOOPS.values(), ids=LOOPS)
ON_OVERFLOW = pytest.mark.parametrize("overflow", ["wait", "drop_oldest", "drop_newest", "close"])


async def after_it_has_started(send_channel):
    send_channel.started()
    await send_channel.send("event")


async def after_a_checkpoint(send_channel):
    await checkpoint()
    await send_channel.send("event")


@ON_EACH_LOOP
@ON_OVERFLOW
@pytest.mark.parametrize("produce", [short, after_it_has_started, after_a_checkpoint])
async def test_a_channel_without_a_buffer(overflow, produce):
    """The first event finds its writer ready for it: it isn't dropped, nor is it too much."""
    server = Server()
    response, reasons = response_of(produce, max_buffer_size=0, overflow=overflow)
    await server.serve(response)
    assert server.has_all()
    assert reasons == [CloseReason.COMPLETED]


@ON_EACH_LOOP
@ON_OVERFLOW
async def test_a_channel_without_a_buffer_whose_producer_is_one_of_several(overflow):
    """Whichever task runs first, the writer or a producer, the first event is taken."""
    server = Server()
    send_channel, receive_channel = open_event_channel(0, overflow=overflow)
    response, reasons = response_of(receive_channel, producers=[partial(sending, send_channel), checkpoint])
    await server.serve(response)
    assert server.has_all()
    assert reasons == [CloseReason.COMPLETED]


async def sending(send_channel):
    async with send_channel:
        await send_channel.send("event")


@ON_EACH_LOOP
@ON_OVERFLOW
async def test_a_channel_without_a_buffer_and_a_ping(overflow):
    """A writer that was woken for a ping, and has not run yet, takes an event too."""
    group = StreamGroup(signals=False)

    async def produce(send_channel):
        await send_channel.send("event")
        await anyio.wait_all_tasks_blocked()
        (stream,) = run_of(group).streams
        stream._writer.ping(b": ping\n\n")
        await send_channel.send("event")

    server = Server()
    response, reasons = response_of(produce, max_buffer_size=0, overflow=overflow, group=group)
    await server.serve(response)
    assert b"".join(server.sent).count(EVENT) == 2
    assert reasons == [CloseReason.COMPLETED]


class FullConnection:
    """A way past the server's `send` that takes nothing now."""

    def try_event(self, body):
        return False

    def try_write(self, batch):
        return False


@pytest.mark.parametrize("anyio_backend", ["trio"], indirect=True)
async def test_a_channel_without_a_buffer_whose_writer_holds_an_event():
    """A writer that has taken an event, and has not run yet, takes no other: there is no buffer for it."""

    async def produce(send_channel):
        await send_channel.send("event")
        await anyio.sleep(1)
        await send_channel.send("held")
        await send_channel.send("too much")
        dropped.append(send_channel.statistics().events_dropped)

    server, dropped = Server(), []
    server.direct_writer = FullConnection()
    response, reasons = response_of(produce, max_buffer_size=0, overflow="drop_newest")
    await server.serve(response)
    assert b"".join(server.sent) == b"head" + EVENT + b"data: held\n\n"
    assert dropped == [1]
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
    assert server.has_all()


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


class Waiting(Server):
    """A server whose `send` waits in one of its calls, as uvicorn's does while its transport holds too much."""

    def __init__(self, at):
        super().__init__()
        self.at = at
        self.may_go_on, self.was_cancelled = anyio.Event(), False

    async def send(self, message):
        if len(self.sent) == self.at:
            try:
                await self.may_go_on.wait()
            finally:
                self.was_cancelled = not self.may_go_on.is_set()
        await super().send(message)


@pytest.mark.parametrize("at", [0, 1], ids=["head", "event"])
async def test_a_send_that_waits(at):
    """What the server can't take at once is given to it as soon as it can, in the right order, and counted once."""
    server, group = Waiting(at), StreamGroup(signals=False)
    response, reasons = response_of(short, group=group, retry=5)
    began = anyio.current_time()
    async with anyio.create_task_group() as nursery:
        nursery.start_soon(server.serve, response)
        await anyio.sleep(5)
        assert reasons == []
        assert group.streams()[0].writing_for == pytest.approx(5, abs=0.2)
        server.may_go_on.set()
    assert b"".join(server.sent) == b"head" + b"retry: 5\n" + EVENT
    assert server.has_ended
    assert reasons == [CloseReason.COMPLETED]
    assert anyio.current_time() - began == pytest.approx(5, abs=0.2)
    statistics = group.statistics()
    assert (statistics.written_events, statistics.stalls) == (1, 1)
    assert statistics.written_bytes == len(b"".join(server.sent[1:]))


@pytest.mark.parametrize("at", [0, 1], ids=["head", "event"])
async def test_a_send_that_never_ends(at):
    """A client that takes nothing is dropped within `send_timeout` (C11), and nothing is left of the write."""
    server = Waiting(at)
    response, reasons = response_of(short, send_timeout=3)
    await server.serve(response)
    assert reasons == [CloseReason.SEND_TIMEOUT]
    assert (server.is_aborted, server.was_cancelled) == (True, True)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("at", [0, 1], ids=["head", "event"])
async def test_a_disconnect_that_meets_an_unfinished_send(at):
    """The stream ends before its task has gone on with the write, which is over when `on_close` is called."""
    seen = []

    async def on_close(reason):
        seen.append((reason, server.was_cancelled))

    def leave():
        run_of(group).end_all(lambda _: True, CloseReason.DISCONNECTED)

    async def produce(send_channel):
        await send_channel.send("event")
        asyncio.get_running_loop().call_soon(leave)

    server, group = Waiting(at), StreamGroup(signals=False)
    await server.serve(EventSourceResponse(produce, on_close=on_close, group=group))
    assert seen == [(CloseReason.DISCONNECTED, True)]


class Interrupt(BaseException):
    """What is no Exception. Not KeyboardInterrupt, which ends the loop wherever a task raises it."""


class Failing(Server):
    """A server whose `send` raises in one of its calls."""

    def __init__(self, error, at):
        super().__init__()
        self.error = error
        self.at = at

    async def send(self, message):
        if len(self.sent) == self.at:
            raise self.error
        await super().send(message)


@pytest.mark.parametrize("at", [0, 1], ids=["head", "event"])
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(), CloseReason.DISCONNECTED),
        (ValueError("the server's"), CloseReason.FAILED),
        (Interrupt(), CloseReason.CANCELLED),
    ],
    ids=["gone", "failed", "interrupted"],
)
async def test_a_send_that_fails(error, reason, at, anyio_backend_name):
    """A client that is gone is no error, and whatever else the server raises is the response's, at once."""
    has_task = anyio_backend_name == "trio" or not Server.joins_final or sys.version_info < (3, 11)
    if isinstance(error, Interrupt) and has_task:
        pytest.skip("not applicable: it is raised in the writer's task, which nobody waits for")
    server = Failing(error, at)
    response, reasons = response_of(short)
    began = anyio.current_time()
    try:
        await server.serve(response)
    except BaseException as exc:
        assert exc is error
        assert not isinstance(exc, OSError)
    else:
        assert isinstance(error, OSError)
    assert reasons == [reason]
    assert anyio.current_time() - began < 0.5
