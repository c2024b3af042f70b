# The public API as type checkers see it. Checked by mypy and by pyright, never run.
#
# Rule 1: `assert_type` says what a call returns.
# Rule 2: a misuse carries a comment that has its error ignored. Both checkers report such a comment that is not needed
#         any more, so an error that got lost fails here. (This rule can't quote it: pyright would take a comment up here
#         for the whole file's.)

from __future__ import annotations

import datetime
from collections.abc import AsyncGenerator, AsyncIterator
from functools import partial
from typing import TypedDict

from anyio.streams.memory import MemoryObjectReceiveStream
from starlette.requests import Request
from starlette.types import ASGIApp
from trio import MemoryReceiveChannel
from typing_extensions import assert_type

from sse_trio import (
    CloseReason,
    EventChannelStatistics,
    EventReceiveChannel,
    EventSendChannel,
    EventSourceResponse,
    RefusalReason,
    SendTimeoutError,
    ServerBridge,
    ServerSentEvent,
    SSEError,
    StreamGroup,
    StreamGroupStatistics,
    StreamRefusedError,
    compat,
    last_event_id,
    open_event_channel,
    open_hub,
    publish_endpoint,
)
from sse_trio.publisher import Publisher
from sse_trio.stores import EventId, MemoryStore, Retention

# --- publishing without an event loop

with Publisher("events.sqlite", max_age=3600, per_topic=Retention(max_events=5)) as publisher:
    assert_type(publisher.publish("news", "hello", key=("a", 1)), EventId)
    assert_type(publisher.publish_many([("news", ServerSentEvent("hello")), ("news", 1)]), list[EventId])
    assert_type(publisher.publish("news", "hello", ttl=60), EventId)
    assert_type(publisher.publish_many([("news", "hello")], ttl=0.5), list[EventId])
    publisher.publish("news", "hello", ttl="60")  # type: ignore[arg-type]
    publisher.kick({"user": "ann"}, group="streams")
    publisher.publish("news", None)  # type: ignore[arg-type]
Publisher("events.sqlite", per_topic={"prices/*": Retention(max_events=1)})
MemoryStore(per_topic={"prices/*": Retention(max_events=1)})
MemoryStore(per_topic={"prices/*": 5})  # type: ignore[dict-item]
Publisher("redis://localhost", name="shop", retry_for=1.0)
Publisher("events.sqlite", max_event=5)  # type: ignore[call-arg]
Publisher(7)  # type: ignore[arg-type]

# --- events

event = ServerSentEvent("text", event="tick", id="1", retry=3000, comment="seen on the wire only")
assert_type(event.data, "str | None")
assert_type(event.event, "str | None")
assert_type(event.id, "str | None")
assert_type(event.retry, "int | None")
assert_type(event.comment, "str | None")
assert_type(event.encode(), bytes)
assert_type(event.encode(sep="\r\n"), bytes)
assert_type(ServerSentEvent.json({"a": [1, None]}, event="tick"), ServerSentEvent)
ServerSentEvent(1)
ServerSentEvent(1.5)
ServerSentEvent(b"bytes")
ServerSentEvent()

ServerSentEvent({"a": 1})  # type: ignore[arg-type]
ServerSentEvent("text", "tick")  # type: ignore[call-arg]
ServerSentEvent("text", retry=1.5)  # type: ignore[arg-type]
ServerSentEvent("text", id=1)
event.data = "other"  # type: ignore[misc]


# --- channels

send_channel, receive_channel = open_event_channel()
assert_type(send_channel, EventSendChannel)
assert_type(receive_channel, EventReceiveChannel)
open_event_channel(16, max_buffer_bytes=1000)
open_event_channel(0)
open_event_channel(overflow="drop_oldest")
open_event_channel(overflow="wait", conflate=lambda event: event.id)

open_event_channel(16, 1000)  # type: ignore[call-arg]
open_event_channel(overflow="drop")  # type: ignore[arg-type]


async def use_channels() -> None:
    assert_type(await send_channel.send("text"), None)
    await send_channel.send(1)
    await send_channel.send(event)
    await send_channel.send({"data": 1, "event": "tick"})
    await send_channel.send(dict(data=1, event="tick"))
    assert_type(send_channel.send_nowait("text"), None)
    assert_type(send_channel.clone(), EventSendChannel)
    assert_type(send_channel.close_reason, "CloseReason | None")
    assert_type(send_channel.statistics(), EventChannelStatistics)
    assert_type(send_channel.started(), None)
    assert_type(await send_channel.wait_closing(), None)
    assert_type(await receive_channel.receive(), ServerSentEvent)
    assert_type(receive_channel.receive_nowait(), ServerSentEvent)
    assert_type(receive_channel.clone(), EventReceiveChannel)
    async for received in receive_channel:
        assert_type(received, ServerSentEvent)
    async with send_channel as entered, receive_channel:
        assert_type(entered, EventSendChannel)
    with send_channel, receive_channel as entered_receive_channel:
        assert_type(entered_receive_channel, EventReceiveChannel)

    await send_channel.send(b"raw")  # type: ignore[arg-type]
    await send_channel.send(object())  # type: ignore[arg-type]
    await send_channel.send(1.5)
    await send_channel.send(["a"])
    send_channel.receive()  # type: ignore[attr-defined]
    receive_channel.send("text")  # type: ignore[attr-defined]


# --- responses


async def clock(send_channel: EventSendChannel) -> None: ...
async def quotes(send_channel: EventSendChannel, symbol: str, digits: int = 2) -> None: ...
async def returns_something(send_channel: EventSendChannel) -> object: ...
async def wants_no_channel() -> None: ...
def not_a_coroutine_function(send_channel: EventSendChannel) -> None: ...
async def texts() -> AsyncIterator[str]:
    yield "text"


async def mappings() -> AsyncGenerator[dict[str, object], None]:
    yield {"data": 1}


async def chunks() -> AsyncIterator[bytes]:
    yield b"data: 1\n\n"


def farewell(reason: CloseReason) -> ServerSentEvent | None:
    return None


async def on_close(reason: CloseReason) -> None: ...


def use_responses(
    memory_stream: MemoryObjectReceiveStream[str],
    memory_channel: MemoryReceiveChannel[ServerSentEvent],
    group: StreamGroup,
) -> None:
    app: ASGIApp = EventSourceResponse(clock)
    EventSourceResponse(quotes, "ACME")
    EventSourceResponse(quotes, "ACME", 3, ping=None)
    EventSourceResponse(partial(quotes, symbol="ACME"))
    EventSourceResponse(returns_something)
    EventSourceResponse(receive_channel, producers=[partial(clock, send_channel), partial(quotes, send_channel, "A")])
    EventSourceResponse(texts())
    EventSourceResponse(mappings())
    EventSourceResponse(memory_stream)
    EventSourceResponse(memory_channel)
    EventSourceResponse(
        clock,
        status_code=201,
        headers={"cache-control": "no-cache"},
        background=None,
        ping=5,
        ping_message_factory=lambda: ServerSentEvent(event="ping"),
        send_timeout=None,
        commit_within=None,
        grace=1.0,
        max_lifetime=3600,
        expires_at=datetime.datetime.now(datetime.timezone.utc),
        retry=3000,
        farewell=farewell,
        on_error=lambda exc: ServerSentEvent(type(exc).__name__),
        on_close=on_close,
        sep="\r\n",
        max_buffer_size=16,
        max_buffer_bytes=1000,
        labels={"user": "1"},
        group=group,
    )
    EventSourceResponse(clock, farewell=ServerSentEvent("bye"))
    EventSourceResponse(clock, compress=["gzip", "br"])
    EventSourceResponse(clock, compress=("zstd",))
    EventSourceResponse(clock, compress=None)
    app = ServerBridge(app)

    EventSourceResponse(quotes)  # type: ignore[arg-type]
    EventSourceResponse(quotes, 1)  # type: ignore[arg-type]
    EventSourceResponse(clock, "surplus")  # type: ignore[arg-type]
    EventSourceResponse(wants_no_channel)  # type: ignore[arg-type]
    EventSourceResponse(not_a_coroutine_function)  # type: ignore[arg-type]
    EventSourceResponse(texts)  # type: ignore[arg-type]
    EventSourceResponse(chunks())  # type: ignore[arg-type]
    EventSourceResponse(["a", "b"])  # type: ignore[arg-type]
    EventSourceResponse(clock, ping="15")  # type: ignore[arg-type]
    EventSourceResponse(clock, farewell="bye")  # type: ignore[arg-type]
    EventSourceResponse(clock, on_close=farewell)  # type: ignore[arg-type]
    EventSourceResponse(clock, timeout=3)  # type: ignore[call-arg]
    EventSourceResponse(clock, compress=("deflate",))  # type: ignore[arg-type]


# --- groups and the rest


async def use_group(request: Request) -> None:
    group = StreamGroup(shutdown_grace=1, reconnect_within=10, farewell=farewell, signals=False)
    assert_type(group.request_shutdown(), None)
    assert_type(await group.wait_shutdown_requested(), None)
    assert_type(await group.wait_empty(), None)
    assert_type(await group.kick(), int)
    assert_type(await group.kick(lambda labels: labels["user"] == "1"), int)
    assert_type(await group.kick({"user": "1"}), int)
    async with open_hub() as hub:
        assert_type(await group.kick({"user": "1"}, everywhere=hub), int)
        await hub.kick({"user": "1"}, group="streams")
        publish_endpoint(hub)
        publish_endpoint(lambda _: hub, authorize=lambda request: request.method == "POST", max_bytes=1000)
    assert_type(group.statistics(), StreamGroupStatistics)
    assert_type(group.statistics().closed[CloseReason.KICKED], int)
    assert_type(last_event_id(request), "str | None")

    assert_type(group.statistics().refused[RefusalReason.MAX_STREAMS], int)
    StreamGroup(max_streams=1000, max_streams_per=(user_of, 5), accept_rate=100)
    StreamGroup(max_streams_per=(lambda request: (request.user, 1), 5))

    StreamGroup(1.0)  # type: ignore[call-arg]
    StreamGroup(max_streams_per=5)  # type: ignore[arg-type]
    StreamGroup(max_streams="5")  # type: ignore[arg-type]
    await group.kick("user")  # type: ignore[arg-type]


def user_of(request: Request) -> str | None:
    return request.headers.get("user")


def use_refusal(exc: StreamRefusedError) -> None:
    assert_type(exc.reason, RefusalReason)
    assert_type(exc.retry_after, int)
    assert_type(exc.status_code, int)


def use_errors(exc: SendTimeoutError) -> None:
    assert_type(exc.seconds, float)
    use_error_trees(exc, exc)


def use_error_trees(sse_error: SSEError, timeout_error: TimeoutError) -> None: ...


class Fields(TypedDict):
    data: str


async def send_typed_dict(fields: Fields) -> None:
    await send_channel.send(fields)


def use_compat(request: Request) -> compat.EventSourceResponse:
    assert_type(compat.ensure_bytes({"data": 1}, "\n"), bytes)
    assert_type(compat.AppStatus.should_exit, bool)
    compat.EventSourceResponse(["a", 1, {"data": "a"}], 200, {"X-Own": "1"}, ping=5, group=StreamGroup())
    compat.EventSourceResponse(5)  # type: ignore[arg-type]
    return compat.EventSourceResponse(mappings(), ping_message_factory=lambda: compat.ServerSentEvent(comment="ping"))
