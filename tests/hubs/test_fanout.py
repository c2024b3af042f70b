"""A hub that follows its store too slowly: what was trimmed, and what is kept among that, by topic."""

from __future__ import annotations

import anyio
import pytest

from sse_trio import open_hub
from sse_trio.stores import Retention
from sse_trio.testing import wait_all_tasks_blocked

pytestmark = pytest.mark.anyio


async def receive_all(subscription):
    """Return the names or data of what there is, until nothing comes."""
    events = []
    with anyio.move_on_after(1):
        while True:
            event = await subscription.receive()
            events.append(event.event or event.data)
    return events


@pytest.fixture
def store(make_remote_store):
    """A store that keeps the last two events of each topic."""
    return make_remote_store(per_topic=Retention(max_events=2))


async def fall_behind(hub, store, *events):
    """Publish while the hub hears of nothing, with more of another topic after that, and let it hear of it all."""
    store.change(follows=False)
    await hub.publish_many(events)
    await hub.publish_many([("noise", f"{n}") for n in range(50)])
    store.change(follows=True)
    await wait_all_tasks_blocked()


@pytest.mark.parametrize("ring", [1, 3, 100])
@pytest.mark.parametrize("topics", [("a/1",), ("a/*",), ("*",), ("a/1", "b")])
async def test_kept_events_older_than_the_newest_that_is_gone(store, ring, topics):
    """A subscriber hears at once of the gap, and of the events of its topics that are older than what others lost."""
    async with open_hub(store, max_ring_events=ring) as hub, hub.subscribe(*topics, replay=0) as subscription:
        await fall_behind(hub, store, *[("a/1", f"{n}") for n in range(5)])
        got = [got for got in await receive_all(subscription) if got not in {"48", "49"}]
        assert got == ["gap", "3", "4"]
        assert hub.statistics().gaps == 1


@pytest.mark.parametrize("ring", [1, 3, 100])
async def test_an_event_after_the_gap_does_not_hide_it(store, ring):
    """Whoever takes nothing before the next event of its topic is told of the gap before it."""
    async with open_hub(store, max_ring_events=ring) as hub, hub.subscribe("a/*", replay=0) as subscription:
        await fall_behind(hub, store, *[("a/1", f"{n}") for n in range(5)])
        await hub.publish("a/2", "next")
        await wait_all_tasks_blocked()
        assert await receive_all(subscription) == ["gap", "3", "4", "next"]


@pytest.mark.parametrize("ring", [1, 100])
async def test_a_gap_and_more_kept_events_than_a_page_has(store, ring):
    """Kept events that are older than the gap may fill several pages of the follower: none is missed or doubled."""
    async with open_hub(store, max_ring_events=ring) as hub, hub.subscribe("a/*", replay=0) as subscription:
        await fall_behind(hub, store, ("a/0", "gone"), ("a/0", "0"), *[(f"a/{n}", f"{n}") for n in range(600)])
        assert await receive_all(subscription) == ["gap", "0", *[f"{n}" for n in range(600)]]
        await hub.publish("a/1", "next")
        assert await receive_all(subscription) == ["next"]


async def test_who_comes_while_the_hub_catches_up(store):
    """A subscriber without an id that comes after a gap gets what is published from then on, once."""
    async with open_hub(store, max_ring_events=1) as hub, hub.subscribe("a/*", replay=0):
        await fall_behind(hub, store, *[("a/1", f"{n}") for n in range(5)])
        async with hub.subscribe("a/*", replay=0) as subscription:
            await hub.publish_many([("a/1", "5"), ("a/2", "6")])
            assert await receive_all(subscription) == ["5", "6"]
