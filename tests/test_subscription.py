# Subscriptions: getting into position, falling behind, gaps, endings; received by themselves and through a hub.

from __future__ import annotations

import anyio
import pytest

from sse_trio import open_hub
from sse_trio._errors import StoreUnavailableError
from sse_trio.stores import EventId, MemoryStore, Retention
from sse_trio.testing import wait_all_tasks_blocked

pytestmark = pytest.mark.anyio


async def publish(hub, *datas, topic="a"):
    """Publish events and return their ids as clients see them."""
    return [str(await hub.publish(topic, data)) for data in datas]


async def take(subscription, count):
    """Receive so many events, and return what each says: its type, or its data."""
    with anyio.fail_after(60):
        events = [await subscription.receive() for _ in range(count)]
    return [event.event or event.data for event in events]


async def test_cancelled_in_join_it_leaves_nothing_behind(make_remote_store):
    """Who is cancelled while it reads history is no subscriber any more."""
    store = make_remote_store()
    async with open_hub(store) as hub:
        store.change(answers=False)
        with anyio.move_on_after(1) as scope:
            async with hub.subscribe("a", after="x"):
                pass
        assert scope.cancelled_caught
        assert (hub.statistics().subscribers, hub.statistics().feeds, store.reading) == (0, 0, 0)


async def test_a_store_that_is_down_fails_the_join(make_remote_store):
    """Who joins and needs a store that is down gets its error, and leaves nothing behind."""
    store = make_remote_store()
    async with open_hub(store) as hub:
        store.change(is_down=True)
        with pytest.raises(StoreUnavailableError):
            async with hub.subscribe("a", after="x"):
                pass
        assert (hub.statistics().subscribers, hub.statistics().feeds) == (0, 0)


async def test_history_that_is_all_filtered_out_holds_nothing_up():
    """What was published since history was read is written at once, also when the filter leaves nothing of history."""
    async with open_hub() as hub:
        (start, *_) = await publish(hub, "0", "1", "2")
        async with hub.subscribe("a", after=start, filter=lambda _, event: event.data == "3") as subscription:
            (new,) = await publish(hub, "3")
            assert subscription.take_batch() == f"id: {new}\ndata: 3\n\n".encode()
            assert subscription.take_batch() == b""


async def test_who_gets_no_further_than_a_gap_misses_nothing_that_follows():
    """The id of a gap is not newer than what comes after it, whatever each topic has lost."""
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
    """Who resumes from the id of a gap is not told of it again, where one topic's own events were lost."""
    async with open_hub(MemoryStore(max_events=2)) as hub:
        (start, *_) = await publish(hub, "0", "1", "2", "3")
        async with hub.subscribe("a", after=start) as subscription:
            gap = await subscription.receive()
        async with hub.subscribe("a", after=gap.id) as subscription:
            assert await take(subscription, 2) == ["2", "3"]
        assert hub.statistics().gaps == 1


async def test_who_is_gone_does_not_read_on(make_remote_store):
    """A subscription that was left stops reading at once, also while the store is down."""
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


async def test_who_can_go_on_from_the_ring_reads_no_further(make_remote_store):
    """History is read up to where the ring begins; the rest is there as bytes already."""
    store = make_remote_store()
    async with open_hub(store) as hub, hub.subscribe("a"):
        (start, *_) = await publish(hub, *map(str, range(600)))
        await wait_all_tasks_blocked()
        async with hub.subscribe("a", after=start) as subscription:
            assert await take(subscription, 599) == [*map(str, range(1, 600))]
        assert store.reads == 1


async def test_a_history_that_the_hub_does_not_know_of_yet(make_remote_store):
    """Who joins a store that lost its history, before the hub's follower noticed, waits for it and reads no end."""
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


@pytest.mark.parametrize("overflow", ["resume", "drop_oldest", "close"])
async def test_a_new_history_is_nobodys_overflow(make_remote_store, overflow):
    """When the store loses its history, every subscriber goes on from the store and is told, whatever its overflow."""
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
    """A subscription has one place: a second receive() while one waits raises BusyResourceError."""
    async with open_hub() as hub, hub.subscribe("a") as subscription, anyio.create_task_group() as nursery:
        nursery.start_soon(take, subscription, 1)
        await wait_all_tasks_blocked()
        with pytest.raises(anyio.BusyResourceError):
            await subscription.receive()
        await publish(hub, "1")


@pytest.mark.parametrize("after", [1, b"x", EventId("x", 1)])
async def test_an_id_is_text(after):
    """What is no text is refused where it is given, and the error says what to write for the id of publish()."""
    async with open_hub() as hub:
        with pytest.raises(TypeError, match=r"str\("):
            hub.subscribe("a", after=after)


async def test_an_empty_id_is_none():
    """The empty string is what a client has that has received no id (WHATWG HTML section 9.2.2), and no gap."""
    async with open_hub() as hub:
        await publish(hub, "1")
        async with hub.subscribe("a", after="", replay=1) as subscription:
            assert await take(subscription, 1) == ["1"]
