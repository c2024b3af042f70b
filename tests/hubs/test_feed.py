# The ring: what it holds, what it lets go of, and where a cursor is.

from __future__ import annotations

import anyio
import pytest

from sse_trio._hubs.feed import Feed, FeedStatistics
from sse_trio._wire.event import ServerSentEvent
from sse_trio.stores._protocol import EventId, StoredEvent, pack_event
from sse_trio.stores._topics import TopicFilter
from sse_trio.testing import wait_all_tasks_blocked


def add(feed, *sequences, data="x"):
    """Append events with these sequences and return their bytes."""
    chunks = []
    for sequence in sequences:
        event = StoredEvent(EventId("e", sequence), "a", pack_event(ServerSentEvent(data)))
        feed.append(event, event.encode())
        chunks.append(event.encode())
    return b"".join(chunks)


@pytest.fixture
def feed():
    return Feed(TopicFilter("*"), EventId("e", 10), max_events=4, max_bytes=1000)


def test_it_begins_at_its_floor(feed):
    """A new feed is empty: it continues from its floor, and from nothing older or of another epoch."""
    assert feed.end == feed.oldest_cursor() == 0
    assert feed.last == feed.floor == EventId("e", 10)
    assert feed.goes_on_from(EventId("e", 10))
    assert feed.goes_on_from(EventId("e", 11))
    assert not feed.goes_on_from(EventId("e", 9))
    assert not feed.goes_on_from(EventId("f", 10))


def test_a_batch_is_joined_once(feed):
    """Every subscriber at the same position gets the same bytes; a single event is not copied."""
    wire = add(feed, 12, 15, 16)
    assert feed.join(0).body == wire
    assert feed.join(0) is feed.join(0)
    assert feed.join(2).body is feed._chunks[2]
    assert feed.join(0).body == wire
    wire += add(feed, 17)
    assert feed.join(0).body == wire  # and not what was there before
    assert [event.id.sequence for event in feed.events(1)] == [15, 16, 17]
    assert feed.last == EventId("e", 17)


def test_a_cursor_is_found_by_what_was_seen(feed):
    """The cursor of a subscriber points at the first event newer than the last one it saw."""
    add(feed, 12, 15, 16)
    assert [feed.cursor_after(sequence) for sequence in (10, 11, 12, 14, 15, 16, 99)] == [0, 0, 1, 1, 2, 3, 3]
    assert [feed.sequence_at(cursor) for cursor in range(3)] == [12, 15, 16]


def test_it_lets_go_in_blocks(feed):
    """A feed holds at least max_events and less than twice that many; its floor is the newest event it has dropped."""
    for n in range(1, 100):
        add(feed, 10 + n)
        held = feed.end - feed.oldest_cursor()
        assert min(n, 4) <= held < 8
        assert feed.floor.sequence == feed.last.sequence - held
        assert feed._size == sum(map(len, feed._chunks))
        assert feed.end == n
    assert feed.has_lost(feed.oldest_cursor() - 1)
    assert not feed.has_lost(feed.oldest_cursor())
    assert not feed.was_reset(0)


def test_it_is_bounded_in_bytes(feed):
    """A feed holds at most max_bytes, except that it always holds the newest event."""
    add(feed, 11, 12, data="x" * 400)
    assert feed.end - feed.oldest_cursor() == 2
    add(feed, 13, data="x" * 400)
    assert feed._size <= 1000
    assert feed.floor.sequence == 12
    wire = add(feed, 14, data="x" * 5000)
    assert feed.floor.sequence == 13
    assert feed.join(feed.oldest_cursor()).body == wire


@pytest.mark.parametrize("held", [(), (11, 12)])
def test_after_a_reset_nobody_is_in_position(feed, held):
    """A reset feed is empty and invalidates every cursor, even of a subscriber that had seen everything."""
    add(feed, *held)
    end = feed.end
    feed.reset(EventId("f", 3))
    assert feed.has_lost(end)
    assert feed.was_reset(end)
    assert feed.floor == feed.last == EventId("f", 3)
    assert feed.end == feed.oldest_cursor() == feed.cursor_after(3)
    assert not feed.was_reset(feed.end)
    add(feed, 4)
    assert feed.cursor_after(3) == feed.end - 1


@pytest.mark.anyio
async def test_who_waits_for_the_next_call_leaves_nothing_behind(feed):
    """wait_woken() returns when readers are woken; a cancelled reader is not woken any more."""
    async with anyio.create_task_group() as nursery:
        nursery.start_soon(feed.wait_woken)
        await wait_all_tasks_blocked()
        (waiting,) = feed.waiting
        waiting.receiver.unpark()
        await wait_all_tasks_blocked()
        assert not nursery.cancel_scope.cancel_called
        nursery.start_soon(feed.wait_woken)
        await wait_all_tasks_blocked()
        assert len(feed.waiting) == 1
        nursery.cancel_scope.cancel()
    assert not feed.waiting


def test_statistics_count_events_and_not_resets(feed):
    """A snapshot counts the events that arrived and those that are held; a reset doesn't count as an event."""
    add(feed, 12, 15)
    feed.reset(EventId("f", 3))
    wire = add(feed, 20)
    assert feed.statistics(lag=5) == FeedStatistics(
        topics=("*",), subscribers=0, events=3, ring_events=1, ring_bytes=len(wire), lag=5
    )
