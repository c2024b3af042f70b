# A bad argument of a store is a TypeError or a ValueError that says what to write.

from __future__ import annotations

import math
import traceback
from pathlib import Path

import pytest

from sse_trio.stores import MemoryStore, Retention, SQLiteStore, TopicFilter
from sse_trio.stores._protocol import EventId
from sse_trio.testing._store_locations import ALL

redis = pytest.importorskip("sse_trio.stores.redis", reason="coredis is not installed")


def make_sqlite(**options):
    return SQLiteStore("events.db", **options)


def make_redis(**options):
    return redis.RedisStore("redis://localhost", **options)


HUGE = 10**400
NO_NUMBERS = ["1", b"1", True, False, [], object(), 1 + 0j, math.nan, math.inf, -math.inf, -1, HUGE, -HUGE]
NO_SECONDS = [*NO_NUMBERS, 1e-9, 0]
NO_LIMITS = [*NO_NUMBERS, 0, 1.5]
NO_FUNCTIONS = [None, 5, "time"]
NO_RETENTIONS = [None, 5, {"max_events": 1}, Retention]
LIMITS = {
    "max_events": NO_LIMITS,
    "max_bytes": NO_LIMITS,
    "max_age": NO_SECONDS,
    "per_topic": NO_RETENTIONS,
}
ARGUMENTS = {
    Retention: {name: LIMITS[name] for name in ("max_events", "max_bytes", "max_age")},
    MemoryStore: LIMITS,
    make_sqlite: {
        **LIMITS,
        "poll_interval": [*NO_SECONDS, None],
        "clock": NO_FUNCTIONS,
        "mode": [None, "600", True, 600, 0o777 + 1, -1, 0o400, 0o066, HUGE],
    },
    make_redis: {
        **LIMITS,
        "name": [None, 5, b"a"],
        "reply_within": [*NO_SECONDS, None],
        "retry_for": [*NO_NUMBERS, None],
        "ssl_context": [True, "ca.pem", object()],
        "clock": NO_FUNCTIONS,
    },
}
CASES = [(make, name, bad) for make, names in ARGUMENTS.items() for name, values in names.items() for bad in values]


def shown(case):
    return repr(case)[:20] if not callable(case) else getattr(case, "__name__", "object")


@pytest.mark.parametrize(("make", "name", "bad"), CASES, ids=shown)
def test_a_bad_argument_of_a_store(make, name, bad):
    """A wrong type or a number out of range is refused when the store is made, in a short message with the name."""
    with pytest.raises((TypeError, ValueError)) as caught:
        make(**{name: bad})
    text = str(caught.value)
    assert text.startswith(name), text
    assert "must be" in text, text
    assert "got" in text, text
    assert len(text) < 400
    assert len(traceback.extract_tb(caught.value.__traceback__)) <= 7


@pytest.mark.parametrize("path", [None, 5, b"events.db", True, ["events.db"]])
def test_a_path_is_a_path(path):
    """A path is a str or a Path; anything else is a TypeError before any file is made."""
    with pytest.raises(TypeError, match=r"path must be a str or a pathlib\.Path"):
        SQLiteStore(path)


@pytest.mark.parametrize("url", [None, 5, b"redis://localhost"])
def test_a_url_is_text(url):
    """A URL that is not a str is a TypeError."""
    with pytest.raises(TypeError, match="url must be a str"):
        redis.RedisStore(url)


def test_good_arguments_are_accepted(tmp_path):
    """The smallest and largest values, ints for seconds, and None for no limit are accepted."""
    Retention(max_events=1, max_bytes=2**53, max_age=0.01)
    MemoryStore(None, None, None, per_topic=Retention())
    SQLiteStore(Path(tmp_path), max_age=86_400 * 365 * 100, poll_interval=0.001, mode=0o666)
    redis.RedisStore("redis://localhost", retry_for=0, reply_within=1, max_events=None, max_bytes=None)


NO_TOPICS = [None, "a", ["a"], 5]
NO_PLACES = ["x-1", 5, True, ("x", 1)]
NO_COUNTS = ["1", True, None, 1.0, math.nan, -1, 2**31, HUGE]
NO_ITEMS = [[("a", b"", 1)], ["ab"], [5], [None], [("a", "text")], [(5, b"")]]
NO_KEYS = [5, "ab", ("p",), ("p", 1, 2), ("p", "1"), ("p", True), (b"p", 1), ("p", -1), ("p", HUGE), ("\ud800", 1)]
CALLS = [
    *[(lambda store, bad=bad: store.read(bad, None)) for bad in NO_TOPICS],
    *[(lambda store, bad=bad: store.read(ALL, bad)) for bad in NO_PLACES],
    *[(lambda store, bad=bad: store.read(ALL, None, limit=bad)) for bad in [*NO_COUNTS, 0]],
    *[(lambda store, bad=bad: store.read_last(bad, 1)) for bad in NO_TOPICS],
    *[(lambda store, bad=bad: store.read_last(ALL, bad)) for bad in NO_COUNTS],
    *[(lambda store, bad=bad: store.append(bad)) for bad in NO_ITEMS],
    *[(lambda store, bad=bad: store.append([("a", b"")], key=bad)) for bad in NO_KEYS],
    *[(lambda store, bad=bad: store.follow(bad).__aenter__()) for bad in [*NO_PLACES, None]],
]


@pytest.fixture(params=["memory", "sqlite", "redis"])
def store(request, tmp_path):
    """A store of each kind."""
    if request.param == "memory":
        return MemoryStore()
    if request.param == "sqlite":
        return SQLiteStore(tmp_path / "hub.db")
    return redis.RedisStore(request.getfixturevalue("shared_redis").url, name="validation")


@pytest.mark.anyio
@pytest.mark.usefixtures("real_clock")
async def test_a_bad_argument_of_a_call(store):
    """A bad argument raises a short error in its own call, and changes nothing in the store."""
    async with store:
        before = (await store.read_last(ALL, 0)).tip
        for call in CALLS:
            with pytest.raises((TypeError, ValueError)) as caught:
                await call(store)
            assert 10 < len(str(caught.value)) < 400
        assert (await store.read_last(ALL, 0)).tip == before
        assert (await store.read(TopicFilter("a"), EventId("x", HUGE))).gap is not None
        await store.append([("a", b"")], key=("p", 2**63 - 1))
