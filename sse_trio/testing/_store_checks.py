# Checks of the promises of an event store that a single user can see: order, durability, keys, gaps, restarts.
#
# Rule 1: a check uses only the protocol, so it works with every store.
# Rule 2: each check works at its own, empty locations.
# Rule 3: randomness is seeded, so that a failing check fails again.

from __future__ import annotations

import random
from typing import Final, cast

from anyio import ClosedResourceError, create_task_group

from ..stores import Retention
from ..stores._protocol import EventId, EventStore, StoredEvent
from ..stores._topics import TopicFilter
from ._store_locations import ALL, KEEP_ALL, Locations, plain, read_all
from ._store_model import StoreModel

__all__ = (
    "closed",
    "deep",
    "durable",
    "gap",
    "gap_while_reading",
    "idempotent",
    "new_epoch",
    "order",
    "rare",
    "restart",
)


async def order(locations: Locations) -> None:
    """Ids grow, the ids of one append are neighbours, and reading returns the events in the order of their ids."""
    appended: list[tuple[EventId, str, bytes]] = []

    async def publish(publisher: int) -> None:
        last = 0
        for n in range(10):
            items = [(f"t/{publisher}", bytes((publisher, n, m, 0, 255))) for m in range(n % 3 + 1)]
            ids = await store.append(items)
            assert ids[0].sequence > last, "order: the ids of a publisher don't grow"
            last = ids[-1].sequence
            first = ids[0].sequence
            neighbours = [id_.sequence - first for id_ in ids] == list(range(len(items)))
            assert neighbours, f"order: the events of one append are not neighbours: {ids}"
            appended.extend((id_, topic, payload) for id_, (topic, payload) in zip(ids, items, strict=True))

    async with locations.open() as store:
        assert await store.append([]) == [], "order: an append of nothing gives ids"
        async with create_task_group() as task_group:
            for publisher in range(8):
                task_group.start_soon(publish, publisher)
        events, _ = await read_all(store, ALL, None, limit=7)
        assert len({id_ for id_, _, _ in appended}) == len(appended), "order: an id was given twice"
        assert [tuple(event) for event in events] == sorted(appended), "order: read doesn't give what was appended"


async def durable(locations: Locations) -> None:
    """An appended event is visible at once; a refused append leaves nothing behind."""
    async with locations.open() as store:
        id_ = EventId(store.epoch, 0)
        for n in range(5):
            (id_,) = await store.append([("a", b"%d" % n)])
            page = await store.read_last(ALL, 1)
            assert page.tip == page.next == id_, "durable: an append that returned is not the tip of the next read"
            assert page.events == (StoredEvent(id_, "a", b"%d" % n),), "durable: a read misses what was appended"
        wrong: list[tuple[str, bytes]]
        for wrong in ([("a", b""), ("b/*", b"")], [("a", b""), ("b", cast("bytes", "text"))]):
            refused = False
            try:
                await store.append(wrong)
            except (TypeError, ValueError):
                refused = True
            assert refused, f"durable: {wrong} was accepted"
        assert (await store.read_last(ALL, 1)).tip == id_, "durable: a part of a refused append was kept"


async def idempotent(locations: Locations) -> None:
    """An append with a used key appends nothing, whichever task makes it, and whenever."""
    results: list[list[EventId]] = []
    items = [("a", b"1"), ("b", b"2")]

    async def publish() -> None:
        results.append(await store.append(items, key=("me", 1)))

    async with locations.open() as store:
        async with create_task_group() as task_group:
            for _ in range(5):
                task_group.start_soon(publish)
        await store.append([("c", b"between")])
        await publish()
        assert all(ids == results[0] for ids in results), f"idempotent: one key, several results: {results}"
        later = await store.append(items, key=("me", 0))  # keys of one producer may come in any order
        other = await store.append(items, key=("you", 1))
        assert len({*results[0], *later, *other}) == 6, "idempotent: another key was taken for the same"
        assert len((await store.read(ALL, None)).events) == 7, "idempotent: a key was used twice and appended twice"


async def gap(locations: Locations) -> None:
    """Gaps, events and order are right for every id and every kind of selection, after every append."""
    limits = Retention(max_events=12, max_bytes=170), Retention(max_events=5, max_bytes=60)
    chance = random.Random(4)  # noqa: S311 -- a test
    async with locations.open("limited", *limits) as store:
        model = StoreModel(store.epoch, *limits)
        for step in range(21):
            topics = chance.choices(
                ("a", "b", "p/1", "p/2/3", "p/4"), (9, 1, 3, 1, 1), k=chance.choice((1, 1, 1, 2, 20))
            )
            items = [(topic, b"x" * chance.randrange(30)) for topic in topics]
            model.appended(await store.append(items), items)
            if step % 10 == 0:
                await _check_every_id(store, model)
        for count in (0, 1, 3, 100):
            for asked in _SELECTIONS:
                page = await store.read_last(asked, count)
                expected = model.kept(asked)[-count:] if count else []
                assert plain(page.events) == expected, f"retention: the last {count} of {asked} are others"
                assert page.next == page.tip == EventId(model.epoch, model.tip), "order: read_last knows another tip"


_SELECTIONS: Final = tuple(
    TopicFilter(*patterns) for patterns in (("a",), ("b",), ("never",), ("a", "p/4"), ("p/*",), ("b", "p/2/*"), ("*",))
)


async def _check_every_id(store: EventStore, model: StoreModel) -> None:
    for topics in _SELECTIONS:
        for after in model.every_id():
            expected = model.expected(topics, after)
            events, gap = await read_all(store, topics, after, limit=3 if topics.matches_all else 100)
            what = f"{topics} after {after}, tip {model.tip}"
            assert (gap is not None) == expected.gap, f"gap: {'none' if expected.gap else 'one too many'}: {what}"
            assert plain(events) == expected.events, f"retention: other events than are to be kept: {what}"
            if gap is not None:
                assert gap.after == after, f"gap: it names another id than the one that was given: {what}"
                oldest = events[0].id if events else None
                assert gap.oldest == oldest, f"gap: oldest={gap.oldest} is not the first event after it: {what}"


async def gap_while_reading(locations: Locations) -> None:
    """A reader that goes on from a page gets a gap for what was trimmed since, and for nothing older."""
    topics = TopicFilter("a", "b")
    async with locations.open("limited", topic=Retention(max_events=3)) as store:
        await store.append([("b", b"1"), *(("a", b"%d" % n) for n in range(5)), ("b", b"2")])
        page = await store.read(topics, EventId(store.epoch, 1), limit=1)
        assert page.gap is not None, "gap: none, although the first events of a are gone"
        on = await store.read(topics, page, limit=1)
        assert on.gap is None, "gap: the same events were reported twice"
        await store.append([("never/asked", b""), ("b", b"3")])
        assert (await store.read(topics, on, limit=1)).gap is None, "gap: one more, though nothing was trimmed"
        await store.append([("a", b"%d" % n) for n in range(5, 9)])
        assert (await store.read(topics, on, limit=1)).gap is not None, "gap: none for what was trimmed between pages"


async def deep(locations: Locations) -> None:
    """A prefix of more than eight levels may get a gap too many; no prefix ever gets one too few."""
    async with locations.open("limited", topic=Retention(max_events=1)) as store:
        for levels in (1, 8, 9, 40):
            prefix = f"{levels}/" + "b/" * (levels - 1)
            ids = await store.append([(f"{prefix}c", b"1"), (f"{prefix}c", b"2"), ("other", b"")])
            topics = TopicFilter(f"{prefix}*")
            page = await store.read(topics, EventId(store.epoch, ids[0].sequence - 1))
            assert page.gap is not None, f"gap: none, although an event {levels} levels deep is gone"
            assert (await store.read(topics, ids[0])).gap is None, f"gap: one too many, {levels} levels deep"
            assert plain(page.events) == [(ids[1].sequence, f"{prefix}c", b"2")], f"gap: wrong events in {prefix}"


async def rare(locations: Locations) -> None:
    """A read finds rare events among many others, however many names it selects."""
    others = [(f"other/{n % 100}", b"") for n in range(10_000)]
    async with locations.open() as store:
        await store.append(others)
        ids = await store.append([(f"r/{n}", b"%d" % n) for n in range(100)])
        await store.append(others)
        for topics in (TopicFilter("r/*"), TopicFilter("r/*", "x"), TopicFilter(*(f"r/{n}" for n in range(100)))):
            page = await store.read(topics, EventId("other", 1))
            assert page.gap is not None, f"gap: none for an id of another history: {topics}"
            assert page.gap.oldest == ids[0], f"gap: oldest={page.gap.oldest} is not the first event: {topics}"
            events, _ = await read_all(store, topics, ids[97])
            assert [event.id for event in events] == ids[98:], f"order: not the last two of a hundred: {topics}"
            newest = (await store.read_last(topics, 3)).events
            assert [event.id for event in newest] == ids[97:], f"order: not the last three of a hundred: {topics}"
        nothing = TopicFilter("no/*", *(f"nobody/{n}" for n in range(100)))
        assert (await store.read_last(nothing, 3)).events == (), "order: events of topics that there are not"


async def closed(locations: Locations) -> None:
    """Outside `async with` a store refuses every call; an exception of the body comes out unchanged."""
    store = locations.open()
    marker = LookupError("of the body")
    raised: BaseException | None = None
    try:
        async with store:
            raise marker  # noqa: TRY301 -- as a body does
    except BaseException as exc:  # noqa: BLE001 -- any exception is compared with the marker
        raised = exc
    assert raised is marker, f"closed: the body raised {marker!r}, the store {raised!r}"
    for call in (lambda: store.append([("a", b"")]), lambda: store.read(ALL, None), lambda: store.read_last(ALL, 1)):
        try:
            await call()
        except ClosedResourceError:
            continue
        raise AssertionError("closed: a store that was closed still answers")


async def restart(locations: Locations) -> None:
    """A restart keeps events, ids, gaps and keys."""
    limits = Retention(max_events=6)
    items = [("a", b"1"), ("p/1", b"2")]
    first: list[EventId] = []
    async with locations.open("0", limits) as store:
        model = StoreModel(store.epoch, limits, KEEP_ALL)
        for n in range(5):
            model.appended(first := await store.append(items, key=("me", n)), items)
    async with locations.open("0", limits) as store:
        assert store.epoch == model.epoch, "epoch: it changed although nothing was lost"
        assert await store.append(items, key=("me", 4)) == first, "idempotent: a key was forgotten by a restart"
        await _check_every_id(store, model)
        model.appended(await store.append(items), items)
        await _check_every_id(store, model)


async def new_epoch(locations: Locations) -> None:
    """If the history ended with its store, no old id fits the next history."""
    async with locations.open() as store:
        (old,) = await store.append([("a", b"")])
    async with locations.open() as store:
        await store.append([("a", b""), ("a", b"")])
        assert store.epoch != old.epoch, "epoch: a new history goes by the old name"
        page = await store.read(ALL, old)
        assert page.gap is not None, "gap: an id of a lost history is taken for one of this history"
