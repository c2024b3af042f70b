# The hub: publishing, fan-out, and streams made from subscriptions, from their head to each of their endings.

from __future__ import annotations

from contextlib import AsyncExitStack

import anyio
import pytest
from anyio.lowlevel import checkpoint

from sse_trio import CloseReason, EventSourceResponse, ServerSentEvent, StreamGroup, open_hub
from sse_trio._errors import StoreUnavailableError
from sse_trio.testing import open_test_stream, wait_all_tasks_blocked

pytestmark = pytest.mark.anyio

FAREWELL = ServerSentEvent("", event="bye")


async def publish(hub, *datas, topic="a"):
    """Publish events and return their ids as clients see them."""
    return [str(await hub.publish(topic, data)) for data in datas]


async def flood(hub):
    """Publish in every pass; it ends, so that a failing test does."""
    for _ in range(2000):
        await hub.publish("a", "x")
        await checkpoint()


async def said(stream, count):
    """Receive so many events of a stream, and return what each says: its type, or its data."""
    with anyio.fail_after(60):
        events = [await stream.receive() for _ in range(count)]
    return [event.data if event.event == "message" else event.event for event in events]


async def rest(stream):
    """Receive to the end, and return what each event says."""
    with anyio.fail_after(60):
        return [event.data if event.event == "message" else event.event async for event in stream]


async def test_a_subscriber_that_falls_behind_is_kicked():
    """With overflow="close" the stream of a client that fell behind the ring ends, with its farewell."""
    async with open_hub(max_ring_events=2) as hub:
        response = EventSourceResponse(hub.subscribe("a", overflow="close"), farewell=FAREWELL)
        async with open_test_stream(response) as stream:
            await wait_all_tasks_blocked()
            stream.stall()
            await publish(hub, "1")
            await wait_all_tasks_blocked()
            await publish(hub, *"2345678")
            stream.resume()
            assert await rest(stream) == ["1", "bye"]
        assert stream.close_reason is CloseReason.KICKED
        assert hub.statistics().subscribers == 0


async def test_a_shutdown_while_a_topic_is_written_at_full_speed():
    """A stream that ends takes in nothing more, so that it gets to its farewell and its final message."""
    group = StreamGroup(farewell=FAREWELL)
    async with open_hub() as hub, anyio.create_task_group() as nursery:
        async with open_test_stream(EventSourceResponse(hub.subscribe("a"), group=group)) as stream:
            nursery.start_soon(flood, hub)
            await said(stream, 10)
            group.request_shutdown()
            for _ in range(100):
                await checkpoint()
            assert stream.is_closed
            assert (await rest(stream))[-1] == "bye"
        nursery.cancel_scope.cancel()
    assert stream.close_reason is CloseReason.SHUTDOWN


class HubOfAnotherTask:
    """A hub that can be closed while streams of the test are open."""

    def __init__(self, **options):
        self._options = options
        self._closing = anyio.Event()
        self._closed = anyio.Event()

    async def run(self, *, task_status):
        async with open_hub(**self._options) as hub:
            task_status.started(hub)
            await self._closing.wait()
        self._closed.set()

    async def close(self):
        self._closing.set()
        await self._closed.wait()


async def test_a_hub_that_closes_completes_its_streams():
    """Who is in position when the hub is left gets what it has, and then its stream completes."""
    async with anyio.create_task_group() as nursery:
        hub = await nursery.start((runner := HubOfAnotherTask()).run)
        quiet, stalled = EventSourceResponse(hub.subscribe("quiet")), EventSourceResponse(hub.subscribe("a"))
        async with open_test_stream(quiet) as one, open_test_stream(stalled) as two:
            await wait_all_tasks_blocked()
            two.stall()
            await publish(hub, "1")
            await wait_all_tasks_blocked()
            await publish(hub, "2", "3")
            await runner.close()
            assert await rest(one) == []
            two.resume()
            assert await rest(two) == ["1", "2", "3"]
        assert one.close_reason is two.close_reason is CloseReason.COMPLETED


@pytest.mark.parametrize("overflow", ["resume", "close", "drop_oldest"])
async def test_who_was_behind_when_the_hub_closed(overflow):
    """A stalled client that fell behind the ring is not sent to the store of a hub that is closed."""
    async with anyio.create_task_group() as nursery:
        hub = await nursery.start((runner := HubOfAnotherTask(max_ring_events=2)).run)
        response = EventSourceResponse(hub.subscribe("a", overflow=overflow))
        async with open_test_stream(response) as stream:
            await wait_all_tasks_blocked()
            stream.stall()
            await publish(hub, "1")
            await wait_all_tasks_blocked()
            await publish(hub, *"2345678")
            await runner.close()
            stream.resume()
            assert await rest(stream) == ["1", *("78" if overflow == "drop_oldest" else "")]
        assert stream.close_reason is CloseReason.COMPLETED


@pytest.mark.parametrize("after", [None, "x"])
async def test_a_closed_hub_has_no_subscribers(after):
    """Who joins or publishes after the hub was left gets ClosedResourceError, and waits for nothing."""
    async with open_hub() as hub:
        subscription = hub.subscribe("a", after=after)
    with pytest.raises(anyio.ClosedResourceError):
        async with subscription:
            pass
    with pytest.raises(anyio.ClosedResourceError):
        await hub.publish("a", "1")
    assert hub.statistics().subscribers == 0


async def test_errors_come_out_of_a_hub_bare(make_remote_store):
    """What the start or the body raises comes out as it was raised, with its cause."""
    store = make_remote_store()

    async def read_last(topics, count):
        store.change(is_down=True)
        return await store.read(topics, None, limit=count)

    store.read_last = read_last
    with pytest.raises(StoreUnavailableError) as caught:
        async with open_hub(store):
            pass
    assert isinstance(caught.value.__cause__, OSError)
    cause = KeyError()
    with pytest.raises(ValueError, match="body") as caught:
        async with open_hub():
            raise ValueError("body") from cause
    assert caught.value.__cause__ is cause


async def test_many_feeds_do_not_hold_up_the_loop():
    """After two hundred readers others get a turn, also when each of them reads topics of its own."""
    turns = 0

    async def count_turns():
        nonlocal turns
        while True:
            turns += 1
            await checkpoint()

    async with open_hub() as hub, AsyncExitStack() as stack, anyio.create_task_group() as nursery:
        subscriptions = [await stack.enter_async_context(hub.subscribe(f"{n}")) for n in range(1000)]
        for subscription in subscriptions:
            nursery.start_soon(subscription.receive)
        await wait_all_tasks_blocked()
        nursery.start_soon(count_turns)
        await hub.publish_many([(f"{n}", "x") for n in range(1000)])
        await wait_until(lambda: not hub._changed)
        assert turns >= 4
        nursery.cancel_scope.cancel()


async def wait_until(condition):
    while not condition():
        await checkpoint()


async def test_a_subscription_has_no_producers():
    """producers= beside a subscription is refused when the response is made: nobody would read what they send."""
    async with open_hub() as hub:
        with pytest.raises(TypeError, match="producers"):
            EventSourceResponse(hub.subscribe("a"), producers=[checkpoint])


async def test_a_topic_and_a_prefix_in_one_subscription():
    """An event reaches a subscription once, whether it is asked for by its name or by a prefix."""
    async with open_hub() as hub, hub.subscribe("a", "b/*", "b/1") as subscription:
        for topic in ("a", "b/1", "b/2", "c", "a"):
            await hub.publish(topic, topic)
        await hub.publish("b/end", "end")
        got = []
        while "end" not in got:
            got.append((await subscription.receive()).data)
        assert got == ["a", "b/1", "b/2", "a", "end"]
