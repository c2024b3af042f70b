# The ring: what it holds, what it lets go of, and who can share a batch.

from __future__ import annotations

import pytest

from sse_trio._hubs.ring import Ring, RingLimits
from sse_trio._wire.event import ServerSentEvent
from sse_trio.stores._protocol import EventId, StoredEvent, pack_event


def add(ring, *places, data="x"):
    """Append events with these places and return their bytes."""
    chunks = []
    for place in places:
        event = StoredEvent(EventId("e", place), "a", pack_event(ServerSentEvent(data)))
        ring.append(event, event.encode(), place)
        chunks.append(event.encode())
    return b"".join(chunks)


@pytest.fixture
def ring():
    return Ring("*", 10, RingLimits(events=4, bytes=1000))


def test_it_begins_at_its_floor(ring):
    """A new ring has seen nothing, and holds everything from its floor on."""
    assert ring.end == ring.floor == ring.place_before(10) == 10
    assert ring.size() == (0, 0)
    assert ring.total == ring.held_after(10) == 0


def test_a_batch_is_joined_once(ring):
    """Everybody who takes the same events is given the same bytes; one event is given as it is."""
    wire = add(ring, 12, 15, 16)
    batch = ring.join(10)
    assert (batch.body, batch.start, batch.first, batch.end, batch.count) == (wire, 10, 12, 16, 3)
    assert ring.join(11) is ring.join(10) is batch
    assert ring.join(15).body is ring._chunks[2]
    assert (ring.batch.start, ring.batch.first, ring.batch.count) == (15, 16, 1)
    assert ring.join(12).body == ring.join(14).body == wire[len(wire) // 3 :]
    wire += add(ring, 17)
    assert ring.join(10).body == wire  # and not what was there before
    assert [event.id.sequence for event in ring.events_after(12)] == [15, 16, 17]
    assert ring.chunks_after(15) == [(16, ring._chunks[2]), (17, ring._chunks[3])]


def test_a_batch_knows_of_marks(ring):
    """A batch without a mark has no end of a run in it, so nobody looks at its events."""
    add(ring, 12)
    assert not ring.join(10).has_mark
    add(ring, 15)
    ring.newest_mark = 15
    add(ring, 16)
    assert ring.join(10).has_mark
    assert ring.join(14).has_mark
    assert not ring.join(15).has_mark


def test_what_is_after_a_place(ring):
    """A place is that of an event, or between two: what is after it is held from the next event on."""
    add(ring, 12, 15, 16)
    assert [ring.held_after(place) for place in (10, 11, 12, 14, 15, 16, 99)] == [3, 3, 2, 2, 1, 0, 0]
    assert [ring.place_before(place) for place in (10, 11, 12, 14, 15, 16, 99)] == [10, 10, 12, 12, 15, 16, 16]


def test_it_lets_go_in_blocks(ring):
    """It holds at least max_events and less than twice as many; its floor is the newest that it let go of."""
    for n in range(1, 100):
        add(ring, 10 + n)
        held, size = ring.size()
        assert min(n, 4) <= held < 8
        assert ring.floor == ring.end - held
        assert size == sum(map(len, ring._chunks))
        assert ring.total == n


def test_it_is_bounded_in_bytes(ring):
    """It holds no more than max_bytes, except for one event, the newest, whatever its size."""
    add(ring, 11, 12, data="x" * 400)
    assert ring.size()[0] == 2
    add(ring, 13, data="x" * 400)
    assert ring.size()[1] <= 1000
    assert ring.floor == 12
    wire = add(ring, 14, data="x" * 5000)
    assert ring.floor == 13
    assert ring.join(ring.floor).body == wire


@pytest.mark.parametrize("held", [(), (11, 12)])
def test_after_a_reset_nobody_is_in_position(ring, held):
    """A reset ring holds nothing, and whoever had taken everything is behind its floor too."""
    add(ring, *held)
    end = ring.end
    ring.reset(20)
    assert end < ring.floor == ring.end == 20
    assert ring.size() == (0, 0)
    wire = add(ring, 21)
    assert ring.join(20).body == wire
    assert ring.total == len(held) + 1
