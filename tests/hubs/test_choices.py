# Many subscribers of many choices of topics, against a plain model; and what a choice of one's own costs.
#
# Rule 1: each client is judged alone: it gets exactly the events of its topics that its filter lets through, each once,
#         in the order of the store; also after it was stalled, or cut off and came back with its last id.
# Rule 2: rings are small, so everybody falls behind, and the store keeps all, so nobody has a gap.

from __future__ import annotations

import random
from contextlib import AsyncExitStack, suppress

import anyio
import pytest
from anyio.lowlevel import checkpoint

from sse_trio import EventSourceResponse, open_hub
from sse_trio._hubs.filtering import TOLD_AFTER_EVENTS
from sse_trio._hubs.subscription import source_of
from sse_trio.stores import EventId, MemoryStore, TopicFilter
from sse_trio.testing import open_test_stream, wait_all_tasks_blocked

from .._volume import volume

pytestmark = pytest.mark.anyio

TOPICS = ["news", "alerts", "a", "a/b", "a/b/c", *[f"user/{n}" for n in range(5)], *[f"user/{n}/in" for n in range(5)]]
PATTERNS = [*TOPICS, "a/*", "a/b/*", "user/*", *[f"user/{n}/*" for n in range(5)], "nobody/*", "*"]


def is_even(topic, event):
    return int(event.data) % 2 == 0


class Client:
    """A stream of some topics, and what its client has seen of them."""

    def __init__(self, hub, choice, event_filter, last_id):
        self.topics = TopicFilter(*choice)
        self.filter = event_filter
        self.last_id = last_id
        self.since = EventId.parse(last_id).sequence
        self.seen = []
        self.subscription = hub.subscribe(*choice, after=last_id, filter=event_filter)

    async def run(self, *, task_status):
        """Be a client until it is told to leave, or its stream ends."""
        async with open_test_stream(EventSourceResponse(self.subscription)) as self.stream:
            task_status.started()
            with suppress(anyio.ClosedResourceError):  # the client itself has disconnected
                async for event in self.stream:
                    self.seen.append((event.id, event.data))

    def check(self, published):
        """Judge what it has got of all that was published, in order."""
        expected = [
            (str(id_), data)
            for id_, topic, data in published
            if id_.sequence > self.since and self.topics.matches(topic) and (not self.filter or int(data) % 2 == 0)
        ]
        assert self.seen == expected


class Play:
    """Anything that happens to a hub of many choices, with numbers for data."""

    def __init__(self, hub, nursery, seed):
        self.hub = hub
        self.nursery = nursery
        self.random = random.Random(seed)
        self.published = []
        self.clients = []

    async def publish(self):
        """Publish some events in a pass, often to what everybody reads."""
        for _ in range(self.random.choice([1, 1, 2, 5, 40])):
            topic, data = self.random.choice(["news", self.random.choice(TOPICS)]), str(len(self.published))
            self.published.append((await self.hub.publish(topic, data), topic, data))

    async def join(self):
        """Come with a choice of one's own, or with that of somebody else, from now on or from an older id."""
        choice = ["news", *self.random.sample(PATTERNS, self.random.choice([0, 1, 1, 2, 4]))]
        if self.clients and self.random.random() < 0.4:
            choice = self.random.choice(self.clients).topics.patterns
        id_ = self.random.choice([*self.published[-50:], self.published[-1]])[0]
        event_filter = self.random.choice([None, None, is_even])
        await self.enter(Client(self.hub, choice, event_filter, str(id_)))

    async def enter(self, client):
        await self.nursery.start(client.run)
        self.clients.append(client)

    async def stall(self):
        """A client reads nothing for a while."""
        if self.clients:
            self.random.choice(self.clients).stream.stall()

    async def resume(self):
        for client in self.clients:
            client.stream.resume()

    async def cut(self):
        """A client is cut off, and comes back with the last id that it was sent: of an event, or of its position."""
        if self.clients:
            client = self.clients.pop(self.random.randrange(len(self.clients)))
            client.stream.resume()
            await wait_all_tasks_blocked()
            client.check(self.published)
            last_id = client.stream.body.decode().rpartition("id: ")[2].split("\n")[0] or client.last_id
            client.stream.disconnect()
            again = Client(self.hub, client.topics.patterns, client.filter, last_id)
            assert EventId.parse(last_id).sequence >= client.since
            await self.enter(again)

    async def turn(self):
        for _ in range(self.random.randrange(4)):
            await checkpoint()

    async def settle(self):
        await wait_all_tasks_blocked()

    async def end(self):
        """Let all of them read to the end, and judge them."""
        await self.resume()
        await wait_all_tasks_blocked()
        for client in self.clients:
            client.check(self.published)
            client.stream.disconnect()


@pytest.mark.parametrize("seed", range(volume(25)))
async def test_random_choices(seed):
    """Whatever others choose, a client gets the events of its own choice: in order, each once, and none is missing."""
    async with open_hub(MemoryStore(None), max_ring_events=8) as hub:
        async with anyio.create_task_group() as nursery:
            play = Play(hub, nursery, seed)
            steps = [play.publish] * 8 + [play.join, play.turn, play.settle] * 3 + [play.stall, play.resume, play.cut]
            await play.publish()
            for step in play.random.choices(steps, k=150):
                await step()
            await play.end()
        assert hub.statistics().gaps == 0
        assert hub.statistics().subscribers == hub.statistics().feeds == 0
        assert not [*hub._state.fanout._index.rings()]


async def test_a_topic_has_one_ring():
    """Subscribers of a shared topic hold its events once, whatever else each of them has chosen."""
    async with open_hub() as hub, AsyncExitStack() as stack:
        subscriptions = [await stack.enter_async_context(hub.subscribe("news", f"user/{n}")) for n in range(20)]
        await hub.publish("news", "1")
        first, *others = [source_of(subscription).feed for subscription in subscriptions]
        assert all(feed.rings[0] is first.rings[0] for feed in others)
        assert [feed.ring_events for feed in hub.feeds()] == [1] * 20
        bodies = {id(feed.join(feed.fresh(0), 0)) for feed in (first, *others)}
        assert len(bodies) == 1


async def test_streams_of_different_choices_share_their_bytes():
    """What is published to a topic is one object for all its streams, also for those that read others beside it."""
    async with open_hub() as hub, AsyncExitStack() as stack:
        responses = [EventSourceResponse(hub.subscribe("news", f"user/{n}/*")) for n in range(20)]
        streams = [await stack.enter_async_context(open_test_stream(response)) for response in responses]
        for _ in range(2):
            await wait_all_tasks_blocked()
            await hub.publish("user/7/in", "for one")
            await wait_all_tasks_blocked()
            await hub.publish("news", "for all")
            await wait_all_tasks_blocked()
            assert len({id(stream.messages[-1]["body"]) for stream in streams}) == 1
        assert streams[7].body.count(b"for one") == 2
        assert streams[8].body.count(b"for one") == 0


async def test_dropping_the_oldest_of_one_topic_loses_nothing_of_another():
    """With overflow="drop_oldest" a busy topic's events are dropped and counted, and a quiet one's are still sent."""
    async with open_hub(max_ring_events=2) as hub, hub.subscribe("busy", "quiet", overflow="drop_oldest") as both:
        await hub.publish("quiet", "hello")
        for n in range(10):
            await hub.publish("busy", str(n))
        assert both.statistics().lag == 11
        with anyio.fail_after(1):
            got = [(await both.receive()).data for _ in range(3)]
        assert got == ["hello", "8", "9"]
        assert (hub.statistics().dropped, both.statistics().lag) == (8, 0)
        for n in range(10, 20):
            await hub.publish("busy", str(n))
        assert both.statistics().lag == 10
        assert [(await both.receive()).data for _ in range(2)] == ["18", "19"]
        assert hub.statistics().dropped == 16


async def test_history_lost_by_the_store_is_told_to_every_choice(make_remote_store):
    """When the store begins a new history, each subscriber gets one gap, and then what is new, whatever it reads."""
    store = make_remote_store()
    async with open_hub(store) as hub, AsyncExitStack() as stack:
        choices = [("news",), ("news", "user/1"), ("news", "user/*"), ("user/1", "a/*", "news")]
        subscriptions = [await stack.enter_async_context(hub.subscribe(*choice)) for choice in choices]
        await hub.publish("news", "old")
        for subscription in subscriptions:
            assert (await subscription.receive()).data == "old"
        await store.lose_history()
        await hub.publish("news", "new")
        for subscription in subscriptions:
            with anyio.fail_after(60):
                assert [(await subscription.receive()).event for _ in range(2)] == ["gap", None]
        assert hub.statistics().gaps == len(choices)


async def test_a_filtered_client_comes_back_without_reading_what_it_was_not_sent(make_remote_store):
    """After thousands of events that its filter left out a client resumes with one page, and without a gap."""
    store = make_remote_store()
    async with open_hub(store) as hub:
        subscription = hub.subscribe("*", filter=lambda topic, _: topic == "mine")
        async with open_test_stream(EventSourceResponse(subscription)) as stream:
            for n in range(5000):
                await hub.publish("others", str(n))
                if n % 100 == 0:
                    await wait_all_tasks_blocked()
            await wait_all_tasks_blocked()
            last_id = stream.body.decode().rpartition("id: ")[2].split("\n")[0]
        assert 5000 - EventId.parse(last_id).sequence < TOLD_AFTER_EVENTS
        reads = store.reads
        async with hub.subscribe("*", filter=lambda topic, _: topic == "mine", after=last_id) as subscription:
            await hub.publish("mine", "again")
            assert (await subscription.receive()).data == "again"
        assert store.reads == reads + 1
        assert hub.statistics().gaps == 0
