# Held topics: what the conformance kit can't say, because it needs a mistake or an older file.

from __future__ import annotations

import sqlite3

import pytest

from sse_trio import HoldLostError
from sse_trio.stores import Claim, Held, HoldingStore, MemoryStore, Retention, SQLiteStore, TopicFilter
from sse_trio.stores._append import Append
from sse_trio.stores._sqlite.holds import HoldsReader

pytestmark = pytest.mark.anyio

FIRST = Claim("r/1", None, "t", b"v", 60.0, clear=True)


@pytest.mark.parametrize(
    ("items", "claim", "message"),
    [
        ([], ("r/1", None, "t"), "claim must be a Claim"),
        ([], FIRST._replace(topic="r/*"), "a topic to publish to must be"),
        ([], FIRST._replace(token=""), "token must be a str that is not empty, or None"),
        ([], FIRST._replace(expected=5), "expected must be a str that is not empty, or None"),
        ([], FIRST._replace(value=b""), "value must be bytes that are not empty, or None"),
        ([], FIRST._replace(value="v"), "value must be bytes"),
        ([], FIRST._replace(seconds=-1), "seconds must be a number of seconds, from 0"),
        ([], FIRST._replace(token=None, clear=False), "clear must be True if token is None"),
        ([("r/2", b"x")], FIRST, "each item must be of the topic 'r/1'"),
        ([("r/1", "x")], FIRST, "a payload must be bytes"),
    ],
)
async def test_a_claim_that_makes_no_sense(items, claim, message):
    """It is refused where it is made, in plain words, and changes nothing."""
    async with MemoryStore() as store:
        for append in (store.append_held, store.append_held_nowait):
            with pytest.raises((TypeError, ValueError), match=message):
                result = append(items, claim)
                await result
        assert await store.held("r/1") is None
        for prefix in ("r", 5):
            with pytest.raises(ValueError, match="prefix must be a str that ends in /"):
                await store.held_due(prefix)


async def test_a_topic_with_events_can_be_held():
    """A claim that does not clear keeps what is there, and protects it."""
    async with MemoryStore(max_events=3, max_bytes=1) as store:
        await store.append([("r/1", b"before")])
        await store.append_held([], FIRST._replace(clear=False))
        await store.append([("other", b"x")] * 5)
        assert [event.payload for event in (await store.read(TopicFilter("r/1"), None)).events] == [b"before"]
        assert isinstance(store, HoldingStore)
        assert isinstance(await store.held("r/1"), Held)


async def test_the_fast_path_is_refused_too():
    """`append_held_nowait` of the memory store raises what `append_held` raises."""
    async with MemoryStore() as store:
        store.append_held_nowait([("r/1", b"1")], FIRST)
        with pytest.raises(HoldLostError, match="the topic 'r/1' is held by someone else"):
            store.append_held_nowait([], FIRST)


def test_an_older_file_has_no_held_topics():
    """A reader of a file that no newer release has written to finds nothing, and looks again."""
    connection = sqlite3.connect(":memory:")
    reader = HoldsReader(connection)
    assert reader.get("r/1") is None
    assert reader.due(("r/", "r0"), 10) == []
    assert [*reader.events_after("r/1", 0), *reader.newest_first("r/1")] == []
    assert reader.moved_to(("r/", "r0")) == 0
    connection.close()


@pytest.mark.usefixtures("real_clock")
async def test_a_file_keeps_its_figures(tmp_path):
    """Clearing, moving and releasing leave the figures of the hub exact: its limits still hold afterwards."""
    limits = {"max_events": 4, "per_topic": Retention(max_events=3)}
    async with SQLiteStore(tmp_path / "events", **limits) as store:
        group = [
            Append([], None, FIRST),
            Append([("r/1", b"%d" % n) for n in range(6)], None, Claim("r/1", "t", "t")),
            Append([("r/1", b"after")], None, Claim("r/1", "t", "t", clear=True)),
            Append([("a", b"1"), ("b", b"2"), ("a", b"3")], None),
        ]
        await store._in_thread(lambda: store._writer.commit(group), store._write_limiter)
        assert len((await store.read(TopicFilter("r/1"), None)).events) == 1
        await store.append([("c", b"4"), ("d", b"5"), ("e", b"6")])
        assert len((await store.read(TopicFilter("*"), None)).events) == 4
        await store.append_held([], Claim("r/1", "t", None, clear=True))
        assert (await store.read(TopicFilter("r/1"), None)).events == ()
    connection = sqlite3.connect(tmp_path / "events")
    (events, size) = connection.execute("SELECT events, bytes FROM hub").fetchone()
    assert (events, size) == connection.execute("SELECT count(*), sum(length(payload)) FROM events").fetchone()
    assert connection.execute("SELECT count(*) FROM kept_events").fetchone() == (0,)
    connection.close()


@pytest.mark.usefixtures("real_clock")
async def test_a_value_changes_alone(tmp_path):
    """A claim with a value and no seconds leaves when the topic is due as it is."""
    async with SQLiteStore(tmp_path / "events") as store:
        await store.append_held([], FIRST._replace(seconds=1000.0))
        await store.append_held([], Claim("r/1", "t", "t", b"w"))
        held = await store.held("r/1")
    assert (held.value, held.due_in > 900) == (b"w", True)


async def test_items_are_checked_however_they_are_given():
    """A claim takes items whose topic is another object, or that are lists, as an append does."""
    other = FIRST.topic.encode().decode()
    async with MemoryStore() as store:
        await store.append_held([(other, b"1"), [other, b"2"]], FIRST)
        page = await store.read(TopicFilter("r/1"), None)
    assert [event.payload for event in page.events] == [b"1", b"2"]
