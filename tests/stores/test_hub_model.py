# Hub and store together against a list: whatever is published, joined, left, trimmed and restarted, in any order.
#
# Rule 1: a client is judged by what it got alone, event after event. `Client` states what it may get.
# Rule 2: rings and stores are so small that everybody falls behind the one and misses something of the other.

from __future__ import annotations

import secrets
from bisect import bisect_right
from operator import itemgetter

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sse_trio import ServerSentEvent, open_hub
from sse_trio._hubs.subscription import source_of
from sse_trio._wire.decoder import EventDecoder
from sse_trio.stores import EventId, MemoryStore, Retention, SQLiteStore, TopicFilter
from sse_trio.testing._store_model import StoreModel

from .._volume import volume

pytestmark = [pytest.mark.anyio, pytest.mark.untraced]

TOPICS = ("a", "b/1", "b/2")
CHOICES = (("a",), ("b/1",), ("a", "b/*"), ("*",), ("b/*",), ("a", "b/2"))
LIMITS = (Retention(max_events=4), Retention(), Retention(max_events=300))
TOPIC_LIMITS = (
    Retention(),
    Retention(max_events=2),
    Retention(max_events=200),
    {"b/*": Retention(max_events=2), "b/2": Retention(max_events=3)},
)

steps = st.lists(
    st.tuples(
        st.sampled_from(
            ["publish", "publish", "publish_many", "flood", "join", "join", "fresh", "replay", "receive", "take", "cut",
             "settle", "restart"]
        ),
        st.integers(0, 11),
        st.integers(0, 11),
    ),
    min_size=3,
    max_size=40,
)  # fmt: skip


def relaxed(max_examples):
    return settings(max_examples=volume(max_examples), deadline=None, suppress_health_check=list(HealthCheck))


class Client:
    """A subscription, and what its client has seen."""

    def __init__(self, model, topics, start, subscription, replayed=()):
        self.model = model
        self.topics = TopicFilter(*topics)
        self.choice = topics
        self.subscription = subscription
        self.last_id = None
        self.decoder = EventDecoder()
        known = start is not None and start.epoch == model.epoch and 0 <= start.sequence <= model.tip
        self.position = start.sequence if known else 0
        self.excused = not known
        self.gaps = []  # where it stood when it was told of one
        self.start = self.position
        self.seen = []
        self.replayed = [*replayed]

    def got(self, kind, id_, data):
        """Judge one event: a gap, or the next one that is kept."""
        self.last_id = id_
        sequence = EventId.parse(id_).sequence
        if kind == "gap":
            self.gaps.append(self.position)
            hidden = [event for event in self.model.kept(self.topics) if self.position < event[0] <= sequence]
            assert not hidden, "who resumes from the id of this gap misses what is kept"
            return
        if self.replayed:
            assert sequence == self.replayed.pop(0), f"{id_} is not the next of the latest"
            return
        assert sequence > self.position, f"{id_} came again, or too late"
        *before, event = self.between(self.position, sequence)
        assert event[0] == sequence, f"{id_} was never published"
        assert event[2] == f"data: {data}\n\n".encode(), f"{id_} is not what was published"
        missed = [event[0] for event in before if self.topics.matches(event[1])]
        assert not missed or self.is_told(), f"{missed} are missing, and nobody said so"
        assert self.model.trimmed.issuperset(missed), f"{missed} are missing, and some of them are kept"
        self.position = sequence
        self.seen.append(sequence)

    def between(self, after, last):
        """Return what was published after this sequence, up to the last. A flood is long: no look at all of it."""
        events = self.model.events
        begin, end = (bisect_right(events, sequence, key=itemgetter(0)) for sequence in (after, last))
        return events[begin:end]

    def ours(self):
        return [event for event in self.model.events if self.topics.matches(event[1])]

    def is_told(self):
        return bool(self.gaps)

    def check_end(self):
        """Judge the whole: each gap is of something missed after it, each that was missed has a gap before it."""
        missed = [event[0] for event in self.ours() if event[0] > self.start and event[0] not in self.seen]
        assert not [m for m in missed if not any(gap < m for gap in self.gaps)], "missed before any gap"
        unfounded = [gap for gap in self.gaps if not any(gap < m for m in missed)]
        assert len(unfounded) <= self.excused, f"a gap was told at {unfounded}, and nothing was missed after it"
        assert self.gaps or not self.excused, "an id that the store does not know was no gap"


class Play:
    """Steps, one after another, on one hub and one place."""

    def __init__(self, make_store, numbers):
        self.make_store = make_store
        self.limits = LIMITS[numbers[0]], TOPIC_LIMITS[numbers[1]]
        self.ring = numbers[2]
        self.model = None
        self.clients = []
        self.ids = ["x-1", "no id", ""]

    async def run(self, todo):
        todo = list(todo)
        while todo:
            with anyio.fail_after(30):
                async with open_hub(
                    self.make_store(*self.limits), max_ring_events=self.ring, max_ring_bytes=1 << 14
                ) as self.hub:
                    if self.model is None or self.model.epoch != self.hub._state._store.epoch:
                        self.model = StoreModel(self.hub._state._store.epoch, *self.limits)
                    await self.play(todo)

    async def play(self, todo):
        self.clients = [await self.enter(client.choice, client.last_id) for client in self.clients if client.last_id]
        while todo:
            name, one, two = todo.pop(0)
            if name == "restart":
                break
            await getattr(self, name)(one, two)
        await self.publish_all([(topic, "end") for topic in TOPICS])
        for client in self.clients:
            await self.drain(client)
            client.subscription.close()
        assert self.hub.statistics().subscribers == 0

    async def drain(self, client):
        last = client.ours()[-1][0]
        while client.position < last:
            event = await client.subscription.receive()
            client.got(event.event, event.id, event.data)
        client.check_end()

    # --- what a test may do, each with two numbers to choose by

    async def publish_all(self, events):
        ids = await self.hub.publish_many(events)
        self.model.appended(ids, [(topic, f"data: {data}\n\n".encode()) for topic, data in events])
        self.ids.append(str(ids[-1]))

    async def publish(self, one, two):
        id_ = await self.hub.publish(TOPICS[one % 3], str(two))
        self.model.appended([id_], [(TOPICS[one % 3], f"data: {two}\n\n".encode())])
        self.ids.append(str(id_))

    async def publish_many(self, one, two):
        await self.publish_all([(TOPICS[(one + n) % 3], f"{n}") for n in range(two + 1)])

    async def flood(self, one, two):
        await self.publish_all([(TOPICS[(n * one) % 3], f"{n}") for n in range(50 * two)] or [("a", "")])

    async def join(self, one, two):
        if two == 0:
            after = str(EventId(self.model.epoch, self.model.tip + 1 + one))
        elif two == 1:
            after = str(EventId(self.model.epoch, one))
        else:
            after = self.ids[-1 - (two * two) % len(self.ids)]
        if after:
            self.clients.append(await self.enter(CHOICES[one % 6], after))

    async def enter(self, topics, after):
        expected = self.model.expected(TopicFilter(*topics), EventId.parse(after))
        client = Client(self.model, topics, EventId.parse(after), self.hub.subscribe(*topics, after=after))
        await client.subscription.__aenter__()
        told = isinstance(next(iter(source_of(client.subscription)._reading.history.pending), None), ServerSentEvent)
        assert told == expected.gap, "the gap of the join is not the model's"
        return client

    async def fresh(self, one, _):
        await self.wait_followed()
        start = EventId(self.model.epoch, self.model.tip)
        subscription = await self.hub.subscribe(*CHOICES[one % 6]).__aenter__()
        self.clients.append(Client(self.model, CHOICES[one % 6], start, subscription))

    async def replay(self, one, two):
        await self.wait_followed()
        topics, start = CHOICES[one % 6], EventId(self.model.epoch, self.model.tip)
        replayed = [event[0] for event in self.model.kept(TopicFilter(*topics))[-two:]] if two else []
        subscription = await self.hub.subscribe(*topics, replay=two).__aenter__()
        self.clients.append(Client(self.model, topics, start, subscription, replayed))

    async def wait_followed(self):
        while self.hub._state.fanout.timeline.position.sequence < self.model.tip:
            await anyio.sleep(0.001)

    def chosen(self, number):
        return self.clients[number % len(self.clients)] if self.clients else None

    async def receive(self, one, two):
        client = self.chosen(one)
        while client and two and (source_of(client.subscription).unread or source_of(client.subscription).is_ready()):
            with anyio.move_on_after(0.001):
                event = await client.subscription.receive()
                client.got(event.event, event.id, event.data)
            two -= 1

    async def take(self, one, _):
        client = self.chosen(one)
        if client and not source_of(client.subscription).unread:
            batch = source_of(client.subscription).take_batch()
            for event in client.decoder.feed(b"" if batch is None else batch.body):
                client.got(event.event, event.id, event.data)

    async def cut(self, one, _):
        client = self.chosen(one)
        if client and client.last_id:
            client.subscription.close()
            self.clients.remove(client)
            self.clients.append(await self.enter(client.choice, client.last_id))

    async def settle(self, one, _):
        for _ in range(one):
            await checkpoint()


numbers = st.tuples(st.integers(0, 2), st.integers(0, 3), st.sampled_from([1, 3, 100]))


@given(numbers, steps)
@relaxed(150)
async def test_memory_store(numbers, steps):
    """MemoryStore: order, no loss, no double, and a gap exactly when something was missed."""

    def make(hub, topic):
        return MemoryStore(hub.max_events, per_topic=topic)

    await Play(make, numbers).run(steps)


@pytest.mark.usefixtures("real_clock")
@given(numbers, steps)
@relaxed(25)
async def test_sqlite_store(tmp_path, numbers, steps):
    """SQLiteStore: the same, through restarts."""
    path = tmp_path / secrets.token_hex(8)

    def make(hub, topic):
        return SQLiteStore(path, max_events=hub.max_events, per_topic=topic)

    await Play(make, numbers).run(steps)


@pytest.mark.usefixtures("real_clock", "forgive_coredis")
@given(numbers, steps)
@relaxed(25)
async def test_redis_store(shared_redis, numbers, steps):
    """RedisStore: the same, through restarts."""
    redis = pytest.importorskip("sse_trio.stores.redis", reason="coredis is not installed")
    name = secrets.token_hex(8)

    def make(hub, topic):
        return redis.RedisStore(shared_redis.url, name=name, max_events=hub.max_events, per_topic=topic)

    await Play(make, numbers).run(steps)
