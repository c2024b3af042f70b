# MemoryStore: the conformance kit, and what is its own: age on the loop's clock, and bounded memory.

from __future__ import annotations

import random
import sys

import anyio
import pytest

from sse_trio.stores import EventId, MemoryStore, Retention, TopicFilter, _ends
from sse_trio.stores._memory import hub_log
from sse_trio.testing._check_store import check_event_store
from sse_trio.testing._store_locations import ALL, plain, read_all

pytestmark = pytest.mark.anyio


@pytest.mark.untraced
async def test_conformance():
    """MemoryStore keeps every promise of the protocol."""

    def make(_location, hub, topic):
        return MemoryStore(hub.max_events, hub.max_age, hub.max_bytes, per_topic=topic)

    await check_event_store(make, durable=False, shared=False, make_by_prefix=make)


async def test_append_is_atomic_under_cancellation():
    """A cancelled append raises before it changes anything."""
    async with MemoryStore() as store:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await store.append([("a", b"")])
        assert scope.cancelled_caught
        assert (await store.read_last(ALL, 0)).tip.sequence == 0


@pytest.mark.parametrize("limits", [{"max_age": 10.0}, {"max_age": 99, "per_topic": Retention(max_age=10)}])
async def test_events_go_when_they_are_too_old(limits):
    """Events older than the narrowest max_age are no longer read, and count as missed."""
    async with MemoryStore(**limits) as store:
        (old,) = await store.append([("a", b"old")])
        await anyio.sleep(9)
        (new,) = await store.append([("a", b"new")])
        assert len((await store.read(ALL, None)).events) == 2
        await anyio.sleep(1.5)
        assert [event.id for event in (await store.read_last(ALL, 5)).events] == [new]
        assert (await store.read(ALL, EventId(store.epoch, 0))).gap == (EventId(store.epoch, 0), new)
        assert (await store.read(ALL, old)).gap is None
        await anyio.sleep(9)
        assert (await store.read(ALL, old)).gap == (old, None)


async def test_what_topics_have_lost_takes_no_memory():
    """A quiet topic's old event doesn't keep a busy topic's trimmed events in memory."""
    async with MemoryStore(per_topic=Retention(max_events=2)) as store:
        await store.append([("quiet", b"")])
        for n in range(5000):
            await store.append([("busy", b"%d" % n)])
        assert len(store._log._hub) <= hub_log._COMPACT_FROM + 10
        events, _ = await read_all(store, ALL, None)
        assert plain(events) == [(1, "quiet", b""), (5000, "busy", b"4998"), (5001, "busy", b"4999")]


async def test_a_page_looks_at_a_bounded_number_of_events():
    """Reading a prefix among many other events takes several pages, and nothing is lost between them."""
    async with MemoryStore(max_events=None) as store:
        await store.append([("other", b"")] * 5000 + [("p/1", b"1")] + [("other", b"")] * 5000 + [("p/2", b"2")])
        page = await store.read(TopicFilter("p/*"), None)
        assert page.events == ()
        assert page.next != page.tip
        events, _ = await read_all(store, TopicFilter("p/*"), None)
        assert [event.payload for event in events] == [b"1", b"2"]


async def test_a_gap_is_said_with_the_first_event_after_it():
    """A page with a gap names the first event after it, however far away that is."""
    async with MemoryStore(max_events=None) as store:
        ids = await store.append([("other", b"")] * 5000 + [("p/1", b"1")])
        page = await store.read(TopicFilter("p/*"), EventId("foreign", 1))
        assert page.gap == (EventId("foreign", 1), ids[-1])


async def test_the_ends_of_many_topics_are_forgotten(monkeypatch):
    """The store remembers a limited number of ended topics; for others it reports a gap rather than none."""
    monkeypatch.setattr(_ends, "MAX_FORGOTTEN", 10)
    async with MemoryStore(max_events=1) as store:
        ids = [(await store.append([(f"t/{n}", b"")]))[0] for n in range(30)]
        assert len(store._log._ends) == 10
        assert (await store.read(TopicFilter("t/1"), ids[1])).gap is not None
        assert (await store.read(TopicFilter("never"), ids[1])).gap is not None
        assert (await store.read(TopicFilter("t/25"), ids[24])).gap is not None
        assert (await store.read(TopicFilter("t/25"), ids[25])).gap is None
        assert (await store.read(TopicFilter("never"), ids[25])).gap is None
        assert (await store.read(TopicFilter("t/*"), ids[25])).gap is not None
        assert (await store.read(TopicFilter("t/*"), ids[28])).gap is None
        await store.append([("t/1", b"")])
        assert (await store.read(TopicFilter("t/1"), ids[1])).gap is not None


DEEP = "b/" * 8  # as many levels as are noted


@pytest.mark.untraced
async def test_the_end_of_a_prefix_is_exact():
    """Whichever limit trimmed it, the gap of a prefix is exactly its newest lost event.

    Deeper than eight levels it is that of the first eight: a gap may be one too many and is never one too few.
    """
    chance = random.Random(1)
    names = ["a", "a/", "a//", "a/b", "a/b/c", "ab/c", "b/" * 12, "b/" * 12 + "c", "b/" * 10 + "d"]
    prefixes = ["a/", "a//", "a/b/", "ab/", "b/", DEEP, "b/" * 10, "b/" * 12]
    filters = [(TopicFilter(f"{prefix}*"), TopicFilter(f"{prefix[:16]}*")) for prefix in prefixes]
    filters += [(topics, topics) for topics in (TopicFilter("a/b/*", "b/*", "a"), TopicFilter("none/*"))]
    async with MemoryStore(max_events=8, per_topic=Retention(max_events=3)) as store:
        topic_of = {}
        for _ in range(300):
            topic = chance.choice(names[: chance.randint(1, len(names))])
            [id_] = store.append_nowait([(topic, b"")])
            topic_of[id_.sequence] = topic
            kept = {event.id.sequence for event in (await store.read_last(ALL, 100)).events}
            gone = {sequence: topic for sequence, topic in topic_of.items() if sequence not in kept}
            for topics, reckoned in filters:
                newest = max((sequence for sequence, topic in gone.items() if reckoned.matches(topic)), default=0)
                page = await store.read(topics, EventId(store.epoch, 0))
                assert (page.trimmed_to.sequence, page.gap is not None) == (newest, newest > 0)


class Looked(str):
    """A topic that notes when it is compared with a prefix."""

    __slots__ = ()
    at = 0  # how often, since it was last asked

    def startswith(self, *args):
        type(self).at += 1
        return super().startswith(*args)

    @classmethod
    def take(cls):
        at, cls.at = cls.at, 0
        return at


@pytest.mark.parametrize("prefix", ["user/", "user/" * 12])
async def test_joining_a_prefix_looks_at_no_topic(prefix):
    """Joining a prefix looks at no topic, however many there are, because that would block the event loop."""
    async with MemoryStore(max_events=100) as store:
        [*_, last] = await store.append([(Looked(f"{prefix}{n}"), b"") for n in range(1000)])
        Looked.take()
        assert (await store.read(TopicFilter(f"{prefix}*"), last)).gap is None
        assert Looked.take() == 0
        assert (await store.read(TopicFilter(f"{prefix}*"), EventId(store.epoch, 0))).gap is not None
        assert Looked.take() == 100  # the events that it is sent


@pytest.mark.untraced
@pytest.mark.parametrize("prefixes", [1, 100])
async def test_a_long_search_leaves_the_loop_to_others(prefixes):
    """Each turn of the loop looks at a bounded number of events, fewer if there are more prefixes."""
    most = hub_log._SCAN // (1 + prefixes // 16)
    topics = TopicFilter(*(f"{n}/*" for n in range(prefixes)))
    turns = []

    async def others():
        while True:
            turns.append(Looked.take())
            await anyio.lowlevel.checkpoint()

    async with MemoryStore(max_events=None) as store, anyio.create_task_group() as group:
        await store.append([(Looked("other"), b"")] * 20_000)
        [rare] = await store.append([("0/rare", b"")])
        await store.append([(Looked("other"), b"")] * 20_000)
        group.start_soon(others)
        Looked.take()
        assert (await store.read(topics, EventId("foreign", 1))).gap.oldest == rare
        assert [event.id for event in (await store.read_last(topics, 2)).events] == [rare]
        group.cancel_scope.cancel()
    assert max(turns) <= 2 * most  # trio may let two turns of the one pass before the next of the other
    assert sum(turns) >= 40_000


async def test_a_follower_passes_over_what_is_gone():
    """A follower skips a long run of events that their topics have lost, and goes on."""
    async with MemoryStore(max_events=None, per_topic=Retention(max_events=1)) as store:
        for n in range(9000):
            store.append_nowait([(f"quiet/{n}", b"")])
        for _ in range(9500):  # more than two pages look at
            [last] = store.append_nowait([("busy", b"")])
        async with store.follow(EventId(store.epoch, 8990)) as pages:
            seen = []
            while last not in seen:
                seen += [event.id for event in (await anext(pages)).events]
        assert len(seen) == 11


async def test_a_key_is_remembered_for_ten_minutes():
    """A key is remembered for ten minutes, longer than a publish is retried, and then forgotten."""
    async with MemoryStore() as store:
        (first,) = await store.append([("a", b"")], key=("p", 1))
        await anyio.sleep(599)
        assert await store.append([("a", b"")], key=("p", 1)) == [first]
        await anyio.sleep(2)
        assert await store.append([("a", b"")], key=("p", 1)) != [first]
        assert len(store._keys) == 1


async def test_a_store_is_opened_once():
    """A store can't be opened again, because that would mix two histories."""
    store = MemoryStore()
    async with store:
        pass
    with pytest.raises(RuntimeError, match="opened once only"):
        await store.__aenter__()


async def test_a_follower_of_a_closed_store_ends():
    """A follower that outlives its store gets an error."""
    async with MemoryStore() as store:
        follower = store.follow(EventId(store.epoch, 0))
        pages = await follower.__aenter__()
    with pytest.raises(anyio.ClosedResourceError, match="not open"):
        await anext(pages)
    await follower.__aexit__(None, None, None)


async def test_two_followers_are_both_woken():
    """Every waiting follower gets what is appended."""
    seen = []

    async def follow():
        async with store.follow(EventId(store.epoch, 0)) as pages:
            seen.append((await anext(pages)).events[0].id)

    async with MemoryStore() as store, anyio.create_task_group() as group:
        group.start_soon(follow)
        group.start_soon(follow)
        await anyio.wait_all_tasks_blocked()
        (id_,) = await store.append([("a", b"")])
    assert seen == [id_, id_]


@pytest.mark.parametrize("limit", ["max_events", "max_age", "max_bytes"])
def test_limits_are_positive(limit):
    """A limit must be positive; None means no limit."""
    with pytest.raises(ValueError, match=f"{limit} must be .* or None for no limit; got 0"):
        Retention(**{limit: 0})
    with pytest.raises(ValueError, match=f"{limit} must be .*; got -1"):
        MemoryStore(**{limit: -1})


async def test_a_page_has_room():
    """A read with a limit below 1 is a ValueError."""
    async with MemoryStore() as store:
        with pytest.raises(ValueError, match="limit must be .*; got 0"):
            await store.read(ALL, None, limit=0)


async def test_memory_for_an_event_is_as_documented():
    """An event of 100 bytes takes about 450 bytes in all."""
    async with MemoryStore(max_events=None) as store:
        await store.append([("a", b"x" * 100)])
        (entry,) = store._log._hub._entries
        event = entry.event
        parts = (entry, entry.sequence, entry.time, event, event.id, event.id.sequence, event.payload)
    assert sum(map(sys.getsizeof, parts)) + 2 * 8 < 500


@pytest.mark.parametrize("key", [("p", "1"), (b"p", 1), ("p", -1), ("p", 2**63), ("\ud800", 1)])
async def test_a_key_is_a_name_and_a_number(key):
    """A malformed key raises for its caller before any other append can be affected."""
    async with MemoryStore() as store:
        with pytest.raises((TypeError, ValueError)):
            await store.append([("a", b"")], key=key)
        assert (await store.read_last(ALL, 0)).tip.sequence == 0


def held_names(store):
    """The bytes of the names that a store holds: of topics with events, of those that have ended, and of prefixes."""
    names = [*store._log._topics], [*store._log._ends._ends], [*store._log._prefix_ends._ends]
    return [sum(map(_ends.size_of_name, each)) for each in names]


@pytest.mark.parametrize("name", ["r{}" + "x" * 1000, "{}" + "é" * 1000, "a/{}/" + "y" * 500 + "/" + "z" * 400])
async def test_names_of_topics_are_counted(name):
    """However many long names there are, the names of live and of ended topics take at most max_bytes each."""
    limit = 100_000
    async with MemoryStore(max_bytes=limit) as store:
        for n in range(500):
            await store.append([(name.format(n), b"x")])
            counted = [store._log._name_bytes, store._log._ends._size, store._log._prefix_ends._size]
            assert counted == held_names(store)
            assert max(counted) <= limit
        page = await store.read(TopicFilter("*"), None, limit=1000)
        assert len(page.events) == pytest.approx(limit / _ends.size_of_name(name.format(100)), abs=2)
        (newest,) = await store.append([(name.format("last"), b"x")])
        assert (await store.read_last(TopicFilter("*"), 1)).events[0].id == newest
        forgotten = await store.read(TopicFilter(name.format(0)), EventId(store.epoch, 1))
        assert forgotten.gap is not None  # rather one too many than none


async def test_short_names_are_not_forgotten_for_a_small_limit():
    """Even with a small max_bytes, 64 KiB of names of ended topics are remembered."""
    async with MemoryStore(max_bytes=10) as store:
        (first,) = await store.append([("first", b"x" * 10)])
        for n in range(1000):
            await store.append([(str(n), b"x" * 10)])
        assert (await store.read(TopicFilter("first"), first)).gap is None


async def test_its_repr_says_what_it_holds():
    """A memory store shows its epoch, whether it is open, and what it holds."""
    store = MemoryStore()
    assert repr(store) == f"<MemoryStore {store.epoch}: not open yet, 0 events, 0 bytes, 0 topics>"
    async with store:
        await store.append([("a", b"12"), ("a", b"3"), ("b", b"")])
        assert repr(store) == f"<MemoryStore {store.epoch}: open, 3 events, 3 bytes, 2 topics>"
    assert repr(store) == f"<MemoryStore {store.epoch}: closed, 3 events, 3 bytes, 2 topics>"
