# The filter of a subscription: it fails closed, its failure is its own stream's, and it leaves no client behind.

from __future__ import annotations

from contextlib import asynccontextmanager

import anyio
import pytest

from sse_trio import CloseReason, EventSourceResponse, open_hub
from sse_trio._hubs.filtering import TOLD_AFTER_EVENTS, TOLD_AFTER_SECONDS
from sse_trio.stores import MemoryStore
from sse_trio.testing import open_test_stream, wait_all_tasks_blocked

pytestmark = pytest.mark.anyio


def mine(topic, event):
    return topic == "mine"


async def nobody(topic, event):
    return False


class Rights:
    async def __call__(self, topic, event):
        return False


@asynccontextmanager
async def opened(hub, *topics, **options):
    """Open a stream of a subscription."""
    async with open_test_stream(EventSourceResponse(hub.subscribe(*topics, **options))) as stream:
        yield stream


async def take(subscription, count):
    """Receive this number of events, and return their data."""
    with anyio.fail_after(60):
        return [(await subscription.receive()).data for _ in range(count)]


@pytest.mark.parametrize("function", [nobody, Rights(), lambda topic, event: (yield True), "mine", True, 1])
async def test_what_can_not_be_a_filter(function):
    """A coroutine function is refused as a filter: its result is always true, and would let everything through."""
    async with open_hub() as hub:
        with pytest.raises(TypeError, match="^filter must be a function of topic and event"):
            hub.subscribe("*", filter=function)
        assert hub.statistics().subscribers == 0


RESULTS = [None, 0, 1, "", "yes", [], object(), NotImplemented]


@pytest.mark.parametrize("result", RESULTS, ids=range(len(RESULTS)))
async def test_what_is_neither_true_nor_false_lets_nothing_through(result):
    """If a filter returns anything but True or False, its stream ends with an error and without the event."""
    async with open_hub() as hub, opened(hub, "*") as other:
        with pytest.raises(TypeError, match="filter must return True or False; it returned"):
            async with opened(hub, "*", filter=lambda topic, event: result) as stream:
                await hub.publish("secret", "the secret")
                await stream.wait_closed()
        assert b"the secret" not in stream.body
        assert stream.close_reason is CloseReason.FAILED
        assert (await other.receive()).data == "the secret"
        await hub.publish("secret", "and another")
        assert (await other.receive()).data == "and another"


async def test_a_coroutine_that_a_filter_returns_is_closed():
    """A wrapped coroutine function is detected at its first event, and its coroutine is closed."""
    async with open_hub() as hub, hub.subscribe("*", filter=lambda topic, _: nobody(topic, None)) as subscription:
        await hub.publish("secret", "the secret")
        with pytest.raises(TypeError, match="filter must return True or False"):
            await subscription.receive()


async def test_a_receive_that_fails_has_taken_nothing():
    """When a filter raises, receive() takes no event, neither those before the failure nor the one it failed at."""
    broken = True

    def fails(topic, event):
        if broken and event.data == "2":
            raise LookupError(event.data)
        return event.data != "1"

    async with open_hub() as hub, hub.subscribe("*", filter=fails) as subscription:
        for data in "0123":
            await hub.publish("a", data)
        for _ in range(2):
            with pytest.raises(LookupError):
                await subscription.receive()
        broken = False
        assert await take(subscription, 3) == ["0", "2", "3"]
        assert hub.statistics().delivered == 3


async def test_after_a_failure_a_stream_sends_nothing_more(make_remote_store):
    """After a filter fails, later events are neither filtered nor sent."""
    asked = []

    def fails(topic, event):
        asked.append(event.data)
        raise LookupError(event.data)

    store = make_remote_store()
    async with open_hub(store) as hub:
        (first, *_) = [str(await hub.publish("a", str(n))) for n in range(600)]
        with pytest.raises(LookupError):
            async with opened(hub, "a", after=first, filter=fails) as stream:
                await stream.wait_closed()
        await hub.publish("a", "600")
        await wait_all_tasks_blocked()
        assert len(asked) == 1
        assert b"data:" not in stream.body
        assert hub.statistics().subscribers == 0


def publish_at_once(hub):
    """Publish outside of any task."""
    publishing = hub.publish("a", "later")
    try:
        publishing.send(None)
    except StopIteration:
        return
    publishing.close()  # on a slow machine the slice was used up; now a new one has begun
    publish_at_once(hub)


async def test_after_a_failure_nothing_live_is_sent():
    """An event published while a filter fails is neither filtered nor sent with the closing notices."""
    asked = []

    def fails(topic, event):
        asked.append(event.data)
        publish_at_once(hub)
        raise LookupError(event.data)

    async with open_hub() as hub:
        with pytest.raises(LookupError):
            async with opened(hub, "a", filter=fails) as stream:
                await hub.publish("a", "first")
                await stream.wait_closed()
        assert asked == ["first"]
        assert b"data:" not in stream.body


# --- replay


@pytest.mark.parametrize(("replay", "expected"), [(20, 20), (30, 30), (50, 30), (1, 1), (0, 0)])
async def test_replay_counts_what_the_filter_lets_through(replay, expected):
    """replay=n with a filter sends the latest n events that the filter lets through."""
    async with open_hub() as hub:
        for n in range(30):
            await hub.publish("mine", f"{n}")
        for n in range(300):
            await hub.publish("others", f"other {n}")
        async with hub.subscribe("*", replay=replay, filter=mine) as subscription:
            await hub.publish("mine", "live")
            assert await take(subscription, expected + 1) == [*map(str, range(30 - expected, 30)), "live"]


async def test_replay_looks_at_a_thousand_events_at_most(make_remote_store):
    """However little a filter lets through, joining costs a bounded number of reads and calls, in slices."""
    asked = []

    def few(topic, event):
        asked.append(event.data)
        return event.data == "0"

    store = make_remote_store()
    async with open_hub(store) as hub:
        for n in range(1500):
            await hub.publish("a", str(n))
        await wait_all_tasks_blocked()
        async with hub.subscribe("a", replay=10, filter=few) as subscription:
            await hub.publish("a", "0")
            assert await take(subscription, 1) == ["0"]
        assert len(asked) <= 10 + 40 + 160 + 640 + 1000 + 1


async def test_a_filter_that_fails_in_the_replay():
    """If a filter raises while history is read, the response raises it before anything is sent."""
    async with open_hub() as hub:
        await hub.publish("a", "1")
        with pytest.raises(ZeroDivisionError):
            async with opened(hub, "a", replay=1, filter=lambda topic, event: 1 / 0) as stream:
                await stream.wait_closed()
        assert hub.statistics().subscribers == 0


# --- positions


def position_of(stream):
    """The id that a client of these bytes comes back with."""
    return stream.body.decode().rpartition("id: ")[2].split("\n")[0]


async def test_a_client_is_not_left_behind():
    """A client whose filter lets nothing through gets a new id, so that it comes back without a needless gap."""
    async with open_hub(MemoryStore(max_events=100)) as hub:
        async with opened(hub, "*", filter=mine) as stream:
            await hub.publish("mine", "hello")
            assert (await stream.receive()).data == "hello"
            for n in range(500):
                await hub.publish("others", str(n))
                await wait_all_tasks_blocked()
            told = position_of(stream)
            assert stream.body.count(b"id: ") < 15
        async with opened(hub, "*", after=told, filter=mine) as stream:
            await hub.publish("mine", "again")
            assert (await stream.receive()).data == "again"
        assert hub.statistics().gaps == 0


async def test_a_position_is_told_when_it_is_old():
    """A filtered event moves the client's id if the last one is ten seconds old; the next one need not."""
    async with open_hub() as hub, opened(hub, "*", filter=mine) as stream:
        await hub.publish("mine", "hello")
        await anyio.sleep(TOLD_AFTER_SECONDS / 2)
        told = stream.body.count(b"id: ")
        await hub.publish("others", "1")
        await wait_all_tasks_blocked()
        assert stream.body.count(b"id: ") == told
        await anyio.sleep(TOLD_AFTER_SECONDS)
        last = await hub.publish("others", "2")
        await wait_all_tasks_blocked()
        assert stream.body.count(b"id: ") == told + 1
        assert position_of(stream) == str(last)


async def test_a_position_is_never_ahead_of_an_event():
    """A position is the id of an event that was sent, or that was filtered out right after one."""
    async with open_hub() as hub, opened(hub, "*", filter=mine) as stream:
        for n in range(3 * TOLD_AFTER_EVENTS):
            await hub.publish("others", str(n))
        last = await hub.publish("mine", "hello")
        await wait_all_tasks_blocked()
        assert position_of(stream) == str(last)
        ids = [int(line.rpartition("-")[2]) for line in stream.body.decode().split("\n") if line.startswith("id: ")]
        assert ids == sorted(ids)


async def test_a_replay_that_was_filtered_ends_at_the_present():
    """After a replay the client has the id of the newest event, even if the filter left it out."""
    async with open_hub() as hub:
        await hub.publish("mine", "hello")
        last = await hub.publish("others", "1")
        async with opened(hub, "*", replay=1, filter=mine) as stream:
            assert (await stream.receive()).data == "hello"
            await wait_all_tasks_blocked()
            assert position_of(stream) == str(last)


async def test_a_subscription_by_itself_is_told_no_position():
    """receive() from a filtered subscription returns events only, no positions."""
    async with open_hub() as hub, hub.subscribe("*", filter=mine) as subscription:
        for n in range(2 * TOLD_AFTER_EVENTS):
            await hub.publish("others", str(n))
        await hub.publish("mine", "hello")
        assert await take(subscription, 1) == ["hello"]
