# What users send as topics, keys and ids, in every store: nothing but text there, and nothing that tells of others.
#
# Rule 1: the three stores are run through the same tests: what one knows nothing of (SQL, Lua, keys of Redis) must not
#         be seen in another either.

from __future__ import annotations

import secrets

import pytest

from sse_trio.stores import MemoryStore, Retention, SQLiteStore, TopicFilter
from sse_trio.stores._protocol import EventId
from sse_trio.testing._store_locations import ALL

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("real_clock")]

TOPICS = [
    "user/1",
    "user/10",
    "user/",
    "user/%",
    "user/_",
    "user0",
    "User/1",
    "'; DROP TABLE events; --",
    'user/1" OR "1"="1',
    "{name}:meta",
    "{name}",
    "}{",
    "a:topic:b",
    "log",
    "meta",
    "[a-z]?\\",
    "a\nb\r\nc",
    "a\0b",
    "a",
    "$",
    ">",
    "+",
    "-1",
    "0",
    " ",
    "\ufeff\u202e\u2028",
    "e\u0301",
    "\u00e9",
    "\U0001f600" * 300,
]
IDS = ["'; --", "$", "-", "+", ">", "0-0", "-1", "x-1", "\0", "a\r\nb", "\ud800-1", "é-1", "{epoch}-1e1", "{epoch}--1"]
IDS += ["{epoch}-" + "9" * 18, "{epoch}-" + "9" * 19, "9" * 2**20]


@pytest.fixture(params=["memory", "sqlite", "redis"])
def make_store(request, tmp_path):
    """Makes a store of each kind, with nothing in it; called once in a test."""
    if request.param == "memory":
        return MemoryStore
    if request.param == "sqlite":
        return lambda **limits: SQLiteStore(tmp_path / "events.db", **limits)
    redis = pytest.importorskip("sse_trio.stores.redis", reason="coredis is not installed")
    server = request.getfixturevalue("shared_redis")
    return lambda **limits: redis.RedisStore(server.url, name=secrets.token_hex(4), **limits)


async def test_a_topic_and_a_key_are_text(make_store):
    """Quotes, glob characters, braces, line breaks and NULs are safe in topics and keys."""
    async with make_store() as store:
        ids = {topic: await store.append([(topic, topic.encode())], key=(topic, 1)) for topic in TOPICS}
        for topic in TOPICS:
            assert await store.append([("other", b"")], key=(topic, 1)) == ids[topic]
            page = await store.read(TopicFilter(topic), None)
            assert [(event.topic, event.payload) for event in page.events] == [(topic, topic.encode())]
            assert (await store.read_last(TopicFilter(topic), 5)).events == page.events
        below = await store.read(TopicFilter("user/*"), None)
        assert [event.topic for event in below.events] == [topic for topic in TOPICS if topic.startswith("user/")]
        assert [event.topic for event in (await store.read(ALL, None)).events] == TOPICS


async def test_an_id_is_text(make_store):
    """Whatever a client sends as its last id, the store answers with a gap and everything that is kept."""
    async with make_store() as store:
        await store.append([("a", b"1"), ("b", b"2")])
        for text in IDS:
            after = EventId.parse(text.replace("{epoch}", store.epoch))
            page = await store.read(TopicFilter("a"), after)
            assert page.gap is not None, text
            assert [event.payload for event in page.events] == [b"1"], text
            assert (await store.read(TopicFilter("nothing"), after)).events == ()


@pytest.mark.parametrize("others", [0, 1, 7])
async def test_an_id_of_another_s_topic_tells_nothing_of_it(make_store, others):
    """An id is a position: a client gets its own events after it, and other topics' lost events are no gap."""
    async with make_store(per_topic=Retention(max_events=6)) as store:
        places = []
        for n in range(4):
            items = [("user/1", b"%d" % n), *[("user/2", b"secret")] * others]
            places.append(await store.append(items))
        kept = await store.read(TopicFilter("user/2"), None)
        assert len(kept.events) == min(6, 4 * others)
        for n, ids in enumerate(places):
            for id_ in ids:
                page = await store.read(TopicFilter("user/1"), id_)
                assert (page.gap, [event.payload for event in page.events]) == (None, [b"0", b"1", b"2", b"3"][n + 1 :])
                nothing = await store.read(TopicFilter("user/3", "user/1/*"), id_)
                assert (nothing.gap, nothing.events) == (None, ())
