# Direct writes: when they are possible, what happens to a chunk that is cut short, and that clients see no difference.

from __future__ import annotations

import math
import random
from functools import partial

import anyio
import pytest
from anyio.lowlevel import checkpoint

from sse_trio import CloseReason, EventSourceResponse, ServerSentEvent, StreamGroup, open_event_channel, open_hub
from sse_trio._servers.transports import write_transport_nowait
from sse_trio._wire.batch import Batch
from sse_trio.testing import virtual_backend

from .._volume import volume
from ._fake_connection import FakeConnection, FakeWriter

pytestmark = pytest.mark.anyio

SCRIPTS = volume(1667)  # of each source and loop; in CI, six of these are 10,000
PING = b": ping\n"
HEAD = {"type": "http.response.start", "status": 200, "headers": []}


def body_of(data: bytes, *, more: bool = True):
    return {"type": "http.response.body", "body": data, "more_body": more}


async def send_refused(connection, data, send=None):
    """Send a body as the writer does, after a direct write of it is refused."""
    assert connection.direct_writer.try_write(Batch(data)) is False
    await (send or connection.send)(body_of(data))


# --- when it is open


async def test_it_opens_when_a_refused_body_was_sent():
    """Direct writes start only after the head and a first body have gone through `send` unchanged."""
    connection = FakeConnection()
    assert connection.direct_writer.try_write(Batch(b"x")) is False
    await connection.send(HEAD)
    await send_refused(connection, b"first")
    assert connection.direct_writer.try_write(Batch(b"second")) is True
    assert connection.body() == (b"firstsecond", False)
    assert connection.direct_writes == 1


async def test_it_begins_with_the_first_body_where_nobody_is_in_between():
    """Where no body can be changed on the way, the first one is written directly, once the head was sent."""
    connection = FakeConnection()
    connection.direct_writer.begin()
    assert connection.direct_writer.try_write(Batch(b"x")) is False
    await connection.send(HEAD)
    connection.direct_writer.begin()
    assert connection.direct_writer.try_write(Batch(b"first")) is True
    assert connection.body() == (b"first", False)


async def test_an_event_is_refused_until_it_opens():
    """An event of one stream alone is no exception: it is refused before the head, and sent, which opens it."""
    connection = FakeConnection()
    assert connection.direct_writer.try_event(b"x") is False
    await connection.send(HEAD)
    assert connection.direct_writer.try_event(b"first") is False
    await connection.send(body_of(b"first"))
    assert connection.direct_writer.try_event(b"second") is True
    assert connection.body() == (b"firstsecond", False)


async def test_no_chunk_is_empty():
    """An empty body is never written, because a chunk of no bytes ends a response (RFC 9112 section 7.1)."""
    connection = FakeConnection()
    await connection.send(HEAD)
    await send_refused(connection, b"first")
    assert connection.direct_writer.try_write(Batch(b"")) is False
    assert connection.direct_writer.try_write(Batch(b"second")) is True
    assert connection.body() == (b"firstsecond", False)


async def test_a_chunk_is_made_once_for_all():
    """All streams that get the same batch write the same chunk."""
    connections = [FakeConnection() for _ in range(3)]
    for connection in connections:
        await connection.send(HEAD)
        await send_refused(connection, b"first")
    batch = Batch(b"shared")
    for connection in connections:
        assert connection.direct_writer.try_write(batch) is True
    assert batch.chunk() is batch.chunk()
    assert [connection.body() for connection in connections] == [(b"firstshared", False)] * 3


async def test_it_stays_closed_where_bodies_are_changed():
    """If a middleware changes bodies, there are no direct writes, so it changes all of them."""
    connection = FakeConnection()

    async def send(message):
        if message["type"] == "http.response.body":
            message = {**message, "body": message["body"].upper()}
        await connection.send(message)

    await send(HEAD)
    for data in (b"first", b"second", b"third"):
        await send_refused(connection, data, send)
    assert connection.body() == (b"FIRSTSECONDTHIRD", False)


async def test_it_waits_for_a_body_that_is_held_back():
    """A direct write doesn't overtake a body that was sent and is still on its way."""
    connection = FakeConnection()
    held = []

    async def send(message):
        held.append(message)

    await connection.send(HEAD)
    await send_refused(connection, b"first")
    connection.room = 0
    await send_refused(connection, b"second", send)
    connection.change(room=1000)
    await send_refused(connection, b"third", send)
    for message in held:
        await connection.send(message)
    assert connection.direct_writer.try_write(Batch(b"fourth")) is True
    assert connection.body() == (b"firstsecondthirdfourth", False)


async def test_it_is_closed_while_something_is_sent():
    """A direct write doesn't interrupt what a middleware sends."""
    connection = FakeConnection()
    await connection.send(HEAD)
    await send_refused(connection, b"first")
    connection.room = 1
    async with anyio.create_task_group() as nursery:
        nursery.start_soon(connection.send, body_of(b"of a middleware"))
        await anyio.wait_all_tasks_blocked()
        assert connection.direct_writer.try_write(Batch(b"second")) is False
        connection.change(room=1000)
    await connection.send(body_of(b"second"))
    assert connection.direct_writer.try_write(Batch(b"third")) is True
    assert connection.body() == (b"firstof a middlewaresecondthird", False)


async def test_it_stays_closed_after_a_send_while_a_later_body_is_held_back():
    """After one body was written, direct writes still wait for a body that was sent later."""
    connection = FakeConnection()
    await connection.send(HEAD)
    connection.room = 1
    async with anyio.create_task_group() as nursery:
        nursery.start_soon(send_refused, connection, b"first")
        await anyio.wait_all_tasks_blocked()
        assert connection.direct_writer.try_write(Batch(b"second")) is False  # and it is sent, into a middleware
        connection.change(room=1000)
    assert connection.direct_writer.try_write(Batch(b"third")) is False
    await connection.send(body_of(b"second"))
    await connection.send(body_of(b"third"))
    assert connection.direct_writer.try_write(Batch(b"fourth")) is True
    assert connection.body() == (b"firstsecondthirdfourth", False)


async def test_it_closes_when_a_send_fails():
    """After an exception of `send` there are no direct writes, because it is unknown what was written."""
    connection = FakeConnection()
    failures = [OSError("cut")]

    async def fail(message):
        if message["type"] == "http.response.body" and failures:
            raise failures.pop()

    writer = FakeWriter(connection, fail)
    await writer.send(HEAD)
    connection.has_begun = True
    assert writer.try_write(Batch(b"first")) is False
    with pytest.raises(OSError, match="cut"):
        await writer.send(body_of(b"first"))
    assert writer.try_write(Batch(b"second")) is False
    assert connection.direct_writes == 0


# --- a chunk that was cut short


async def test_a_send_writes_the_remainder_of_its_chunk_only():
    """If the socket took part of a chunk, `send` writes the remainder, and nothing twice."""
    connection = FakeConnection()
    await connection.send(HEAD)
    await send_refused(connection, b"first")
    connection.room = 4
    assert connection.direct_writer.try_write(Batch(b"second")) is False
    connection.change(room=1000)
    await connection.send(body_of(b"second"))
    assert connection.direct_writer.try_write(Batch(b"third")) is True
    assert connection.body() == (b"firstsecondthird", False)


async def test_the_remainder_of_a_chunk_comes_first():
    """A middleware's message that comes in between is written after the remainder of a chunk."""
    connection = FakeConnection()
    await connection.send(HEAD)
    await send_refused(connection, b"first")
    connection.room = 4
    assert connection.direct_writer.try_write(Batch(b"second")) is False
    connection.change(room=1000)
    await connection.send(body_of(b"of a middleware"))
    assert connection.body() == (b"firstsecondof a middleware", False)


# --- streams


async def test_an_event_of_an_idle_producer_is_written_at_once():
    """An idle stream's event is on the wire before `send()` returns, without a call of the server's send."""
    connection = FakeConnection()
    seen = []

    async def produce(send_channel):
        await send_channel.send("first")
        await anyio.sleep(1)
        sends = connection.sends
        await send_channel.send("second")
        seen.append((connection.body()[0], connection.sends - sends))

    await connection.serve(EventSourceResponse(produce))
    assert seen == [(b"data: first\n\ndata: second\n\n", 0)]
    assert connection.body() == (b"data: first\n\ndata: second\n\n", True)


class YieldingConnection(FakeConnection):
    """A server that yields in each `send`, with nobody in between."""

    send_yields = True

    def __init__(self, **options):
        super().__init__(express=False, is_own=True, **options)

    def new_direct_writer(self, send, /):
        return FakeWriter(self, send)


@pytest.mark.parametrize("room", [1 << 30, 25])
async def test_the_only_event_of_a_server_that_yields(room):
    """On a server that yields in each `send`, even the only event of a stream is written directly, if it has room."""
    connection = YieldingConnection(room=room)

    async def produce(send_channel):
        await send_channel.send("event")

    async with anyio.create_task_group() as nursery:
        nursery.start_soon(connection.serve, EventSourceResponse(produce))
        await anyio.sleep(1)
        connection.change(room=1000)
    assert connection.body() == (b"data: event\n\n", True)
    assert connection.sends == 2, "the head and the final frame"
    assert connection.direct_writes == 1


async def test_an_event_right_after_a_direct_write_is_written():
    """Events right after a direct write are gathered until the producer waits, and then written."""
    connection = FakeConnection()
    seen = []

    async def produce(send_channel):
        await send_channel.send("first")
        await anyio.sleep(1)
        await send_channel.send("second")
        await send_channel.send("third")
        await anyio.sleep(1)
        seen.append(connection.body()[0])

    await connection.serve(EventSourceResponse(produce))
    assert seen == [b"data: first\n\ndata: second\n\ndata: third\n\n"]


async def test_a_flood_is_still_joined():
    """Events right after a write are joined, because a chunk for each would cost more than one send for all."""
    connection = FakeConnection()

    async def produce(send_channel):
        await send_channel.send("0")
        await anyio.sleep(1)
        for n in range(1, 10_000):
            await send_channel.send(str(n))

    await connection.serve(EventSourceResponse(produce))
    assert connection.body() == (b"".join(b"data: %d\n\n" % n for n in range(10_000)), True)
    assert connection.direct_writes
    assert connection.direct_writes + connection.sends < 1000, "some 45 without a pause of the machine"


@pytest.mark.usefixtures("real_clock")
async def test_a_producer_with_direct_writes_lets_other_tasks_run():
    """A producer that computes and awaits nothing but `send` yields every millisecond."""
    connection = FakeConnection()
    turns = []

    async def produce(send_channel):
        await send_channel.send("event")
        await anyio.sleep(0.01)  # from here on each send() writes
        turns.clear()
        for _ in range(40):
            began = anyio.current_time()
            while anyio.current_time() < began + 0.002:
                pass
            await send_channel.send("event")

    async def take_turns():
        while True:
            turns.append(None)
            await checkpoint()

    async with anyio.create_task_group() as nursery:
        nursery.start_soon(take_turns)
        await connection.serve(EventSourceResponse(produce))
        nursery.cancel_scope.cancel()
    assert connection.direct_writes > 20  # the rest has waited: the machine may be busy
    assert len(turns) > 20


async def test_the_last_batch_is_followed_by_the_end():
    """When a hub closes with events on their way, its streams end after them, with the final frame."""
    connection = FakeConnection()
    async with anyio.create_task_group() as nursery, open_hub() as hub:
        response = EventSourceResponse(hub.subscribe("a"))
        nursery.start_soon(connection.serve, response)
        await anyio.sleep(1)
        await hub.publish("a", "first")
        await anyio.sleep(1)
        await hub.publish("a", "last")
    body, is_whole = connection.body()
    assert body.endswith(b"data: last\n\n")
    assert is_whole


async def test_a_filter_runs_in_the_subscribers_own_task():
    """A filter doesn't run inside publish(): an exception of it fails its own stream."""
    connection = FakeConnection()

    def keep(topic, event):
        if event.data == "bad":
            raise LookupError("bad")
        return True

    async with open_hub() as hub:
        response = EventSourceResponse(hub.subscribe("a", filter=keep))
        async with anyio.create_task_group() as nursery:

            async def serve():
                with pytest.raises(LookupError):
                    await connection.serve(response)

            nursery.start_soon(serve)
            await anyio.wait_all_tasks_blocked()
            for data in ("good", "bad"):
                await hub.publish("a", data)
                await anyio.wait_all_tasks_blocked()
    assert b"data: good" in connection.body()[0]


async def test_a_client_that_stalls_in_the_middle_of_a_chunk_is_dropped():
    """C11 holds for a chunk that was cut short: the stream ends within `send_timeout`, and the client is dropped."""
    connection = FakeConnection()
    reasons = []

    async def on_close(reason):
        reasons.append(reason)

    async def produce(send_channel):
        await send_channel.send("first")
        await anyio.sleep(1)
        connection.room = 5
        await send_channel.send("second")
        await anyio.sleep_forever()

    response = EventSourceResponse(produce, send_timeout=3, on_close=on_close)
    await connection.serve(response)
    assert reasons == [CloseReason.SEND_TIMEOUT]
    assert connection.is_aborted
    assert anyio.current_time() == pytest.approx(4.1, abs=0.2)


# --- it is the ordinary stream, byte for byte


class Script:
    """A random life of a stream: what is sent, what the client takes, and how it ends."""

    def __init__(self, seed: int, **kind: bool) -> None:
        self.random = random.Random(seed)
        self.sent: list[bytes] = []
        self.connection = FakeConnection(room=self.random.choice([0, 40, 400, 1 << 30]), **kind)
        self.group = StreamGroup(signals=False)
        self.reasons: list[CloseReason] = []

    def events(self):
        for _ in range(self.random.choice([1, 1, 2, 20])):
            event = ServerSentEvent("x" * self.random.choice([1, 5, 60]), event=str(len(self.sent)))
            self.sent.append(event.encode())
            yield event

    async def step(self, send):
        """Do one thing that can happen."""
        choice = self.random.randrange(10)
        if choice < 5:
            for event in self.events():
                await send(event)
        elif choice < 8:
            self.connection.change(room=self.random.choice([1, 7, 30, 300]))
        else:
            await anyio.sleep(self.random.choice([0.0001, 0.002, 1, 16]))
        for _ in range(self.random.randrange(4)):
            await checkpoint()

    async def on_close(self, reason):
        self.reasons.append(reason)

    def response(self, source, *args):
        options = {"group": self.group, "on_close": self.on_close, "send_timeout": 30, "ping": 15}
        return EventSourceResponse(source, *args, **options)

    async def serve(self, response):
        await self.connection.serve(response)

    async def end(self, finish):
        """Let it end in one of the ways in which streams end; return whether it is whole."""
        choice = self.random.randrange(5)
        if choice == 0:
            self.connection.change(is_gone=True)
        elif choice == 1:
            await anyio.sleep(60)  # a client that takes nothing is stalled by now
        self.connection.change(room=1 << 30)
        if choice == 2:
            self.group.request_shutdown()
        else:
            finish()

    def check(self):
        """The client has seen what was sent: all of it at a clean end, a beginning of it otherwise."""
        body, is_whole = self.connection.body()
        events = body.replace(PING, b"")
        expected = b"".join(self.sent)
        if is_whole:
            assert events == expected
        elif expected.startswith(events[:-1]):
            pass
        else:  # cut off in the middle of a ping
            assert any(events.endswith(PING[:n]) and expected.startswith(events[:-n]) for n in range(1, len(PING)))
        is_clean = self.reasons[0] in (CloseReason.COMPLETED, CloseReason.SHUTDOWN)
        assert is_whole == (is_clean and not self.connection.is_gone), self.reasons
        return is_whole


async def run_producer(seed, **kind):
    """Have a producer's stream live through a script."""
    script = Script(seed, **kind)

    async def produce(send_channel):
        ended = anyio.Event()
        for _ in range(script.random.randrange(12)):
            await script.step(send_channel.send)
        await script.end(ended.set)
        await ended.wait()

    await script.serve(script.response(produce))
    return script


async def run_pair(seed, **kind):
    """Have a stream whose events come from outside of it live through a script."""
    script = Script(seed, **kind)
    send_channel, receive_channel = open_event_channel(max_buffer_size=math.inf, max_buffer_bytes=1 << 20)
    async with anyio.create_task_group() as nursery:
        nursery.start_soon(script.serve, script.response(receive_channel))
        async with send_channel:
            try:
                for _ in range(script.random.randrange(12)):
                    await script.step(send_channel.send)
                await script.end(send_channel.close)
            except anyio.BrokenResourceError:
                script.sent.append(b"")  # the one that was refused
    return script


async def run_subscriber(seed):
    """Have a subscriber of a hub live through a script."""
    script = Script(seed)
    async with anyio.create_task_group() as nursery, open_hub(name=str(seed), max_ring_events=1000) as hub:
        nursery.start_soon(script.serve, script.response(hub.subscribe("a")))
        await checkpoint()
        await checkpoint()
        publish = partial(hub.publish, "a")

        async def send(event):
            event_id = await publish(event)
            script.sent[-1] = f"id: {event_id}\n".encode() + event.encode()

        for _ in range(script.random.randrange(12)):
            await script.step(send)
        await script.end(lambda: None)
        await anyio.sleep(0.01)
    body, _ = script.connection.body()
    script.sent.insert(0, body.partition(b"\n")[0] + b"\n")  # the first line tells a subscriber its position
    return script


@pytest.mark.untraced
@pytest.mark.parametrize("run", [run_producer, run_pair, run_subscriber])
async def test_it_is_the_ordinary_stream(run):
    """Under random publishes, pings, cut writes, stalls, disconnects and shutdowns, the client gets what was sent."""
    whole = direct = 0
    for seed in range(SCRIPTS):
        script = await run(seed)
        try:
            whole += script.check()
        except AssertionError as exc:
            raise AssertionError(f"script {seed}") from exc
        direct += script.connection.direct_writes
    assert whole > SCRIPTS / 3  # or it would show little
    assert direct > SCRIPTS


@pytest.mark.untraced
@pytest.mark.parametrize("anyio_backend", [virtual_backend("asyncio")], ids=["asyncio"])
@pytest.mark.parametrize("is_own", [True, False])
@pytest.mark.parametrize("run", [run_producer, run_pair])
async def test_a_send_at_once_is_the_ordinary_stream(run, is_own):
    """So it is where the server's own send is stepped; and behind a middleware, from Python 3.12 in an eager task."""
    whole = 0
    for seed in range(SCRIPTS):
        script = await run(seed, express=False, is_own=is_own)
        try:
            whole += script.check()
        except AssertionError as exc:
            raise AssertionError(f"script {seed}") from exc
    assert whole > SCRIPTS / 3


async def test_a_transport_that_fails_while_it_is_written():
    """asyncio writes at once, and closes a transport whose write fails: then the chunk was not written."""

    class Transport:
        closing = False

        def is_closing(self):
            return self.closing

        def get_write_buffer_size(self):
            return 0

        def write(self, chunk):
            self.closing = chunk == b"fails"

    transport = Transport()
    assert [write_transport_nowait(transport, chunk) for chunk in (b"arrives", b"fails", b"late")] == [7, 0, 0]
