# The feed: the rings of one choice of topics, as one.

from __future__ import annotations

import anyio
import pytest

from sse_trio._hubs.feed import OTHERS, Feed, FeedStatistics
from sse_trio._hubs.ring import Ring, RingLimits
from sse_trio._hubs.timeline import Timeline
from sse_trio._wire.event import ServerSentEvent
from sse_trio.stores._protocol import EventId, StoredEvent, pack_event
from sse_trio.stores._topics import TopicFilter
from sse_trio.testing import wait_all_tasks_blocked


class Rings:
    """The rings of topics "a" and "b", and a feed of both."""

    def __init__(self):
        self.rings = {topic: Ring(topic, 10, RingLimits(2, 1000)) for topic in "ab"}
        self.feed = Feed(TopicFilter("a", "b"), tuple(self.rings.values()), Timeline(EventId("e", 10)))
        self.feed.enter()
        self.end = 10

    def add(self, topics):
        """Add an event to each of these topics, and return their bytes."""
        chunks = []
        for topic in topics:
            self.end += 1
            event = StoredEvent(EventId("e", self.end), topic, pack_event(ServerSentEvent(topic)))
            self.rings[topic].append(event, event.encode(), self.end)
            chunks.append(event.encode())
        return b"".join(chunks)

    def join(self, cursor):
        return self.feed.join(self.feed.fresh(cursor), cursor)


@pytest.fixture
def rings():
    return Rings()


def test_the_order_across_topics_is_the_stores(rings):
    """Events of several topics are taken in the order of their ids, as bytes and one by one."""
    wire = rings.add("aba")
    batch = rings.join(10)
    assert (batch.body, batch.start, batch.first, batch.end, batch.count) == (wire, 10, 11, 13, 3)
    events = rings.feed.events(rings.feed.fresh(10), 10)
    assert [(event.id.sequence, event.topic) for event in events] == [(11, "a"), (12, "b"), (13, "a")]


def test_those_with_the_same_choice_share_what_is_mixed(rings):
    """A batch of several rings is joined once for all who take it; once more has come, it is joined anew."""
    rings.add("ab")
    assert rings.join(11).count == 1
    batch = rings.join(10)
    assert rings.join(10) is batch
    wire = rings.add("b")
    assert rings.join(10).count == 3
    assert rings.join(12).body == wire
    assert rings.join(12).start == 12


def test_a_choice_of_few_takes_the_batches_of_a_ring_that_many_read(rings):
    """With so many others on a topic that they make its batches, a choice of its own takes those, compressors too."""
    rings.add("a")
    assert rings.join(10) is not rings.rings["a"].join(10)
    assert rings.join(10).compressors is rings.feed._compressors
    rings.rings["a"].subscribers = OTHERS
    assert rings.join(10) is rings.rings["a"].join(10)
    rings.add("b")
    assert rings.join(11).compressors is rings.join(10).compressors is None


def test_what_one_ring_has_lost_ends_the_compressors_line(rings):
    """If one ring holds events older than what another has lost, a batch of both is compressed by itself."""
    rings.add("abaaaaa")
    batch = rings.join(10)
    assert rings.feed.floor() > 12
    assert batch.first == 12
    assert batch.compressors is None
    assert rings.join(10) is not batch  # it fits nobody else


@pytest.mark.parametrize("take_out", [lambda ring: ring.drop(11), lambda ring: ring.purge("a")], ids=["drop", "purge"])
def test_what_was_joined_before_an_event_was_taken_out(rings, take_out):
    """Nobody is given a batch of several rings with an event that one of them holds no more."""
    rings.add("a")
    wire = rings.add("b")
    old = rings.join(10)
    take_out(rings.rings["a"])
    assert rings.feed.latest_batch(10) is None
    assert rings.join(10).body == wire
    assert rings.join(10).compressors is not old.compressors
    assert rings.feed.latest_batch(10) is rings.join(10)


@pytest.mark.anyio
async def test_who_waits_for_the_next_call_leaves_nothing_behind(rings):
    """wait_woken() returns when the readers are called; cancelled, it is not called any more."""
    feed = rings.feed
    async with anyio.create_task_group() as nursery:
        nursery.start_soon(feed.wait_woken)
        await wait_all_tasks_blocked()
        assert feed.rings[0].readers == feed.rings[1].readers
        (waiting,) = feed.rings[0].readers
        waiting.receiver.unpark()
        await wait_all_tasks_blocked()
        assert not nursery.cancel_scope.cancel_called
        nursery.start_soon(feed.wait_woken)
        await wait_all_tasks_blocked()
        assert len(feed.rings[0].readers) == 1
        nursery.cancel_scope.cancel()
    assert not any(ring.readers for ring in feed.rings)


def test_statistics_are_those_of_its_rings(rings):
    """A snapshot counts the events since the feed was made, and what its rings hold."""
    rings.add("ab")
    feed = Feed(rings.feed.topics, rings.feed.rings, rings.feed.timeline)
    wire = rings.add("b")
    held = sum(len(chunk) for ring in feed.rings for chunk in ring._chunks)
    assert held > len(wire)
    assert feed.statistics(lag=5) == FeedStatistics(
        topics=("a", "b"), subscribers=0, events=1, ring_events=3, ring_bytes=held, lag=5
    )
