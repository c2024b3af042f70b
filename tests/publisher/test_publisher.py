"""Publishing without an event loop: to SQLite, Redis and PostgreSQL, from threads, and before and after forks."""

from __future__ import annotations

import contextlib
import gc
import importlib
import inspect
import multiprocessing
import os
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import anyio
import pytest
from anyio import ClosedResourceError, to_thread

from sse_trio import CloseReason, EventSourceResponse, ServerSentEvent, StoreUnavailableError, open_hub
from sse_trio.publisher import Publisher, PublisherOptions
from sse_trio.stores import Retention, SQLiteStore
from sse_trio.testing import open_test_stream
from sse_trio.testing._store_locations import ALL, read_all

from ..e2e._servers import patience


def with_redis_py():
    """Return the module that needs redis-py, or skip the test."""
    return pytest.importorskip("sse_trio.publisher._redis", reason="redis-py is not installed")


real_clock = pytest.mark.usefixtures("real_clock")
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="not applicable: nothing forks here")


def events_of(place):
    """All that a hub has, as (id, topic, data)."""

    async def read():
        async with place.store() as store:
            events, _ = await read_all(store, ALL, None, limit=5000)
        return [(str(event.id), event.topic, event.event.data) for event in events]

    return anyio.run(read)


# --- what it publishes


@pytest.mark.anyio
@real_clock
async def test_a_subscriber_is_woken_as_by_any_publisher(place):
    """An event that a thread without a loop publishes comes to a subscriber of the hub at once, without a poll."""
    options = {"poll_interval": 60.0} if not place.url.startswith("redis") else {}
    async with open_hub(place.store(**options)) as hub, hub.subscribe("orders/*") as subscription:
        with place.publisher() as publisher, anyio.fail_after(20):
            event = ServerSentEvent("paid", event="order", retry=5)
            id_ = await to_thread.run_sync(publisher.publish, "orders/7", event)
            received = await subscription.receive()
    assert received == ServerSentEvent("paid", event="order", retry=5, id=str(id_))


@pytest.mark.anyio
@real_clock
async def test_it_kicks(place):
    """Publisher.kick() ends the streams with these labels in a process that has the hub open."""
    async with open_hub(place.store()) as hub:
        labels = {"user": "ann", "device": "2"}
        async with open_test_stream(EventSourceResponse(hub.subscribe("a"), labels=labels)) as stream:
            with place.publisher() as publisher, anyio.fail_after(20):
                with pytest.raises(ValueError, match="one label or more"):
                    publisher.kick({})
                await to_thread.run_sync(publisher.kick, {"user": "ann"})
                await stream.wait_closed()
    assert stream.close_reason is CloseReason.KICKED


def test_ids_are_those_that_the_store_has(place, publisher):
    """What publish() and publish_many() return are the ids under which a hub delivers the events."""
    ids = [publisher.publish("a", "one"), *publisher.publish_many([("b", "two"), ("a", 3)])]
    assert events_of(place) == [
        (str(id_), topic, data)
        for id_, (topic, data) in zip(ids, [("a", "one"), ("b", "two"), ("a", "3")], strict=True)
    ]


def test_it_may_be_done_again_with_a_key(place, publisher):
    """With a key that was used before nothing is published, and the ids are the first ones."""
    first = publisher.publish_many([("a", "1"), ("a", "2")], key=("import", 7))
    with place.publisher() as another:
        assert another.publish_many([("a", "1"), ("a", "2")], key=("import", 7)) == first
    assert len(events_of(place)) == 2


def test_a_key_may_be_a_name(place, publisher):
    """A name alone is a key, the same one as a hub's: who comes second publishes nothing, and gets the first id."""
    first = publisher.publish("a", "1", key="order-7")
    assert publisher.publish_many([("a", "1")], key="order-7") == [first]
    assert publisher.publish("a", "2", key="order-8") != first

    async def publish_again():
        async with open_hub(place.store()) as hub:
            return await hub.publish("a", "1", key="order-7")

    assert anyio.run(publish_again, backend="trio") == first
    assert len(events_of(place)) == 2
    with pytest.raises(ValueError, match="key must be a str that is not empty"):
        publisher.publish("a", "x", key="")


def test_limits_are_those_that_it_was_given(place):
    """Whoever publishes trims, by the limits that it was given, as the store does."""
    with place.publisher(max_events=5, per_topic=Retention(max_events=2)) as publisher:
        for n in range(4):
            publisher.publish_many([("a", n), (f"b/{n}", n)])
    assert [(topic, data) for _, topic, data in events_of(place)] == [
        ("b/1", "1"), ("a", "2"), ("b/2", "2"), ("a", "3"), ("b/3", "3"),
    ]  # fmt: skip


def test_an_event_may_expire(place):
    """With a ttl, who comes after that many seconds is not sent the event, and nothing says that it was there."""
    now = [1.7e9]
    with place.publisher(clock=lambda: now[0]) as publisher:
        publisher.publish("a", "short", ttl=5)
        publisher.publish_many([("a", "longer"), ("b", "too")], ttl=50)
        publisher.publish("a", "kept")
        for ttl in (0, "5"):
            with pytest.raises((ValueError, TypeError), match="ttl must be"):
                publisher.publish("a", "x", ttl=ttl)

        async def read(seconds):
            now[0] += seconds
            async with open_hub(place.store(clock=lambda: now[0])) as hub:
                history = await hub.history("*")
                assert not history.has_gap
                return [event.data for event in history.events]

        kept = [anyio.run(read, seconds, backend="trio") for seconds in (4, 1, 45)]
    assert kept == [["short", "longer", "too", "kept"], ["longer", "too", "kept"], ["kept"]]


def test_limits_may_be_by_pattern(place):
    """The limits of topics may differ by pattern, as those of the store."""
    with place.publisher(per_topic={"a/*": Retention(max_events=1), "a/2": Retention()}) as publisher:
        for n in range(3):
            publisher.publish_many([("a/1", n), ("a/2", n)])
    assert [(topic, data) for _, topic, data in events_of(place)] == [
        ("a/2", "0"), ("a/2", "1"), ("a/1", "2"), ("a/2", "2"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("topic", "event", "error"),
    [
        ("", "x", ValueError),
        ("a*", "x", ValueError),
        ("$sse_trio/kick", "x", ValueError),
        (7, "x", TypeError),
        ("a", object(), TypeError),
        ("a", ServerSentEvent("x", id="7"), ValueError),
    ],
)
def test_what_a_hub_refuses_it_refuses(topic, event, error, place, publisher):
    """A bad topic, a bad event and an event with an id are refused, alone and among others, and nothing is kept."""
    with pytest.raises(error):
        publisher.publish(topic, event)
    with pytest.raises(error):
        publisher.publish_many([("a", "good"), (topic, event)])
    with pytest.raises(TypeError, match="key must be"):
        publisher.publish("a", "x", key=7)
    with pytest.raises(TypeError, match="pairs"):
        publisher.publish_many("ab")
    with pytest.raises(TypeError, match="pairs"):
        publisher.publish_many([("a",)])
    assert events_of(place) == []


# --- which store


def test_nothing_is_opened_before_the_first_publish(tmp_path):
    """A Publisher may be made where nothing is there yet: when a module is imported, before a fork, before a server."""
    with_redis_py()
    path = tmp_path / "hub.sqlite"
    publisher = Publisher(path, create=True)
    Publisher("redis://127.0.0.1:1").close()
    assert not path.exists()
    publisher.publish("a", "x")
    assert path.exists()
    publisher.close()


def test_a_path_may_be_written_as_a_url(tmp_path, monkeypatch):
    """sqlite:/// and a relative path, sqlite://// and an absolute one, as SQLAlchemy and Django have them."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "hub.sqlite"
    for n, store in enumerate([path, str(path), "hub.sqlite", f"sqlite:///{path}", "sqlite:///hub.sqlite"], 1):
        with Publisher(store, create=True) as publisher:
            assert publisher.publish("a", "x").sequence == n
    assert [each.name for each in tmp_path.glob("*.sqlite")] == ["hub.sqlite"]


@pytest.mark.parametrize(
    ("store", "options", "error", "message"),
    [
        ("http://example.org", {}, ValueError, "sqlite:///path, redis://host"),
        ("redis://:secret@host/x", {}, ValueError, "a number as its database"),
        (7, {}, TypeError, "a redis.Redis; got 7"),
        (":memory:", {}, ValueError, "MemoryStore"),
        ("hub.sqlite", {"max_events": 0}, ValueError, "max_events"),
        ("redis://host", {"max_events": 0}, ValueError, "max_events"),
        ("redis://host", {"name": "a}"}, ValueError, "without { and }"),
        ("redis://host", {"retry_for": -1}, ValueError, "retry_for"),
        ("redis://host", {"reply_within": 0}, ValueError, "reply_within"),
        ("redis://host", {"per_topic": 7}, TypeError, "per_topic"),
        ("redis://host", {"clock": 7}, TypeError, "clock"),
        ("redis://host", {"remember_keys": 0}, ValueError, "remember_keys"),
        ("hub.sqlite", {"remember_keys": 0}, ValueError, "remember_keys"),
        ("redis://host", {"ssl_context": object()}, ValueError, "ssl_ca_certs"),
        ("hub.sqlite", {"name": "shop"}, TypeError, "name"),
        ("hub.sqlite", {"create": 1}, TypeError, "create"),
        ("postgresql://me:secret@[h", {}, ValueError, "conninfo must be"),
        ("postgresql://host", {"schema": "No"}, ValueError, "schema must be"),
        ("postgres://host", {"mode": 0o600}, TypeError, "mode"),
    ],
)
def test_what_makes_no_sense_is_refused_when_it_is_made(store, options, error, message, tmp_path, monkeypatch):
    """A store that isn't one, and a bad option, are errors of the line that makes the publisher; no password shows."""
    monkeypatch.chdir(tmp_path)
    if not str(store).endswith("sqlite"):
        with_redis_py()
        pytest.importorskip("psycopg", reason="psycopg is not installed")
    with pytest.raises(error, match=message) as caught:
        Publisher(store, **options)
    assert "secret" not in str(caught.value)


def test_options_are_those_of_the_stores():
    """A program gives the same options to its store and to its publisher: all are known, with the same defaults."""
    redis_store = pytest.importorskip("sse_trio.stores.redis", reason="coredis is not installed").RedisStore
    ours = inspect.signature(with_redis_py().new_redis).parameters
    postgres = pytest.importorskip("sse_trio.stores.postgres", reason="psycopg is not installed")
    stores = (redis_store, SQLiteStore, postgres.PostgresStore)
    of_redis, of_sqlite, of_postgres = (inspect.signature(store).parameters for store in stores)
    known = {*of_redis, *of_sqlite, *of_postgres} - {"url", "path", "conninfo", "ssl_context"}
    assert known == PublisherOptions.__optional_keys__
    assert {name: parameter.default for name, parameter in ours.items() if name != "store"} == {
        name: parameter.default for name, parameter in of_redis.items() if name != "url"
    }


def test_without_redis_py_it_says_what_to_install(monkeypatch):
    """Publishing to Redis without redis-py is an error with the command that installs it; SQLite needs nothing."""
    monkeypatch.setitem(sys.modules, "redis", None)
    monkeypatch.delitem(sys.modules, "sse_trio.publisher._redis", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'sse-trio\[publisher\]'"):
        Publisher("redis://localhost")
    Publisher("hub.sqlite").close()


def test_without_psycopg_it_says_what_to_install(monkeypatch):
    """Publishing to PostgreSQL without psycopg is an error with the command that installs it."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    for name in [name for name in sys.modules if name.startswith("sse_trio.") and "postgres" in name]:
        parent, _, child = name.rpartition(".")
        if (package := sys.modules.get(parent)) is not None and hasattr(package, child):
            monkeypatch.setattr(package, child, sys.modules[name])  # put back later, where an import changes it
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ImportError, match=r"pip install 'sse-trio\[postgres\]'"):
        Publisher("postgresql://localhost")


# --- threads


@pytest.mark.slow
def test_eight_threads_lose_and_double_nothing(place, publisher):
    """Eight threads publish 100 events each through one publisher: each event is kept once, a thread's own in order."""
    ids = [[] for _ in range(8)]

    def publish(mine, name):
        mine += [str(publisher.publish(f"t/{name}", f"{name}:{n}")) for n in range(100)]

    threads = [threading.Thread(target=publish, args=(mine, name)) for name, mine in enumerate(ids)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    events = events_of(place)
    assert len(events) == len({data for _, _, data in events}) == 800
    for name, mine in enumerate(ids):
        assert [(id_, data) for id_, topic, data in events if topic == f"t/{name}"] == [
            (id_, f"{name}:{n}") for n, id_ in enumerate(mine)
        ]


@pytest.mark.slow
@pytest.mark.untraced
def test_it_is_fast(place, publisher):
    """One thread publishes in at most 1 ms to Redis and 3 ms to SQLite and PostgreSQL, where the machine lets it."""
    times = sorted(timed(publisher, n) for n in range(500))
    limit = (0.001 if place.url.startswith("redis") else 0.003) * patience()
    assert times[len(times) // 10] < limit, "the fastest tenth: others of the suite's processes hold up the rest"


def timed(publisher, n):
    began = time.perf_counter()
    publisher.publish("a", n)
    return time.perf_counter() - began


# --- forks


def in_child(work):
    """Run ``work()`` in a forked process; return whether it ended well. No test's cleanup runs there."""
    pid = os.fork()
    if pid == 0:
        code = 1
        with contextlib.suppress(BaseException):
            work()
            code = 0
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@forks
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_it_works_before_and_after_a_fork(place, publisher):
    """A parent and its children use one publisher, made before the fork, used before it or not."""
    assert in_child(lambda: publisher.publish("a", "first"))
    publisher.publish("a", "parent")
    assert in_child(lambda: [publisher.publish("a", "child"), in_child(lambda: publisher.publish("a", "grandchild"))])
    publisher.publish("a", "parent again")
    assert [data for *_, data in events_of(place)] == ["first", "parent", "child", "grandchild", "parent again"]


@forks
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_while_other_threads_publish(place, publisher):
    """A child that was forked while threads of its parent were publishing is not stuck, and nothing is lost."""
    stopped = threading.Event()
    counts = []

    def publish():
        n = 0
        while not stopped.is_set():
            publisher.publish("threads", "x")
            n += 1
        counts.append(n)

    threads = [threading.Thread(target=publish) for _ in range(4)]
    for thread in threads:
        thread.start()
    children = [in_child(lambda n=n: publisher.publish("children", str(n))) for n in range(10)]
    stopped.set()
    for thread in threads:
        thread.join(30)
    events = events_of(place)
    assert children == [True] * 10
    assert [data for _, topic, data in events if topic == "children"] == [str(n) for n in range(10)]
    assert len([data for _, topic, data in events if topic == "threads"]) == sum(counts)


@pytest.fixture
def publish_once(monkeypatch):
    """The function of publish_once.py, from a module that a new process can import: it can't import `tests`."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return importlib.import_module("publish_once").publish_once


@pytest.mark.slow
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_processes_of_multiprocessing(method, place, publisher, publish_once):
    """It works in processes of multiprocessing, however they are started."""
    publisher.publish("pool", "0")
    context = multiprocessing.get_context(method)
    process = context.Process(target=publish_once, args=(place.url, place.options, "1"))
    process.start()
    process.join(30)
    assert process.exitcode == 0
    assert [data for *_, data in events_of(place)] == ["0", "1"]


@forks
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_no_connection_goes_across_a_fork(tmp_path):
    """SQLite forbids to carry a connection across a fork: the file is closed before, and opened when it is used."""
    path = tmp_path / "hub.sqlite"
    with Publisher(path, create=True) as publisher:
        publisher.publish("a", "x")
        assert in_child(lambda: check_not_open(path))
        assert not is_open(path)
        publisher.publish("a", "y")
        assert is_open(path)


def is_locked(publisher):
    """Whether another thread would have to wait for the connection."""
    lock, taken = publisher._processes.commits()._lock, []

    def take():
        taken.append(lock.acquire(blocking=False))
        if taken[0]:
            lock.release()

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    return not taken[0]


@forks
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_no_thread_opens_the_file_while_the_process_forks(tmp_path):
    """From before a fork until after it no thread of the parent can open the file, and afterwards any can."""
    watched, seen = [], []

    def look():  # registered before the publisher's, so it runs after it, right before the fork
        seen.extend(is_locked(each) for each in watched)

    os.register_at_fork(before=look)
    with Publisher(tmp_path / "hub.sqlite", create=True) as publisher:
        watched.append(publisher)
        assert in_child(lambda: None)  # before its first publish: another thread may be at that
        publisher.publish("a", "x")
        assert in_child(lambda: None)
        watched.clear()
        assert seen == [True, True]
        assert not is_locked(publisher)


@forks
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_that_has_inherited_an_open_file_is_refused(tmp_path, monkeypatch):
    """Where something else than Python forks, as uWSGI does, SQLite's locks are wrong in the child: it is refused."""
    monkeypatch.setattr("sse_trio.publisher._commits.Commits.pause", lambda self: False)
    with Publisher(tmp_path / "hub.sqlite", create=True) as publisher:
        publisher.publish("a", "x")
        assert in_child(lambda: check_refused(publisher))
        publisher.publish("a", "y")


def test_a_process_that_was_forked_so_holds_up_no_fork(tmp_path, monkeypatch):
    """A child that was refused can fork, and is refused each time; its parent publishes on."""
    with Publisher(tmp_path / "hub.sqlite", create=True) as publisher:
        publisher.publish("a", "x")
        with monkeypatch.context() as patch:
            patch.setattr("os.getpid", lambda: 0)  # as in a child
            for _ in range(2):
                check_refused(publisher)
                assert publisher._processes.pause() is None
        publisher.publish("a", "y")


def check_refused(publisher):
    with pytest.raises(StoreUnavailableError, match="forked while the publisher had the file open"):
        publisher.publish("a", "x")


@forks
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_after_the_publisher_is_gone(tmp_path):
    """A publisher that was forgotten holds no fork up, and is not kept by what it has registered."""
    publisher = Publisher(tmp_path / "hub.sqlite", create=True)
    publisher.publish("a", "x")
    processes = weakref.ref(publisher._processes)
    del publisher
    gc.collect()
    assert processes() is None
    assert in_child(lambda: None)


def is_open(path):
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("not applicable: no /proc here")
    return str(path) in [str(each.readlink()) for each in descriptors.iterdir() if each.is_symlink()]


def check_not_open(path):
    assert not is_open(path)


def test_a_publisher_that_is_forgotten_is_closed(tmp_path):
    """A script that never closes its publisher ends without a warning, with warnings as errors."""
    code = f"from sse_trio.publisher import Publisher; publisher = Publisher({str(tmp_path / 'a')!r}, create=True); "
    code += "publisher.publish('a', 'x')"
    done = subprocess.run([sys.executable, "-X", "dev", "-W", "error", "-c", code], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")


# --- closing, and failing


def test_a_closed_publisher_publishes_nothing(place):
    """After close(), which may be called twice, publishing is an error that says so."""
    with place.publisher() as publisher:
        publisher.publish("a", "x")
        assert repr(publisher).endswith(": open>")
    publisher.close()
    assert repr(publisher).endswith(": closed>")
    with pytest.raises(ClosedResourceError, match="this Publisher is closed"):
        publisher.publish("a", "x")
    place.publisher().close()  # one that was never used


def test_a_file_that_is_gone_is_opened_anew(tmp_path):
    """Nothing is acknowledged in a file that was deleted; the next event goes into the one that is there then."""
    path = tmp_path / "hub.sqlite"
    with Publisher(path, create=True) as publisher:
        first = publisher.publish("a", "x")
        path.unlink()
        with pytest.raises(StoreUnavailableError, match="deleted, replaced or moved"):
            publisher.publish("a", "y")
        second = publisher.publish("a", "z")
    assert second.sequence == 1
    assert second.epoch != first.epoch


def test_a_file_that_is_not_there(tmp_path, monkeypatch):
    """Publishing makes no file that nobody reads: it says which path it looked at. It works when the server has run."""
    monkeypatch.chdir(tmp_path)
    with Publisher("hub.sqlite") as publisher:
        for _ in range(2):
            with pytest.raises(StoreUnavailableError, match="there is no file .*hub.sqlite.*create=True") as caught:
                publisher.publish("a", "x")
            assert repr(str(tmp_path / "hub.sqlite")) in str(caught.value)
        assert [*tmp_path.iterdir()] == []
        with Publisher("hub.sqlite", create=True) as another:
            another.publish("a", "x")
        assert publisher.publish("a", "y").sequence == 2


def test_a_file_that_can_not_be_opened(tmp_path):
    """A directory that isn't there is StoreUnavailableError, with the reason, from each publish."""
    with Publisher(tmp_path / "nowhere" / "hub.sqlite", create=True) as publisher:
        for _ in range(2):
            with pytest.raises(StoreUnavailableError, match="No such file"):
                publisher.publish("a", "x")
