# Events that expire, in a hub: who is sent them, and who is not. Virtual time.

from __future__ import annotations

import re
import zlib
from contextlib import AsyncExitStack
from itertools import pairwise

import anyio
import pytest
from anyio.lowlevel import checkpoint

from sse_trio import EventSourceResponse, ServerSentEvent, open_hub
from sse_trio._hubs.expiries import AT_ONCE, LOOKED_FROM, Expiries, Expiry
from sse_trio._hubs.ring import Ring, RingLimits
from sse_trio._hubs.subscription import source_of
from sse_trio.stores import EventId, MemoryStore, Retention, StoredEvent
from sse_trio.stores._expiry import due_of, expiring
from sse_trio.stores._holds import DELETED
from sse_trio.testing import open_test_stream, wait_all_tasks_blocked

from .test_hub import StoreOfItsOwn

pytestmark = pytest.mark.anyio


async def received(subscription):
    """Return the data of everything that is there to be received."""
    data = []
    with anyio.move_on_after(0.001):
        while True:
            data.append((await subscription.receive()).data)
    return data


async def test_who_is_there_in_time_is_sent_it():
    """A subscriber gets the event as any other, with nothing on the wire that says that it expires."""
    async with open_hub() as hub, open_test_stream(EventSourceResponse(hub.subscribe("a"))) as stream:
        id_ = await hub.publish("a", ServerSentEvent("now", event="tick"), ttl=5)
        event = await stream.receive()
        assert (event.event, event.data, event.id) == ("tick", "now", str(id_))
        assert stream.body.endswith(f"id: {id_}\nevent: tick\ndata: now\n\n".encode())


@pytest.mark.parametrize("options", [{"after": "first"}, {"replay": 10}, {"replay": "all"}])
async def test_who_comes_later_is_not_sent_it(options):
    """No replay and no resume gives an event after its moment, and its absence is no gap."""
    async with open_hub() as hub:
        first = await hub.publish("a", "first")
        ids = await hub.publish_many([("a", "short"), ("b", "short, too")], ttl=5)
        await hub.publish("a", "last")
        options = {name: str(first) if value == "first" else value for name, value in options.items()}
        expected = [data for data in ("first", "last") if "after" not in options or data != "first"]
        async with hub.subscribe("a", **options) as subscription:
            assert await received(subscription) == [*expected[:-1], "short", "last"]
        await anyio.sleep(5)
        async with hub.subscribe("a", **options) as subscription:
            assert await received(subscription) == expected
        async with hub.subscribe("a", "b", after=str(ids[0])) as subscription:
            assert await received(subscription) == ["last"]


async def test_history_does_not_have_it():
    """history() has an event until its moment, and then neither the event nor a gap."""
    async with open_hub() as hub:
        first = await hub.publish("a", "first")
        await hub.publish("a", "short", ttl=5)
        assert [event.data for event in (await hub.history("*")).events] == ["first", "short"]
        await anyio.sleep(5)
        for options in ({}, {"last": 2}, {"after": None}):
            assert [event.data for event in (await hub.history("a", **options)).events] == ["first"]
        history = await hub.history("a", after=str(first))
        assert (history.events, history.is_complete, history.has_gap) == ((), True, False)


async def test_rings_do_not_hold_it():
    """Who has not taken an event by its moment is not sent it from memory either, and gets what follows."""
    async with open_hub() as hub, hub.subscribe("a") as slow, hub.subscribe("a", "b/*") as mixed, hub.subscribe("*"):
        await hub.publish("a", "1", ttl=5)
        await hub.publish("b/1", "2", ttl=20)
        await hub.publish("a", "3", ttl=1)
        await anyio.sleep(5.01)
        assert not source_of(slow).is_ready()
        assert hub.statistics().lag == 1
        assert await received(mixed) == ["2"]
        await hub.publish("a", "4")
        await hub.publish("a", "5", ttl=1)
        assert source_of(slow).take_batch().body.endswith(b"data: 4\n\nid: %s\ndata: 5\n\n" % await position_of(hub))
        await anyio.sleep(1.01)
        await hub.publish("b/1", "6", ttl=1)
        assert await received(mixed) == ["4", "6"]
        await anyio.sleep(20)
        assert [feed.ring_events for feed in hub.feeds() if feed.topics == ("a",)] == [1]
        assert {feed.ring_events for feed in hub.feeds() if feed.topics == ("*",)} == {1}


async def test_many_with_one_moment_do_not_stop_the_loop():
    """Events that expire together leave the rings a hundred at a time, so that other tasks have their turns."""
    async with open_hub() as hub, hub.subscribe("a/*"):
        await hub.publish_many([(f"a/{n}", "x") for n in range(500)], ttl=5)
        await anyio.sleep(4.9)
        held = [feed.ring_events for feed in hub.feeds()]
        assert held == [500]
        await anyio.sleep(0.1)
        while held[-1]:
            held += [feed.ring_events for feed in hub.feeds()]
            await checkpoint()
    # trio runs the tasks of a pass in any order: the one that takes them out may come last in one and first in the next
    assert max(before - after for before, after in pairwise(held)) <= 2 * AT_ONCE


async def position_of(hub):
    return (await hub.position()).encode()


async def test_a_hub_remembers_no_more_than_its_rings_hold():
    """However long events have, a hub's list of them is no longer than its rings, and its rings hold none beyond it."""
    async with open_hub(max_ring_events=10) as hub, hub.subscribe("a") as one, hub.subscribe("b/*") as other:
        expiries = hub._state.expiries
        for n in range(5000):
            await hub.publish("a", str(n), ttl=100 + n % 7)
            await hub.publish(f"b/{n}", "x", ttl=200)
            assert len(expiries) <= 2 * LOOKED_FROM
        await wait_all_tasks_blocked()
        assert len(expiries) <= LOOKED_FROM
        other.close()
        await anyio.sleep(110)
        assert [feed.ring_events for feed in hub.feeds()] == [0]
        assert await received(one) == []
        await anyio.sleep(100)
        assert len(expiries) == 0


async def test_events_expire_while_the_list_is_gone_through():
    """What expires before its turn comes in the list is dropped when its moment comes."""
    held, dropped, now = {1, 2, 3}, [], [0.0]
    expiries = Expiries(lambda: now[0], lambda run: None, dropped.extend, lambda expiry: expiry.place in held)
    expiries._old = [Expiry(due, place, "a") for due, place in ((1.0, 1), (2.0, 2), (3.0, 4), (4.0, 3))]
    assert expiries._take_over(1.5) == [Expiry(1.0, 1, "a")]
    expiries._look_at_some()
    assert [expiry.place for expiry in expiries._heap] == [2, 3]
    assert [expiry.place for expiry in expiries._take_over(9.0)] == [2, 3]


async def test_a_page_of_history_does_not_outlive_it():
    """History that was read, and that its subscriber takes later, has no event whose moment has come meanwhile."""
    async with open_hub() as hub:
        first = await hub.publish("a", "first")
        await hub.publish("a", "short", ttl=5)
        await hub.publish("a", "longer", ttl=10)
        async with hub.subscribe("a", after=str(first)) as subscription:
            await anyio.sleep(5)
            assert await received(subscription) == ["longer"]


async def test_a_page_of_history_may_expire_as_a_whole():
    """A subscriber whose history has expired before it took any of it gets what comes next."""
    async with open_hub() as hub:
        first = await hub.publish("a", "first")
        await hub.publish_many([("a", "short"), ("a", "short, too")], ttl=5)
        async with (
            hub.subscribe("a", after=str(first)) as subscription,
            open_test_stream(EventSourceResponse(hub.subscribe("a", after=str(first)))) as stream,
        ):
            assert [(await stream.receive()).data for _ in range(2)] == ["short", "short, too"]
            await anyio.sleep(5)
            await hub.publish("a", "next")
            assert (await subscription.receive()).data == "next"
            assert (await stream.receive()).data == "next"


@pytest.mark.parametrize("topics", [("a",), ("*",), ("a", "b")])
async def test_what_has_expired_is_not_in_what_is_compressed(topics):
    """A stream that is behind does not get it from what was compressed for the others, and decodes everything."""
    async with open_hub() as hub, AsyncExitStack() as stack:
        responses = [EventSourceResponse(hub.subscribe(*topics), compress=("gzip",)) for _ in range(3)]
        encoding = {"accept-encoding": "gzip"}
        quick, slow, _ = [await stack.enter_async_context(open_test_stream(r, headers=encoding)) for r in responses]

        async def publish(data, **options):
            await hub.publish("a", data, **options)
            await wait_all_tasks_blocked()

        await publish("1")
        slow.stall()
        await publish("2")
        await publish("short", ttl=1)
        await publish("3")
        await publish("last", ttl=1)
        await anyio.sleep(1.01)
        await publish("4")
        slow.resume()
        await publish("5")
        texts = [zlib.decompressobj(31).decompress(stream.body).decode() for stream in (quick, slow)]
        data = [re.findall(r"^data: (\w+)$", text, re.MULTILINE) for text in texts]
        assert data == [["1", "2", "short", "3", "last", "4", "5"], ["1", "2", "3", "4", "5"]]


async def test_a_filter_and_an_end_see_no_mark():
    """Functions of the user's get the event as it was published."""
    seen = []

    def note(topic, event):
        seen.append((topic, event.data))
        return True

    async with open_hub() as hub, hub.subscribe("a", filter=note, until=note) as subscription:
        await hub.publish("a", "x", ttl=5)
        assert (await subscription.receive()).data == "x"
    assert seen == [("a", "x"), ("a", "x")]


async def test_events_of_a_comment_and_a_deletion_are_none_of_these():
    """An event that begins with a comment, and the mark of a deletion, go through as ever."""
    async with open_hub() as hub, hub.subscribe("a") as subscription:
        await hub.publish("a", ServerSentEvent("x", comment="expires 1"))
        await hub.publish("a", "y", ttl=60)
        await hub.delete("a")
        assert (await subscription.receive()).event == "gap"
        await anyio.sleep(100)
        assert await received(subscription) == []


async def test_it_counts_no_more_against_a_limit():
    """What has expired makes room, and what was trimmed before its moment is a gap as ever."""
    async with open_hub(MemoryStore(3, per_topic={"p/*": Retention(max_age=60, max_events=3)})) as hub:
        first = await hub.publish("p/1", "1", ttl=5)
        await hub.publish("p/1", "2")
        await hub.publish("p/1", "3", ttl=100)
        await anyio.sleep(5)
        await hub.publish("p/1", "4")
        history = await hub.history("p/1", after=str(first))
        assert ([event.data for event in history.events], history.has_gap) == (["2", "3", "4"], False)
        await hub.publish("p/1", "5")
        await hub.publish("p/1", "6")
        assert (await hub.history("p/1", after=str(first))).has_gap
        await anyio.sleep(100)
        await hub.publish("q", "7", ttl=1)
        await anyio.sleep(1)
        assert [event.data for event in (await hub.history("*")).events] == []


@pytest.mark.parametrize("ttl", [0, -1, "5", True, float("nan"), 1e11])
async def test_a_ttl_is_a_number_of_seconds(ttl):
    """Anything but a positive number of seconds is refused, and nothing is published."""
    async with open_hub() as hub:
        with pytest.raises((TypeError, ValueError), match="ttl must be a number of seconds"):
            await hub.publish("a", "x", ttl=ttl)
        assert (await hub.history("*")).events == ()


async def test_a_store_whose_events_cannot_expire_says_so():
    """A store that does not take events that expire is told at the publish; it is asked once."""

    class Plain(StoreOfItsOwn):
        def __getattr__(self, name):
            if name == "expiry_clock":
                raise AttributeError(name)
            return super().__getattr__(name)

    async with open_hub(Plain()) as hub, hub.subscribe("a") as subscription:
        with pytest.raises(TypeError, match=r"ttl must be None: events can't expire .* a Plain, .*stores\.md"):
            await hub.publish("a", "x", ttl=5)
        await hub.publish_many([("a", "y")])
        assert await received(subscription) == ["y"]
        foreign = expiring([("a", b"data: z\n\n")], 0.0)  # another program wrote this
        hub._state.fanout.add([StoredEvent(EventId(hub._state.store.epoch, 2), *foreign[0])])
        assert await received(subscription) == ["z"]


async def test_what_comes_late_is_left_out():
    """An event that this process hears of after its moment, as after an outage, reaches nobody."""
    async with open_hub() as hub, hub.subscribe("a") as subscription:
        late = expiring([("a", b"data: 1\n\n")], hub._state.store.expiry_clock() - 1)
        items = [*late, ("a", b"data: 2\n\n")]
        hub._state.fanout.add(
            [StoredEvent(EventId(hub._state.store.epoch, n), *item) for n, item in enumerate(items, 1)]
        )
        assert await received(subscription) == ["2"]


def test_marks():
    """A mark is the first line of a payload, and no event of a user's begins with it."""
    [(topic, payload)] = expiring([("a", b"data: x\n\n")], 12.5)
    assert (topic, due_of(payload)) == ("a", 12.5)
    others = (b"data: x\n\n", b": expires 5\n\n", DELETED, b"\n", b":expires soon\n\n", b":expires 1.0")
    assert [due_of(other) for other in others] == [None] * 6
    assert StoredEvent(EventId("e", 1), "a", payload).event.data == "x"


async def test_ring_drop():
    """A ring lets go of one event, wherever it is, and of none that it has let go of already."""
    ring = Ring("a", 0, RingLimits(10, 1000))
    for place in (3, 4, 5):
        ring.append(StoredEvent(EventId("e", place), "a", b""), b"%d" % place, place)
    for place, left in ((9, (3, 4, 5)), (4, (3, 5)), (4, (3, 5)), (5, (3,)), (3, ())):
        ring.drop(place)
        assert [one for one, _ in ring.chunks_after(0)] == [*left]
        assert ring.end == max(left, default=0)
        assert ring.size() == (len(left), len(left))
