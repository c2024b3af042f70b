# SQLiteStore: the conformance kit, and what is its own: threads, files, wake-ups, errors of the disk.

from __future__ import annotations

import contextlib
import socket
import sqlite3

import anyio
import pytest

from sse_trio._errors import StoreUnavailableError
from sse_trio.stores import EventId, SQLiteStore, TopicFilter
from sse_trio.stores._sqlite import file as _sqlite_file
from sse_trio.stores._sqlite import reader as _sqlite_reader
from sse_trio.stores._sqlite import wake as _sqlite_wake
from sse_trio.stores._sqlite import writer as _sqlite_writer
from sse_trio.stores._sqlite.wake import Waker, WakeSocket
from sse_trio.testing._check_store import check_event_store
from sse_trio.testing._store_locations import ALL, read_all

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("real_clock")]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "hub.db"


async def test_conformance(tmp_path):
    """SQLiteStore keeps every promise of the protocol."""

    def make(location, hub, topic):
        limits = {"max_events": hub.max_events, "max_age": hub.max_age, "max_bytes": hub.max_bytes}
        return SQLiteStore(tmp_path / f"{location}.db", **limits, per_topic=topic)

    await check_event_store(make, make_by_prefix=make)


async def test_appends_are_committed_in_groups(path):
    """A hundred publishers share commits: a commit costs far more than an event."""
    async with SQLiteStore(path) as store:
        commits = 0
        commit = store._writer.commit

        def count(group):
            nonlocal commits
            commits += 1
            return commit(group)

        store._writer.commit = count

        async def publish(topic):
            for n in range(10):
                await store.append([(topic, b"%d" % n)])

        async with anyio.create_task_group() as group:
            for n in range(100):
                group.start_soon(publish, f"t/{n}")
        assert (await store.read_last(ALL, 0)).tip.sequence == 1000
    assert commits < 200


async def test_a_commit_is_durable(path):
    """The file is in WAL mode and each commit is synced, so an acknowledged event is on the disk."""
    async with SQLiteStore(path) as store:
        assert store._writer.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert store._writer.connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


async def test_a_wake_up_comes_after_the_commit(path, monkeypatch):
    """A woken reader finds the event in the file, because wake-ups are sent after the commit."""
    found = []

    def look(waker):
        with contextlib.closing(sqlite3.connect(path)) as connection:
            found.append(connection.execute("SELECT count(*) FROM events").fetchone()[0])

    monkeypatch.setattr(Waker, "wake_all", look)
    async with SQLiteStore(path) as store:
        for _ in range(3):
            await store.append([("a", b"")])
    assert found == [1, 2, 3]


async def test_trimming_and_what_it_is_known_by_are_one_transaction(path):
    """If an append fails after it has trimmed, nothing is trimmed and no gap is reported."""
    async with SQLiteStore(path, max_events=2) as store:
        ids = await store.append([("a", b"1"), ("a", b"2")])
        with contextlib.closing(sqlite3.connect(path)) as other:
            other.execute("CREATE TRIGGER fail BEFORE UPDATE ON hub BEGIN SELECT RAISE(ABORT, 'cut off'); END")
            with pytest.raises(StoreUnavailableError, match="cut off"):
                await store.append([("a", b"3")])
            other.execute("DROP TRIGGER fail")
        page = await store.read(ALL, ids[0])
        assert page.gap is None
        assert [event.payload for event in (await store.read(ALL, None)).events] == [b"1", b"2"]
        (third,) = await store.append([("a", b"3")])
        assert third.sequence == 3
        assert (await store.read(ALL, EventId(store.epoch, 0))).gap is not None


async def test_a_file_made_anew_has_a_history_of_its_own(path):
    """A new file has a new epoch: the ids of a deleted file of the same name are foreign to it."""
    async with SQLiteStore(path) as store:
        (old,) = await store.append([("a", b"")])
    for file in path.parent.glob("hub.db*"):
        if file.is_file():
            file.unlink()
    async with SQLiteStore(path) as store:
        await store.append([("a", b"")])
        assert store.epoch != old.epoch
        assert (await store.read(ALL, old)).gap is not None


async def test_a_cancelled_append_is_kept_whole_or_not(path):
    """Cancelling while a group is committed cancels the wait, not the commit."""
    async with SQLiteStore(path) as store:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(store.append, [("a", b"1"), ("a", b"2")])
                await anyio.wait_all_tasks_blocked()
                scope.cancel()
        await store.append([("b", b"")])
        assert [event.topic for event in (await store.read(ALL, None)).events] == ["a", "a", "b"]


@pytest.mark.parametrize("bad", ["no such folder", "a folder", "no database", "another version"])
async def test_what_cannot_be_opened_fails_the_start(tmp_path, bad):
    """A path that can't be a database fails the start, with an error that names it."""
    path = tmp_path / "hub.db"
    if bad == "no such folder":
        path = tmp_path / "none" / "hub.db"
    elif bad == "a folder":
        path.mkdir()
    elif bad == "no database":
        path.write_bytes(b"something else altogether\n" * 100)
    else:
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA user_version = 99")
        connection.close()
    with pytest.raises(StoreUnavailableError, match=f"the SQLite file {path} is not available") as caught:
        async with SQLiteStore(path):
            pass
    assert isinstance(caught.value.__cause__, (sqlite3.Error, FileNotFoundError))


@pytest.fixture
def begun_elsewhere(path):
    """Another connection that has begun to write to a file that is not in WAL mode yet."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN IMMEDIATE")
    yield connection
    connection.close()


async def test_workers_may_open_a_new_file_at_once(path, begun_elsewhere, monkeypatch):
    """A worker that opens a new file while another one makes it waits, although SQLite itself doesn't."""
    pauses = []

    def pause(seconds):
        pauses.append(seconds)
        begun_elsewhere.execute("COMMIT")

    monkeypatch.setattr(_sqlite_file, "sleep", pause)
    async with SQLiteStore(path) as store:
        await store.append([("a", b"")])
    assert len(pauses) == 1


@pytest.mark.usefixtures("begun_elsewhere")
async def test_a_new_file_that_stays_locked_fails_the_start(path, monkeypatch):
    """A new file that stays locked is waited for as long as any other lock."""
    monkeypatch.setattr(_sqlite_file, "_BUSY_SECONDS", 0.0)
    with pytest.raises(StoreUnavailableError, match="locked"):
        async with SQLiteStore(path):
            pass


async def test_a_full_disk_is_an_error_for_publishers_and_passes(path):
    """On a full disk publishers get an error; afterwards all goes on, and nothing acknowledged is lost."""
    async with SQLiteStore(path) as store:
        (first,) = await store.append([("a", b"1")])
        (pages,) = store._writer.connection.execute("PRAGMA page_count").fetchone()
        store._writer.connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StoreUnavailableError, match="full") as caught:
            await store.append([("a", b"x" * 100_000)])
        assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
        store._writer.connection.execute("PRAGMA max_page_count = 100000")
        (second,) = await store.append([("a", b"2")])
        assert second.sequence == first.sequence + 1
        assert [event.payload for event in (await store.read(ALL, None)).events] == [b"1", b"2"]


async def test_a_follower_survives_errors(path, monkeypatch, caplog):
    """A follower whose reads fail logs it, tries again, and misses nothing."""
    async with SQLiteStore(path, poll_interval=0.01) as store, store.follow(EventId(store.epoch, 0)) as pages:
        read = _sqlite_reader.SQLiteReader.read
        failures = [sqlite3.OperationalError("disk I/O error")] * 3

        def fail(*args):
            if failures:
                raise failures.pop()
            return read(*args)

        monkeypatch.setattr(_sqlite_reader.SQLiteReader, "read", fail)
        (id_,) = await store.append([("a", b"")])
        assert [event.id for event in (await anext(pages)).events] == [id_]
    assert "disk I/O error; trying again" in caplog.text


async def test_old_events_and_keys_go_while_nothing_happens(path, monkeypatch):
    """Old events and keys are trimmed without an append, by a clock that runs while no process does."""
    now = 1000.0
    monkeypatch.setattr(_sqlite_writer, "MAX_FORGOTTEN", 3)
    async with SQLiteStore(path, clock=lambda: now) as store:
        ids = [(await store.append([(f"t/{n}", b"")], key=("p", n)))[0] for n in range(10)]
    now += 700
    async with SQLiteStore(path, max_age=800.0, clock=lambda: now) as store:
        (young,) = await store.append([("young", b"")], key=("p", 10))
        assert len((await store.read(ALL, None)).events) == 11
    now += 200
    async with SQLiteStore(path, max_age=800.0, clock=lambda: now) as store:
        await store._in_thread(store._writer.maintain, store._write_limiter)
        assert [event.id for event in (await store.read(ALL, None)).events] == [young]
        assert store._writer.connection.execute("SELECT sequence FROM keys").fetchall() == [(10,)]
        assert store._writer.connection.execute("SELECT count(*) FROM topics WHERE events = 0").fetchone() == (3,)
        assert (await store.read(TopicFilter("t/9"), ids[8])).gap is not None
        assert (await store.read(TopicFilter("t/9"), ids[9])).gap is None
        assert (await store.read(TopicFilter("t/0"), ids[5])).gap is not None  # forgotten: rather one too many
        assert (await store.read(TopicFilter("t/0"), ids[6])).gap is None
        assert (await store.read(TopicFilter("t/*"), ids[8])).gap is not None
        await store._in_thread(store._writer.maintain, store._write_limiter)  # nothing is left to do


async def test_maintenance_survives_errors(path, monkeypatch, caplog):
    """If trimming by age fails, it is logged and tried again later."""
    tried_again = anyio.Event()
    tries = []

    def fail(_self):
        tries.append(1)
        if len(tries) == 2:
            anyio.from_thread.run_sync(tried_again.set)
        raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr(_sqlite_writer.SQLiteWriter, "maintain", fail)
    async with SQLiteStore(path, max_age=0.1) as store:
        await tried_again.wait()
        await store.append([("a", b"")])
    assert "database is locked; nothing was trimmed by age" in caplog.text


async def test_many_topics_are_read_like_few(path, monkeypatch):
    """A selection of very many topics is read from the hub's log in bounded pages."""
    monkeypatch.setattr(_sqlite_reader, "_MERGED", 4)
    monkeypatch.setattr(_sqlite_reader, "_SCAN", 7)
    async with SQLiteStore(path) as store:
        await store.append([(f"{'pq'[n % 2]}/{n % 20}", b"%d" % n) for n in range(100)])
        wide, exact = TopicFilter("p/*"), TopicFilter(*(f"q/{n}" for n in range(1, 20, 2)))
        for topics, parity in ((wide, 0), (exact, 1)):
            events, _ = await read_all(store, topics, None, limit=3)
            assert [int(event.payload) for event in events] == list(range(parity, 100, 2))
            last = await store.read_last(topics, 3)
            assert [int(event.payload) for event in last.events] == [94 + parity, 96 + parity, 98 + parity]
        page = await store.read(TopicFilter("q/19", "p/*", "x/*"), EventId("foreign", 1), limit=1)
        assert page.gap is not None
        assert page.gap.oldest == page.events[0].id


async def test_a_gap_is_said_with_the_first_event_after_it(path, monkeypatch):
    """A page with a gap names the first event after it, however far away that is."""
    monkeypatch.setattr(_sqlite_reader, "_MERGED", 0)
    monkeypatch.setattr(_sqlite_reader, "_SCAN", 10)
    async with SQLiteStore(path) as store:
        ids = await store.append([("other", b"")] * 50 + [("p/1", b"1")])
        page = await store.read(TopicFilter("p/*"), EventId("foreign", 1))
        assert page.gap == (EventId("foreign", 1), ids[-1])


async def test_wake_ups_reach_long_paths(tmp_path):
    """Wake-ups work for a database whose path is too long for a socket."""
    folder = tmp_path / ("x" * 100) / ("y" * 100)
    folder.mkdir(parents=True)
    with contextlib.closing(WakeSocket(str(folder / "hub.db"), 0o600)) as wake:
        waker = Waker(str(folder / "hub.db"), 0o600)
        waker.wake_all()
        with anyio.fail_after(5):
            await wake.wait(60)
        waker.close()


async def test_a_full_buffer_stops_nobody(tmp_path):
    """Wake-ups that are not taken are dropped; one is as good as a thousand."""
    with contextlib.closing(WakeSocket(str(tmp_path / "hub.db"), 0o600)) as wake:
        waker = Waker(str(tmp_path / "hub.db"), 0o600)
        for _ in range(2000):
            waker.wake_all()
        with anyio.fail_after(5):
            await wake.wait(60)
        with anyio.move_on_after(0.05) as scope:
            await wake.wait(60)
        assert scope.cancelled_caught, "old wake-ups were left in the buffer"
        waker.close()


async def test_sockets_of_the_dead_are_removed(tmp_path):
    """The socket of a killed process is removed by the first process that tries to wake it."""
    waker = Waker(str(tmp_path / "hub.db"), 0o600)
    with contextlib.closing(WakeSocket(str(tmp_path / "hub.db"), 0o600)):
        (living,) = waker_folder(tmp_path)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
            dead.bind(str(tmp_path / "hub.db.wake" / "dead.sock"))
        waker.wake_all()
        assert waker_folder(tmp_path) == [living]
    assert waker_folder(tmp_path) == []
    (tmp_path / "hub.db.wake").rmdir()
    waker.wake_all()
    waker.close()


async def test_nothing_but_sockets_is_removed(tmp_path):
    """Only sockets are removed from the wake directory, even if the directory is a link to another one."""
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "precious.txt").write_text("kept")
    (tmp_path / "hub.db.wake").symlink_to(tmp_path / "else")
    waker = Waker(str(tmp_path / "hub.db"), 0o600)
    waker.wake_all()
    waker.close()
    assert (tmp_path / "else" / "precious.txt").read_text() == "kept"


def waker_folder(tmp_path):
    return sorted((tmp_path / "hub.db.wake").iterdir())


@pytest.mark.parametrize("lack", ["no unix sockets", "no place for sockets", "no /proc"])
async def test_without_sockets_events_come_by_polling(path, monkeypatch, caplog, lack):
    """Without wake-ups, a follower polls every `poll_interval`."""
    if lack == "no unix sockets":
        monkeypatch.setattr(_sqlite_wake, "_open_datagram_socket", lambda: None)
    elif lack == "no place for sockets":
        monkeypatch.setattr(_sqlite_wake._Directory, "address", lambda _self, name: "/nowhere/" + name)
    else:
        monkeypatch.setattr(_sqlite_wake, "_DESCRIPTORS", "/nowhere")
    async with SQLiteStore(path, poll_interval=0.02) as store, store.follow(EventId(store.epoch, 0)) as pages:
        with anyio.move_on_after(0.05):
            await anext(pages)
        (id_,) = await store.append([("a", b"")])
        with anyio.fail_after(5):
            assert [event.id for event in (await anext(pages)).events] == [id_]
    assert ("come by polling" in caplog.text) == (lack == "no place for sockets")


async def test_limits_that_were_lowered_hold_at_the_next_append(path):
    """A file that was filled under wider limits is trimmed at the next append."""
    async with SQLiteStore(path) as store:
        await store.append([("a", b"x")] * 50 + [("b", b"x")] * 50)
    async with SQLiteStore(path, max_events=10) as store:
        await store.append([("b", b"y")])
        assert [event.payload for event in (await store.read(ALL, None)).events] == [b"x"] * 9 + [b"y"]


async def test_its_repr_names_the_file(path):
    """A SQLite store shows its file and whether it is open."""
    store = SQLiteStore(path)
    assert repr(store) == f"<SQLiteStore {str(path)!r}: not open yet>"
    async with store:
        assert repr(store) == f"<SQLiteStore {str(path)!r}: open>"
