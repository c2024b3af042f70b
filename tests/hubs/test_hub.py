# The hub: publishing, fan-out, and streams made from subscriptions, from their head to each of their endings.

from __future__ import annotations

import json
from contextlib import AsyncExitStack

import anyio
import pytest
from anyio.lowlevel import checkpoint
from starlette.requests import Request

from sse_trio import (
    CloseReason,
    EventSourceResponse,
    HubStatistics,
    ServerSentEvent,
    StreamGroup,
    last_event_id,
    open_hub,
)
from sse_trio._errors import StoreUnavailableError
from sse_trio._hubs.subscription import source_of
from sse_trio.stores import MemoryStore
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
    """Receive this number of events of a stream, and return the type of each, or the data of a message."""
    with anyio.fail_after(60):
        events = [await stream.receive() for _ in range(count)]
    return [event.data if event.event == "message" else event.event for event in events]


async def remaining(stream):
    """Receive to the end, and return the type of each event, or the data of a message."""
    with anyio.fail_after(60):
        return [event.data if event.event == "message" else event.event async for event in stream]


async def test_a_subscriber_that_falls_behind_is_kicked():
    """With overflow="close", the stream of a client that fell behind the ring ends with its farewell."""
    async with open_hub(max_ring_events=2) as hub:
        response = EventSourceResponse(hub.subscribe("a", overflow="close"), farewell=FAREWELL)
        async with open_test_stream(response) as stream:
            await wait_all_tasks_blocked()
            stream.stall()
            await publish(hub, "1")
            await wait_all_tasks_blocked()
            await publish(hub, *"2345678")
            stream.resume()
            assert await remaining(stream) == ["1", "bye"]
        assert stream.close_reason is CloseReason.KICKED
        assert hub.statistics().subscribers == 0


async def test_streams_at_the_same_place_share_their_bytes():
    """Two streams at the same position get one batch, which is joined once."""
    async with open_hub() as hub:
        responses = [EventSourceResponse(hub.subscribe("a")) for _ in range(2)]
        async with open_test_stream(responses[0]) as one, open_test_stream(responses[1]) as two:
            for batch in ("12", "34", "56"):
                await wait_all_tasks_blocked()
                await publish(hub, *batch)
                assert await said(one, 2) == await said(two, 2) == [*batch]
            assert one.messages[-1]["body"] is two.messages[-1]["body"]
        assert hub.statistics().delivered == 12


async def test_a_shutdown_while_a_topic_is_written_at_full_speed():
    """A stream that ends takes no new events, so that it reaches its farewell and final frame."""
    group = StreamGroup(farewell=FAREWELL)
    async with open_hub() as hub, anyio.create_task_group() as nursery:
        async with open_test_stream(EventSourceResponse(hub.subscribe("a"), group=group)) as stream:
            nursery.start_soon(flood, hub)
            await said(stream, 10)
            group.request_shutdown()
            for _ in range(100):
                await checkpoint()
            assert stream.is_closed
            assert (await remaining(stream))[-1] == "bye"
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
    """When the hub closes, each subscriber in position gets what it has, and then its stream completes."""
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
            assert await remaining(one) == []
            two.resume()
            assert await remaining(two) == ["1", "2", "3"]
        assert one.close_reason is two.close_reason is CloseReason.COMPLETED


@pytest.mark.parametrize("overflow", ["resume", "close", "drop_oldest"])
async def test_who_was_behind_when_the_hub_closed(overflow):
    """A stalled client that fell behind the ring doesn't read the store of a closed hub."""
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
            assert await remaining(stream) == ["1", *("78" if overflow == "drop_oldest" else "")]
        assert stream.close_reason is CloseReason.COMPLETED


@pytest.mark.parametrize("after", [None, "x"])
async def test_a_closed_hub_has_no_subscribers(after):
    """Joining or publishing after the hub closed raises ClosedResourceError at once."""
    async with open_hub() as hub:
        subscription = hub.subscribe("a", after=after)
    with pytest.raises(anyio.ClosedResourceError):
        async with subscription:
            pass
    with pytest.raises(anyio.ClosedResourceError):
        await hub.publish("a", "1")
    assert hub.statistics().subscribers == 0


async def test_errors_come_out_of_a_hub_bare(make_remote_store):
    """An exception from starting the hub or from its body comes out unchanged, with its cause."""
    store = make_remote_store()

    async def read_last(topics, count):
        store.change(is_down=True)
        return await store.read(topics, None)

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
    """Other tasks get a turn after fifty readers, even if each reader has its own topics."""
    turns, got = 0, 0

    async def count_turns():
        nonlocal turns
        while got < 1000:
            turns += 1
            await checkpoint()

    async def read(subscription):
        nonlocal got
        await subscription.receive()
        got += 1

    async with open_hub() as hub, AsyncExitStack() as stack, anyio.create_task_group() as nursery:
        for n in range(1000):
            nursery.start_soon(read, await stack.enter_async_context(hub.subscribe(f"{n}")))
        await wait_all_tasks_blocked()
        nursery.start_soon(count_turns)
        await hub.publish_many([(f"{n}", "x") for n in range(1000)])
    assert turns >= 20


async def test_a_subscription_has_no_producers():
    """producers= beside a subscription is refused when the response is made: nothing would read their events."""
    async with open_hub() as hub:
        with pytest.raises(TypeError, match="producers"):
            EventSourceResponse(hub.subscribe("a"), producers=[checkpoint])


async def test_a_topic_and_a_prefix_in_one_subscription():
    """A subscription gets an event once, even if both a topic and a prefix match."""
    async with open_hub() as hub, hub.subscribe("a", "b/*", "b/1") as subscription:
        for topic in ("a", "b/1", "b/2", "c", "a"):
            await hub.publish(topic, topic)
        await hub.publish("b/end", "end")
        got = []
        while "end" not in got:
            got.append((await subscription.receive()).data)
        assert got == ["a", "b/1", "b/2", "a", "end"]


def app_of(hub, *topics, **options):
    """An application with one endpoint: a subscription that resumes, and options for it and the response."""
    names = {"replay", "overflow", "filter"} & set(options)
    of_subscription = {name: options.pop(name) for name in names}

    async def app(scope, receive, send):
        after = last_event_id(Request(scope))
        await EventSourceResponse(hub.subscribe(*topics, after=after, **of_subscription), **options)(
            scope, receive, send
        )

    return app


async def test_a_client_resumes_with_its_last_event_id():
    """A client that reconnects gets what it missed and then live events; its id covers all topics of the stream."""
    async with open_hub() as hub:
        app = app_of(hub, "a", "b")
        async with open_test_stream(app) as stream:
            for topic in "abc":
                await publish(hub, topic, topic=topic)
            assert await said(stream, 1) == ["a"]
            id_ = (await stream.receive()).id
        for topic in "abc":
            await publish(hub, f"{topic}2", topic=topic)
        async with open_test_stream(app, headers={"Last-Event-ID": id_}) as stream:
            await publish(hub, "a3")
            assert await said(stream, 3) == ["a2", "b2", "a3"]
            assert "event-stream-gap" not in stream.headers
        assert hub.statistics().subscribers == hub.statistics().feeds == 0


@pytest.mark.parametrize(
    ("id_", "header"),
    [("x-1", "x-1"), ("\u00e9", "?"), ("a\tb", "?"), ("a\r\nb: c", "?"), (" ", "?"), (" x", "?"), ("x ", "?")],
)
async def test_a_gap_is_an_event_and_a_header(id_, header):
    """A client with an unknown id gets a gap before any other event, and a header in the response."""
    async with open_hub() as hub:
        await publish(hub, "1")
        async with open_test_stream(app_of(hub, "a"), params={"lastEventId": id_}) as stream:
            assert stream.headers["event-stream-gap"] == header
            event = await stream.receive()
            assert event.event == "gap"
            assert json.loads(event.data)["after"] == id_
            assert await said(stream, 1) == ["1"]


async def test_a_response_made_of_a_subscription_twice():
    """A subscription makes one stream: a second response raises before anything is sent."""
    async with open_hub() as hub:
        subscription = hub.subscribe("a")
        async with open_test_stream(EventSourceResponse(subscription)):
            with pytest.raises(RuntimeError, match="used once"):
                async with open_test_stream(EventSourceResponse(subscription)):
                    pass


async def test_head_subscribes_to_nothing():
    """HEAD gets the headers and leaves no subscription."""
    async with open_hub() as hub, open_test_stream(app_of(hub, "a"), method="HEAD") as stream:
        await stream.wait_closed()
        assert stream.status_code == 200
        assert hub.statistics().subscribers == 0


@pytest.mark.parametrize("joined", [True, False])
@pytest.mark.parametrize("ending", ["disconnect", "shutdown", "kick", "cancel"])
async def test_whatever_ends_a_stream_leaves_nothing_behind(make_remote_store, ending, joined):
    """However a stream ends, live or while it catches up, its subscription has left, and nothing reads for it."""
    group = StreamGroup(farewell=FAREWELL)
    store = make_remote_store()
    async with open_hub(store) as hub:
        app = app_of(hub, "a", group=group)
        store.change(answers=joined)
        async with open_test_stream(app, headers={"Last-Event-ID": "x"}) as stream:
            await wait_all_tasks_blocked()
            assert hub.statistics().subscribers == 1
            if ending == "kick":
                await group.kick()
            else:
                {"disconnect": stream.disconnect, "shutdown": group.request_shutdown, "cancel": stream.cancel}[ending]()
            if ending == "disconnect" and not joined:
                store.change(answers=True)  # who joins notices a disconnect when it has its answer
            with anyio.fail_after(60):
                await stream.wait_closed()
            assert hub.statistics().subscribers == hub.statistics().feeds == store.reading == 0
            if ending != "disconnect":
                assert (await remaining(stream))[-1] == "bye"


async def test_a_store_that_is_down_when_a_client_comes(make_remote_store):
    """If the store is down before the head, its error comes out of the response, so the client sees an error."""
    store = make_remote_store()
    async with open_hub(store) as hub:
        store.change(is_down=True)
        with pytest.raises(StoreUnavailableError):
            async with open_test_stream(app_of(hub, "a"), headers={"Last-Event-ID": "x"}):
                pass
        async with open_test_stream(app_of(hub, "a")) as stream:  # who needs no history is welcome
            store.change(is_down=False)
            await publish(hub, "1")
            assert await said(stream, 1) == ["1"]


async def test_a_stalled_client_resumes_from_the_store():
    """With overflow="resume", a client that stalled for a while still gets everything."""
    async with open_hub(max_ring_events=4) as hub:
        async with open_test_stream(app_of(hub, "a")) as stream:
            await wait_all_tasks_blocked()
            stream.stall()
            numbers = [*map(str, range(1000))]
            await publish(hub, numbers[0])
            await wait_all_tasks_blocked()
            await publish(hub, *numbers[1:])
            stream.resume()
            assert await said(stream, 1000) == numbers
        assert hub.statistics().resumes >= 1
        assert hub.statistics().delivered == hub.statistics().published == 1000


async def test_a_stalled_client_misses_the_oldest():
    """With overflow="drop_oldest", a client that stalled gets the latest events."""
    async with open_hub(max_ring_events=2) as hub:
        async with open_test_stream(app_of(hub, "a", overflow="drop_oldest")) as stream:
            await wait_all_tasks_blocked()
            stream.stall()
            await publish(hub, "1")
            await wait_all_tasks_blocked()
            await publish(hub, *"2345678")
            stream.resume()
            assert await said(stream, 3) == ["1", "7", "8"]
        assert hub.statistics().dropped == 5


async def test_a_stalled_client_holds_nobody_up():
    """A stalled client delays neither the publisher nor another subscriber."""
    async with open_hub(max_ring_events=4) as hub:
        app = app_of(hub, "a")
        async with open_test_stream(app) as slow, open_test_stream(app) as quick:
            slow.stall()
            for n in range(50):
                await publish(hub, str(n))
                assert await said(quick, 1) == [str(n)]
            slow.resume()
            assert await said(slow, 50) == [*map(str, range(50))]


async def test_line_ends_and_a_filter():
    """A response's line end applies to history, gaps and live events; its filter to all but gaps."""
    async with open_hub() as hub:
        await publish(hub, "1", "2")
        app = app_of(hub, "*", sep="\r\n", filter=lambda topic, event: topic == "a" and event.data != "2")
        async with open_test_stream(app, headers={"Last-Event-ID": "x"}) as stream:
            assert await said(stream, 2) == ["gap", "1"]
            await publish(hub, "2", "3")
            await publish(hub, "4", topic="b")
            assert await said(stream, 1) == ["3"]
            assert stream.body.count(b"\n") == stream.body.count(b"\r\n") > 0


async def test_a_burst_is_one_write():
    """Events published in one pass reach each subscriber as one message, with the same bytes for all."""
    async with open_hub() as hub:
        app = app_of(hub, "a")
        async with open_test_stream(app) as one, open_test_stream(app) as two:
            await wait_all_tasks_blocked()
            before = len(one.messages), len(two.messages)
            await publish(hub, *"123456789")
            await wait_all_tasks_blocked()
            assert (len(one.messages), len(two.messages)) == (before[0] + 1, before[1] + 1)
            assert one.messages[-1]["body"] is two.messages[-1]["body"]


async def test_a_thousand_readers_do_not_hold_up_the_loop():
    """The readers of a topic are woken fifty at a time, and every one of them is."""
    async with open_hub() as hub, AsyncExitStack() as stack, anyio.create_task_group() as nursery:
        got = []

        async def read(subscription):
            got.append((await subscription.receive()).data)

        for _ in range(1000):
            nursery.start_soon(read, await stack.enter_async_context(hub.subscribe("a")))
        await wait_all_tasks_blocked()
        await publish(hub, "x")
        while not got:
            await checkpoint()
        assert len(got) < 1000
        await wait_all_tasks_blocked()
        assert got == ["x"] * 1000


class CountingReader:
    """A reader of a feed that counts how often it is woken."""

    def __init__(self, cursor):
        self.cursor = cursor
        self.receiver = self
        self.woken = 0

    def unpark(self):
        self.woken += 1


async def test_a_reader_that_has_the_event_already_is_not_woken():
    """A reader that already has the event, or left while others were woken, is not woken."""
    async with open_hub() as hub, hub.subscribe("a") as subscription:
        feed = source_of(subscription).feed
        end = feed.end()
        behind, done, left = CountingReader(end), CountingReader(end + 1), CountingReader(end)
        left.receiver = None
        for reader in (behind, done, left):
            feed.add_reader(reader)
        await publish(hub, "x")
        await wait_all_tasks_blocked()
        assert [behind.woken, done.woken, left.woken] == [1, 0, 0]
        for reader in (behind, done, left):
            feed.remove_reader(reader)


async def test_a_publisher_that_does_not_pause_lets_readers_run():
    """publish() is a checkpoint after at most 256 events, so readers read during a flood."""
    async with open_hub(max_ring_events=8) as hub, anyio.create_task_group() as nursery:
        got = []

        async def read():
            async with hub.subscribe("a", overflow="drop_oldest") as subscription:
                while True:
                    got.append(await subscription.receive())

        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        for _ in range(2000):
            await hub.publish("a", "x")
        assert got
        nursery.cancel_scope.cancel()


async def test_publishing_again_with_a_key():
    """A second publish with a key returns the ids of the first, and no subscriber gets the event again."""
    async with open_hub() as hub, hub.subscribe("a") as subscription:
        first = await hub.publish("a", "1", key=("me", 1))
        assert await hub.publish("a", "1", key=("me", 1)) == first
        assert await hub.publish("a", "2", key=("me", 2)) > first
        assert await hub.publish_many([]) == []
        assert [(await subscription.receive()).data for _ in range(2)] == ["1", "2"]
        assert subscription.statistics().lag == 0


async def test_neighbours():
    """publish_many() gives consecutive ids, in its order, across topics."""
    async with open_hub() as hub, hub.subscribe("*") as subscription:
        ids = await hub.publish_many([("a", "1"), ("b", {"data": "2", "event": "x"}), ("a", ServerSentEvent("3"))])
        assert [id_.sequence for id_ in ids] == [1, 2, 3]
        events = [await subscription.receive() for _ in ids]
        assert [event.id for event in events] == [*map(str, ids)]
        assert [(event.event, event.data) for event in events] == [(None, "1"), ("x", "2"), (None, "3")]


@pytest.mark.parametrize(
    ("topic", "event", "error"),
    [("", "1", ValueError), ("a/*", "1", ValueError), (1, "1", TypeError),
     ("a", ServerSentEvent("", id="1"), ValueError), ("a", object(), TypeError)],
)  # fmt: skip
async def test_what_can_not_be_published(topic, event, error):
    """An event with an id, an object that is not an event, or an illegal topic is refused, and nothing is published."""
    async with open_hub() as hub:
        with pytest.raises(error):
            await hub.publish_many([("a", "1"), (topic, event)])
        assert hub.statistics().published == 0


@pytest.mark.parametrize(
    ("topics", "options", "error"),
    [((), {}, ValueError), (("a*",), {}, ValueError), (("a",), {"overflow": "wait"}, ValueError),
     (("a",), {"replay": -1}, ValueError), (("a",), {"replay": "1"}, ValueError),
     (("a",), {"replay": 1001}, ValueError)],
)  # fmt: skip
async def test_what_can_not_be_subscribed_to(topics, options, error):
    """Bad arguments raise when the subscription is made."""
    async with open_hub() as hub:
        with pytest.raises(error):
            hub.subscribe(*topics, **options)


async def test_statistics():
    """A hub counts its subscribers, and the events published and delivered."""
    async with open_hub(name="prices") as hub, hub.subscribe("a") as one, hub.subscribe("a"), hub.subscribe("b/*"):
        await publish(hub, "1", "2")
        for _ in range(2):
            await one.receive()
        assert hub.statistics() == HubStatistics(
            name="prices", subscribers=3, feeds=2, published=2, delivered=2, lag=2, dropped=0, resumes=0, gaps=0
        )
    assert (hub.statistics().subscribers, hub.statistics().feeds) == (0, 0)


async def test_one_follower_for_all_subscribers(make_remote_store, monkeypatch):
    """A process follows its store once for all subscribers, and reads history only for those that need it."""
    store = make_remote_store()
    calls = []
    for name in ("follow", "read", "read_last"):
        whole = getattr(store, name)
        monkeypatch.setattr(
            store, name, lambda *args, _name=name, _whole=whole: (calls.append(_name), _whole(*args))[1]
        )
    async with open_hub(store) as hub, AsyncExitStack() as stack:
        subscriptions = [await stack.enter_async_context(hub.subscribe("a", f"b/{n}")) for n in range(50)]
        await hub.publish("a", "x")
        for subscription in subscriptions:
            assert (await subscription.receive()).data == "x"
    assert calls == ["read_last", "follow"]


async def test_a_follower_that_lost_everything(make_remote_store):
    """A new history without events is a gap for each subscriber, too."""
    store = make_remote_store()
    async with open_hub(store) as hub, hub.subscribe("a") as subscription, hub.subscribe("b", "a"):
        await publish(hub, "1")
        assert (await subscription.receive()).data == "1"
        await store.lose_history()
        gap = await subscription.receive()
        assert json.loads(gap.data)["oldest"] is None
        await publish(hub, "2")
        assert (await subscription.receive()).data == "2"


async def test_a_store_that_is_down_at_the_start(make_remote_store):
    """A hub doesn't start if its store can't be opened."""
    store = make_remote_store()
    store.is_down = True
    with pytest.raises(StoreUnavailableError) as caught:
        async with open_hub(store):
            pass
    assert isinstance(caught.value.__cause__, OSError)


def visible(thing):
    """The public names that `dir()` shows."""
    return {name for name in dir(thing) if not name.startswith("_")}


async def test_a_hub_shows_what_a_user_needs():
    """`dir()` of a hub and of a subscription shows what a user needs and nothing else; `repr()` says what each is."""
    async with open_hub(name="prices") as hub, hub.subscribe("a", "b/*") as subscription:
        await publish(hub, "1")
        assert visible(hub) == {"feeds", "name", "publish", "publish_many", "statistics", "subscribe"}
        assert visible(subscription) == {"close", "receive", "statistics"}
        assert repr(hub) == "<Hub 'prices': 1 subscribers, 1 events published>"
        assert repr(subscription) == "<Subscription to 'a', 'b/*': overflow='resume', lag=1>"


class StoreOfItsOwn:
    """A third party's store, which wraps a MemoryStore and notes what it is asked for."""

    def __init__(self):
        self.store = MemoryStore()
        self.asked = []

    def __getattr__(self, name):
        self.asked.append(name)
        return getattr(self.store, name)

    async def __aenter__(self):
        await self.store.__aenter__()
        return self

    async def __aexit__(self, *exc_info):
        return await self.store.__aexit__(*exc_info)


@pytest.mark.parametrize("is_fast", [True, False])
async def test_a_store_with_append_nowait_is_asked_once(is_fast):
    """A store's `append_nowait` is looked for when the hub is opened; a hub that has it needs no follower."""
    store = StoreOfItsOwn()
    if not is_fast:
        store.append_nowait = None
    async with open_hub(store) as hub, hub.subscribe("a") as subscription:
        await publish(hub, "1", "2")
        assert [(await subscription.receive()).data for _ in range(2)] == ["1", "2"]
    assert store.asked.count("append_nowait") == is_fast
    assert store.asked.count("append") == (1 if is_fast else 3)  # once to check that it is a store
    assert store.asked.count("follow") == (1 if is_fast else 2)


async def test_a_feed_for_each_choice_of_topics():
    """`feeds()` has an entry for each choice of topics that has a subscriber, with the lag of the slowest."""
    async with open_hub() as hub, hub.subscribe("a") as fast, hub.subscribe("a"), hub.subscribe("b/*"):
        await publish(hub, "1", "2")
        await fast.receive()
        await fast.receive()
        assert [(feed.topics, feed.subscribers, feed.events, feed.lag) for feed in hub.feeds()] == [
            (("a",), 2, 2, 2),
            (("b/*",), 1, 0, 0),
        ]
    assert hub.feeds() == []


async def test_the_backlog_of_a_subscription():
    """The backlog is the history that a subscription holds, and its lag: history, and what is in the ring."""
    async with open_hub() as hub:
        (first, *_) = await publish(hub, "1", "2", "3")
        source = source_of(hub.subscribe("a", after=first))
        await source.join({"headers": []})
        await publish(hub, "4")
        wire = f"id: {first[:-1]}2\ndata: 2\n\nid: {first[:-1]}3\ndata: 3\n\n"
        assert source.backlog() == (2, len(wire), 3, ("a",))
        source.close()
