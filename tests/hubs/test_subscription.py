# Subscriptions that are received from: getting into position, falling behind, gaps, endings.

from __future__ import annotations

import json
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import pytest

from sse_trio import SubscriptionStatistics, open_hub
from sse_trio._errors import StoreUnavailableError
from sse_trio._hubs.subscription import source_of
from sse_trio.stores import EventId, MemoryStore, Retention
from sse_trio.testing import wait_all_tasks_blocked

pytestmark = pytest.mark.anyio


async def publish(hub, *datas, topic="a"):
    """Publish events and return their ids as clients see them."""
    return [str(await hub.publish(topic, data)) for data in datas]


async def take(subscription, count):
    """Receive this number of events, and return the type of each, or the data of a message."""
    with anyio.fail_after(60):
        events = [await subscription.receive() for _ in range(count)]
    return [event.event or event.data for event in events]


async def test_cancelled_in_join_it_leaves_nothing_behind(make_remote_store):
    """A subscriber that is cancelled while it reads history leaves the hub."""
    store = make_remote_store()
    async with open_hub(store) as hub:
        store.change(answers=False)
        with anyio.move_on_after(1) as scope:
            async with hub.subscribe("a", after="x"):
                pass
        assert scope.cancelled_caught
        assert (hub.statistics().subscribers, hub.statistics().feeds, store.reading) == (0, 0, 0)


async def test_a_store_that_is_down_fails_the_join(make_remote_store):
    """Joining raises the store's error if it needs a store that is down, and leaves nothing behind."""
    store = make_remote_store()
    async with open_hub(store) as hub:
        store.change(is_down=True)
        with pytest.raises(StoreUnavailableError):
            async with hub.subscribe("a", after="x"):
                pass
        assert (hub.statistics().subscribers, hub.statistics().feeds) == (0, 0)


async def test_history_that_is_all_filtered_out_holds_nothing_up():
    """Events published since history was read are written at once, also when the filter leaves out all of history."""
    async with open_hub() as hub:
        (start, *_) = await publish(hub, "0", "1", "2")
        async with hub.subscribe("a", after=start, filter=lambda _, event: event.data == "3") as subscription:
            (new,) = await publish(hub, "3")
            assert source_of(subscription).take_batch().body == f"id: {new}\ndata: 3\n\n".encode()
            assert source_of(subscription).take_batch() is None


async def test_who_gets_no_further_than_a_gap_misses_nothing_that_follows():
    """The id of a gap is never newer than the events after it, whatever each topic has lost."""
    async with open_hub(MemoryStore(per_topic=Retention(max_events=1))) as hub:
        (start,) = await publish(hub, "0", topic="a")
        await publish(hub, "kept", topic="b")
        await publish(hub, "trimmed", "last", topic="a")
        async with hub.subscribe("*", after=start) as subscription:
            gap = await subscription.receive()
        assert gap.event == "gap"
        async with hub.subscribe("*", after=gap.id) as subscription:
            assert await take(subscription, 3) == ["gap", "kept", "last"]


async def test_a_gap_is_told_once_to_who_gets_no_further():
    """A client that resumes from the id of a gap doesn't get that gap again."""
    async with open_hub(MemoryStore(max_events=2)) as hub:
        (start, *_) = await publish(hub, "0", "1", "2", "3")
        async with hub.subscribe("a", after=start) as subscription:
            gap = await subscription.receive()
        async with hub.subscribe("a", after=gap.id) as subscription:
            assert await take(subscription, 2) == ["2", "3"]
        assert hub.statistics().gaps == 1


async def test_who_is_gone_does_not_read_on(make_remote_store):
    """A subscription that was left stops reading at once, even while the store is down."""
    store = make_remote_store()
    async with open_hub(store) as hub:
        (start, *_) = await publish(hub, *map(str, range(600)))
        async with hub.subscribe("a", after=start) as subscription:
            await take(subscription, 1)
            store.change(is_down=True)
            await anyio.sleep(10.1)
            reads = store.reads
            assert reads > 10
        store.change(answers=False)
        await anyio.sleep(10)
        assert (store.reads, store.reading) == (reads, 0)


async def test_left_before_it_began_to_read_on(make_remote_store):
    """A subscription that is left in the pass in which it was entered reads nothing more."""
    store = make_remote_store()
    async with open_hub(store) as hub:
        (start, *_) = await publish(hub, *map(str, range(600)))
        async with hub.subscribe("a", after=start):
            pass
        await anyio.sleep(10)
        assert store.reads == 1


@asynccontextmanager
async def last_seen_before_the_ring(store):
    """A subscription that has 599 events to take: the oldest are in the store, and the ring holds the others."""
    async with open_hub(store) as hub, hub.subscribe("a"):
        (start, *_) = await publish(hub, *map(str, range(600)))
        await wait_all_tasks_blocked()
        async with hub.subscribe("a", after=start) as subscription:
            yield subscription


async def test_who_can_go_on_from_the_ring_reads_no_further(make_remote_store):
    """History is read only up to where the ring begins; the ring already holds the remainder."""
    store = make_remote_store()
    async with last_seen_before_the_ring(store) as subscription:
        assert await take(subscription, 599) == [*map(str, range(1, 600))]
    assert store.reads == 1


async def test_what_follows_history_in_the_ring_is_taken_with_it(make_remote_store):
    """One take is all there is, the last page of history and what the ring holds after it: no second one is needed."""
    store = make_remote_store()
    async with last_seen_before_the_ring(store) as subscription:
        assert source_of(subscription).take_batch().body.count(b"data: ") == 599
        assert source_of(subscription).take_batch() is None
        assert store.reads == 1


async def test_a_history_that_the_hub_does_not_know_of_yet(make_remote_store):
    """A subscriber that finds a new history before the hub's follower does stops reading and waits for it."""
    store = make_remote_store()
    async with open_hub(store) as hub:
        (old,) = await publish(hub, "old")
        await wait_all_tasks_blocked()
        store.change(follows=False)
        await store.lose_history()
        await publish(hub, "1", "2")
        async with hub.subscribe("a", after=old) as subscription:
            assert await take(subscription, 3) == ["gap", "1", "2"]
            await anyio.sleep(10)
            assert store.reads <= 2
            store.change(follows=True)
            await publish(hub, "3")
            assert await take(subscription, 1) == ["3"]
        assert hub.statistics().gaps == 1


async def test_a_new_history_is_not_mixed_with_the_old_one(make_remote_store):
    """A subscriber that is in the new history is sent nothing of the old one, which the hub still holds."""
    store = make_remote_store()
    async with open_hub(store) as hub, hub.subscribe("a"):
        (first, *_) = await publish(hub, *"abcdefgh")
        await wait_all_tasks_blocked()
        store.change(follows=False)
        await store.lose_history()
        await publish(hub, "1", "2")
        async with hub.subscribe("a", after=first) as subscription:
            assert await take(subscription, 3) == ["gap", "1", "2"]
            with anyio.move_on_after(10):
                await subscription.receive()
                pytest.fail("an event of the old history")
            store.change(follows=True)
            await publish(hub, "3")
            assert await take(subscription, 1) == ["3"]


@pytest.mark.parametrize("overflow", ["resume", "drop_oldest", "close"])
async def test_a_new_history_is_nobodys_overflow(make_remote_store, overflow):
    """When the store loses its history, every subscriber continues after a gap, whatever its overflow policy."""
    store = make_remote_store()
    async with open_hub(store) as hub, hub.subscribe("a", overflow=overflow) as subscription:
        await publish(hub, "old")
        assert await take(subscription, 1) == ["old"]
        await store.lose_history()
        await publish(hub, "1", "2")
        assert await take(subscription, 3) == ["gap", "1", "2"]
        await publish(hub, "3")
        assert await take(subscription, 1) == ["3"]
        assert (hub.statistics().dropped, hub.statistics().gaps) == (0, 1)


async def test_two_tasks_can_not_receive_at_once():
    """A second receive() while one waits raises BusyResourceError."""
    async with open_hub() as hub, hub.subscribe("a") as subscription, anyio.create_task_group() as nursery:
        nursery.start_soon(take, subscription, 1)
        await wait_all_tasks_blocked()
        with pytest.raises(anyio.BusyResourceError):
            await subscription.receive()
        await publish(hub, "1")


@pytest.mark.parametrize("after", [1, b"x", EventId("x", 1)])
async def test_an_id_is_text(after):
    """An id that is not a str is refused where it is given; the error also says what to write for publish()'s id."""
    async with open_hub() as hub:
        with pytest.raises(TypeError, match=r"str\("):
            hub.subscribe("a", after=after)


async def test_an_empty_id_is_none():
    """An empty id means that the client has no id yet (WHATWG HTML section 9.2.2), and is not a gap."""
    async with open_hub() as hub:
        await publish(hub, "1")
        async with hub.subscribe("a", after="", replay=1) as subscription:
            assert await take(subscription, 1) == ["1"]


async def test_history_is_read_no_faster_than_it_is_taken(make_remote_store):
    """At most one page of history waits for a slow reader, which gets each event in order and once."""
    store = make_remote_store()
    async with open_hub(store, max_ring_events=4) as hub:
        (start, *_) = await publish(hub, *map(str, range(2000)))
        async with hub.subscribe("a", after=start) as subscription:
            await anyio.sleep(100)
            assert store.reads == 1
            assert await take(subscription, 1) == ["1"]
            await anyio.sleep(100)
            assert store.reads == 2
            assert await take(subscription, 1998) == [*map(str, range(2, 2000))]
            await wait_all_tasks_blocked()
            await publish(hub, "live")
            assert await take(subscription, 1) == ["live"]


async def test_resuming_from_the_store(make_remote_store):
    """With overflow="resume", a subscriber that falls behind goes on from the store and misses nothing that is kept."""
    store = make_remote_store()
    async with open_hub(store, max_ring_events=2) as hub, hub.subscribe("a") as subscription:
        for _ in range(3):
            await publish(hub, *"123456789")
            await wait_all_tasks_blocked()
            assert await take(subscription, 9) == [*"123456789"]
        assert hub.statistics().resumes == 3
        assert hub.statistics().gaps == hub.statistics().dropped == 0


async def test_what_nobody_keeps_any_more_is_a_gap():
    """If the store no longer has what a subscriber missed, it gets a gap and then the remaining events."""
    async with open_hub(MemoryStore(max_events=3), max_ring_events=2) as hub, hub.subscribe("a") as subscription:
        ids = await publish(hub, *"12345678")
        with anyio.fail_after(1):
            gap = await subscription.receive()
        assert gap.event == "gap"
        assert json.loads(gap.data) == {"after": ids[0].replace("-1", "-0"), "oldest": ids[5]}
        assert gap.id == ids[4]
        assert await take(subscription, 3) == ["6", "7", "8"]
        assert hub.statistics().gaps == 1


async def test_dropping_the_oldest():
    """With overflow="drop_oldest", a subscriber that falls behind gets what the ring has; lost events are counted."""
    async with open_hub(max_ring_events=2) as hub, hub.subscribe("a", overflow="drop_oldest") as subscription:
        await publish(hub, *"12345678")
        assert await take(subscription, 2) == ["7", "8"]
        assert (hub.statistics().dropped, hub.statistics().resumes, hub.statistics().delivered) == (6, 0, 2)


async def test_closing_at_overflow():
    """With overflow="close", a subscriber that falls behind gets no further events."""
    async with open_hub(max_ring_events=2) as hub, hub.subscribe("a", overflow="close") as subscription:
        await publish(hub, "1")
        assert await take(subscription, 1) == ["1"]
        await publish(hub, *"2345678")
        with pytest.raises(anyio.EndOfStream):
            await subscription.receive()


@pytest.mark.parametrize(
    ("after", "oldest"), [("x-1", 1), ("no id\x00\u2028", 1), ("{epoch}-99", 1), ("{epoch}-01", 1), ("{epoch}-0", 3)]
)
async def test_ids_that_are_a_gap(after, oldest):
    """An id gives a gap if it is foreign, malformed, in the future, never given, or its next events were trimmed."""
    async with open_hub(MemoryStore(max_events=3 if oldest == 1 else 1)) as hub:
        ids = await publish(hub, "1", "2", "3")
        after = after.format(epoch=ids[0].partition("-")[0])
        async with hub.subscribe("a", after=after) as subscription:
            gap = await subscription.receive()
            assert json.loads(gap.data) == {"after": after, "oldest": ids[oldest - 1]}
            assert await take(subscription, 4 - oldest) == [*"123"][oldest - 1 :]


async def test_a_gap_with_nothing_after_it():
    """If nothing is left after a gap, the gap is still sent, and live events follow."""
    async with open_hub(MemoryStore(per_topic=Retention(max_age=1))) as hub:
        (first, _) = await publish(hub, "1", "2")
        await anyio.sleep(10)
        async with hub.subscribe("a", after=first) as subscription:
            gap = await subscription.receive()
            assert json.loads(gap.data) == {"after": first, "oldest": None}
            await publish(hub, "3")
            assert await take(subscription, 1) == ["3"]
        async with hub.subscribe("a", after=gap.id) as subscription:
            assert await take(subscription, 1) == ["3"]


async def test_a_gap_is_only_of_the_topics_asked_for():
    """Events lost in other topics are not a gap."""
    async with open_hub(MemoryStore(max_events=2)) as hub:
        (mine,) = await publish(hub, "1", topic="a")
        await publish(hub, *"23456", topic="b")
        async with hub.subscribe("c", after=mine) as subscription:
            await publish(hub, "7", topic="c")
            assert await take(subscription, 1) == ["7"]


@pytest.mark.parametrize("keep", [None, lambda topic, _: topic == "a"])
async def test_the_latest_for_a_first_time_client(keep):
    """replay=n sends the last n events of the requested topics first, and live ones after them."""
    async with open_hub() as hub:
        await publish(hub, *"123", topic="a")
        await publish(hub, "other", topic="b")
        async with hub.subscribe("a", replay=2, filter=keep) as subscription:
            await publish(hub, "4")
            assert await take(subscription, 3) == ["2", "3", "4"]


async def test_a_follower_behind_the_store(make_remote_store):
    """An event read from the store is not sent again when the hub's follower gets to it."""
    store = make_remote_store()
    async with open_hub(store) as hub, hub.subscribe("a", filter=lambda _, event: event.data != "2") as other:
        store.change(follows=False)
        (start, *_) = await publish(hub, *"1234")
        async with hub.subscribe("a", after=start) as subscription:
            assert await take(subscription, 3) == ["2", "3", "4"]
            store.change(follows=True)
            await wait_all_tasks_blocked()
            assert source_of(subscription).take_batch() is None
            await publish(hub, "5", "6")
            assert await take(subscription, 2) == ["5", "6"]
        assert await take(other, 5) == ["1", "3", "4", "5", "6"]


async def test_a_store_that_is_down_later(make_remote_store):
    """While the store is down publishers get the error; subscribers stay, and get everything once it is back."""
    store = make_remote_store()
    async with open_hub(store, max_ring_events=2) as hub, hub.subscribe("a") as subscription:
        await publish(hub, *"12345678")
        await wait_all_tasks_blocked()
        store.change(is_down=True)
        with pytest.raises(StoreUnavailableError):
            await publish(hub, "lost")
        with anyio.move_on_after(60):
            await subscription.receive()
        store.change(is_down=False)
        assert await take(subscription, 8) == [*"12345678"]
        await publish(hub, "9")
        assert await take(subscription, 1) == ["9"]
        assert (hub.statistics().gaps, hub.statistics().published) == (0, 9)


async def test_closed_before_it_is_entered():
    """A subscription that was closed or used can't be used again; closing twice does nothing."""
    async with open_hub() as hub:
        closed, used = hub.subscribe("a"), hub.subscribe("a")
        closed.close()
        closed.close()
        async with used:
            for subscription in (closed, used):
                with pytest.raises(RuntimeError, match="used once"):
                    await subscription.__aenter__()
        for subscription in (hub.subscribe("a"), closed, used):
            with pytest.raises(anyio.ClosedResourceError, match="async with"):
                await subscription.receive()


async def test_closed_while_a_task_receives():
    """A waiting receive() ends when its subscription is closed, and is not woken any more."""
    async with open_hub() as hub, anyio.create_task_group() as nursery:
        async with hub.subscribe("a") as subscription, hub.subscribe("a"):

            async def read():
                assert [event async for event in subscription] == []

            nursery.start_soon(read)
            await wait_all_tasks_blocked()
            subscription.close()
            await publish(hub, "1")
            await wait_all_tasks_blocked()
        assert hub.statistics().subscribers == 0


async def test_a_cancelled_receive_takes_no_event():
    """receive() is atomic: if it is cancelled, it has taken no event."""
    async with open_hub() as hub, hub.subscribe("a") as subscription:
        with anyio.move_on_after(1):
            await subscription.receive()
        await publish(hub, "1", "2")
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anyio.lowlevel.checkpoint()
        assert await take(subscription, 2) == ["1", "2"]


async def test_it_ends_with_its_hub():
    """When the hub closes, a subscription that you receive from ends after the events it has."""
    async with anyio.create_task_group() as nursery:
        got = []

        async def read(hub, *, task_status):
            async with hub.subscribe("a") as subscription:
                task_status.started()
                got.extend([event.data async for event in subscription])

        async with open_hub() as hub:
            await nursery.start(read, hub)
            await publish(hub, "1", "2")
    assert got == ["1", "2"]


async def test_a_hub_that_closes_during_a_join(make_remote_store):
    """A subscriber that reads history when the hub closes gets what was read, then the end, and reads no further."""
    store = make_remote_store()
    got = []

    async def read(hub, start):
        async with hub.subscribe("a", after=start) as subscription:
            got.extend([event.data async for event in subscription])

    async with anyio.create_task_group() as nursery:
        async with open_hub(store) as hub:
            (start, *_) = await publish(hub, *map(str, range(600)))
            store.change(answers=False)
            nursery.start_soon(read, hub, start)
            await wait_all_tasks_blocked()
        store.change(answers=True)
    assert got == [*map(str, range(1, 257))]


def lag(subscription):
    """How many events it has yet to take."""
    return subscription.statistics().lag


async def test_lag_is_what_is_still_to_be_received():
    """The lag of a subscription counts events of its topics not yet received: in the ring, behind it, or taken."""
    async with open_hub(max_ring_events=2) as hub:
        slow = hub.subscribe("b/*", "a", "b/c/*", overflow="drop_oldest")
        assert lag(slow) is None
        async with slow, hub.subscribe("a") as fast:
            await publish(hub, "1", "2", "3", "4", "5")
            await publish(hub, "other", topic="c")
            assert slow.statistics() == SubscriptionStatistics(topics=("a", "b/*"), overflow="drop_oldest", lag=5)
            assert hub.statistics().lag == 5
            await take(slow, 1)
            assert (lag(slow), hub.statistics().dropped) == (2, 2)
            await take(slow, 2)
            await take(fast, 5)
            assert (lag(slow), lag(fast), hub.statistics().lag) == (0, 0, 0)
        assert lag(slow) is None


async def test_history_that_is_seen_is_no_lag(make_remote_store):
    """An event read from the store is counted once, even if the hub learns of it later."""
    store = make_remote_store()
    async with open_hub(store) as hub:
        (first,) = await publish(hub, "0")
        await wait_all_tasks_blocked()
        store.change(follows=False)
        await publish(hub, "1", "2")
        async with hub.subscribe("a", after=first) as subscription:
            assert lag(subscription) == 2
            store.change(follows=True)
            await wait_all_tasks_blocked()
            assert lag(subscription) == 2
            await publish(hub, "3")
            await wait_all_tasks_blocked()
            assert lag(subscription) == 3
            assert await take(subscription, 3) == ["1", "2", "3"]
            assert lag(subscription) == 0


async def test_who_reads_history_has_no_lag_yet(make_remote_store):
    """The hub's lag leaves out a subscriber that reads the store, because only the store knows how far behind it is."""
    store = make_remote_store()
    async with open_hub(store, max_ring_events=1) as hub, hub.subscribe("a") as subscription:
        await publish(hub, "1", "2", "3", "4")
        await wait_all_tasks_blocked()
        assert lag(subscription) == 4
        store.change(answers=False)
        with anyio.move_on_after(1):
            await subscription.receive()
        assert (lag(subscription), hub.statistics().lag, hub.statistics().resumes) == (None, 0, 1)
        store.change(answers=True)
        assert await take(subscription, 4) == ["1", "2", "3", "4"]
        assert lag(subscription) == 0
