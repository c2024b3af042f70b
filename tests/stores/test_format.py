"""The format of the stores: a program that knows docs/store-format.md and nothing else publishes to a hub."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import socket
import sqlite3
import time
from pathlib import Path

import anyio
import pytest

from sse_trio import CloseReason, EventSourceResponse, ServerSentEvent, StoreUnavailableError, StreamGroup, open_hub
from sse_trio.publisher import Publisher
from sse_trio.stores import Claim, Retention, SQLiteStore, TopicFilter
from sse_trio.testing import open_test_stream
from sse_trio.testing._store_locations import ALL, read_all

PAGE = Path(__file__).parents[2] / "docs" / "store-format.md"
pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("real_clock")]


def blocks(language):
    """Return the blocks of the page in this language."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)


PRICE, KICK = [block.encode() for block in blocks("text")]


def run_sql(connection, script, **values):
    """Run statements one by one and return the only row that any of them gives."""
    row = None
    for statement in script.split(";\n"):
        if statement.strip():
            row = connection.execute(statement, values).fetchone() or row
    return row


class ByPage:
    """Publishes to SQLite as the page says."""

    def __init__(self, path):
        self._path = path

    def __call__(self, topic, payload, *, producer=None, number=0, now=None, due=None):
        publish, keys, expiries = blocks("sql")
        find_key, add_key = keys.split(";\n\n")
        values = {"topic": topic, "payload": payload, "now": now or time.time(), "producer": producer, "number": number}
        values["due"] = due
        with contextlib.closing(sqlite3.connect(self._path, timeout=10, isolation_level=None)) as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (1,)
            connection.execute("PRAGMA synchronous = FULL")
            begin, rest = publish.split(";\n\n", 1)
            rest, commit = rest.rsplit(";\n\n", 1)
            connection.execute(begin)
            found = None if producer is None else run_sql(connection, find_key, **values)
            if found is None:
                found = run_sql(connection, rest, **values)
                if producer is not None:
                    run_sql(connection, add_key, **values)
                if due is not None:
                    run_sql(connection, expiries, **values)
            run_sql(connection, commit, **values)
        return found[0]

    def count(self):
        with contextlib.closing(sqlite3.connect(self._path)) as connection:
            return connection.execute("SELECT count(*) FROM events").fetchone()[0]

    def wake(self):
        before = os.open(".", os.O_RDONLY)
        os.chdir(f"{self._path}.wake")  # a socket's path may have 107 bytes
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
                datagrams.setblocking(False)
                for name in os.listdir():  # noqa: PTH208 -- names
                    with contextlib.suppress(OSError):
                        datagrams.sendto(b"\0", name)
        finally:
            os.chdir(before)
            os.close(before)


class ByScript:
    """Publishes to Redis as the page says, with a client that knows nothing of it."""

    def __init__(self, url, name):
        redis = pytest.importorskip("redis", reason="redis-py is not installed")
        self._client = redis.Redis.from_url(url)
        self._name = name

    def __call__(self, topic, payload, *, producer=None, number=0, now=None, due=None):
        key = "" if producer is None else f"{producer}:{number}"
        (script,) = blocks("lua")
        args = (secrets.token_hex(4), now or time.time(), topic, payload, key)
        return self._client.eval(script, 1, f"{{{self._name}}}:meta", *args).decode()

    def count(self):
        generation = self._client.hget(f"{{{self._name}}}:meta", "generation").decode()
        return self._client.xlen(f"{{{self._name}}}:{generation}:log")

    def wake(self):
        """Do nothing: servers wait in Redis."""

    def set_format(self, number):
        self._client.hset(f"{{{self._name}}}:meta", "format", number)


class Place:
    def __init__(self, new_store, by_page, publisher):
        self.new_store = new_store
        self.publish = by_page
        self.publisher = publisher


@pytest.fixture(params=["sqlite", "redis"])
def place(request, tmp_path):
    """A hub, how to open it, and how to publish to it by the page."""
    if request.param == "sqlite":
        path = tmp_path / "hub.sqlite"
        return Place(lambda **options: SQLiteStore(path, **options), ByPage(path), lambda: Publisher(path, create=True))
    redis = pytest.importorskip("sse_trio.stores.redis", reason="coredis is not installed")
    request.getfixturevalue("forgive_coredis")
    url, name = request.getfixturevalue("shared_redis").url, secrets.token_hex(4)
    return Place(
        lambda **options: redis.RedisStore(url, name=name, **options),
        ByScript(url, name),
        lambda: Publisher(url, name=name),
    )


async def test_a_subscriber_gets_it_at_once(place):
    """What is published by the page comes to subscribers that are connected, with its id, without a poll."""
    options = {"poll_interval": 60.0} if isinstance(place.publish, ByPage) else {}
    async with open_hub(place.new_store(**options)) as hub, hub.subscribe("prices/*") as subscription:
        with anyio.fail_after(20):
            await hub.publish("prices/gold", "1")
            await subscription.receive()
            id_ = place.publish("prices/eur", PRICE)
            place.publish.wake()
            assert await subscription.receive() == ServerSentEvent('{"eur":1.08}', event="price", id=id_)


async def test_it_is_an_event_like_others(place):
    """Events of a hub, a Publisher and the page are one history: in one order, each resumed after, trimmed alike."""
    async with place.new_store() as store:
        ids = [str((await store.append([("a", b"data: 0\n\n")]))[0])]
    ids += [place.publish("a" if n % 2 else "b", b"data: %d\n\n" % n) for n in range(1, 6)]
    with place.publisher() as publisher:
        ids.append(str(publisher.publish("a", "6")))
    async with place.new_store() as store:
        events, _ = await read_all(store, ALL, None)
        assert [(str(event.id), event.event.data) for event in events] == [(id_, str(n)) for n, id_ in enumerate(ids)]
        page = await store.read(TopicFilter("b"), events[2].id)
        assert ([event.event.data for event in page.events], page.gap) == (["4"], None)
    async with place.new_store(per_topic=Retention(max_events=2)) as store:
        await store.append([("a", b"data: 7\n\n")])
        events, _ = await read_all(store, ALL, None)
        assert [event.event.data for event in events] == ["2", "4", "6", "7"]
        assert (await store.read(TopicFilter("a"), id_of(ids[0]))).gap is not None
        assert (await store.read(TopicFilter("b"), id_of(ids[0]))).gap is None


def id_of(text):
    from sse_trio.stores import EventId

    return EventId.parse(text)


async def test_a_key_of_the_page_is_a_key(place):
    """What was published by the page with a key is not published again, by the page or by a hub."""
    async with open_hub(place.new_store()) as hub:
        first = place.publish("a", b"data: x\n\n", producer="relay", number=7)
        assert place.publish("a", b"data: x\n\n", producer="relay", number=7) == first
        assert str(await hub.publish("a", "x", key=("relay", 7))) == first
        second = await hub.publish("a", "y", key=("relay", 8))
        assert place.publish("a", b"data: y\n\n", producer="relay", number=8) == str(second)
        assert place.publish("a", b"data: z\n\n", producer="relay", number=9) != str(second)
        named = place.publish("a", b"data: n\n\n", producer="\0order-7")
        assert str(await hub.publish("a", "n", key="order-7")) == named


async def test_where_a_topic_is_held(place):
    """Beside a held topic whose events were moved, and after a deletion, what the page writes is kept and trimmed."""
    mine = Claim("r/1", None, "t", b"v", 60.0, clear=True)
    async with place.new_store(max_events=3) as store:
        held = await store.append_held([("r/1", b"data: %d\n\n" % n) for n in range(3)], mine)
        for n in range(3, 6):
            place.publish("a", b"data: %d\n\n" % n)
        await store.append([("a", b"data: 6\n\n")])  # this moves what is held out of the log
        place.publish("r/1", b"data: 7\n\n")
        page = await store.read(TopicFilter("r/1"), held[0])
        assert ([event.event.data for event in page.events], page.gap) == (["1", "2", "7"], None)
        await store.append_held([], Claim("r/1", "t", None, clear=True))
        place.publish("r/1", b"data: 8\n\n")
        await store.append([("a", b"data: 9\n\n")])
        assert [event.event.data for event in (await read_all(store, ALL, None))[0]] == ["6", "8", "9"]
        page = await store.read(TopicFilter("r/1"), held[0])
        assert ([event.event.data for event in page.events], page.gap is None) == (["8"], False)
        assert await store.held("r/1") is None


async def test_an_event_by_the_page_expires(place):
    """An event that expires by the page is there until its moment; then nobody gets it, and it is deleted."""
    now = [time.time()]
    due = now[0] + 1000
    async with place.new_store(clock=lambda: now[0]) as store:
        await store.append([("a", b"data: 0\n\n")])
        place.publish("a", b":expires %.6f\ndata: 1\n\n" % due, due=due)
        place.publish("a", b"data: 2\n\n")
        for seconds, expected in ((999, ["0", "1", "2"]), (2, ["0", "2"])):
            now[0] += seconds
            page = await store.read(ALL, None)
            assert ([event.event.data for event in page.events], page.gap) == (expected, None)
        await store.append([("a", b"data: 3\n\n")])
        assert place.publish.count() == 3
        assert [event.event.data for event in (await store.read_last(ALL, 9)).events] == ["0", "2", "3"]


async def test_time_does_not_go_back(place):
    """A program whose clock is behind lets nothing go early: its event is as old as the one before it."""
    async with place.new_store() as store:
        await store.append([("a", b"data: 0\n\n")])
    place.publish("a", b"data: 1\n\n", now=1.0)
    async with place.new_store(max_age=3600) as store:
        await store.append([("a", b"data: 2\n\n")])
        assert [event.event.data for event in (await read_all(store, ALL, None))[0]] == ["0", "1", "2"]


async def test_what_others_write_is_trimmed_without_a_publish(place):
    """The limits of a server hold for what other programs write, also where nobody publishes by a server."""
    async with place.new_store():
        pass
    for n in range(5):
        place.publish("a", b"data: %d\n\n" % n)
    async with place.new_store(max_events=2) as store:
        with anyio.fail_after(20):
            while len((await read_all(store, ALL, None))[0]) > 2:
                await anyio.sleep(0.01)


async def test_a_kick_by_the_page(place):
    """The kick of the page ends the streams with its labels."""
    group = StreamGroup(signals=False)
    async with open_hub(place.new_store()) as hub:
        response = EventSourceResponse(hub.subscribe("a"), group=group, labels={"user": "ann", "device": "2"})
        async with open_test_stream(response) as stream:
            place.publish("$sse_trio/kick", KICK)
            place.publish.wake()
            with anyio.fail_after(20):
                await stream.wait_closed()
    assert stream.close_reason is CloseReason.KICKED


@pytest.mark.usefixtures("forgive_coredis")
async def test_a_newer_format_in_redis_is_refused(shared_redis):
    """A hub of a format that this release does not know is refused: by a store, a publisher, and the page's script."""
    redis = pytest.importorskip("sse_trio.stores.redis", reason="coredis is not installed")
    name = secrets.token_hex(4)
    by_script = ByScript(shared_redis.url, name)
    by_script("a", PRICE)
    by_script.set_format(2)
    with pytest.raises(Exception, match="FORMAT this hub has format 2"):
        by_script("a", PRICE)
    with pytest.raises(StoreUnavailableError, match="newer release, in format 2"):
        async with redis.RedisStore(shared_redis.url, name=name, retry_for=0):
            pass
    publisher = Publisher(shared_redis.url, name=name, retry_for=0)
    with publisher, pytest.raises(StoreUnavailableError, match="newer release, in format 2"):
        publisher.publish("a", "x")
