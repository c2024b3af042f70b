"""One stream: the first reason counts, nothing is lost and nothing is left, whatever comes together."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import logging
import sys
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from anyio import BrokenResourceError, CancelScope, get_cancelled_exc_class, move_on_after
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.types import Message

from sse_trio import (
    CloseReason,
    EventSendChannel,
    EventSourceResponse,
    SendTimeoutError,
    ServerSentEvent,
    StreamGroup,
    open_event_channel,
)
from sse_trio._channels.state import ChannelState
from sse_trio._groups.group import run_of
from sse_trio._loops.ticker import Entry
from sse_trio._servers.connection import Connection
from sse_trio._streams.deadlines import Deadlines
from sse_trio._streams.stream import Stream
from sse_trio._streams.teardown import Teardown
from sse_trio._streams.writer import Writer
from sse_trio.testing import open_test_stream, virtual_backend, wait_all_tasks_blocked

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup

pytestmark = pytest.mark.anyio

STARLETTE = tuple(map(int, version("starlette").split(".")[:2]))
FINAL = {"type": "http.response.body", "body": b"", "more_body": False}


async def wait(send_channel: EventSendChannel) -> None:
    """Send an event, and wait for ever."""
    await send_channel.send("event")
    await anyio.sleep_forever()


class Server:
    """A server made by hand: what it says and takes is up to the test."""

    def __init__(self, *, receive: Callable[[], Awaitable[Message]] | None = None) -> None:
        self.sent: list[Message] = []
        self.gone = anyio.Event()
        self.receive = receive or self.wait_gone

    async def wait_gone(self) -> Message:
        """Return only when the client has disconnected, even if the response is complete."""
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Take everything, at a checkpoint."""
        await anyio.lowlevel.checkpoint()
        self.sent.append(message)

    async def serve(self, response: EventSourceResponse) -> None:
        """Call the response."""
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""}
        await response(scope, self.receive, self.send)

    @property
    def body(self) -> bytes:
        """What was sent."""
        return b"".join(message.get("body", b"") for message in self.sent)


def new_reasons() -> tuple[list[CloseReason], Callable[[CloseReason], Awaitable[None]]]:
    """A list, and an on_close that fills it."""
    reasons: list[CloseReason] = []

    async def on_close(reason: CloseReason) -> None:
        reasons.append(reason)

    return reasons, on_close


# --- servers that are not as those that we know


@pytest.mark.parametrize("kind", ["producer", "pair", "channel"])
async def test_server_that_says_nothing_at_the_end(kind: str) -> None:
    """A complete stream returns even if the server's ``receive`` says nothing."""
    server = Server()
    send_channel, receive_channel = open_event_channel()

    async def produce(send_channel: EventSendChannel) -> None:
        with send_channel:
            await send_channel.send("event")

    response = {
        "producer": lambda: EventSourceResponse(produce),
        "pair": lambda: EventSourceResponse(receive_channel, producers=[functools.partial(produce, send_channel)]),
        "channel": lambda: EventSourceResponse(receive_channel),
    }[kind]()
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tg:
            tg.start_soon(server.serve, response)
            if kind == "channel":
                await wait_all_tasks_blocked()
                await produce(send_channel)
    assert server.body == b"data: event\n\n"
    assert server.sent[-1] == FINAL
    send_channel.close()
    receive_channel.close()


async def test_client_that_is_gone_at_once() -> None:
    """A client that left before the stream began is noticed after 50 ms, and nothing is sent."""

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def produce(send_channel: EventSendChannel) -> None:
        await anyio.sleep_forever()

    reasons, on_close = new_reasons()
    server = Server(receive=receive)
    await server.serve(EventSourceResponse(produce, on_close=on_close))
    send_channel, receive_channel = open_event_channel()
    with send_channel:
        await server.serve(EventSourceResponse(receive_channel, on_close=on_close))
    assert reasons == [CloseReason.DISCONNECTED] * 2
    assert anyio.current_time() == 0.05  # of the first; the second has no producer, and looks out at once
    assert server.sent == []


@pytest.mark.parametrize("with_producer", [True, False])
async def test_receive_that_raises(with_producer: bool) -> None:
    """An exception of the server's ``receive`` ends the stream and is raised by the response."""

    async def receive() -> Message:
        await anyio.sleep(1)
        raise LookupError("receive")

    send_channel, receive_channel = open_event_channel()
    reasons, on_close = new_reasons()
    source: Any = wait if with_producer else receive_channel
    with send_channel, receive_channel, pytest.raises(LookupError, match="receive"):
        await Server(receive=receive).serve(EventSourceResponse(source, on_close=on_close))
    assert reasons == [CloseReason.FAILED]


@pytest.mark.parametrize("with_producer", [True, False])
async def test_send_that_raises(with_producer: bool) -> None:
    """The response raises an exception of the server's ``send``, unless it means that the client has disconnected."""
    send_channel, receive_channel = open_event_channel()
    send_channel.send_nowait("event")
    source: Any = wait if with_producer else receive_channel
    with send_channel, receive_channel:
        async with open_test_stream(EventSourceResponse(source), wait_head=False) as stream:
            stream.fail_send(LookupError("send"))
            with pytest.raises(LookupError, match="send"):
                await stream.wait_closed()
        assert stream.close_reason is CloseReason.FAILED


@pytest.mark.parametrize("error", [OSError, ConnectionResetError, BrokenResourceError, anyio.ClosedResourceError])
async def test_send_that_says_the_client_is_gone(error: type[Exception]) -> None:
    """The errors with which servers report a client that left count as a disconnect."""
    async with open_test_stream(EventSourceResponse(wait), wait_head=False) as stream:
        stream.fail_send(error())
        await stream.wait_closed()
    assert stream.close_reason is CloseReason.DISCONNECTED


# --- two things at once


@pytest.mark.parametrize("second", ["kick", "shutdown", "disconnect", "cancel"])
@pytest.mark.parametrize("first", ["kick", "shutdown"])
async def test_first_reason_counts(first: str, second: str) -> None:
    """If a stream ends for two reasons at once, the first one is its reason and decides the farewell."""
    group = StreamGroup()
    steps = {
        "kick": lambda stream: run_of(group).end_all(lambda _: True, CloseReason.KICKED),
        "shutdown": lambda stream: run_of(group).end_all(lambda _: True),
        "disconnect": lambda stream: stream.disconnect(),
        "cancel": lambda stream: stream.cancel(),
    }
    response = EventSourceResponse(wait, group=group, farewell=lambda reason: ServerSentEvent(reason.value))
    async with open_test_stream(response) as stream:
        await stream.receive()
        steps[first](stream)
        steps[second](stream)
        await stream.wait_closed()
    expected = CloseReason.KICKED if first == "kick" else CloseReason.SHUTDOWN
    assert stream.close_reason is expected
    if second != "disconnect":
        assert stream.body == f"data: event\n\ndata: {expected.value}\n\n".encode()
        assert stream.messages[-1] == FINAL


async def test_shut_down_before_it_began() -> None:
    """A stream that opens after the shutdown was requested runs no producer, and is complete."""
    group = StreamGroup(farewell=ServerSentEvent("bye"))
    group.request_shutdown()
    ran = []

    async def produce(send_channel: EventSendChannel) -> None:
        ran.append(True)

    async with open_test_stream(EventSourceResponse(produce, group=group)) as stream:
        await stream.wait_closed()
    assert (ran, stream.status_code, stream.body) == ([], 200, b"data: bye\n\n")
    assert stream.messages[-1] == FINAL


async def test_overflow_before_it_began() -> None:
    """A channel that overflowed before its response was served kicks the stream; its buffered events are still sent."""
    send_channel, receive_channel = open_event_channel(1, overflow="close")
    send_channel.send_nowait("event")
    with send_channel, pytest.raises(BrokenResourceError):
        send_channel.send_nowait("too much")
    async with open_test_stream(EventSourceResponse(receive_channel, farewell=ServerSentEvent("bye"))) as stream:
        await stream.wait_closed()
    assert stream.close_reason is CloseReason.KICKED
    assert stream.body == b"data: event\n\ndata: bye\n\n"


@pytest.mark.parametrize("who", ["producer", "outside"])
async def test_overflow(who: str) -> None:
    """A channel that overflows kicks its stream, whichever task sends; the buffered events are still sent."""
    send_channel, receive_channel = open_event_channel(2, overflow="close")
    errors = []

    def flood() -> None:
        for n in range(3):
            try:
                send_channel.send_nowait(n)
            except BrokenResourceError as exc:
                errors.append(str(exc))
                raise

    async def produce() -> None:
        await anyio.sleep(1)
        if who == "producer":
            flood()
        await anyio.sleep_forever()

    with send_channel:
        async with open_test_stream(EventSourceResponse(receive_channel, producers=[produce])) as stream:
            await anyio.sleep(2)
            if who == "outside":
                with pytest.raises(BrokenResourceError):
                    flood()
            await stream.wait_closed()
    assert stream.close_reason is CloseReason.KICKED
    assert stream.body == b"data: 0\n\ndata: 1\n\n"
    assert errors == ["the receiver of this channel fell too far behind (kicked); stop sending"]


# --- failures


async def test_two_producers_one_of_which_fails_in_its_cleanup() -> None:
    """If one of several producers fails in its cleanup as the stream ends, its exception comes out bare."""
    send_channel, receive_channel = open_event_channel()

    async def fail_late() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise LookupError("cleanup")

    response = EventSourceResponse(receive_channel, producers=[functools.partial(wait, send_channel), fail_late])
    with send_channel:
        async with open_test_stream(response) as stream:
            await stream.receive()
            stream.request_shutdown()
            with pytest.raises(LookupError, match="cleanup"):
                await stream.wait_closed()
    assert stream.close_reason is CloseReason.SHUTDOWN
    assert stream.messages[-1] == FINAL


@pytest.mark.parametrize("producers", [1, 2])
@pytest.mark.parametrize("committed", [True, False])
async def test_failure_in_the_cleanup_after_a_cancellation(producers: int, committed: bool) -> None:
    """A producer whose cleanup fails after an outside cancellation fails the stream; its exception comes out bare."""
    send_channel, receive_channel = open_event_channel()

    async def fail_late() -> None:
        try:
            if committed:
                await send_channel.send("event")
            await anyio.sleep_forever()
        finally:
            raise LookupError("cleanup")

    waits = [anyio.sleep_forever] * (producers - 1)
    response = EventSourceResponse(receive_channel, producers=[fail_late, *waits], commit_within=None)
    with send_channel:
        async with open_test_stream(response, wait_head=committed) as stream:
            await anyio.sleep(1)
            stream.cancel()
            with pytest.raises(LookupError, match="cleanup"):
                await stream.wait_closed()
    assert stream.close_reason is CloseReason.FAILED
    assert stream.body == (b"data: event\n\n" if committed else b"")
    assert len(stream.messages) == (2 if committed else 0)


async def test_group_of_a_producers_own() -> None:
    """A group that a producer raises after the head comes out unchanged."""
    group = ExceptionGroup("its own", [LookupError("one")])

    async def produce(send_channel: EventSendChannel) -> None:
        await send_channel.send("event")
        await anyio.sleep(1)
        raise group

    async def idle() -> None:
        await anyio.sleep_forever()

    for producers in ([], [idle]):
        with pytest.raises(ExceptionGroup) as info:
            async with open_test_stream(EventSourceResponse(produce, producers=producers)) as stream:
                await stream.wait_closed()
        assert info.value.message == "its own"  # trio's nursery makes a new one of it
        assert info.value.exceptions == group.exceptions


async def test_group_before_the_head() -> None:
    """Before the head, the only exception in a producer's own group comes out bare; several stay in their group."""
    one = ExceptionGroup("outer", [ExceptionGroup("inner", [LookupError("one")])])
    two = ExceptionGroup("its own", [LookupError("one"), ValueError("two")])

    async def produce(send_channel: EventSendChannel, group: Exception) -> None:
        raise group

    async def idle() -> None:
        await anyio.sleep_forever()

    for producers in ([], [idle]):
        for group, expected in ((one, LookupError), (two, ExceptionGroup)):
            server = Server()
            with pytest.raises(expected):
                await server.serve(EventSourceResponse(produce, group, producers=producers))
            assert server.sent == []


async def test_broken_channel_is_no_failure_when_the_stream_ends() -> None:
    """A send that finds its stream ended is not a failure; any exception beside it is."""
    for extra in ([], [LookupError("other")]):

        async def produce(send_channel: EventSendChannel, extra: list[Exception] = extra) -> None:
            try:
                while True:
                    await send_channel.send("event")
                    await anyio.sleep(1)
            except BrokenResourceError as exc:
                if extra:
                    raise ExceptionGroup("both", [exc, *extra]) from None
                raise

        async def run(produce: Any = produce) -> Any:
            async with open_test_stream(EventSourceResponse(produce, grace=5)) as stream:
                await stream.receive()
                stream.disconnect()
                await stream.wait_closed()
            return stream

        if extra:
            with pytest.raises(ExceptionGroup) as info:
                await run()
            assert list(info.value.exceptions) == extra
        else:
            assert (await run()).close_reason is CloseReason.DISCONNECTED


async def test_broken_channel_of_another_stream_is_a_failure() -> None:
    """The error of another stream's channel is a failure, even as this stream ends."""
    other, receive_channel = open_event_channel()
    receive_channel.close()

    async def produce(send_channel: EventSendChannel) -> None:
        await send_channel.send("event")
        await send_channel.wait_closing()
        with other:
            other.send_nowait("event")

    with pytest.raises(BrokenResourceError):
        async with open_test_stream(EventSourceResponse(produce, grace=5)) as stream:
            await stream.receive()
            stream.request_shutdown()
            await stream.wait_closed()


async def test_receiver_that_is_closed_by_somebody_else() -> None:
    """If another task closes a stream's receive channel, its producers end, and so does the stream."""
    send_channel, receive_channel = open_event_channel()

    async def produce() -> None:
        with send_channel:
            while True:
                await send_channel.send("event")
                await anyio.sleep(1)

    async with open_test_stream(EventSourceResponse(receive_channel, producers=[produce])) as stream:
        await stream.receive()
        receive_channel.close()
        await stream.wait_closed()
    assert stream.close_reason is CloseReason.COMPLETED


class Exit(BaseException):
    """As KeyboardInterrupt, but pytest doesn't mind."""


@pytest.mark.parametrize("producers", [1, 2])
async def test_request_to_exit(producers: int) -> None:
    """A BaseException that is not an Exception ends the stream like a cancellation, and is raised."""
    send_channel, receive_channel = open_event_channel()

    async def leave() -> None:
        await send_channel.send("event")
        await anyio.sleep(1)
        raise Exit

    reasons, on_close = new_reasons()
    waits = [anyio.sleep_forever] * (producers - 1)
    response = EventSourceResponse(receive_channel, producers=[leave, *waits], on_close=on_close)
    server = Server()
    with send_channel, pytest.raises(Exit):
        await server.serve(response)
    assert reasons == [CloseReason.CANCELLED]
    assert server.sent[-1] == FINAL


# --- time


async def test_shutdown_bounds_the_rest_of_a_failed_stream() -> None:
    """While a failed stream waits for a stalled client to take its last bytes, a shutdown still ends it in time."""

    async def fail(send_channel: EventSendChannel) -> None:
        await send_channel.send("event")
        await anyio.sleep(1)
        await send_channel.send("more")
        raise LookupError

    for kind in ("failed", "shutdown of the server", "kick"):
        group = StreamGroup()
        response = EventSourceResponse(fail, group=group, send_timeout=None)
        with pytest.raises(LookupError):
            async with open_test_stream(response) as stream:
                await stream.receive()
                stream.stall()
                await anyio.sleep(10)
                began = anyio.current_time()
                assert stream.close_reason is None
                if kind == "failed":
                    stream.resume()
                elif kind == "kick":
                    await group.kick()
                else:
                    stream.request_shutdown()
                await stream.wait_closed()
        assert anyio.current_time() - began <= 1.1
        assert stream.close_reason is CloseReason.FAILED
        assert stream.is_aborted is (kind != "failed")


async def test_shutdown_while_the_last_writes_of_a_complete_stream_are_stuck() -> None:
    """A shutdown also ends a complete stream whose stalled client doesn't take the last bytes."""

    async def produce(send_channel: EventSendChannel) -> None:
        await send_channel.send("event")
        await anyio.sleep(1)
        await send_channel.send("more")

    async with open_test_stream(EventSourceResponse(produce, send_timeout=None)) as stream:
        await stream.receive()
        stream.stall()
        await anyio.sleep(10)
        stream.request_shutdown()
        began = anyio.current_time()
        await stream.wait_closed()
    assert anyio.current_time() - began <= 1.1
    assert stream.is_aborted


async def test_lifetime_is_spread() -> None:
    """Streams end at a random moment in the last fifth of ``max_lifetime``."""
    lengths = []
    for _ in range(20):
        began = anyio.current_time()
        async with open_test_stream(EventSourceResponse(wait, max_lifetime=100)) as stream:
            await stream.wait_closed()
        lengths.append(anyio.current_time() - began)
    assert all(80 <= length <= 100 for length in lengths)
    assert len(set(lengths)) > 10


async def test_grace_ends_with_the_producer() -> None:
    """With grace a producer may still send after a kick, and the stream ends as soon as the producer has returned."""

    async def produce(send_channel: EventSendChannel) -> None:
        await send_channel.send("event")
        await send_channel.wait_closing()
        assert send_channel.close_reason is CloseReason.KICKED
        await anyio.sleep(3)
        await send_channel.send("last")

    group = StreamGroup()
    async with open_test_stream(EventSourceResponse(produce, group=group, grace=10)) as stream:
        await stream.receive()
        began = anyio.current_time()
        await group.kick()
        await stream.wait_closed()
        assert anyio.current_time() - began == 3
        assert stream.body == b"data: event\n\ndata: last\n\n"


async def test_grace_has_an_end() -> None:
    """When the grace is over, the producer is cancelled; ``grace`` counts from the first ending."""
    cancelled = []

    async def produce(send_channel: EventSendChannel) -> None:
        await send_channel.send("event")
        try:
            await anyio.sleep_forever()
        except get_cancelled_exc_class():
            cancelled.append(anyio.current_time())
            raise

    group = StreamGroup()
    async with open_test_stream(EventSourceResponse(produce, group=group, grace=10)) as stream:
        await stream.receive()
        began = anyio.current_time()
        await group.kick()
        await anyio.sleep(6)
        group.request_shutdown()
        await stream.wait_closed()
    assert cancelled == [began + 10]


async def test_no_grace_for_a_stalled_client() -> None:
    """A send timeout or a cancellation ends a stream without grace, even one that has begun."""
    for kind in ("stall", "cancel"):
        group = StreamGroup()
        async with open_test_stream(EventSourceResponse(wait, group=group, grace=100, send_timeout=5)) as stream:
            await stream.receive()
            began = anyio.current_time()
            if kind == "stall":
                stream.stall()
                await anyio.sleep(30)  # for a ping
            await group.kick()
            if kind == "cancel":
                stream.cancel()
            await stream.wait_closed()
            assert anyio.current_time() - began <= 31


async def test_cleanup_that_waits() -> None:
    """The stream waits for shielded cleanup, whatever ended it, and the response returns after it."""
    done = []

    async def produce(send_channel: EventSendChannel) -> None:
        try:
            await wait(send_channel)
        finally:
            with move_on_after(5, shield=True):
                await anyio.sleep(2)
                done.append(send_channel.close_reason)

    async with open_test_stream(EventSourceResponse(produce)) as stream:
        await stream.receive()
        stream.disconnect()
        await stream.wait_closed()
        assert done == [CloseReason.DISCONNECTED]


@pytest.mark.parametrize(
    "anyio_backend",
    [virtual_backend("asyncio"), virtual_backend("trio"), ("asyncio", {"use_uvloop": True})],
    ids=["asyncio", "trio", "uvloop"],
)
@pytest.mark.parametrize("kind", ["shutdown", "kick", "lifetime", "grace"])
async def test_endless_sender_in_a_shield(kind: str) -> None:
    """A producer that keeps sending in a shielded scope is refused one second after its cancellation."""
    cancelled: list[float] = []

    async def produce(send_channel: EventSendChannel) -> None:
        try:
            await wait(send_channel)
        finally:
            cancelled.append(anyio.current_time())
            with CancelScope(shield=True):
                while True:
                    await send_channel.send("more")
                    await anyio.sleep(0.05)

    group = StreamGroup(signals=False)
    options: dict[str, Any] = {"lifetime": {"max_lifetime": 0.2}, "grace": {"grace": 0.2}}.get(kind, {})
    response = EventSourceResponse(produce, group=group, farewell=ServerSentEvent("bye"), **options)
    async with open_test_stream(response) as stream:
        await stream.receive()
        if kind in {"shutdown", "grace"}:
            group.request_shutdown()
        elif kind == "kick":
            await group.kick()
        received = [event.data async for event in stream]
        await stream.wait_closed()
        assert 0.9 < anyio.current_time() - cancelled[0] < 2
        assert set(received[:-1]) == {"more"}, "until then what it sends is sent"
        assert received[-1] == "bye"
        assert stream.messages[-1] == FINAL


# --- cancellation from outside


@pytest.mark.parametrize("seconds", [0, 0.3, 0.6, 2.5])
async def test_cancelled_at_any_time(seconds: float) -> None:
    """A stream that is cancelled before its head sends nothing; later, it ends with the final frame."""

    async def produce(send_channel: EventSendChannel) -> None:
        await anyio.sleep(2)
        await wait(send_channel)

    async with open_test_stream(EventSourceResponse(produce), wait_head=False) as stream:
        if seconds:
            await anyio.sleep(seconds)
        else:
            await wait_all_tasks_blocked()
        stream.cancel()
        await stream.wait_closed()
    assert stream.close_reason is CloseReason.CANCELLED
    if seconds < 0.5:
        assert stream.messages == []
    else:
        assert stream.messages[-1] == FINAL
        assert stream.status_code == 200


async def test_cancelled_in_the_last_writes() -> None:
    """A cancellation during the last writes gives them one more second and then cuts them off."""

    async def produce(send_channel: EventSendChannel) -> None:
        await send_channel.send("event")
        await anyio.sleep(1)
        await send_channel.send("last")

    for resumed in (True, False):
        async with open_test_stream(EventSourceResponse(produce)) as stream:
            await stream.receive()
            stream.stall()
            await anyio.sleep(10)
            began = anyio.current_time()
            stream.cancel()
            if resumed:
                await anyio.sleep(0.5)
                stream.resume()
            await stream.wait_closed()
        assert anyio.current_time() - began == pytest.approx(0.5 if resumed else 1)
        assert (stream.messages[-1] == FINAL) is resumed
        assert stream.is_aborted is not resumed


async def test_cancelled_in_the_last_writes_of_a_shutdown() -> None:
    """The same holds for the last writes of a stream that is ending; the cancellation is raised after them."""
    for resumed in (True, False):
        async with open_test_stream(EventSourceResponse(wait, farewell=ServerSentEvent("bye"))) as stream:
            await stream.receive()
            stream.stall()
            began = anyio.current_time()
            stream.request_shutdown()
            await anyio.sleep(0.5)
            stream.cancel()
            if resumed:
                await anyio.sleep(0.9)
                stream.resume()
            await stream.wait_closed()
        assert anyio.current_time() - began == pytest.approx(1.4 if resumed else 1.5)
        assert (stream.messages[-1] == FINAL) is resumed
        assert stream.is_aborted is not resumed
        assert stream.close_reason is CloseReason.SHUTDOWN


async def test_cancelled_twice() -> None:
    """A second scope's cancellation while the first one's farewell is written changes nothing."""
    server = Server()
    with CancelScope() as outer, CancelScope() as inner:
        async with anyio.create_task_group() as tg:
            tg.start_soon(server.serve, EventSourceResponse(wait))
            await anyio.sleep(1)
            inner.cancel()
            outer.cancel()
    assert server.sent[-1] == FINAL


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
@pytest.mark.parametrize("times", [1, 2])
async def test_native_cancellation(times: int) -> None:
    """Task.cancel(), with which asyncio's servers end requests, does the same, even when called twice."""
    server = Server()
    reasons, on_close = new_reasons()
    cleaned_up = []

    async def produce(send_channel: EventSendChannel) -> None:
        try:
            await wait(send_channel)
        finally:
            with CancelScope(shield=True):
                await anyio.sleep(1)
            cleaned_up.append(True)

    task = asyncio.create_task(server.serve(EventSourceResponse(produce, on_close=on_close)))
    await anyio.sleep(1)
    for _ in range(times):
        task.cancel()
        await anyio.sleep(0.5)
    with pytest.raises(asyncio.CancelledError):
        await task
    # On Python 3.10 a producer has a task of its own, which the second one doesn't reach through the shield.
    undisturbed = times == 1 or sys.version_info < (3, 11)
    assert (cleaned_up, reasons) == ([True] if undisturbed else [], [CloseReason.CANCELLED])
    assert server.sent[-1] == FINAL


# --- channels that a producer forgets


@pytest.mark.parametrize("number", [1, 2, 3])
async def test_channel_that_a_producer_forgets(number: int) -> None:
    """A producer that returns without closing its channel gets a warning, and the stream still completes."""
    channel: Any = open_event_channel()
    receive_channel = channel[1]

    async def produce(send_channel: EventSendChannel) -> None:
        await send_channel.send("event")

    producers = [functools.partial(produce, channel[0].clone()) for _ in range(number)]
    channel[0].close()
    del channel
    response = EventSourceResponse(receive_channel, producers=producers)
    producers.clear()
    with pytest.warns(ResourceWarning, match="unclosed EventSendChannel") as warned, anyio.fail_after(60):
        async with open_test_stream(response) as stream:
            await stream.wait_closed()
    assert stream.close_reason is CloseReason.COMPLETED
    assert stream.body == b"data: event\n\n" * number
    assert len(warned) == number


async def test_channel_that_the_endpoint_forgets() -> None:
    """The same holds for a clone of the channel that was never closed."""
    send_channel, receive_channel = open_event_channel()

    async def produce(clone: EventSendChannel) -> None:
        with clone:
            await clone.send("event")

    response = EventSourceResponse(receive_channel, producers=[functools.partial(produce, send_channel.clone())])
    with pytest.warns(ResourceWarning, match="unclosed EventSendChannel"):
        del send_channel
    with anyio.fail_after(60):
        async with open_test_stream(response) as stream:
            await stream.wait_closed()
    assert stream.close_reason is CloseReason.COMPLETED


# --- what is left


async def test_nothing_is_left_for_the_collector() -> None:
    """A complete stream leaves no reference cycle, so a thousand of them cost no collection.

    (Where something was cancelled, the event loops leave such cycles themselves, in tracebacks.)
    """

    async def produce(send_channel: EventSendChannel) -> None:
        await send_channel.send("event")
        await anyio.sleep(1)

    async def run() -> None:
        async with open_test_stream(EventSourceResponse(produce)) as stream:
            await stream.wait_closed()

    await run()
    await anyio.sleep(100)
    gc.collect()
    gc.disable()
    try:
        kinds = (Stream, Teardown, Deadlines, Writer, ChannelState, Entry, EventSendChannel)
        of_other_tests = {id(each) for each in gc.get_objects() if isinstance(each, kinds)}
        await run()
        await anyio.sleep(100)  # the entry in the ticker is gone when its time has come
        left = [
            type(each).__name__
            for each in gc.get_objects()
            if isinstance(each, kinds) and id(each) not in of_other_tests
        ]
    finally:
        gc.enable()
    assert left == []


async def test_send_timeout_of_a_shielded_server_raises() -> None:
    """If the stream can't drop the connection, it raises SendTimeoutError, with the time that passed."""
    async with open_test_stream(EventSourceResponse(wait, send_timeout=7, ping=2), bridge=False) as stream:
        await stream.receive()
        stream.stall(shield=True)
        with pytest.raises(SendTimeoutError, match=r"ended \(send_timeout\) .* not taken a write for 7 s") as info:
            await stream.wait_closed()
    assert isinstance(info.value, TimeoutError)
    assert info.value.seconds == 7


async def test_what_ended_a_stream_with_a_write_under_way() -> None:
    """SendTimeoutError says what ended the stream and how long the write had taken, if no timeout has passed."""
    group = StreamGroup()

    async def produce(send_channel: EventSendChannel) -> None:
        await send_channel.send("first")
        await anyio.sleep(1)
        await send_channel.send("never taken")
        await anyio.sleep_forever()

    response = EventSourceResponse(produce, send_timeout=30, group=group)
    async with open_test_stream(response, bridge=False) as stream:
        await stream.receive()
        stream.stall(shield=True)
        await anyio.sleep(1 + 4)
        group.request_shutdown()
        with pytest.raises(SendTimeoutError, match=r"ended \(shutdown\) .* not taken a write for 5 s") as info:
            await stream.wait_closed()
    assert info.value.seconds == pytest.approx(5)


async def test_shutdown_without_a_send_timeout() -> None:
    """Without a send_timeout there is no SendTimeoutError: a shutdown abandons the stream, and ``background`` runs."""
    group, ran = StreamGroup(), anyio.Event()
    reasons, on_close = new_reasons()

    async def background() -> None:
        ran.set()

    response = EventSourceResponse(
        wait, send_timeout=None, group=group, on_close=on_close, background=BackgroundTask(background)
    )
    async with open_test_stream(response, bridge=False) as stream:
        await stream.receive()
        stream.stall(shield=True)
        group.request_shutdown()
        await stream.wait_closed()
    assert reasons == [CloseReason.SHUTDOWN]
    assert ran.is_set()


class Stuck(Server):
    """A server whose client doesn't take one message for a time: the final frame, or the one with this body."""

    def __init__(self, *, at: bytes = b"", shield: bool = False) -> None:
        super().__init__()
        self._at = at
        self._shield = shield
        self.stuck = anyio.Event()
        self.freed = anyio.Event()
        self.calls: list[Message] = []
        self.left_at = 0.0

    async def gone_when_stuck(self, response: EventSourceResponse) -> None:
        """Serve it, and have the client leave when it is stuck."""
        async with anyio.create_task_group() as tg:
            tg.start_soon(self.serve, response)
            await self.stuck.wait()
            self.left_at = anyio.current_time()
            self.gone.set()

    async def send(self, message: Message) -> None:
        self.calls.append(message)
        if message.get("body") == self._at and message["more_body"] is (self._at != b""):
            self.stuck.set()
            with CancelScope(shield=self._shield):
                await self.freed.wait()
        else:
            await anyio.lowlevel.checkpoint()
        self.sent.append(message)


async def short(send_channel: EventSendChannel) -> None:
    """Send one event and be done."""
    await send_channel.send("event")


@pytest.mark.parametrize("seconds", [None, 30])
@pytest.mark.parametrize("kind", ["producer", "channel"])
async def test_stuck_final_frame_hears_of_a_disconnect(seconds: float | None, kind: str) -> None:
    """A client that leaves without taking the final frame ends its stream at once, before the send timeout."""
    reasons, on_close = new_reasons()
    server = Stuck()
    send_channel, receive_channel = open_event_channel()
    send_channel.send_nowait("event")
    send_channel.close()
    source: Any = short if kind == "producer" else receive_channel
    with anyio.fail_after(60):
        await server.gone_when_stuck(EventSourceResponse(source, send_timeout=seconds, on_close=on_close))
    assert reasons == [CloseReason.DISCONNECTED]
    assert anyio.current_time() - server.left_at < 0.2
    receive_channel.close()


async def test_disconnect_that_comes_before_the_final_send_returns() -> None:
    """A completion that hypercorn reports before its final ``send`` returns doesn't count as a disconnect."""
    reasons, on_close = new_reasons()
    server = Stuck()
    async with anyio.create_task_group() as tg:
        tg.start_soon(server.serve, EventSourceResponse(short, on_close=on_close))
        await server.stuck.wait()
        await anyio.sleep(1)
        server.gone.set()
        await anyio.sleep(0.05)
        server.freed.set()
    assert reasons == [CloseReason.COMPLETED]
    assert server.sent[-1] == FINAL


async def test_nothing_is_sent_after_the_response_has_returned() -> None:
    """If a server's shielded write finishes late, the abandoned writer sends nothing more."""

    async def produce(send_channel: EventSendChannel) -> None:
        await send_channel.send("first")
        await anyio.sleep(1)
        await send_channel.send("stuck")
        await anyio.sleep(1)
        await send_channel.send("never sent")

    server = Stuck(at=b"data: stuck\n\n", shield=True)
    with pytest.raises(SendTimeoutError):
        await server.serve(EventSourceResponse(produce, send_timeout=5))
    server.freed.set()
    await anyio.sleep(1)
    assert server.calls[-1]["body"] == b"data: stuck\n\n"


@pytest.mark.parametrize("bridge", [True, False])
async def test_cancelled_stream_whose_last_writes_are_not_taken(*, bridge: bool) -> None:
    """A cancelled stream waits 0.1 s for last writes that are not taken, or 1 s on a known server."""
    async with open_test_stream(EventSourceResponse(wait), bridge=bridge) as stream:
        await stream.receive()
        stream.stall()
        left = anyio.current_time()
        stream.cancel()
        await stream.wait_closed()
        assert anyio.current_time() - left == pytest.approx(1.0 if bridge else 0.1, abs=0.05)
    assert stream.close_reason is CloseReason.CANCELLED


async def test_server_that_tells_nobody_of_a_lost_connection() -> None:
    """If a server knows of a disconnect but doesn't report it, the stream asks before each ping, and ends."""
    reasons, on_close = new_reasons()
    server = Server()

    class Lost(Connection):
        is_lost = True

    extensions = {"sse_trio": {"connection": Lost()}}
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "extensions": extensions}
    with anyio.fail_after(20):
        await EventSourceResponse(wait, on_close=on_close)(scope, server.receive, server.send)
    assert reasons == [CloseReason.DISCONNECTED]
    assert b": ping" not in server.body


@pytest.mark.parametrize("options", [{}, {"use_uvloop": True}] if sys.platform != "win32" else [{}])
@pytest.mark.parametrize("several", [True, False])
def test_native_cancellation_that_meets_a_disconnect(options: dict[str, Any], *, several: bool) -> None:
    """A ``Task.cancel()`` is not lost even if a producer's ``finally`` sends and gets another error."""

    async def produce(send_channel: EventSendChannel) -> None:
        try:
            await send_channel.send("event")
            await asyncio.sleep(60)
        finally:
            await send_channel.send("last words")

    async def serve_and_cancel() -> bool:
        gone = asyncio.Event()

        async def receive() -> Message:
            await gone.wait()
            task.cancel()  # in the same pass of the loop as the disconnect
            return {"type": "http.disconnect"}

        server = Server(receive=receive)
        send_channel, receive_channel = open_event_channel()
        producers = [functools.partial(produce, send_channel), functools.partial(produce, send_channel)]
        merged = EventSourceResponse(receive_channel, producers=producers)
        task = asyncio.create_task(server.serve(merged if several else EventSourceResponse(produce)))
        await asyncio.sleep(0.1)
        gone.set()
        await asyncio.wait({task})
        send_channel.close()
        receive_channel.close()
        return task.cancelled()

    assert anyio.run(serve_and_cancel, backend="asyncio", backend_options=options)


@pytest.mark.skipif(STARLETTE < (1, 9), reason="not applicable: its TestClient waits for the end of a stream")
def test_streams_that_a_test_client_leaves_open() -> None:
    """A stream that Starlette's TestClient leaves open and cancels doesn't cost a second."""
    with TestClient(Starlette(routes=[Route("/", lambda _: EventSourceResponse(wait))])) as client:
        began = time.monotonic()
        for _ in range(5):
            with client.stream("GET", "/") as response:
                assert next(response.iter_lines()) == "data: event"
        assert time.monotonic() - began < 3


async def test_log_of_a_dropped_body_comes_once(caplog: pytest.LogCaptureFixture) -> None:
    """However many messages a body has, one log line says how much was dropped."""
    messages = [{"type": "http.request", "body": b"x" * 10, "more_body": n < 3} for n in range(4)]

    async def receive() -> Message:
        await anyio.lowlevel.checkpoint()
        if messages:
            return messages.pop(0)
        await anyio.sleep(5)
        return {"type": "http.disconnect"}

    with caplog.at_level(logging.WARNING, "sse_trio"):
        await Server(receive=receive).serve(EventSourceResponse(wait))
    assert [record.getMessage().split(";")[0] for record in caplog.records] == [
        "event stream '/': 40 bytes of the request's body arrived while it waited for the disconnect, and were dropped"
    ]


# --- where the server's send runs


request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="none")


async def test_send_runs_in_the_context_of_the_request() -> None:
    """Every message is written in the request's context, whichever task sent the event, as middlewares expect."""
    send_channel, receive_channel = open_event_channel()
    seen: list[str] = []

    class Noting(Server):
        async def send(self, message: Message) -> None:
            seen.append(request_id.get())
            await super().send(message)

    server = Noting()

    async def serve() -> None:
        request_id.set("mine")
        await server.serve(EventSourceResponse(receive_channel, ping=5, retry=1))

    async def publish() -> None:
        request_id.set("publisher")
        with send_channel:
            for n in range(3):
                await send_channel.send(n)
                await anyio.sleep(7)

    async with anyio.create_task_group() as tg:
        tg.start_soon(serve)
        await wait_all_tasks_blocked()
        tg.start_soon(publish)
    assert server.body.count(b": ping") == 3
    assert set(seen) == {"mine"}


async def test_receive_runs_in_the_context_of_the_request() -> None:
    """The wait for the disconnect runs in the request's context, although the ticker starts it."""
    seen: list[str] = []

    class Noting(Server):
        async def wait_gone(self) -> Message:
            seen.append(request_id.get())
            return await super().wait_gone()

    async def serve(server: Server, name: str) -> None:
        request_id.set(name)
        await server.serve(EventSourceResponse(wait))

    servers = [Noting(), Noting()]
    async with anyio.create_task_group() as tg:
        for server, name in zip(servers, ("first", "second"), strict=True):
            tg.start_soon(serve, server, name)
        await anyio.sleep(1)
        for server in servers:
            server.gone.set()
    assert sorted(seen) == ["first", "second"]


@pytest.mark.parametrize("in_group", [False, True])
async def test_client_that_leaves_while_its_body_is_read(in_group: bool) -> None:
    """A ClientDisconnect from ``request.stream()`` in a producer is a client that left, not a failure."""
    reasons, on_close = new_reasons()

    async def read_body(send_channel: EventSendChannel) -> None:
        await send_channel.send("event")
        if not in_group:
            raise ClientDisconnect
        async with anyio.create_task_group() as tg:
            tg.start_soon(anyio.sleep_forever)
            raise ClientDisconnect

    with anyio.fail_after(60):
        await Server().serve(EventSourceResponse(read_body, on_close=on_close))
    assert reasons == [CloseReason.DISCONNECTED]
