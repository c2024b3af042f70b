# What an event, a delivery and an idle stream may cost, counted and not timed: the same on a busy machine.
#
# Rule 1: each budget protects one mechanism and its message says which. Whoever changes that mechanism may change the
#         budget, with a reason in the commit; whoever did not has found something.
# Rule 2: calls are those of the interpreter's profiler, Python's and C's alike. Objects are those that the cyclic
#         collector tracks, since these are what makes it slow with many streams.
# Rule 3: the server is one that only appends to a list. What it costs is in the figures, and is little.

from __future__ import annotations

import gc
import sys
import tracemalloc
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from itertools import count as count_up
from itertools import pairwise
from types import SimpleNamespace

import anyio
import pytest
from anyio.lowlevel import checkpoint

from sse_trio import EventSourceResponse, StreamGroup, open_hub, open_runs
from sse_trio._servers.connection import Connection
from sse_trio._servers.direct_write import DirectWriter

pytestmark = [pytest.mark.anyio, pytest.mark.untraced]

IDLE_OBJECTS = {
    ("asyncio", "subscription"): 70,
    ("asyncio", "producer"): 88,
    ("trio", "subscription"): 89,
    ("trio", "producer"): 120,
}
if sys.version_info < (3, 11):  # which counts frames, and dicts of instances, that later ones do without: 140 and 145
    IDLE_OBJECTS = {kind: budget * 1.75 for kind, budget in IDLE_OBJECTS.items()}
LAST = {"type": "http.response.body", "more_body": False}
SUBSCRIBERS = 100
PUBLISHED = 20


@contextmanager
def counted_calls():
    """Count calls; none of the collector's, which calls what others registered with it (hypothesis does)."""
    count = SimpleNamespace(calls=0)

    def profile(frame, event, arg):
        if event in ("call", "c_call"):
            count.calls += 1

    gc.collect()
    gc.disable()
    sys.setprofile(profile)
    try:
        yield count
    finally:
        sys.setprofile(None)
        gc.enable()


class KeepingWriter(DirectWriter):
    """Direct writes that are kept in a list."""

    def __init__(self, send, written):
        super().__init__(send)
        self.written = written

    is_in_chunks = True

    def write_nowait(self, chunk, /):
        self.written.append(chunk)
        return len(chunk)


class Server(Connection):
    """A server that keeps what it gets, and costs next to nothing."""

    def __init__(self, *, express=False, is_own=False):
        super().__init__()
        self.sent, self.written = [], []
        self.is_own = self.joins_final = is_own  # as uvicorn does
        self.gone = anyio.Event()
        self.send = self._send
        if express:
            self.direct_writer = KeepingWriter(self._send, self.written)
            self.send = self.direct_writer.send

    def is_own_send(self, send, /):
        return self.is_own

    async def receive(self):
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message):
        self.sent.append(message)

    async def serve(self, response):
        scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
        await response({**scope, "extensions": {"sse_trio": {"connection": self}}}, self.receive, self.send)


@asynccontextmanager
async def idle_streams(make_response, *, express=False, is_own=False, count=SUBSCRIBERS, apart=0.0):
    """Open this many streams, this many seconds apart; each has had its first event and waits."""
    servers = [Server(express=express, is_own=is_own) for _ in range(count)]
    async with anyio.create_task_group() as nursery:
        for server in servers:
            nursery.start_soon(server.serve, make_response())
            if apart:
                await anyio.sleep(apart)
        await anyio.sleep(1)
        yield servers
        for server in servers:
            server.gone.set()


async def one_then_idle(send_channel):
    await send_channel.send("first")
    await anyio.sleep_forever()


async def test_an_event_of_a_flood():
    """A plain str costs a handful of calls: it is neither encoded nor wrapped one by one, and written with others."""
    events = 20_000

    async def produce(send_channel):
        for _ in range(events):
            await send_channel.send("an event")

    response = EventSourceResponse(produce)
    with counted_calls() as count:
        await Server().serve(response)
    per_event = count.calls / events
    assert per_event < 8, f"{per_event:.2f} calls: the fast way of EventSendChannel.send(), its slices, or the join"


@pytest.mark.parametrize("way", ["own", "middleware"])
async def test_a_short_stream(way, anyio_backend_name):
    """A stream of one event is a response, a channel and a scope; on asyncio a known server's `send` needs no task."""
    budget = {"asyncio": 213 if way == "own" else 310, "trio": 589}[anyio_backend_name]
    if sys.version_info < (3, 11) and anyio_backend_name == "asyncio":
        budget = 588  # its producer has a nursery: no task counts its cancellations

    async def produce(send_channel):
        await send_channel.send("an event")

    group = StreamGroup(signals=False)
    async with idle_streams(lambda: EventSourceResponse(one_then_idle, group=group), count=1):  # what is made once
        server = Server(is_own=way == "own")
        with counted_calls() as count:
            for _ in range(PUBLISHED):
                await server.serve(EventSourceResponse(produce, group=group))
    is_joined = way == "own" and anyio_backend_name == "asyncio" and sys.version_info >= (3, 11)
    assert len(server.sent) == (2 if is_joined else 3) * PUBLISHED, "head, event, final frame: the last two are joined"
    assert count.calls / PUBLISHED < budget, f"{count.calls / PUBLISHED:.0f} calls: what each stream makes, or asks"


async def calls_of_paced_streams(send, **kind):
    """Count the calls of many streams whose producers wait and then send; return them with the servers."""

    async def produce(send_channel):
        await send_channel.send("first")
        await anyio.sleep(1)
        for _ in range(PUBLISHED):
            await anyio.sleep(0.05)
            await send(send_channel)
        await anyio.sleep_forever()

    group = StreamGroup(signals=False)
    async with idle_streams(lambda: EventSourceResponse(produce, ping=None, group=group), **kind) as servers:
        await anyio.sleep(0.025)  # between two wake-ups, since trio runs in any order what is due at one time
        with counted_calls() as count:
            await anyio.sleep(0.05 * PUBLISHED)
        return count.calls, sum(len(server.sent) + len(server.written) for server in servers)


@pytest.mark.parametrize("way", ["direct", "own"])
async def test_a_paced_event(way, anyio_backend_name):
    """An event that finds its stream idle is written in its send(): no task, no list, no slice is between the two."""
    budget = {"direct": 26, "own": 42}[way]
    if way == "own" and anyio_backend_name == "trio":
        budget = 112  # a task that is woken

    async def send(send_channel):
        await send_channel.send("an event")

    async def send_nothing(send_channel):
        pass

    kind = {"express": way == "direct", "is_own": way == "own"}
    waiting, before = await calls_of_paced_streams(send_nothing, **kind)
    calls, messages = await calls_of_paced_streams(send, **kind)
    assert messages - before == PUBLISHED * SUBSCRIBERS, "each event is a write"
    per_event = (calls - waiting) / (PUBLISHED * SUBSCRIBERS)
    assert per_event < budget, f"{per_event:.1f} calls: EventSendChannel.send(), Outlet.write_event(), the direct write"


CHOICES = {
    "shared": lambda n: ["a"],
    "two": lambda n: ["a", "b"],
    "own": lambda n: ["a", f"b/{n}"],
    "prefixes": lambda n: ["a", f"b/{n}/*"],
    "ten": lambda n: ["a", *[f"b/{n}/{m}" for m in range(9)]],
}
"""What the n-th subscriber chooses."""


def subscriptions(hub, choices):
    """Return a function that makes a stream of the next subscriber's choice."""
    numbers = count_up()
    return lambda: EventSourceResponse(hub.subscribe(*CHOICES[choices](next(numbers))))


@pytest.mark.parametrize(
    ("choices", "more"), [("shared", 0), ("two", 6), ("own", 4), ("prefixes", 4), ("ten", 4)], ids=CHOICES
)
@pytest.mark.parametrize(("express", "budget"), [(False, 64), (True, 24)])
async def test_a_delivery(express, budget, choices, more):
    """What is published costs each subscriber that waits a wake-up and a write, whatever else it has chosen."""
    budget += more
    async with (
        open_hub() as hub,
        idle_streams(subscriptions(hub, choices), express=express) as servers,
    ):
        await hub.publish("a", "first")  # it goes the whole way; after it, direct writes begin
        await anyio.sleep(1)
        before = sum(len(server.sent) for server in servers)
        with counted_calls() as count:
            for _ in range(PUBLISHED):
                await hub.publish("a", "an event")
                await anyio.sleep(0.01)
        sent = sum(len(server.sent) for server in servers) - before
    assert sent == (0 if express else PUBLISHED * SUBSCRIBERS)
    per_delivery = count.calls / (PUBLISHED * SUBSCRIBERS)
    assert per_delivery < budget, f"{per_delivery:.1f} calls: the writer's way from its wake-up to the server"


@pytest.mark.parametrize(("express", "budget"), [(False, 69), (True, 29)])
async def test_a_delivery_to_a_watcher(express, budget):
    """Watching a run costs what a subscription does: no task starts for an event, and one look at it serves all."""

    async def produce(send_channel):
        await anyio.sleep(2)
        for _ in range(PUBLISHED + 1):
            await send_channel.send("an event")
            await anyio.sleep(0.01)
        await anyio.sleep(2)

    async with open_hub() as hub, open_runs(hub) as runs:
        await runs.start("a", produce)
        async with idle_streams(lambda: runs.response("a"), express=express) as servers:
            await anyio.sleep(1.005)  # the first event goes the whole way; after it, direct writes begin
            with counted_calls() as count:
                await anyio.sleep(1)
            sent = [len(server.sent) for server in servers]
            await anyio.sleep(3)
            assert all(server.sent[-1] == {**LAST, "body": b""} for server in servers), "the end of the run ends them"
    assert sent == [2 if express else 2 + PUBLISHED] * SUBSCRIBERS
    per_delivery = count.calls / (PUBLISHED * SUBSCRIBERS)
    assert per_delivery < budget, f"{per_delivery:.1f} calls: what a watcher's stream does more than a subscriber's"


async def test_a_burst_is_joined_once():
    """Events published in one pass are one object for all subscribers."""
    async with open_hub() as hub, idle_streams(lambda: EventSourceResponse(hub.subscribe("a"))) as servers:
        await hub.publish_many([("a", "first"), ("a", "second"), ("a", "third")])
        await anyio.sleep(1)
        bodies = [server.sent[-1]["body"] for server in servers]
    assert bodies[0].count(b"data: ") == 3
    assert all(body is bodies[0] for body in bodies), "the feed's batch"


@pytest.mark.parametrize("express", [False, True])
async def test_a_delivery_leaves_nothing_to_collect(express):
    """No closure, scope, exception or task of an event is part of a circle: the collector finds nothing."""
    async with (
        open_hub() as hub,
        idle_streams(lambda: EventSourceResponse(hub.subscribe("a")), express=express),
    ):
        await hub.publish("a", "first")
        await anyio.sleep(1)
        gc.collect()
        gc.collect()  # what is left of the loops of earlier tests takes two
        gc.disable()
        try:
            tracked = len(gc.get_objects())
            for _ in range(PUBLISHED):
                await hub.publish("a", "an event")
                await anyio.sleep(0.01)
            grown = len(gc.get_objects()) - tracked
            garbage = gc.collect()
        finally:
            gc.enable()
    assert garbage < PUBLISHED * SUBSCRIBERS / 10, f"{garbage} objects in circles: something of each delivery is"
    # The ring keeps a tuple and an id for each event; nothing is kept for a delivery.
    assert grown < 10 * PUBLISHED, (
        f"{grown} more objects are kept after {PUBLISHED} events to {SUBSCRIBERS} subscribers"
    )


@pytest.mark.parametrize("kind", ["subscription", "producer"])
async def test_an_idle_stream(kind, anyio_backend_name):
    """An idle stream is few objects, for each full collection walks all of them; the test's own task is among them."""
    budget = IDLE_OBJECTS[anyio_backend_name, kind]
    async with open_hub() as hub:
        make = {
            "subscription": lambda: EventSourceResponse(hub.subscribe("a")),
            "producer": lambda: EventSourceResponse(one_then_idle),
        }[kind]
        async with idle_streams(make, count=2):  # what is made once
            await hub.publish("a", "first")
            gc.collect()
            before = len(gc.get_objects())
        async with idle_streams(make):
            await hub.publish("a", "first")
            await anyio.sleep(1)
            gc.collect()
            per_stream = (len(gc.get_objects()) - before) / SUBSCRIBERS
    assert per_stream < budget, f"{per_stream:.1f} tracked objects for each idle {kind} on {anyio_backend_name}"


@pytest.mark.parametrize(("express", "budget"), [(False, 86), (True, 45)])
async def test_a_ping(express, budget):
    """A ping costs a tick and a write; the ticker wakes once for all that are due together, however many they are."""
    response_of = lambda: EventSourceResponse(one_then_idle, ping=15, group=group)  # noqa: E731
    group = StreamGroup(signals=False)
    async with idle_streams(response_of, express=express, apart=0.001) as servers:
        await anyio.sleep(1)
        with counted_calls() as count:
            await anyio.sleep(15 * PUBLISHED)
        pings = sum(b"ping" in repr(each).encode() for server in servers for each in server.sent + server.written)
    assert pings >= SUBSCRIBERS * (PUBLISHED - 1)
    assert count.calls / pings < budget, f"{count.calls / pings:.1f} calls a ping: the ticker, or the writer"


@pytest.mark.parametrize("choices", CHOICES)
async def test_a_crowd_of_subscribers_does_not_stop_the_loop(choices):
    """A publisher's event reaches many subscribers in slices: another task has its turn after every 50 of them."""
    count = 500
    async with open_hub() as hub, idle_streams(subscriptions(hub, choices), express=True, count=count) as servers:
        await hub.publish("a", "first")
        await anyio.sleep(1)
        written = [sum(len(server.written) for server in servers)]
        await hub.publish("a", "an event")
        while written[-1] - written[0] < count:
            await checkpoint()
            written.append(sum(len(server.written) for server in servers))
    # trio runs the tasks of a pass in any order: the publisher's may come last in one and first in the next.
    assert max(after - before for before, after in pairwise(written)) <= 2 * 50


@pytest.mark.parametrize("pattern", ["b/{}", "b/{}/*"])
async def test_a_publish_beside_many_choices(pattern):
    """Publishing costs what the levels of its topic do, however many others have chosen other topics and prefixes."""
    calls = []
    for others in (1, 1000):
        async with open_hub() as hub, AsyncExitStack() as stack:
            for n in range(others):
                await stack.enter_async_context(hub.subscribe("a", pattern.format(n)))
            with counted_calls() as count:
                for _ in range(PUBLISHED):
                    await hub.publish("b/other/topic", "an event")
            calls.append(count.calls)
    assert calls[1] < 1.2 * calls[0], f"{calls} calls beside 1 and 1,000 others: the index of rings"


@pytest.mark.parametrize("delete", [False, True])
async def test_what_is_taken_out_beside_many_choices(delete):
    """Taking events out of the rings, which share their topic, costs the same however many choices have that topic."""
    calls = []
    for others in (1, 1000):
        async with open_hub() as hub, AsyncExitStack() as stack:
            for n in range(others):
                await stack.enter_async_context(hub.subscribe("a", f"b/{n}"))
            await hub.publish_many([("a", str(n)) for n in range(PUBLISHED)], ttl=None if delete else 1)
            await anyio.sleep(0.5)
            with counted_calls() as count:
                await (hub.delete("a") if delete else anyio.sleep(1))
            calls.append(count.calls)
            (each,) = {feed.ring_events for feed in hub.feeds()}
            assert each == delete, "a deletion leaves its mark"
    assert calls[1] < 1.2 * calls[0], f"{calls} calls beside 1 and 1,000 others: Fanout.drop() and Ring.purge()"


@pytest.mark.parametrize(("choices", "more"), [("own", 2500), ("prefixes", 2800)])
async def test_the_memory_of_a_choice(choices, more):
    """A choice of one's own costs a few small objects, and holds none of the events of a topic that others read too."""
    sizes = {}
    for each in ("shared", choices):
        async with open_hub() as hub, AsyncExitStack() as stack:
            subscriptions = [hub.subscribe(*CHOICES[each](n)) for n in range(2 * SUBSCRIBERS)]
            gc.collect()
            tracemalloc.start()
            for subscription in subscriptions:
                await stack.enter_async_context(subscription)
            for _ in range(500):
                await hub.publish("a", "x" * 100)
            gc.collect()
            sizes[each] = tracemalloc.get_traced_memory()[0] / len(subscriptions)
            tracemalloc.stop()
    assert sizes[choices] - sizes["shared"] < more, f"{sizes} bytes for each subscriber: what a feed and a ring hold"
