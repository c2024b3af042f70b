"""Statistics of streams, groups and hubs, and the observer that is called when a stream has ended."""

from __future__ import annotations

import threading

import anyio
import pytest

from sse_trio import (
    CloseReason,
    EventSourceResponse,
    FeedStatistics,
    ServerSentEvent,
    StreamGroup,
    open_event_channel,
    open_hub,
)
from sse_trio.testing import open_test_stream, wait_all_tasks_blocked

from ..servers._fake_connection import FakeConnection

pytestmark = pytest.mark.anyio


@pytest.fixture
def group():
    return StreamGroup(name="app")


class Observer:
    """Keeps the snapshots that it receives."""

    def __init__(self):
        self.closed = []

    def stream_closed(self, stream):
        self.closed.append(stream)


async def wait_forever(send_channel):
    await anyio.sleep_forever()


# --- one stream


async def test_a_stream_that_writes(group):
    """A snapshot shows a stream's labels, its age, what it has written, and that nothing waits."""

    async def produce(send_channel):
        await anyio.sleep(3)
        await send_channel.send("one")
        await send_channel.send("two")
        await anyio.sleep_forever()

    response = EventSourceResponse(produce, group=group, labels={"user": "7"})
    async with open_test_stream(response, "/clock", wait_head=False) as stream:
        await wait_all_tasks_blocked()
        [before] = group.streams()
        assert (before.number, before.path, before.labels, before.topics) == (1, "/clock", {"user": "7"}, ())
        assert before.first_event_after is None
        assert (before.written_events, before.written_bytes) == (0, 0)
        await anyio.sleep(10)
        [after] = group.streams()
        assert after.age - before.age == pytest.approx(10)
        assert after.first_event_after == pytest.approx(3, abs=0.2)
        assert (after.written_events, after.written_bytes) == (2, len(stream.body))
        assert (after.buffered_events, after.buffered_bytes, after.lag, after.dropped) == (0, 0, None, 0)
        assert (after.writing_for, after.stalls, after.close_reason) == (None, 0, None)


async def test_pings_are_bytes_and_no_events(group):
    """Pings count as written bytes, but not as events."""
    async with open_test_stream(EventSourceResponse(wait_forever, group=group, ping=1)) as stream:
        await anyio.sleep(3.5)
        [statistics] = group.streams()
        assert b": ping" in stream.body
        assert statistics.written_bytes == len(stream.body)
        assert (statistics.written_events, statistics.first_event_after) == (0, None)


async def test_the_last_event_is_among_the_bytes(group):
    """The opening and the farewell count as bytes of the stream, too."""
    observer = Observer()
    group.add_observer(observer)
    async with open_test_stream(
        EventSourceResponse(wait_forever, group=group, retry=50, farewell=ServerSentEvent("bye"))
    ) as stream:
        await group.kick()
        await stream.wait_closed()
        assert b"retry: 50" in stream.body
        assert b"data: bye" in stream.body
        assert [closed.written_bytes for closed in observer.closed] == [len(stream.body)]


async def test_a_stream_whose_client_takes_nothing(group):
    """During a write, the snapshot shows how long it has taken and what waits behind it."""
    send_channel, receive_channel = open_event_channel(max_buffer_size=2, overflow="drop_oldest")
    async with open_test_stream(
        EventSourceResponse(receive_channel, group=group, send_timeout=60), wait_head=False
    ) as stream:
        stream.stall()
        with send_channel:
            await send_channel.send("first")
            await anyio.sleep(0.5)
            assert group.statistics().stalls == 0
            for text in ("lost", "second", "third"):
                await send_channel.send(text)
            await anyio.sleep(9.5)
            [statistics] = group.streams()
            assert statistics.writing_for == pytest.approx(10, abs=0.5)
            assert (statistics.buffered_events, statistics.dropped, statistics.stalls) == (2, 2, 1)
            assert statistics.buffered_bytes == len(b"data: second\n\n" + b"data: third\n\n")
            of_group = group.statistics()
            assert (of_group.stalls, of_group.stalled, of_group.dropped) == (1, 1, 2)
            stream.resume()
            await stream.receive()
            await anyio.sleep(1)
            [statistics] = group.streams()
            assert (statistics.writing_for, statistics.stalls) == (None, 1)
            of_group = group.statistics()
            assert (of_group.stalls, of_group.stalled) == (1, 0)


async def test_a_stall_that_ends_the_stream_is_counted_once(group):
    """A write that times out counts as one stall, also after the stream is gone."""
    observer = Observer()
    group.add_observer(observer)
    async with open_test_stream(
        EventSourceResponse(wait_forever, group=group, send_timeout=5, commit_within=0), wait_head=False
    ) as stream:
        stream.stall()
        await stream.wait_closed()
    assert [(closed.close_reason, closed.stalls) for closed in observer.closed] == [(CloseReason.SEND_TIMEOUT, 1)]
    statistics = group.statistics()
    assert (statistics.stalls, statistics.stalled) == (1, 0)


async def test_direct_writes_are_counted(group):
    """Direct writes count towards the stream's bytes, events and time to its first event."""
    server = FakeConnection()
    async with open_hub() as hub, anyio.create_task_group() as task_group:
        response = EventSourceResponse(hub.subscribe("a"), group=group, retry=100)
        task_group.start_soon(server.serve, response)
        await anyio.sleep(4)
        for text in ("one", "two"):
            await hub.publish("a", text)
            await anyio.sleep(1)
        [statistics] = group.streams()
        server.change(is_gone=True)
    assert statistics.written_bytes == len(server.body()[0])
    assert statistics.written_events == 2
    assert statistics.first_event_after == pytest.approx(4, abs=0.1)


async def test_a_direct_write_in_the_writers_own_task_is_counted(group):
    """A stream with a filter, whose writer does the direct writes, has its first event timed, too."""
    server = FakeConnection()
    async with open_hub() as hub, anyio.create_task_group() as task_group:
        response = EventSourceResponse(hub.subscribe("a", filter=lambda *_: True), group=group, retry=100)
        task_group.start_soon(server.serve, response)
        await anyio.sleep(4)
        await hub.publish("a", "one")
        await anyio.sleep(1)
        [statistics] = group.streams()
        server.change(is_gone=True)
    assert statistics.first_event_after == pytest.approx(4, abs=0.1)
    assert statistics.written_bytes == len(server.body()[0])


# --- streams of a hub


async def test_a_stream_of_a_hub(group):
    """The snapshot of a subscription's stream shows its topics and how far it is behind."""
    async with open_hub() as hub:
        async with open_test_stream(
            EventSourceResponse(hub.subscribe("b", "a/*"), group=group), wait_head=False
        ) as stream:
            await stream.wait_head()
            await wait_all_tasks_blocked()
            stream.stall()
            await hub.publish("b", "under way")
            await wait_all_tasks_blocked()
            for _ in range(3):
                await hub.publish("a/1", "waits")
            await wait_all_tasks_blocked()
            [statistics] = group.streams()
            assert statistics.topics == ("b", "a/*")
            assert (statistics.lag, statistics.written_events, statistics.buffered_events) == (3, 1, 0)
            assert hub.statistics().delivered == 1
            [feed] = hub.feeds()
            assert feed == FeedStatistics(
                topics=("b", "a/*"), subscribers=1, events=4, ring_events=4, ring_bytes=feed.ring_bytes, lag=3
            )
            stream.resume()
            await anyio.sleep(1)
        assert hub.feeds() == []
        assert hub.statistics().delivered == 4


async def test_history_that_a_stream_holds(group):
    """A page of history counts towards the bytes that the stream itself holds."""
    async with open_hub() as hub:
        for text in ("one", "two"):
            await hub.publish("a", text)
        response = EventSourceResponse(hub.subscribe("a", replay=2), group=group)
        async with open_test_stream(response, wait_head=False) as stream:
            stream.stall()
            await wait_all_tasks_blocked()
            [statistics] = group.streams()
            assert statistics.buffered_events == 2
            stream.resume()
            await stream.receive()
            assert statistics.buffered_bytes == len(stream.body)


async def test_what_a_subscription_dropped_is_its_streams(group):
    """Events that fall out of the ring count as dropped for the stream, its group and its hub."""
    async with open_hub(max_ring_events=2) as hub:
        response = EventSourceResponse(hub.subscribe("a", overflow="drop_oldest"), group=group)
        async with open_test_stream(response) as stream:
            await wait_all_tasks_blocked()
            stream.stall()
            await hub.publish("a", "under way")
            await wait_all_tasks_blocked()
            for _ in range(10):
                await hub.publish("a", "x")
            stream.resume()
            await anyio.sleep(1)
            [statistics] = group.streams()
    assert statistics.dropped == hub.statistics().dropped == group.statistics().dropped > 0
    assert statistics.dropped + statistics.written_events == 11


async def test_delivered_counts_those_who_have_left():
    """Events that a subscriber received stay counted after it leaves."""
    async with open_hub() as hub:
        async with hub.subscribe("a") as subscription:
            await hub.publish("a", "one")
            await subscription.receive()
            assert hub.statistics().delivered == 1
        assert hub.statistics().delivered == 1


# --- the group


async def test_what_ended_streams_counted_is_kept(group):
    """The counters of a group never decrease."""

    async def produce(send_channel):
        await send_channel.send("one")

    for _ in range(3):
        async with open_test_stream(EventSourceResponse(produce, group=group)) as stream:
            await stream.wait_closed()
    statistics = group.statistics()
    assert (statistics.opened, statistics.open_streams, statistics.closed) == (3, 0, {CloseReason.COMPLETED: 3})
    assert (statistics.written_events, statistics.written_bytes) == (3, 3 * len(b"data: one\n\n"))
    assert group.streams() == []


@pytest.mark.usefixtures("real_clock")
async def test_statistics_from_another_thread(group):
    """Another thread, such as a metrics exporter's, may read the statistics of a group and a hub."""
    asked = []
    async with open_hub() as hub, open_test_stream(EventSourceResponse(hub.subscribe("a"), group=group)) as stream:
        stream.stall()
        await hub.publish("a", "x")
        while not stream.is_sending:
            await anyio.sleep(0.001)
        thread = threading.Thread(target=lambda: asked.extend([group.statistics(), hub.statistics()]))
        thread.start()
        await anyio.to_thread.run_sync(thread.join)
        stream.resume()
    assert [asked[0].open_streams, asked[1].subscribers] == [1, 1]


async def test_kick_stream(group):
    """kick_stream() ends the stream with that number and no other; numbers are never reused."""
    first, second = (EventSourceResponse(wait_forever, group=group) for _ in range(2))
    async with open_test_stream(first) as one, open_test_stream(second) as two:
        numbers = sorted(stream.number for stream in group.streams())
        assert numbers == [1, 2]
        assert await group.kick_stream(2)
        await two.wait_closed()
        assert two.close_reason is CloseReason.KICKED
        assert not one.is_closed
        assert not await group.kick_stream(2)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await group.kick_stream(1)
        assert scope.cancelled_caught
        await one.wait_closed()
        assert one.close_reason is CloseReason.KICKED


# --- observers


async def test_an_observer_is_told_once(group):
    """An observer gets each ended stream once with its reason, after its `on_close` and before the group is empty."""
    told = []

    class Order:
        def stream_closed(self, stream):
            told.append((stream.number, stream.close_reason, group.statistics().closed))

    async def on_close(reason):
        told.append("on_close")

    group.add_observer(Order())
    async with open_test_stream(EventSourceResponse(wait_forever, group=group, on_close=on_close)) as stream:
        assert told == []
        stream.disconnect()
        await group.wait_empty()
        assert told == ["on_close", (1, CloseReason.DISCONNECTED, {CloseReason.DISCONNECTED: 1})]


async def test_an_observer_that_raises_is_logged(group, caplog):
    """An observer's error is logged; other observers are still called, and the stream ends normally."""

    class Broken:
        def stream_closed(self, stream):
            raise RuntimeError("no disk")

    observer = Observer()
    group.add_observer(Broken())
    group.add_observer(observer)
    async with open_test_stream(EventSourceResponse(wait_forever, group=group)) as stream:
        stream.disconnect()
        await stream.wait_closed()
    assert [closed.close_reason for closed in observer.closed] == [CloseReason.DISCONNECTED]
    assert "no disk" in caplog.text
