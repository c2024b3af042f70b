# The conformance kit finds what it is there to find: stores that break one promise each.

from __future__ import annotations

from contextlib import asynccontextmanager

import anyio
import pytest

from sse_trio.stores import EventId, MemoryStore, Page, Retention, TopicFilter
from sse_trio.testing._check_store import check_event_store

pytestmark = pytest.mark.anyio


class Honest:
    """A store that passes everything on to a MemoryStore; the classes below spoil one method each."""

    def __init__(self, hub=Retention(), topic=Retention()):  # noqa: B008
        self.store = MemoryStore(hub.max_events, hub.max_age, hub.max_bytes, per_topic=topic)

    @property
    def epoch(self):
        return self.store.epoch

    async def __aenter__(self):
        await self.store.__aenter__()
        return self

    async def __aexit__(self, *exc_info):
        return await self.store.__aexit__(*exc_info)

    async def append(self, items, *, key=None):
        return await self.store.append(items, key=key)

    async def read(self, topics, after, *, limit=256):
        return await self.store.read(topics, after, limit=limit)

    async def read_last(self, topics, count):
        return await self.store.read_last(topics, count)

    @asynccontextmanager
    async def follow(self, after):
        async with self.store.follow(after) as pages:
            yield self.spoil(pages)

    def spoil(self, pages):
        return pages


class ForgetsKeys(Honest):
    async def append(self, items, *, key=None):
        return await super().append(items)


class MixesProducersUp(Honest):
    async def append(self, items, *, key=None):
        return await super().append(items, key=key and ("everybody", key[1]))


class AppendsOneByOne(Honest):
    async def append(self, items, *, key=None):
        return [(await self.store.append([item]))[0] for item in items]


class GivesIdsTwice(Honest):
    async def append(self, items, *, key=None):
        return [EventId(id_.epoch, (id_.sequence + 1) // 2) for id_ in await super().append(items, key=key)]


class AcknowledgesTooSoon(Honest):
    async def read_last(self, topics, count):
        page = await super().read_last(topics, count)
        before = EventId(page.tip.epoch, max(0, page.tip.sequence - 1))
        return page._replace(events=page.events[:-1], next=before, tip=before)


class AcceptsPatterns(Honest):
    async def append(self, items, *, key=None):
        return await super().append([(topic.replace("*", "x"), payload) for topic, payload in items], key=key)


class NeverHasAGap(Honest):
    async def read(self, topics, after, *, limit=256):
        return (await super().read(topics, after, limit=limit))._replace(gap=None)


class ForgetsWhatItTold(Honest):
    async def read(self, topics, after, *, limit=256):
        return await super().read(topics, after.next if isinstance(after, Page) else after, limit=limit)


class BelievesOldPages(Honest):
    async def read(self, topics, after, *, limit=256):
        page = await super().read(topics, after, limit=limit)
        return page._replace(gap=None) if isinstance(after, Page) else page


class CountsTheHubForEachTopic(Honest):
    async def read(self, topics, after, *, limit=256):
        page = await super().read(topics, after, limit=limit)
        hub = await super().read(TopicFilter("*"), after, limit=limit)
        return page._replace(gap=hub.gap and hub.gap._replace(oldest=page.events[0].id if page.events else None))


class NamesAnotherOldest(Honest):
    async def read(self, topics, after, *, limit=256):
        page = await super().read(topics, after, limit=limit)
        return page._replace(gap=page.gap and page.gap._replace(oldest=page.tip))


class KeepsOneLess(Honest):
    def __init__(self, hub=Retention(), topic=Retention()):  # noqa: B008
        fewer = None if hub.max_events is None else hub.max_events - 1
        super().__init__(Retention(max_events=fewer, max_bytes=hub.max_bytes), topic)


class KeepsAll(Honest):
    def __init__(self, hub=None, topic=None):
        super().__init__()


class TakesPrefixesLoosely(Honest):
    async def read(self, topics, after, *, limit=256):
        loose = TopicFilter("*") if topics.prefixes else topics
        return await super().read(loose, after, limit=limit)


class LosesTheLastOfAPage(Honest):
    async def read(self, topics, after, *, limit=256):
        page = await super().read(topics, after, limit=limit)
        return page._replace(events=page.events[:-1]) if len(page.events) == limit else page


class ReadsBackwards(Honest):
    async def read(self, topics, after, *, limit=256):
        page = await super().read(topics, after, limit=limit)
        return page._replace(events=page.events[::-1])


class AnswersWhenClosed(Honest):
    async def append(self, items, *, key=None):
        try:
            return await super().append(items, key=key)
        except anyio.ClosedResourceError:
            return []


class WrapsErrors(Honest):
    async def __aexit__(self, exc_type, exc, traceback):
        await super().__aexit__(exc_type, exc, traceback)
        if exc is not None:
            raise RuntimeError from exc


class FollowsFromNow(Honest):
    @asynccontextmanager
    async def follow(self, after):
        tip = (await self.store.read_last(TopicFilter("*"), 0)).tip
        async with self.store.follow(tip) as pages:
            yield pages


class _Pages:
    def __init__(self, pages, change):
        self.pages, self.change, self.last = pages, change, None

    def __aiter__(self):
        return self

    async def __anext__(self):
        page = await self.pages.__anext__()
        page, self.last = self.change(page, self.last), page
        return page


class FollowsTwice(Honest):
    def spoil(self, pages):
        return _Pages(pages, lambda page, last: page._replace(events=(last.events[-1:] if last else ()) + page.events))


class FollowsAlmostAll(Honest):
    def spoil(self, pages):
        return _Pages(pages, lambda page, last: page if last is None else page._replace(events=page.events[1:]))


class FollowsWithoutGaps(Honest):
    def spoil(self, pages):
        return _Pages(pages, lambda page, last: page._replace(gap=None))


class NeverFollows(Honest):
    @asynccontextmanager
    async def follow(self, after):
        class Silent:
            def __aiter__(self):
                return self

            async def __anext__(self):
                await anyio.sleep_forever()

        yield Silent()


class LosesPagesWhenCancelled(Honest):
    def spoil(self, pages):
        class Careless:
            async def __anext__(self):
                page = await pages.__anext__()
                await anyio.sleep(0.002)
                return page

            def __aiter__(self):
                return self

        return Careless()


class TearsWhenCancelled(Honest):
    async def append(self, items, *, key=None):
        if len(items) == 2 and items[0][0].isdigit():
            first = await self.store.append(items[:1])
            await anyio.sleep(0.002)
            return first + await self.store.append(items[1:])
        return await self.store.append(items, key=key)


class IsTheSameForEver(Honest):
    @property
    def epoch(self):
        return "always"

    async def append(self, items, *, key=None):
        return [EventId("always", id_.sequence) for id_ in await super().append(items, key=key)]

    async def read(self, topics, asked, *, limit=256):
        after = asked
        if isinstance(after, Page):
            after = after._replace(next=EventId(self.store.epoch, after.next.sequence))
        elif after is not None and after.epoch == "always":
            after = EventId(self.store.epoch, after.sequence)
        page = self.renamed(await super().read(topics, after, limit=limit))
        return page._replace(gap=page.gap and page.gap._replace(after=asked))

    async def read_last(self, topics, count):
        return self.renamed(await super().read_last(topics, count))

    def renamed(self, page):
        def new(id_):
            return id_ and EventId("always", id_.sequence)

        events = tuple(event._replace(id=new(event.id)) for event in page.events)
        gap = page.gap and page.gap._replace(oldest=new(page.gap.oldest))
        return page._replace(events=events, next=new(page.next), tip=new(page.tip), gap=gap)


BROKEN = [
    (ForgetsKeys, "idempotent"),
    (MixesProducersUp, "idempotent"),
    (AppendsOneByOne, "order: the events of one append"),
    (GivesIdsTwice, "order"),
    (AcknowledgesTooSoon, "durable"),
    (AcceptsPatterns, "durable"),
    (NeverHasAGap, "gap"),
    (ForgetsWhatItTold, "gap"),
    (BelievesOldPages, "gap"),
    (CountsTheHubForEachTopic, "gap"),
    (NamesAnotherOldest, "gap"),
    (KeepsOneLess, "gap|retention"),
    (KeepsAll, "gap|retention"),
    (TakesPrefixesLoosely, "gap|retention"),
    (LosesTheLastOfAPage, "order|retention"),
    (ReadsBackwards, "order|retention"),
    (AnswersWhenClosed, "closed"),
    (WrapsErrors, "closed"),
    (FollowsFromNow, "follow|join"),
    (FollowsTwice, "follow|join"),
    (FollowsAlmostAll, "follow|join"),
    (FollowsWithoutGaps, "follow"),
    (NeverFollows, "join: the check was still waiting after"),
    (LosesPagesWhenCancelled, "follow"),
    (TearsWhenCancelled, "unknown outcome"),
    (IsTheSameForEver, "epoch"),
]


# What the kit does for no other store: checks that end by their time, that run to their end, that fail in a group.
TRACED = (NeverFollows, AnswersWhenClosed, AppendsOneByOne)


def param_of(broken, promise):
    marks = () if broken in TRACED else (pytest.mark.untraced,)
    return pytest.param(broken, promise, id=broken.__name__, marks=marks)


async def check(make, **promises):
    await check_event_store(
        lambda _location, hub, topic: make(hub, topic), **{"durable": False, "shared": False} | promises
    )


async def test_an_honest_store_passes():
    """The store that the broken ones are derived from keeps every promise."""
    await check(Honest)


@pytest.mark.parametrize(("broken", "promise"), [param_of(*one) for one in BROKEN])
async def test_a_broken_promise_is_named(broken, promise):
    """A store that breaks one promise fails the kit, and the failure begins with the promise's name."""
    with pytest.raises(AssertionError, match=rf"\A({promise})"):
        await check(broken)


@pytest.mark.parametrize("promise", ["durable", "shared"])
async def test_a_store_that_promises_too_much_is_found_out(promise):
    """A store that lives in one process only is neither durable nor shared, whatever it is said to be."""
    with pytest.raises(AssertionError, match="^epoch"):
        await check(Honest, **{promise: True})


async def test_other_errors_come_out_as_they_are():
    """A store that is out of order fails the kit with its own error."""

    class IsOutOfOrder(Honest):
        async def append(self, items, *, key=None):
            raise LookupError

    with pytest.raises(LookupError):
        await check(IsOutOfOrder)


class Expires(Honest):
    """Takes events that expire."""

    def expiry_clock(self):
        return self.store.expiry_clock()


class KeepsWhatHasExpired(Expires):
    """Knows no mark."""

    async def append(self, items, *, key=None):
        return await super().append([(topic, b"\n" + payload) for topic, payload in items], key=key)

    async def read(self, topics, after, *, limit=256):
        page = await super().read(topics, after, limit=limit)
        return page._replace(events=tuple([one._replace(payload=one.payload[1:]) for one in page.events]))


async def test_expiry_is_checked_where_a_store_has_it():
    """A store that takes events that expire passes if no read gives them after their moment, and fails if one does."""
    await check(Expires)
    with pytest.raises(AssertionError, match=r"\Aexpiry"):
        await check(KeepsWhatHasExpired)


def first_match(topics, topic):
    return next((limits for pattern, limits in topics.items() if TopicFilter(pattern).matches(topic)), Retention())


class TakesTheFirstPattern(Honest):
    """Keeps what the first pattern says, not the longest."""

    def __init__(self, hub, topics):
        names = ("a", "ab", "b", "p", "p/1", "p/2", "p/2/3", "p/2/x", "p/2/x/y", "p/23")
        super().__init__(hub, {name: first_match(topics, name) for name in names})


async def test_limits_by_pattern_are_checked_where_a_store_has_them():
    """A store whose limits are by pattern passes if the longest pattern counts, and fails if another does."""

    def make_honest(_location, hub, topics):
        return Honest(hub, topics)

    def make_broken(_location, hub, topics):
        return TakesTheFirstPattern(hub, topics)

    await check(Honest, make_by_prefix=make_honest)
    with pytest.raises(AssertionError, match=r"\A(retention|gap)"):
        await check(Honest, make_by_prefix=make_broken)
