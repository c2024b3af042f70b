# What one question costs: bounded, and the same however many topics there are and were. Counted, not timed: commands of
# Redis, steps of SQLite's machine. MemoryStore's are in test_memory.py, as turns of the event loop.

from __future__ import annotations

import re
import secrets

import pytest

from sse_trio.stores import EventId, SQLiteStore, TopicFilter
from sse_trio.stores._sqlite import reader as _sqlite_reader
from sse_trio.testing._store_locations import ALL

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("real_clock", "forgive_coredis")]

DEEP = "/".join("x" * 12) + "/*"
QUESTIONS = {
    "a topic": ["nobody"],
    "a prefix": ["nobody/*"],
    "a prefix of all topics": ["user/*"],
    "a deep prefix": [DEEP],
    "many prefixes": [f"nobody/{n}/*" for n in range(50)],
    "many topics": [f"nobody/{n}" for n in range(200)],
    "both": ["nobody/*", *(f"nobody{n}" for n in range(100))],
}


@pytest.fixture(params=QUESTIONS)
def topics(request):
    """The topics that an unknown client asks for."""
    return TopicFilter(*QUESTIONS[request.param])


async def ask_everything(store, topics, first):
    """Ask as a client does who comes with an id of long ago, with an id of nowhere, and without one."""
    await store.read(topics, first)
    await store.read(topics, EventId("nowhere", -1))
    await store.read_last(topics, 10)


def commands_of(server):
    stats = server.command("INFO", "commandstats").decode()
    return sum(int(calls) for calls in re.findall(r"cmdstat_(?!info|config)\S+:calls=(\d+)", stats))


async def cost_in_redis(server, topics, ended):
    """Return how many commands the questions cost in a hub in which this many topics have ended."""
    redis = pytest.importorskip("sse_trio.stores.redis", reason="coredis is not installed")
    async with redis.RedisStore(server.url, name=secrets.token_hex(4), max_events=10) as store:
        first, *_ = await store.append([(f"user/{n}/in", b"") for n in range(ended)])
        await store.read_last(ALL, 0)
        assert server.command("CONFIG", "RESETSTAT").startswith(b"+OK")
        await ask_everything(store, topics, first)
        return commands_of(server)


async def test_topics_that_have_ended_cost_redis_nothing(shared_redis, topics):
    """A question costs the same number of commands, however many topics have ended."""
    assert await cost_in_redis(shared_redis, topics, 3000) == await cost_in_redis(shared_redis, topics, 30)


async def test_many_topics_are_merged_a_part_at_a_time(shared_redis, monkeypatch):
    """However many topics are named, a script takes a bounded number of index entries, and no event is lost."""
    redis = pytest.importorskip("sse_trio.stores.redis", reason="coredis is not installed")
    monkeypatch.setattr("sse_trio.stores._redis.log._INDEXED", 8)
    topics = TopicFilter("a", "b", "c")
    async with redis.RedisStore(shared_redis.url, name=secrets.token_hex(4)) as store:
        ids = await store.append([("abcd"[n % 4], b"") for n in range(40)])
        wanted = [id_ for n, id_ in enumerate(ids) if n % 4 < 3]
        page = await store.read(topics, None)
        assert [event.id for event in page.events] == wanted[:2]
        assert page.next == wanted[1]
        assert [event.id for event in (await store.read_last(topics, 7)).events] == wanted[-7:]
        assert [event.id for event in (await store.read_last(topics, 100)).events] == wanted


@pytest.fixture(scope="module")
def sqlite_files(tmp_path_factory):
    """A folder of files that are filled once and read by every test: filling them is most of the work."""
    return tmp_path_factory.mktemp("cost")


async def cost_in_sqlite(folder, topics, events, *, users):
    """Return the steps that questions cost in a file of this many events, which this many topics share."""
    path = folder / f"{events}.db"
    if not path.exists():
        async with SQLiteStore(path) as store:
            await store.append([(f"user/{n % users}", b"x" * 100) for n in range(events)])
    steps = 0

    def count():
        nonlocal steps
        steps += 1

    async with SQLiteStore(path) as store:
        store._reader.connection.set_progress_handler(count, 100)
        await ask_everything(store, topics, EventId(store.epoch, 1))
        return steps


@pytest.mark.parametrize("question", [question for question in QUESTIONS if question != "a prefix of all topics"])
async def test_what_others_say_costs_sqlite_nothing(sqlite_files, question):
    """The index shows that a topic has no events, however many events other topics have."""
    topics = TopicFilter(*QUESTIONS[question])
    few = await cost_in_sqlite(sqlite_files, topics, 300, users=100)
    many = await cost_in_sqlite(sqlite_files, topics, 20_000, users=100)
    assert many <= few + 2


async def test_what_is_rare_below_a_prefix_is_found_by_the_index(tmp_path, monkeypatch):
    """Rare events far away below a prefix are found through the index, not by scanning the log."""
    monkeypatch.setattr(_sqlite_reader, "_SCAN", 100)
    steps = 0

    def count():
        nonlocal steps
        steps += 1

    async with SQLiteStore(tmp_path / "hub.db") as store:
        await store.append([("other", b"x" * 100)] * 20_000)
        ids = await store.append([(f"r/{n}", b"") for n in range(100)])
        await store.append([("other", b"x" * 100)] * 20_000)
        store._reader.connection.set_progress_handler(count, 100)
        page = await store.read(TopicFilter("r/*"), EventId("nowhere", -1))
        assert page.gap.oldest == ids[0]
        assert [event.id for event in (await store.read_last(TopicFilter("r/*"), 3)).events] == ids[-3:]
    assert steps < 200


async def test_an_older_release_at_work_leaves_no_gap_unsaid(shared_redis):
    """Events that an older release trims, which notes nothing of prefixes, are a gap for every prefix."""
    redis = pytest.importorskip("sse_trio.stores.redis", reason="coredis is not installed")
    async with redis.RedisStore(shared_redis.url, name=secrets.token_hex(4), max_events=2) as store:
        ids = await store.append([("p/1", b""), ("p/2", b""), ("q/1", b"")])
        meta, ends = f"{store._log._root}meta", f"{store._log._root}{store._log._generation}:prefixes"
        async with store._server.connect() as client:
            await client.delete([ends])
            await client.hdel(meta, ["noted", "pfloor"])
        start = EventId(store.epoch, 0)
        assert (await store.read(TopicFilter("p/*"), start)).gap is not None
        assert (await store.read(TopicFilter("p/*"), ids[0])).gap is None
        await store.append([("q/2", b"")])  # what is known is written down, for good
        assert (await store.read(TopicFilter("p/*"), ids[0])).gap is not None
        assert (await store.read(TopicFilter("q/*"), ids[0])).gap is None
