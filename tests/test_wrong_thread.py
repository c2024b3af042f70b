"""A call that raises leaves its object as it was (C15): from another thread or event loop, or of what is in use."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import anyio
import httpx
import pytest
from anyio import from_thread, to_thread
from anyio.lowlevel import current_token

from sse_trio import (
    CloseReason,
    EventReceiveChannel,
    EventSendChannel,
    EventSourceResponse,
    Hub,
    StreamGroup,
    open_event_channel,
    open_hub,
)
from sse_trio.client import open_event_source
from sse_trio.testing import StreamingASGITransport, open_test_stream, wait_all_tasks_blocked

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("real_clock")]

LOOPS: dict[str, tuple[str, dict[str, Any]]] = {"asyncio": ("asyncio", {}), "trio": ("trio", {})}
if sys.platform != "win32":
    LOOPS["uvloop"] = ("asyncio", {"use_uvloop": True})


@pytest.fixture(params=LOOPS.values(), ids=LOOPS.keys())
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


async def raises_in_thread(function: Callable[..., Any], *args: object) -> None:
    """Call it in a worker thread: it raises, and says what to write."""
    with pytest.raises(RuntimeError, match=r"called from outside it, so nothing was done.*from_thread.*token=token"):
        await to_thread.run_sync(function, *args)


def run_elsewhere(function: Callable[..., Any], *args: object) -> None:
    """Await it in a new event loop."""

    async def run() -> None:
        await function(*args)

    anyio.run(run)


async def wait(send_channel: EventSendChannel) -> None:
    await send_channel.send("open")
    await anyio.sleep_forever()


async def test_what_the_error_says_to_write() -> None:
    """With the token that the error names, any thread can call a channel and a hub."""
    token = current_token()

    def work(send_channel: EventSendChannel, hub: Hub) -> None:
        from_thread.run(send_channel.send, "sent", token=token)
        from_thread.run(hub.publish, "news", "published", token=token)

    async with open_hub() as hub, hub.subscribe("news") as subscription:
        send_channel, receive_channel = open_event_channel()
        with send_channel, receive_channel, anyio.fail_after(60):
            thread = threading.Thread(target=work, args=(send_channel, hub))
            thread.start()
            assert (await receive_channel.receive()).data == "sent"
            assert (await subscription.receive()).data == "published"
            await to_thread.run_sync(thread.join)


SENDER_CALLS: dict[str, Callable[[EventSendChannel], object]] = {
    "send_nowait": lambda send_channel: send_channel.send_nowait("from a thread"),
    "send": lambda send_channel: run_elsewhere(send_channel.send, "from a thread"),
    "wait_closing": lambda send_channel: run_elsewhere(send_channel.wait_closing),
    "started": lambda send_channel: send_channel.started(),
    "close": lambda send_channel: send_channel.close(),
    "aclose": lambda send_channel: run_elsewhere(send_channel.aclose),
}


@pytest.mark.parametrize("call", SENDER_CALLS.values(), ids=SENDER_CALLS.keys())
async def test_channel_of_a_response(call: Callable[[EventSendChannel], object]) -> None:
    """An event sent from another thread is refused, and the stream goes on with its own events and pings."""
    send_channel, receive_channel = open_event_channel()
    async with open_test_stream(EventSourceResponse(receive_channel, ping=0.05)) as stream:
        await send_channel.send("1")
        assert (await stream.receive()).data == "1"
        await wait_all_tasks_blocked()
        await raises_in_thread(call, send_channel)
        await send_channel.send("2")
        assert (await stream.receive()).data == "2"
        await anyio.sleep(0.2)
        send_channel.close()
        await stream.wait_closed()
    assert stream.close_reason is CloseReason.COMPLETED
    assert b": ping" in stream.body
    assert b"thread" not in stream.body


@pytest.mark.parametrize("call", SENDER_CALLS.values(), ids=SENDER_CALLS.keys())
async def test_sender_whose_receiver_waits(call: Callable[[EventSendChannel], object]) -> None:
    """A receive() that waits goes on waiting, and gets what is sent from its own thread."""
    send_channel, receive_channel = open_event_channel()
    received: list[object] = []

    async def receive() -> None:
        received.extend([event.data async for event in receive_channel])

    async with receive_channel, anyio.create_task_group() as tg:
        tg.start_soon(receive)
        await wait_all_tasks_blocked()
        await raises_in_thread(call, send_channel)
        assert send_channel.statistics().tasks_waiting_receive == 1
        await send_channel.send("event")
        send_channel.close()
    assert received == ["event"]


RECEIVER_CALLS: dict[str, Callable[[EventReceiveChannel], object]] = {
    "receive_nowait": lambda receive_channel: receive_channel.receive_nowait(),
    "receive": lambda receive_channel: run_elsewhere(receive_channel.receive),
    "close": lambda receive_channel: receive_channel.close(),
    "aclose": lambda receive_channel: run_elsewhere(receive_channel.aclose),
}


@pytest.mark.parametrize("call", RECEIVER_CALLS.values(), ids=RECEIVER_CALLS.keys())
async def test_receiver_for_which_a_sender_waits(call: Callable[[EventReceiveChannel], object]) -> None:
    """Nothing was taken from another thread, and everything is there to be received in its own."""
    send_channel, receive_channel = open_event_channel(max_buffer_size=1)

    async def send() -> None:
        async with send_channel:
            await send_channel.send("1")
            await send_channel.send("2")

    async with receive_channel, anyio.create_task_group() as tg:
        tg.start_soon(send)
        await wait_all_tasks_blocked()
        await raises_in_thread(call, receive_channel)
        assert [event.data async for event in receive_channel] == ["1", "2"]


async def test_receiving_in_another_event_loop() -> None:
    """A receive() that would have to wait in another event loop raises, and is on no list."""
    send_channel, receive_channel = open_event_channel()
    async with send_channel, receive_channel:
        with anyio.move_on_after(0.01):
            await receive_channel.receive()
        await raises_in_thread(run_elsewhere, receive_channel.receive)
        assert receive_channel.statistics().tasks_waiting_receive == 0
        await send_channel.send("event")
        assert (await receive_channel.receive()).data == "event"


async def test_ends_for_which_nobody_waits() -> None:
    """An end may be closed in any thread if no task waits, for example in a test's teardown, after the loop."""
    send_channel, receive_channel = open_event_channel()
    await send_channel.send("event")
    await receive_channel.receive()
    await to_thread.run_sync(send_channel.close)
    with pytest.raises(anyio.EndOfStream):
        await receive_channel.receive()
    await to_thread.run_sync(receive_channel.close)


async def test_hub() -> None:
    """A publish in another event loop is refused, and subscribers get what is published in the hub's own."""
    async with open_hub() as hub, hub.subscribe("topic") as subscription, anyio.create_task_group() as tg:

        async def receive() -> None:
            assert (await subscription.receive()).data == "event"

        tg.start_soon(receive)
        await wait_all_tasks_blocked()
        await raises_in_thread(run_elsewhere, hub.publish, "topic", "from a thread")
        await raises_in_thread(run_elsewhere, hub.subscribe("topic").__aenter__)
        await raises_in_thread(subscription.close)
        assert hub.statistics().published == 0
        assert hub.statistics().subscribers == 1
        await hub.publish("topic", "event")


async def test_subscription_received_in_another_event_loop() -> None:
    """A subscription is received in the hub's event loop; elsewhere that raises, and it is as it was."""
    async with open_hub() as hub, hub.subscribe("topic") as subscription:
        await raises_in_thread(run_elsewhere, subscription.receive)
        await hub.publish("topic", "event")
        assert (await subscription.receive()).data == "event"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_subscription_of_another_stream(method: str) -> None:
    """A response made of a subscription that a stream has already raises, and that stream goes on."""
    async with open_hub() as hub:
        subscription = hub.subscribe("topic")
        async with open_test_stream(EventSourceResponse(subscription)) as stream:
            await stream.wait_head()
            with pytest.raises(RuntimeError, match="a subscription is used once"):
                async with open_test_stream(EventSourceResponse(subscription), method=method) as second:
                    await second.wait_closed()
            with pytest.raises(RuntimeError, match="a subscription is used once"):
                await subscription.__aenter__()
            await hub.publish("topic", "event")
            assert (await stream.receive()).data == "event"


async def test_response_that_is_called_again() -> None:
    """A response that serves a request raises for another one, and goes on serving the first."""
    response = EventSourceResponse(wait)
    async with open_test_stream(response) as stream:
        assert (await stream.receive()).data == "open"
        with pytest.raises(RuntimeError, match="serves one request"):
            async with open_test_stream(response) as second:
                await second.wait_closed()
        stream.disconnect()
        await stream.wait_closed()
    assert stream.close_reason is CloseReason.DISCONNECTED


GROUP_CALLS: dict[str, Callable[[StreamGroup], Any]] = {
    "kick": lambda group: group.kick(),
    "kick_stream": lambda group: group.kick_stream(1),
    "wait_empty": lambda group: group.wait_empty(),
    "wait_shutdown_requested": lambda group: group.wait_shutdown_requested(),
}


@pytest.mark.parametrize("call", GROUP_CALLS.values(), ids=GROUP_CALLS.keys())
async def test_group(call: Callable[[StreamGroup], Any]) -> None:
    """A group with streams raises in another event loop, and ends none of them."""
    group = StreamGroup()
    async with open_test_stream(EventSourceResponse(wait, group=group)) as stream:
        await stream.receive()
        with pytest.raises(RuntimeError, match="streams in another event loop"):
            await to_thread.run_sync(run_elsewhere, call, group)
        with pytest.raises(ZeroDivisionError):
            await group.kick(lambda _: bool(1 // 0))
        assert group.statistics().open_streams == 1
        assert not stream.is_closed
        await group.kick()
        await stream.wait_closed()
    assert stream.close_reason is CloseReason.KICKED


@pytest.mark.parametrize("call", ["close", "restart"])
async def test_event_source(call: str) -> None:
    """An event source that waits for events goes on waiting when it is closed or restarted from another thread."""
    send_channel, receive_channel = open_event_channel()
    async with AsyncExitStack() as stack:
        client = httpx.AsyncClient(transport=StreamingASGITransport(EventSourceResponse(receive_channel)))
        await stack.enter_async_context(client)
        source = await stack.enter_async_context(open_event_source("http://test/", client=client, reconnect=False))
        tg = await stack.enter_async_context(anyio.create_task_group())

        async def receive() -> None:
            assert (await source.__anext__()).data == "event"
            source.close()

        tg.start_soon(receive)
        await wait_all_tasks_blocked()
        await raises_in_thread(getattr(source, call))
        await send_channel.send("event")
    send_channel.close()
