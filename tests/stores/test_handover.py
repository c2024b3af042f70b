# What a process appends to a SQLite file is handed to its own followers, and what it knows of the file it does not read
# again. Both must be seen by nobody, except in the cost.

from __future__ import annotations

import random

import anyio
import pytest

from sse_trio._errors import HoldLostError, StoreUnavailableError
from sse_trio.stores import EventId, Retention, SQLiteStore, TopicFilter
from sse_trio.stores._append import LOST, Append
from sse_trio.stores._holds import Claim
from sse_trio.stores._outage import Outage
from sse_trio.stores._protocol import Page, StoredEvent
from sse_trio.stores._sqlite import handover as _handover
from sse_trio.stores._sqlite.follower import SQLiteFollower
from sse_trio.stores._sqlite.handover import Handover, new_events
from sse_trio.stores._sqlite.reader import SQLiteReader
from sse_trio.testing import wait_all_tasks_blocked
from sse_trio.testing._store_locations import ALL

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("real_clock")]


def group(first, count, epoch="e"):
    return [StoredEvent(EventId(epoch, first + n), "a", b"") for n in range(count)]


def sequences(page):
    return [event.id.sequence for event in page.events]


# --- by itself


async def test_a_follower_takes_what_follows_its_position():
    """Groups are taken in order, from the follower's position on; what it has read already is not given again."""
    handover = Handover()
    handover.is_stale = False
    for first in (1, 4, 7):
        handover.add(group(first, 3))
    page = handover.take(EventId("e", 4))  # the file has given 1 to 4
    assert sequences(page) == [5, 6]
    assert (page.next, page.tip, page.gap) == (EventId("e", 6), EventId("e", 6), None)
    assert sequences(handover.take(page)) == [7, 8, 9]
    assert handover.take(EventId("e", 9)) is None
    assert not handover.is_stale


@pytest.mark.parametrize("position", [EventId("e", 1), EventId("other", 2)])
async def test_a_hole_is_read_in_the_file(position):
    """If another process has written in between, or the history is another one, nothing is taken: the file has it."""
    handover = Handover()
    handover.is_stale = False
    handover.add(group(3, 1))
    handover.add(group(4, 1))
    assert handover.take(position) is None
    assert handover.is_stale
    assert handover.take(EventId("e", 2)) is None  # dropped


async def test_what_waits_for_a_follower_is_bounded(monkeypatch):
    """A follower that takes nothing holds few events; it reads them in the file later."""
    monkeypatch.setattr(_handover, "_MOST", 10)
    handover = Handover()
    handover.is_stale = False
    for n in range(100):
        handover.add(group(n + 1, 1))
    assert handover.is_stale
    assert len(handover._groups) <= 10


def test_only_what_is_new_is_handed_over():
    """An append whose key was used before has the ids of the first one, and a claim that was refused has none."""
    known, new, refused, empty = (Append([("a", b"%d" % n)], None) for n in range(4))
    results = [[EventId("e", 4)], [EventId("e", 11)], LOST, []]
    events = new_events([known, new, refused, empty], results, 10)
    assert events == [StoredEvent(EventId("e", 11), "a", b"1")]


# --- in a store


@pytest.fixture
def reads(monkeypatch):
    """The reads of followers, as they come."""
    done = []
    read = SQLiteReader.read

    def note(reader, topics, after, limit):
        done.append(after)
        return read(reader, topics, after, limit)

    monkeypatch.setattr(SQLiteReader, "read", note)
    return done


async def test_own_events_are_not_read(tmp_path, reads):
    """A follower gets what its own process appends without a read of the file."""
    async with SQLiteStore(tmp_path / "hub.db", poll_interval=1000) as store:
        (first,) = await store.append([("a", b"0")])
        async with store.follow(EventId(store.epoch, 0)) as pages:
            assert sequences(await anext(pages)) == [first.sequence]
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anext, pages)
                await anyio.wait_all_tasks_blocked()
                while len(reads) < 1:
                    await anyio.sleep(0.01)
                tasks.cancel_scope.cancel()
            before = len(reads)
            for n in range(1, 50):
                (id_,) = await store.append([("a", b"%d" % n)])
                assert (await anext(pages)).events == (StoredEvent(id_, "a", b"%d" % n),)
            assert len(reads) <= before + 1


async def test_processes_take_turns(tmp_path):
    """Two processes that append in turn, in any rhythm, both follow all events of both, in one order."""
    chance = random.Random(5)
    path = tmp_path / "hub.db"
    async with SQLiteStore(path) as one, SQLiteStore(path) as other:
        seen = {one: [], other: []}

        async def follow(store):
            async with store.follow(EventId(store.epoch, 0)) as pages:
                async for page in pages:
                    assert page.gap is None
                    seen[store] += page.events
                    if len(seen[store]) >= 300:
                        return

        async def publish(store, producer):
            for n in range(0, 150, 3):
                await store.append([("a/b/c"[: chance.choice((1, 3, 5))], b"%d" % n)] * 3, key=(producer, n))
                if chance.random() < 0.3:
                    await store.append([("a", b"another payload")], key=(producer, n))  # is known: nothing is appended
                if chance.random() < 0.3:
                    await anyio.sleep(chance.random() / 50)

        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                for producer, store in (("one", one), ("other", other)):
                    tasks.start_soon(follow, store)
                    tasks.start_soon(publish, store, producer)
        kept = (await one.read(ALL, None, limit=1000)).events
    assert seen[one] == seen[other] == [*kept][:300]


async def test_a_cancelled_wait_loses_nothing(tmp_path):
    """A follower whose wait is cancelled, again and again, gets every event once."""
    async with SQLiteStore(tmp_path / "hub.db") as store, store.follow(EventId(store.epoch, 0)) as pages:
        seen = []

        async def publish():
            for n in range(100):
                await store.append([("a", b"%d" % n)])

        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(publish)
                while len(seen) < 100:
                    with anyio.move_on_after(0.002):
                        seen += (await anext(pages)).events
    assert [event.payload for event in seen] == [b"%d" % n for n in range(100)]


async def test_a_read_that_was_cancelled_is_made_again():
    """A follower that was cancelled before its read began knows that it still has to read the file."""

    async def hang(work, limiter):
        await anyio.sleep_forever()

    follower = SQLiteFollower(
        "hub.db", 0o600, hang, Outage(), lambda: None, set(), anyio.sleep_forever, poll_interval=9
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(follower.wait_page, EventId("e", 0))
        await wait_all_tasks_blocked()
        assert not follower.handover.is_stale
        tasks.cancel_scope.cancel()
    assert follower.handover.is_stale


async def test_other_writers_are_noticed(tmp_path):
    """What a process knows of the file is right, whoever else writes to it: limits, gaps, tokens, ids, keys."""
    chance = random.Random(7)
    path = tmp_path / "hub.db"
    limits = {"max_events": 40, "per_topic": Retention(max_events=6)}
    async with SQLiteStore(path, **limits) as one, SQLiteStore(path, **limits) as other:
        last, token = 0, None
        for n in range(400):
            store = chance.choice((one, other))
            if chance.random() < 0.8:
                (id_,) = await store.append([(f"t/{chance.randrange(12)}", b"x" * chance.randrange(50))])
                assert id_.sequence == last + 1
                last += 1
            elif chance.random() < 0.5:
                claim = Claim("held", token, f"{n}", b"value", 60.0)
                (id_,) = await store.append_held([("held", b"")], claim)
                last, token = id_.sequence, f"{n}"
            elif token is not None:
                with pytest.raises(HoldLostError):
                    await store.append_held([("held", b"")], Claim("held", "another", "another"))
            if n % 40 == 0:
                await check_figures(store)
        await check_figures(one)


async def check_figures(store):
    """See that the figures in the file are those of the events in it."""
    execute = store._writer.connection.execute
    for name, events, size in execute("SELECT name, events, bytes FROM topics").fetchall():
        query = "SELECT count(*), coalesce(sum(length(payload)), 0) FROM events WHERE topic = ?"
        found = execute(query, (name,)).fetchone()
        assert found == (events, size) or name == "held"
        assert events <= 6 or name == "held"
    assert execute("SELECT count(*) FROM events").fetchone() == execute("SELECT events FROM hub").fetchone()
    page = await store.read(TopicFilter("t/1"), EventId(store.epoch, 0))
    kept = execute("SELECT count(*) FROM events WHERE topic = 't/1'").fetchone()[0]
    assert len(page.events) == kept


async def test_what_failed_is_not_known(tmp_path):
    """After a transaction that failed the writer knows nothing of what it would have changed."""
    async with SQLiteStore(tmp_path / "hub.db", per_topic=Retention(max_events=3)) as store:
        await store.append([("a", b"1")])
        execute = store._writer.connection.execute
        execute("CREATE TEMP TRIGGER fail BEFORE UPDATE ON hub BEGIN SELECT RAISE(ABORT, 'cut off'); END")
        with pytest.raises(StoreUnavailableError, match="cut off"):
            await store.append([("a", b"2"), ("b", b"3")])
        execute("DROP TRIGGER fail")
        (id_,) = await store.append([("a", b"4")])
        assert id_.sequence == 2
        await check_figures(store)


async def test_what_is_known_is_bounded(tmp_path, monkeypatch):
    """A writer remembers the figures and tokens of so many topics, and reads those of the others again."""
    monkeypatch.setattr("sse_trio.stores._sqlite.figures._KNOWN_TOPICS", 3)
    monkeypatch.setattr("sse_trio.stores._sqlite.holds._KNOWN_TOPICS", 3)
    async with SQLiteStore(tmp_path / "hub.db", max_events=20) as store:
        for n in range(30):
            await store.append([(f"t/{n % 10}", b"x")])
            await store.append_held([], Claim(f"held/{n}", None, "token", b"v", 60.0))
        assert len(store._writer._figures._topics) <= 3
        await check_figures(store)
        assert isinstance(await store.read(ALL, None), Page)
