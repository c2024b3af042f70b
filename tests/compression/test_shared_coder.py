"""A topic compressed once for all: each subscriber can decode what it is sent, whatever happens to it."""

from __future__ import annotations

import random

import pytest

from sse_trio import ServerSentEvent
from sse_trio._compression.codings import SHARED_CODINGS
from sse_trio._compression.shared import KEPT_BYTES, KEPT_SEGMENTS, RESTART_BYTES, new_shared_coder
from sse_trio._hubs.feed import Feed
from sse_trio._hubs.ring import Ring, RingLimits
from sse_trio._hubs.timeline import Timeline
from sse_trio._wire.batch import Batch
from sse_trio.stores._protocol import EventId, StoredEvent, pack_event
from sse_trio.stores._topics import TopicFilter

from .._volume import volume
from ..wire._decoders import DECODERS

PING = b": ping\n"

pytestmark = pytest.mark.parametrize("coding", SHARED_CODINGS)


class Topic:
    """A ring, as a hub has it."""

    def __init__(self):
        self.ring = Ring("*", 0, RingLimits(64, 1 << 20))
        self.random = random.Random(7)

    def publish(self, size=0, noise=0, at=None):
        """Add an event as a ticker has them; with so many digits that no coding makes much smaller."""
        price = self.random.uniform(90, 110)
        data = f'{{"symbol":"ACME","price":{price:.2f},"volume":{self.random.randrange(10_000)}}}' + "x" * size
        data += self.random.randbytes(noise // 2).hex()
        place = at or self.ring.end + 1
        stored = StoredEvent(EventId("e", place), "a", pack_event(ServerSentEvent(data, event="tick")))
        self.ring.append(stored, stored.encode(), place)


class Reader:
    """A subscriber at its cursor, with its coder and its client's decoder."""

    def __init__(self, topic, coding):
        self.topic = topic
        self.ring = topic.ring
        self.cursor = self.ring.end
        self.coder = new_shared_coder(coding)
        self.decoder = DECODERS[coding]()
        self.batches = []

    def take(self):
        """Take what there is, and decode it."""
        if self.cursor < self.ring.end:
            batch = self.ring.join(max(self.cursor, self.ring.floor))
            self.cursor = self.ring.end
            self.write(batch)

    def send(self, body):
        """Have something written that is for this subscriber alone."""
        self.write(Batch(body))

    def write(self, batch):
        piece = self.coder.encode(batch)
        assert self.decoder.decode(piece.body) == batch.body
        self.batches.append(piece)

    @property
    def pieces(self):
        return [batch.body for batch in self.batches]

    def end(self):
        """End well."""
        assert self.decoder.decode(self.coder.finish(PING)) == PING
        assert self.decoder.is_whole


@pytest.fixture
def topic():
    return Topic()


class Crowd:
    """Subscribers to whom anything happens."""

    def __init__(self, topic, coding, seed):
        self.topic = topic
        self.coding = coding
        self.random = random.Random(seed)
        self.readers = []
        self.join()

    def one(self):
        return self.random.choice(self.readers)

    def publish(self):
        for _ in range(self.random.choice([1, 1, 1, 5])):
            self.topic.publish(self.random.choice([0, 0, 0, 3000]))

    def all_take(self):
        for reader in self.readers:
            reader.take()

    def one_takes(self):
        self.one().take()

    def ping(self):
        self.one().send(PING)

    def history(self):
        self.one().send(b"id: 1\ndata: old\n\n" * self.random.randrange(1, 50))

    def join(self):
        self.readers += [Reader(self.topic, self.coding) for _ in range(3)]

    def leave(self):
        if self.readers[1:]:
            self.readers.pop().end()

    def reset(self):
        self.topic.ring.reset(self.topic.ring.end + 1)
        for reader in self.readers:
            reader.cursor = self.topic.ring.end


@pytest.mark.parametrize("seed", range(volume(20)))
def test_each_subscriber_decodes_what_it_was_sent(topic, coding, seed):
    """Any order of joining, lagging, pings, history, leaving and resets: each write is decodable at once."""
    crowd = Crowd(topic, coding, seed)
    often = [crowd.publish, crowd.all_take, crowd.one_takes] * 9
    for step in crowd.random.choices([*often, crowd.ping, crowd.history, crowd.join, crowd.leave, crowd.reset], k=400):
        step()
    for reader in crowd.readers:
        reader.end()


def test_it_is_compressed_once(topic, coding):
    """Subscribers at the same position are sent the same object, after the first write of each."""
    readers = [Reader(topic, coding) for _ in range(5)]
    for _ in range(20):
        topic.publish()
        for reader in readers:
            reader.take()
    for n in range(1, 20):
        assert len({id(reader.batches[n]) for reader in readers}) == 1


def test_what_came_before_makes_it_small(topic, coding):
    """The events of a ticker shrink to less than half; as standalone batches, hardly at all."""
    reader = Reader(topic, coding)
    text = 0
    for _ in range(1000):
        topic.publish()
        text += len(topic.ring.join(topic.ring.end - 1).body)
        reader.take()
    assert sum(map(len, reader.pieces)) < 0.45 * text
    last = Batch(topic.ring.batch.body)
    assert len(new_shared_coder(coding).encode(last).body) > 0.8 * len(last.body)


def test_a_subscriber_that_joins_later_goes_on_from_the_next_restart(topic, coding):
    """A new subscriber is sent standalone events first, and the others' segments after 16 KiB at the latest."""
    readers = [Reader(topic, coding) for _ in range(3)]
    sent = 0

    def publish():
        nonlocal sent
        topic.publish()
        sent += len(topic.ring.join(topic.ring.end - 1).body)
        for reader in readers:
            reader.take()

    publish()
    readers.append(Reader(topic, coding))
    publish()
    assert readers[-1].pieces[-1] != readers[0].pieces[-1]
    while sent < RESTART_BYTES:
        publish()
    publish()
    publish()
    assert readers[-1].batches[-1] is readers[0].batches[-1]


def test_the_compressor_restarts_when_all_were_pinged(topic, coding):
    """After a ping a subscriber can't use the segments; when most can't, the compressor restarts at once."""
    readers = [Reader(topic, coding) for _ in range(3)]
    firsts = []
    for n in range(4):
        if n == 1:
            for reader in readers:
                reader.send(PING)
        topic.publish()
        for reader in readers:
            reader.take()
        firsts.append(topic.ring.compressors[coding]._segments[-1].is_standalone)
        assert len({reader.pieces[-1] for reader in readers}) == 1
    assert firsts == [True, False, True, False]


def test_a_subscriber_a_few_batches_behind_is_sent_the_segments(topic, coding):
    """A subscriber that takes several batches at once, or one that others took at once, is sent the same segments."""
    readers = [Reader(topic, coding) for _ in range(3)]
    for n in range(60):
        topic.publish()
        readers[n % 2].take()
        if n % 7 == 0:
            readers[2].take()
    for reader in readers:
        reader.take()
    sizes = [sum(map(len, reader.pieces)) for reader in readers]
    assert max(sizes) < min(sizes) + 10


def test_a_subscriber_far_behind_does_not_hold_up_the_others(topic, coding):
    """A batch older than the segments that are kept is compressed for the subscriber that needs it."""
    fast, slow = Reader(topic, coding), Reader(topic, coding)
    topic.publish()
    slow.take()
    for _ in range(KEPT_SEGMENTS + 1):
        fast.take()
        topic.publish()
    fast.take()
    topic.publish()
    segments = [*topic.ring.compressors[coding]._segments]
    assert len(segments) == KEPT_SEGMENTS
    slow.take()
    assert topic.ring.compressors[coding]._segments == segments
    assert slow.pieces[-1].endswith(topic.ring.batch.coded[1])
    topic.publish()
    fast.take()
    assert not topic.ring.compressors[coding]._segments[-1].is_standalone


def test_large_events_are_not_kept_for_long(topic, coding):
    """Segments are bounded in bytes, however large events are; a subscriber a little behind can still decode."""
    readers = [Reader(topic, coding) for _ in range(3)]
    for n in range(2 * KEPT_SEGMENTS):
        topic.publish(noise=20_000)
        readers[n % 2].take()
        if n % 11 == 0:
            readers[2].take()
        kept = sum(len(segment.compressed.body) for segment in topic.ring.compressors[coding]._segments)
        assert KEPT_BYTES // 2 < kept <= KEPT_BYTES or n < 10
    topic.publish(noise=2 * KEPT_BYTES + 10_000)
    for reader in readers:
        reader.take()
    assert len(topic.ring.compressors[coding]._segments) == 1
    for reader in readers:
        topic.publish()
        reader.take()
        reader.end()


def test_an_event_that_nobody_took_in_this_coding(topic, coding):
    """A compressor that has not seen all of the feed restarts."""
    reader = Reader(topic, coding)
    for n in range(3):
        topic.publish()
        if n == 1:
            reader.cursor = topic.ring.end
        reader.take()
    assert [segment.is_standalone for segment in topic.ring.compressors[coding]._segments] == [True]


def test_a_stream_of_nothing_is_whole(topic, coding):
    """A stream that ends before anything was written in it ends as its coding says."""
    reader = Reader(topic, coding)
    assert reader.coder.encode(Batch(b"")).body == b""
    assert reader.decoder.decode(reader.coder.finish(b"")) == b""
    assert reader.decoder.is_whole


class Market:
    """Rings of which subscribers read several, in any choice."""

    def __init__(self, coding, seed):
        self.coding = coding
        self.random = random.Random(seed)
        self.topics = [Topic() for _ in range(4)]
        self.end = 0
        self.feeds = {}
        self.readers = []

    def publish(self):
        for topic in self.random.choices(self.topics, [20, 5, 1, 1], k=self.random.choice([1, 1, 3])):
            self.end += 1
            topic.publish(at=self.end)

    def join(self):
        numbers = self.random.choice([(0, 1), (0, 1), (0, 2), (0, 3), (0, 1, 2), (0,)])
        if numbers not in self.feeds:
            rings = tuple(self.topics[n].ring for n in numbers)
            self.feeds[numbers] = Feed(TopicFilter(*map(str, numbers)), rings, Timeline(EventId("e", 0)))
        feed = self.feeds[numbers]
        feed.enter()
        self.readers.append(MarketReader(feed, self.end, self.coding))

    def take(self):
        for reader in self.random.sample(self.readers, len(self.readers) // self.random.choice([1, 1, 3])):
            reader.take()

    def ping(self):
        self.random.choice(self.readers).write(Batch(PING))


class MarketReader(Reader):
    """A subscriber of several topics."""

    def __init__(self, feed, cursor, coding):
        self.feed = feed
        self.cursor = cursor
        self.coder = new_shared_coder(coding)
        self.decoder = DECODERS[coding]()
        self.batches = []

    def take(self):
        """Take what there is, and decode it. It misses what the rings have let go of."""
        if fresh := self.feed.fresh(self.cursor):
            batch = self.feed.join(fresh, self.cursor)
            self.cursor = self.feed.end()
            self.write(batch)


@pytest.mark.parametrize("seed", range(volume(20)))
@pytest.mark.parametrize("crowd", [1, 40])
def test_each_subscriber_of_several_topics_decodes_what_it_was_sent(coding, seed, crowd):
    """Choices that share topics, and compressors with these topics: each write is decodable at once all the same."""
    market = Market(coding, seed)
    for _ in range(crowd):
        market.join()
    steps = [market.publish, market.take] * 9 + [market.ping, market.join]
    for step in market.random.choices(steps, k=400):
        step()
    for reader in market.readers:
        reader.end()
