# An event that finds its stream idle: it is written in the send() that brought it, and nothing else changes.

from __future__ import annotations

import asyncio
import gzip
import sys
from functools import partial

import anyio
import pytest
from anyio.lowlevel import checkpoint

from sse_trio import CloseReason, EventSourceResponse, StreamGroup, open_event_channel, open_hub, open_runs
from sse_trio._servers.connection import Connection
from sse_trio._servers.direct_write import DirectWriter
from sse_trio.stores import MemoryStore
from sse_trio.testing import wait_all_tasks_blocked

pytestmark = pytest.mark.anyio

WAYS = ("direct", "own", "middleware")


class ListWriter(DirectWriter):
    """Direct writes to the list of a server."""

    is_in_chunks = True

    def __init__(self, server, send):
        super().__init__(send)
        self._server = server

    def write_nowait(self, chunk, /):
        if self._server.direct_room <= 0:
            return 0
        self._server.direct_room -= 1
        self._server.written.append(chunk.partition(b"\r\n")[2][:-2])
        return len(chunk)


class Server(Connection):
    """A server whose `send` keeps what it gets, and waits or fails if it is told to; `way` is what is known of it."""

    def __init__(self, way):
        super().__init__()
        self.way = way
        self.written, self.sends = [], 0
        self.direct_room = 1 << 30
        self.gone, self.gate = anyio.Event(), None
        self.lost = None
        self.error = None
        self.is_sending = self.is_aborted = False

    def is_own_send(self, send, /):
        return self.way != "middleware"

    @property
    def is_lost(self):
        return self.lost

    def new_direct_writer(self, send, /):
        return ListWriter(self, send) if self.way == "direct" else None

    def abort(self):
        self.is_aborted = True
        return True

    async def receive(self):
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        assert not self.is_sending, "one send at a time (C4)"
        self.is_sending = True
        self.sends += 1
        try:
            gate, self.gate = self.gate, None  # one message waits
            if gate is not None:
                await gate
            if self.error is not None:
                raise self.error
            self.written.append(message.get("body", b"head"))
        finally:
            self.is_sending = False

    @property
    def writes_at_once(self):
        if self.way == "direct":
            return True
        is_asyncio = current_loop_name() == "asyncio"
        return is_asyncio and (self.way == "own" or sys.version_info >= (3, 12))

    async def serve(self, response, headers=()):
        scope = {"type": "http", "http_version": "1.1", "method": "GET", "path": "/", "headers": [*headers]}
        with anyio.fail_after(300):
            await response({**scope, "extensions": {"sse_trio": {"connection": self}}}, self.receive, self.send)


def current_loop_name():
    return "trio" if "trio" in anyio.lowlevel.current_token().backend_class.__module__ else "asyncio"


def response_of(produce, **options):
    return EventSourceResponse(produce, group=StreamGroup(signals=False), **options)


def events(*names):
    return [f"data: {name}\n\n".encode() for name in names]


@pytest.fixture(params=WAYS)
def server(request):
    return Server(request.param)


def only_where_it_writes_at_once(server):
    if not server.writes_at_once:
        pytest.skip("not applicable: here the writer's task writes")


async def idle(send_channel):
    """Bring the stream to where it is idle."""
    await send_channel.send("first")
    await anyio.sleep(1)


# --- when it is written


async def test_it_is_written_before_send_returns(server):
    """Where that needs no waiting and no task: directly, by a step of the server's own send, or by an eager task."""
    seen = []

    async def produce(send_channel):
        await idle(send_channel)
        for name in ("second", "third"):
            await send_channel.send(name)
            seen.append(server.written[-1] == events(name)[0])
            await anyio.sleep(1)
            assert server.written[-1] == events(name)[0]
            await checkpoint()

    await server.serve(response_of(produce))
    assert seen[0] is server.writes_at_once
    assert server.written == [b"head", *events("first", "second", "third"), b""]
    assert server.sends == (2 if server.way == "direct" else 5), "the head, maybe events, the final frame"


@pytest.mark.parametrize("sep", ["\n", "\r\n"])
async def test_every_kind_of_event(server, sep):
    """A plain text, a text of several lines and a mapping are the same bytes as through the writer's task."""
    kinds = ("plain", "two\nlines", "ü", {"data": "x", "event": "e"}, 7)

    async def produce(send_channel):
        await idle(send_channel)
        for kind in kinds:
            await send_channel.send(kind)
            await anyio.sleep(1)

    await server.serve(response_of(produce, sep=sep))
    expected = (b"data: plain\n\n", b"data: two\ndata: lines\n\n", "data: ü\n\n".encode(), b"event: e\ndata: x\n\n")
    assert server.written[2:-1] == [block.replace(b"\n", sep.encode()) for block in (*expected, b"data: 7\n\n")]


async def test_a_flood_is_joined(server):
    """An event that comes within a millisecond of the last write waits for others, or a flood would go one by one."""

    async def produce(send_channel):
        await idle(send_channel)
        for n in range(10_000):
            await send_channel.send(str(n))

    await server.serve(response_of(produce))
    assert b"".join(server.written[2:]) == b"".join(events(*range(10_000)))
    assert len(server.written) < 1000, "some 45 without a pause of the machine"


async def test_what_is_counted(server):
    """Statistics and pings see such an event as any other one."""
    group = StreamGroup(signals=False)
    snapshots = []

    async def produce(send_channel):
        await idle(send_channel)
        await anyio.sleep(9)
        await send_channel.send("second")
        await anyio.sleep(9)  # no ping is due: the stream wrote 9 seconds ago
        (stream,) = group.streams()
        snapshots.append((stream.written_events, stream.written_bytes, stream.buffered_events))

    await server.serve(EventSourceResponse(produce, group=group, ping=15))
    assert snapshots == [(2, len(b"".join(events("first", "second"))), 0)]
    assert b": ping\n" not in server.written


@pytest.mark.parametrize("pinged", [False, True])
async def test_the_first_event(server, pinged):
    """A stream whose head went alone is idle, too; its first event is noted when it is written."""
    group = StreamGroup(signals=False)
    waits = []

    async def produce(send_channel):
        send_channel.started()
        await anyio.sleep(20 if pinged else 2)
        await send_channel.send("first")
        await anyio.sleep(1)
        waits.extend(stream.first_event_after for stream in group.streams())

    await server.serve(EventSourceResponse(produce, group=group, ping=15))
    assert waits == [pytest.approx(20 if pinged else 2, abs=0.1)]
    assert server.written == [b"head", *([b": ping\n"] if pinged else []), *events("first"), b""]


async def test_a_subscriber_is_written_as_ever(server):
    """A hub has no send() that brings an event to one stream: what it publishes wakes the writer."""

    class SlowStore(MemoryStore):
        async def read(self, *args, **options):
            await anyio.sleep(2)
            return await super().read(*args, **options)

    async with open_hub(SlowStore()) as hub, anyio.create_task_group() as nursery:
        response = EventSourceResponse(hub.subscribe("a", after="0-0"), commit_within=0.5)
        nursery.start_soon(server.serve, response)
        await anyio.sleep(3)
        await hub.publish("a", "event")
        await anyio.sleep(1)
        server.gone.set()
    assert b"data: event\n\n" in b"".join(server.written)


async def test_it_is_not_written_past_another_receiver(server):
    """Two receivers of a channel take turns: the stream doesn't take the event that is the other one's."""
    received = []
    send_channel, receive_channel = open_event_channel()

    async def receive(receive_channel):
        async with receive_channel:
            with anyio.move_on_after(5):
                received.append((await receive_channel.receive()).data)

    async def produce():
        async with send_channel:
            await idle(send_channel)
            async with anyio.create_task_group() as nursery:
                nursery.start_soon(receive, receive_channel.clone())
                await wait_all_tasks_blocked()
                for name in ("second", "third"):
                    await send_channel.send(name)
                    await anyio.sleep(1)

    await server.serve(EventSourceResponse(receive_channel, producers=[produce], group=StreamGroup(signals=False)))
    assert (server.written[2:-1], received) == (events("second"), ["third"])


async def test_a_compressed_stream(server):
    """What is written goes through the stream's coder: the client can decode it all."""

    async def produce(send_channel):
        await idle(send_channel)
        for name in ("second", "third"):
            await send_channel.send(name)
            await anyio.sleep(1)

    await server.serve(response_of(produce, compress=["gzip"]), headers=[(b"accept-encoding", b"gzip")])
    assert gzip.decompress(b"".join(server.written[1:])) == b"".join(events("first", "second", "third"))


async def test_a_conflating_channel(server):
    """The function that conflates gets each event, also one that finds its stream idle."""
    seen = []
    send_channel, receive_channel = open_event_channel(conflate=lambda event: seen.append(event.data))

    async def produce():
        async with send_channel:
            await idle(send_channel)
            await send_channel.send("second")
            await anyio.sleep(1)

    await server.serve(EventSourceResponse(receive_channel, producers=[produce], group=StreamGroup(signals=False)))
    assert seen == ["first", "second"]


async def test_a_stream_that_is_ending(server):
    """During the grace each send() is a cancellation point, as before; what it accepts is written (C3, C5)."""
    group = StreamGroup(signals=False)
    accepted = []

    async def produce(send_channel):
        await idle(send_channel)
        group.request_shutdown()
        await send_channel.wait_closing()
        await send_channel.send("second")
        await anyio.sleep(1)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await send_channel.send("cancelled")
            accepted.append("cancelled")

    await server.serve(EventSourceResponse(produce, group=group, grace=5))
    assert accepted == []
    assert server.written == [b"head", *events("first", "second"), b""]


async def test_a_closed_end_writes_nothing(server):
    """A send() on an end that is closed raises, also while another end is open."""

    async def produce(send_channel):
        await idle(send_channel)
        with send_channel.clone() as other:
            pass
        with pytest.raises(anyio.ClosedResourceError):
            await other.send("late")

    await server.serve(response_of(produce))
    assert server.written == [b"head", *events("first"), b""]


async def test_another_thread_writes_nothing(server):
    """A send() from another thread raises, and the stream is as before (C15)."""

    async def produce(send_channel):
        await idle(send_channel)
        with pytest.raises(RuntimeError, match="event loop"):
            await anyio.to_thread.run_sync(partial(anyio.run, send_channel.send, "stray"))
        await send_channel.send("second")

    await server.serve(response_of(produce))
    assert server.written == [b"head", *events("first", "second"), b""]


test_another_thread_writes_nothing = pytest.mark.usefixtures("real_clock")(test_another_thread_writes_nothing)


# --- turns


@pytest.mark.usefixtures("real_clock")
async def test_a_producer_that_never_waits_lets_others_run(server):
    """One that computes between its events and awaits nothing but send() gives other tasks a turn (C3)."""
    turns = []

    async def produce(send_channel):
        await send_channel.send("event")
        await anyio.sleep(0.01)
        turns.clear()
        for _ in range(40):
            began = anyio.current_time()
            while anyio.current_time() < began + 0.002:
                pass
            await send_channel.send("event")
        server.gone.set()
        await anyio.sleep_forever()

    async def take_turns():
        while True:
            turns.append(None)
            await checkpoint()

    async with anyio.create_task_group() as nursery:
        nursery.start_soon(take_turns)
        await server.serve(response_of(produce))
        nursery.cancel_scope.cancel()
    assert len(turns) >= 18  # at every second event


async def test_the_turn_is_a_cancellation_point(server):
    """A task that writes for too long yields before it writes: the event of a cancelled send() isn't written."""
    sent = []

    async def produce(send_channel):
        await idle(send_channel)
        with anyio.CancelScope() as scope:
            scope.cancel()
            for n in range(1000):
                await send_channel.send(str(n))
                sent.append(str(n))
        await anyio.sleep(1)

    await server.serve(response_of(produce))
    assert len(sent) < 1000
    assert b"".join(server.written[2:]) == b"".join(events(*sent))


# --- errors


@pytest.mark.parametrize("goes_on", [False, True])
@pytest.mark.parametrize("suspends", [False, True])
async def test_a_client_that_is_gone(server, suspends, goes_on):
    """An error of the server's send is the end of the stream, not an error of the producer's send()."""
    reasons, after = [], []

    async def on_close(reason):
        reasons.append(reason)

    async def produce(send_channel):
        await idle(send_channel)
        server.error, server.gate = OSError("reset"), (checkpoint() if suspends else None)
        server.direct_room = 0
        await send_channel.send("second")
        if goes_on:
            try:
                await anyio.sleep_forever()
            finally:
                after.append("cancelled")

    with anyio.fail_after(30):
        await server.serve(response_of(produce, on_close=on_close))
        await checkpoint()  # no cancellation is left behind
    assert reasons == [CloseReason.DISCONNECTED]
    assert after == (["cancelled"] if goes_on else [])
    assert server.written == [b"head", *events("first")]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("way", ["direct", "own"])
async def test_a_connection_that_is_lost(way):
    """An event for a client that the server knows to be gone ends the stream, and the server isn't given it."""
    server = Server(way)
    reasons = []

    async def on_close(reason):
        reasons.append(reason)

    async def produce(send_channel):
        await idle(send_channel)
        server.lost, server.direct_room = True, 0
        await send_channel.send("second")
        await anyio.sleep_forever()

    await server.serve(response_of(produce, on_close=on_close))
    assert reasons == [CloseReason.DISCONNECTED]
    assert server.written == [b"head", *events("first")]


async def test_a_server_that_fails(server):
    """Another error of the server's send is raised by the response, and the producer is cancelled."""
    after = []

    async def produce(send_channel):
        await idle(send_channel)
        server.error, server.direct_room = LookupError("server"), 0
        await send_channel.send("second")
        after.append("sent")
        await anyio.sleep_forever()

    with pytest.raises(LookupError, match="server"):
        await server.serve(response_of(produce))
    assert after == ["sent"]


# --- a write that has to wait


class Gate:
    """Lets one send wait, and says when it does."""

    def __init__(self):
        self.event = anyio.Event()

    def __await__(self):
        return self.event.wait().__await__()


async def test_a_write_that_waits_goes_on_in_a_task(server):
    """The producer's send() returns, later events are buffered, and everything is written in order, one at a time."""

    async def produce(send_channel):
        await idle(send_channel)
        server.gate = gate = Gate()
        server.direct_room = 0
        await send_channel.send("second")
        await send_channel.send("third")
        await wait_all_tasks_blocked()
        assert server.is_sending
        gate.event.set()
        await anyio.sleep(1)
        server.direct_room = 1 << 30
        await send_channel.send("fourth")

    await server.serve(response_of(produce))
    assert b"".join(server.written) == b"".join([b"head", *events("first", "second", "third", "fourth")])


async def test_a_write_that_never_ends(server):
    """A client that takes nothing is dropped within `send_timeout`, whoever began the write (C11)."""
    reasons = []

    async def on_close(reason):
        reasons.append((reason, anyio.current_time() - began))

    async def produce(send_channel):
        await idle(send_channel)
        server.gate, server.direct_room = Gate(), 0
        await send_channel.send("second")
        await anyio.sleep_forever()

    began = anyio.current_time()
    await server.serve(response_of(produce, send_timeout=3, on_close=on_close))
    assert reasons == [(CloseReason.SEND_TIMEOUT, pytest.approx(4.1, abs=0.2))]
    assert server.is_aborted
    assert not server.is_sending


async def test_a_send_that_sends(server):
    """Whatever the server's code sends on the same channel while it writes is buffered, and written after that."""
    channel = []

    async def produce(send_channel):
        channel.append(send_channel)
        await idle(send_channel)
        server.gate, server.direct_room = send_channel.send("nested"), 0
        await send_channel.send("second")
        await anyio.sleep(1)

    await server.serve(response_of(produce))
    assert server.written == [b"head", *events("first", "second", "nested"), b""]


async def test_a_receive_that_sends(server):
    """A middleware around `receive` may send to the stream from there; the disconnect is heard all the same."""
    ends = []

    async def produce(send_channel):
        ends.append(send_channel)
        await send_channel.send("first")
        await anyio.sleep_forever()

    async def receive():
        for n in range(2):
            await anyio.sleep(1)
            await ends[0].send(f"received {n}")
        await anyio.sleep(1)  # until it is written
        server.gone.set()
        return await Server.receive(server)

    server.receive = receive
    reasons = []

    async def on_close(reason):
        reasons.append(reason)

    await server.serve(response_of(produce, on_close=on_close))
    assert (server.written[1:4], reasons) == (events("first", "received 0", "received 1"), [CloseReason.DISCONNECTED])


async def test_a_stream_that_is_abandoned_inside_of_its_write(server):
    """If the server's code ends the stream, and then waits, the write is cancelled and nothing more is sent."""

    class Ends:
        def __await__(self):
            group.request_shutdown()
            scope.cancel()
            return Gate().__await__()

    group = StreamGroup(signals=False)

    async def produce(send_channel):
        await idle(send_channel)
        server.gate, server.direct_room = Ends(), 0
        await send_channel.send("second")
        await anyio.sleep_forever()

    with anyio.fail_after(60), anyio.CancelScope() as scope:
        await server.serve(EventSourceResponse(produce, group=group, send_timeout=2))
    assert not server.is_sending
    assert server.written == [b"head", *events("first")]


@pytest.mark.parametrize("goes_on", [False, True])
async def test_a_middleware_that_ends_the_stream_inside_of_a_write(server, goes_on):
    """The stream ends with its final frame, and no cancellation is left behind for whoever has called the response."""

    class Ends:
        def __await__(self):
            group.request_shutdown()
            return iter(())

    group = StreamGroup(signals=False)

    async def produce(send_channel):
        await idle(send_channel)
        server.gate, server.direct_room = Ends(), 0
        await send_channel.send("second")
        if goes_on:
            await anyio.sleep_forever()

    with anyio.fail_after(60):
        await server.serve(EventSourceResponse(produce, group=group))
        await checkpoint()
    assert server.written == [b"head", *events("first", "second"), b""]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("way", ["own", "middleware"])
async def test_no_task_is_started_for_a_write_that_ends(way):
    """A step is no task at all, and an eager task is over when send() returns."""
    server = Server(way)
    only_where_it_writes_at_once(server)

    async def produce(send_channel):
        await idle(send_channel)
        before = asyncio.all_tasks()
        await send_channel.send("second")
        assert asyncio.all_tasks() == before

    await server.serve(response_of(produce))


async def test_cleanup_is_cancelled_once(server):
    """A stream that ends while its event is written cancels its producer once, level-triggered (C3)."""
    log = []

    async def produce(send_channel):
        try:
            await idle(send_channel)
            server.gate, server.direct_room = Gate(), 0
            await send_channel.send("second")
            server.gone.set()
            await anyio.sleep_forever()
        finally:
            with anyio.move_on_after(5, shield=True):
                await anyio.sleep(1)
                log.append("cleaned up")

    await server.serve(response_of(produce))
    assert log == ["cleaned up"]


async def test_a_watcher_of_a_run(server):
    """A stream that ends with an event that is published is written that, and the final frame, once."""

    async def produce(send_channel):
        for name in ("first", "second", "third"):
            await anyio.sleep(1)
            await send_channel.send(name)
        await anyio.sleep(1)

    async with open_hub() as hub, open_runs(hub) as runs:
        await runs.start("a", produce)
        await server.serve(runs.response("a", group=StreamGroup(signals=False)))
    names = [body.rpartition(b"data: ")[2].strip() for body in server.written if b"data: " in body]
    assert names == [b"first", b"second", b"third", b'{"state":"completed"}']
    assert server.written[-1] == b""
    assert server.written.count(b"") == 1
