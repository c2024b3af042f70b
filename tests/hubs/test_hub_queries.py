# What a subscriber may ask for besides topics: everything that is kept, an end, other events; and history by itself.

from __future__ import annotations

import pickle
import re
import zlib
from contextlib import AsyncExitStack

import anyio
import pytest

from sse_trio import CloseReason, EventSourceResponse, ServerSentEvent, StoreUnavailableError, open_hub
from sse_trio.stores import MemoryStore, SQLiteStore
from sse_trio.stores._kicks import KICKS
from sse_trio.testing import open_test_stream, wait_all_tasks_blocked

pytestmark = pytest.mark.anyio


def is_done(topic, event):
    return event.event == "done"


DONE = ServerSentEvent("bye", event="done")


async def fill(hub, number, topic="a"):
    """Publish numbers, and return their ids."""
    return [str(await hub.publish(topic, n)) for n in range(number)]


async def test_all_that_is_kept():
    """replay="all" is everything, however much, and then what comes; with an id it is what comes after that."""
    async with open_hub(MemoryStore(max_events=5000)) as hub:
        ids = await fill(hub, 2500)
        async with hub.subscribe("a", replay="all") as subscription:
            assert [(await subscription.receive()).data for _ in range(2500)] == [*map(str, range(2500))]
            await hub.publish("a", "live")
            assert (await subscription.receive()).data == "live"
        async with hub.subscribe("a", replay="all", after=ids[-1]) as subscription:
            assert (await subscription.receive()).data == "live"


@pytest.mark.parametrize("first", [0, 3, 400])
async def test_until(first):
    """The event for which `until` is true is delivered, and is the last, from history and live, to each client."""
    async with open_hub() as hub:
        await fill(hub, first)
        response = EventSourceResponse(hub.subscribe("a", replay="all", until=is_done))
        async with open_test_stream(response) as stream, hub.subscribe("a", replay="all", until=is_done) as own:
            await wait_all_tasks_blocked()
            await hub.publish_many([("a", "x"), ("a", DONE), ("a", "too late")])
            assert [event.data async for event in stream] == [*map(str, range(first)), "x", "bye"]
            assert [event.data async for event in own] == [*map(str, range(first)), "x", "bye"]
            await stream.wait_closed()
        assert stream.close_reason is CloseReason.COMPLETED
        late = EventSourceResponse(hub.subscribe("a", replay="all", until=is_done))
        async with open_test_stream(late) as stream:
            assert [event.data async for event in stream][-2:] == ["x", "bye"]
        assert hub.statistics().subscribers == 0


async def test_until_shares_bytes():
    """Streams that end at an event are written the batches that all others are, that of the end too."""
    async with open_hub() as hub, AsyncExitStack() as stack:
        choices = [("a",), ("a",), ("a", "b"), ("a", "b")]
        subscriptions = [hub.subscribe("a"), *[hub.subscribe(*choice, until=is_done) for choice in choices]]
        ending = [EventSourceResponse(subscription) for subscription in subscriptions]
        streams = [await stack.enter_async_context(open_test_stream(response)) for response in ending]
        for event in ("1", "2", DONE):
            await wait_all_tasks_blocked()
            await hub.publish("a", event)
            await wait_all_tasks_blocked()
            bodies = [[message["body"] for message in stream.messages[1:] if message["body"]][-1] for stream in streams]
            assert bodies[0] is bodies[1] is bodies[2]
            assert bodies[3] is bodies[4]
        for stream in streams[1:]:
            assert [event.data async for event in stream] == ["1", "2", "bye"]
            await stream.wait_closed()
        assert hub.statistics().delivered == 15
        assert hub.statistics().subscribers == 1


@pytest.mark.parametrize("bad", [lambda topic, event: 1, lambda topic, event: 1 / 0])
async def test_until_fails_closed(bad):
    """What decides nothing, or raises, ends that subscription alone, with its error."""
    async with open_hub() as hub, hub.subscribe("a", until=bad) as wrong, hub.subscribe("a") as right:
        await hub.publish("a", "1")
        with pytest.raises((TypeError, ZeroDivisionError)):
            await wrong.receive()
        assert (await right.receive()).data == "1"


async def test_until_sees_what_the_filter_lets_through():
    """An end that the filter leaves out is none."""

    def plain(topic, event):
        return event.event != "done" or topic == "b"

    async with open_hub() as hub, hub.subscribe("*", filter=plain, until=is_done) as subscription:
        await hub.publish("a", DONE)
        await hub.publish("b", DONE)
        assert [event.topic async for event in subscription] == ["b"]


async def test_who_receives_knows_the_topic():
    """`event.topic` is the topic of what was received, from history and live; it is not on the wire, nor in a copy."""
    async with open_hub() as hub:
        await hub.publish("a/1", "old")
        async with hub.subscribe("a/*", replay=1) as subscription:
            await hub.publish("a/2", "new")
            events = [await subscription.receive() for _ in range(2)]
        assert [event.topic for event in events] == ["a/1", "a/2"]
        assert b"a/1" not in events[0].encode()
        assert pickle.loads(pickle.dumps(events[0])) == events[0]
        assert ServerSentEvent("x").topic is None


async def test_rewrite():
    """A client can be sent something else under the same id; a gap is sent as it is, and so is that of a deletion."""

    def with_topic(topic, event):
        return ServerSentEvent(event.data, event=topic, id="ignored")

    async with open_hub(MemoryStore(max_events=2)) as hub:
        ids = await fill(hub, 4, "a/1")
        response = EventSourceResponse(hub.subscribe("a/*", after=ids[0], rewrite=with_topic))
        async with open_test_stream(response) as stream:
            await wait_all_tasks_blocked()
            new = str(await hub.publish("a/2", "x"))
            await wait_all_tasks_blocked()
            await hub.delete("a/2")
            events = [await stream.receive() for _ in range(5)]
        assert [event.event for event in events] == ["gap", "a/1", "a/1", "a/2", "gap"]
        assert [event.id for event in events[1:]] == [*ids[2:], new, await hub.position()]
        async with hub.subscribe("a/*", rewrite=lambda topic, event: "text") as wrong:
            await hub.publish("a/2", "x")
            with pytest.raises(TypeError, match="rewrite must return a ServerSentEvent"):
                await wrong.receive()


async def test_history_and_position():
    """Both without subscribing; where the history ends, the next one and a subscription go on."""
    async with open_hub(MemoryStore(max_events=10)) as hub:
        start = await hub.position()
        ids = await fill(hub, 6)
        assert await hub.position() == ids[-1]
        history = await hub.history("a", limit=4)
        assert [event.data for event in history.events] == ["0", "1", "2", "3"]
        assert [event.id for event in history.events] == ids[:4]
        assert (history.is_complete, history.has_gap, history.position) == (False, False, ids[3])
        rest = await hub.history("*", after=history.position)
        assert ([event.data for event in rest.events], rest.is_complete) == (["4", "5"], True)
        last = await hub.history("a", "b", last=2)
        assert ([event.data for event in last.events], last.position) == (["4", "5"], ids[-1])
        await fill(hub, 9)
        assert (await hub.history("a", after=start)).has_gap
        async with hub.subscribe("a", after=rest.position) as subscription:
            assert (await subscription.receive()).data == "0"
        with pytest.raises(ValueError, match="after must be None if last is given"):
            await hub.history("a", after=start, last=1)


async def test_history_passes_pages_without_events():
    """A page may have no events and not be the last; the history goes on to what there is."""
    async with open_hub(MemoryStore(max_events=None)) as hub:
        await hub.publish_many([("other", "x")] * 5000)
        await hub.publish("a/1", "found")
        assert [event.data for event in (await hub.history("a/*")).events] == ["found"]


@pytest.mark.parametrize(
    ("names", "topic"),
    [
        (("rooms", "42"), "rooms/42"),
        (("rooms", "*"), "rooms/%2A"),
        (("rooms", "a/b%"), "rooms/a%2Fb%25"),
        (("rooms", ""), "rooms/%"),
    ],
)
async def test_a_topic_of_names(names, topic):
    """A name from outside is one level, whatever is in it, and no two names are one topic."""
    async with open_hub() as hub:
        assert hub.topic(*names) == topic
        async with hub.subscribe("rooms/*") as subscription:
            await hub.publish(hub.topic(*names), "x")
            assert (await subscription.receive()).topic == topic
        for mistake in ((), ("x" * 2000,), ("\ud800",), (5,)):
            with pytest.raises((TypeError, ValueError)):
                hub.topic(*mistake)


async def test_a_key_is_any_name():
    """A key may be a name; it is none of the pairs, and is remembered as long as the store is told."""
    async with open_hub(MemoryStore(remember_keys=1200)) as hub:
        first = await hub.publish("a", "x", key="order-7")
        assert await hub.publish("a", "x", key="order-7") == first
        assert await hub.publish("a", "x", key=("order-7", 0)) != first
        await anyio.sleep(1199)
        assert await hub.publish("a", "x", key="order-7") == first
        await anyio.sleep(2)
        assert await hub.publish("a", "x", key="order-7") != first
        with pytest.raises(ValueError, match="key must be a str that is not empty"):
            await hub.publish("a", "x", key="")
    with pytest.raises(ValueError, match="remember_keys must be a number of seconds, from 1 "):
        MemoryStore(remember_keys=0)


@pytest.mark.usefixtures("real_clock")
async def test_keys_of_a_file_are_remembered_as_long_as_it_is_told(tmp_path):
    """The window of SQLiteStore is that of `remember_keys`, by its own clock."""
    now = [1000.0]
    store = SQLiteStore(tmp_path / "keys", remember_keys=1200, clock=lambda: now[0])
    async with open_hub(store) as hub:
        first = await hub.publish("a", "x", key="order-7")
        now[0] += 1199
        await store._in_thread(store._writer.maintain, store._write_limiter)
        assert await hub.publish("a", "x", key="order-7") == first
        now[0] += 2
        await store._in_thread(store._writer.maintain, store._write_limiter)
        assert await hub.publish("a", "x", key="order-7") != first


@pytest.mark.parametrize("overflow", ["resume", "drop_oldest", "close"])
@pytest.mark.parametrize("topics", [("a", "b"), ("*",), ("*", "nothing")])
async def test_delete_takes_what_is_in_the_ring(topics, overflow):
    """A subscriber that has yet to take what is deleted never gets it: it is told of one gap, and loses no other."""
    async with open_hub() as hub, hub.subscribe(*topics, overflow=overflow) as subscription:
        await hub.publish("a", "secret")
        await hub.publish("b", "other")
        await hub.publish("a", "secret too")
        assert hub.feeds()[0].ring_events == 3
        await hub.delete("a")
        assert hub.feeds()[0].ring_events == 2
        await hub.publish("a", "new")
        assert subscription.statistics().lag == 3
        events = [await subscription.receive() for _ in range(3)]
        assert [(event.event or event.data, event.topic) for event in events] == [
            *(("other", "b"), ("gap", "a"), ("new", "a"))
        ]
        assert [event.data for event in (await hub.history("a")).events] == ["new"]
        assert (hub.statistics().resumes, hub.statistics().dropped) == (0, 0)
        async with hub.subscribe("b") as neighbour:
            await hub.delete("a")
            await hub.publish("b", "only this")
            assert (await neighbour.receive()).data == "only this"


async def take(stream, number):
    return [await stream.receive() for _ in range(number)]


async def test_a_topic_that_is_deleted_while_nobody_has_fallen_behind():
    """Streams that have taken everything are sent the same gap, as one object, and read no store for it."""
    async with open_hub() as hub, AsyncExitStack() as stack:
        responses = [EventSourceResponse(hub.subscribe("a/*", f"own/{n}")) for n in range(9)]
        streams = [await stack.enter_async_context(open_test_stream(response)) for response in responses]
        for step in (hub.publish("a/1", "x"), hub.delete("a/1"), hub.publish("a/2", "y")):
            await wait_all_tasks_blocked()
            await step
        await wait_all_tasks_blocked()
        assert {id(stream.messages[-2]["body"]) for stream in streams} == {id(streams[0].messages[-2]["body"])}
        events = [await take(stream, 3) for stream in streams]
        assert [event.event for event in events[0]] == ["message", "gap", "message"]
        assert all(each == events[0] for each in events)
        assert hub.statistics().resumes == 0


@pytest.mark.parametrize("topics", [("a",), ("*",), ("a", "b")])
async def test_what_is_deleted_is_not_in_what_is_compressed(topics):
    """A stream that is behind does not get what is deleted from what was compressed for the others, and decodes all."""
    async with open_hub() as hub, AsyncExitStack() as stack:
        responses = [EventSourceResponse(hub.subscribe(*topics), compress=("gzip",)) for _ in range(3)]
        encoding = {"accept-encoding": "gzip"}
        quick, slow, _ = [await stack.enter_async_context(open_test_stream(r, headers=encoding)) for r in responses]

        async def publish(data):
            await hub.publish("a", data)
            await wait_all_tasks_blocked()

        await publish("1")
        slow.stall()
        for data in ("2", "secret", "3"):
            await publish(data)
        await hub.delete("a")
        await publish("4")
        slow.resume()
        await publish("5")
        texts = [zlib.decompressobj(31).decompress(stream.body).decode() for stream in (quick, slow)]
        data = [re.findall(r"^data: (\w+)$", text, re.MULTILINE) for text in texts]
        assert data[0] == ["1", "2", "secret", "3", "4", "5"]
        assert data[1] in (["1", "4", "5"], ["1", "2", "4", "5"])  # a write that the client holds up was begun before
        assert texts[1].count("event: gap") == 1


def check_published(event):
    return {"kept": True, "last": False}[event.data]


@pytest.mark.parametrize(
    "options",
    [
        {"filter": lambda _, event: check_published(event)},
        {"until": lambda _, event: not check_published(event)},
        {"rewrite": lambda _, event: ServerSentEvent(str(check_published(event)))},
    ],
    ids=["filter", "until", "rewrite"],
)
@pytest.mark.parametrize("replay", [5, "all"])
async def test_the_gap_of_a_deletion_passes_every_function(options, replay):
    """Functions of a subscription see what was published: they can't hide that a topic was deleted, or fail for it."""
    async with open_hub() as hub, hub.subscribe("a", replay=replay, **options) as live:
        await hub.delete("a")
        await hub.publish("a", "kept")
        async with hub.subscribe("a", replay=replay, **options) as late:
            for subscription in (live, late):
                with anyio.fail_after(30):
                    gap, event = [await subscription.receive() for _ in range(2)]
                assert (gap.event, gap.data, gap.topic) == ("gap", '{"after":null,"oldest":null}', "a")
                assert event.data in {"kept", "True"}


async def test_delete_leaves_what_the_hub_tells_itself():
    """Nobody deletes a topic that is reserved."""
    async with open_hub() as hub:
        with pytest.raises(ValueError, match="must be a str that does not begin with"):
            await hub.delete(KICKS)


async def test_orders_are_no_history():
    """A kick is neither in the history, nor in all that is kept."""
    async with open_hub() as hub:
        for n in range(4):
            await hub.publish("a", n)
            await hub.kick({"user": "ann"})
        assert [event.data for event in (await hub.history("*")).events] == ["0", "1", "2", "3"]
        assert [event.data for event in (await hub.history("*", last=3)).events] == ["1", "2", "3"]
        async with hub.subscribe("*", replay="all") as subscription:
            await hub.publish("a", "live")
            assert [(await subscription.receive()).data for _ in range(5)] == ["0", "1", "2", "3", "live"]


async def test_who_raises_has_taken_nothing():
    """If a function of a subscription raises, what it was asked about can be received again."""
    wrong = ["until", "rewrite"]

    def until(topic, event):
        if "until" in wrong:
            wrong.remove("until")
            raise LookupError
        return False

    def rewrite(topic, event):
        if event.data == "2" and "rewrite" in wrong:
            wrong.remove("rewrite")
            raise LookupError
        return ServerSentEvent(f"new {event.data}")

    async with open_hub() as hub, hub.subscribe("a", until=until, rewrite=rewrite) as subscription:
        await hub.publish("a", "1")
        await hub.publish("a", "2")
        for _ in range(2):
            with pytest.raises(LookupError):
                await subscription.receive()
        assert [(await subscription.receive()).data for _ in range(2)] == ["new 1", "new 2"]
        assert hub.statistics().delivered == 2


async def test_a_store_that_cannot_delete(make_remote_store):
    """A store without held topics says so, and what it needs."""
    async with open_hub(make_remote_store()) as hub:
        with pytest.raises(TypeError, match="a RemoteStore, holds no topics"):
            await hub.delete("a")


async def test_history_of_a_store_that_is_down(make_remote_store):
    """It raises what the store raises."""
    store = make_remote_store()
    async with open_hub(store) as hub:
        store.is_down = True
        with pytest.raises(StoreUnavailableError):
            await hub.history("a")
        with pytest.raises(StoreUnavailableError):
            await hub.position()
