# Where a SQLiteStore's file is: who may read it, and what happens when it is deleted, replaced, moved or locked.

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import stat

import anyio
import pytest

from sse_trio import open_hub
from sse_trio._errors import StoreUnavailableError
from sse_trio.stores import EventId, SQLiteStore
from sse_trio.stores._sqlite import file as _sqlite_file
from sse_trio.stores._sqlite import place as _sqlite_place
from sse_trio.testing._store_locations import ALL

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("real_clock")]


LOOPS = {"asyncio": {}, "trio": {}, "uvloop": {"use_uvloop": True}}


@pytest.fixture(params=LOOPS)
def anyio_backend(request):
    """Files and threads are each loop's own: they have all three of them here."""
    return ("asyncio" if request.param == "uvloop" else request.param), LOOPS[request.param]


@pytest.fixture
def path(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data" / "hub.db"


def delete(path):
    path.unlink()


def delete_wal(path):
    path.with_name("hub.db-wal").unlink()


def delete_shm(path):
    path.with_name("hub.db-shm").unlink()


def delete_everything(path):
    shutil.rmtree(path.parent)


def replace(path):
    sqlite3.connect(path.with_name("other.db")).close()
    path.with_name("other.db").replace(path)


def move_the_directory(path):
    path.parent.rename(path.parent.with_name("elsewhere"))


LOSSES = [delete, delete_wal, delete_shm, delete_everything, replace, move_the_directory]


@pytest.mark.parametrize("lose", LOSSES)
async def test_nothing_is_acknowledged_that_no_process_would_find(path, lose):
    """While the file or one of SQLite's two is missing or replaced, appends and reads raise StoreUnavailableError."""
    async with SQLiteStore(path) as store:
        (id_,) = await store.append([("a", b"1")])
        lose(path)
        for call in (
            lambda: store.append([("a", b"2")]),
            lambda: store.read(ALL, id_),
            lambda: store.read_last(ALL, 1),
        ):
            with pytest.raises(StoreUnavailableError, match="move it back, or restart every process"):
                await call()


async def test_a_file_that_goes_while_it_is_written_to_is_noticed(path, monkeypatch):
    """An append is not acknowledged if its file goes before that."""
    transaction = _sqlite_file.transaction

    @contextlib.contextmanager
    def lose_it(*args):
        with transaction(*args):
            yield
        path.unlink()

    async with SQLiteStore(path) as store:
        await store.append([("a", b"1")])
        store._writer.maintain()  # that of the start is over: it is done by one thread at a time
        monkeypatch.setattr("sse_trio.stores._sqlite.writer.transaction", lose_it)
        with pytest.raises(StoreUnavailableError, match="deleted, replaced or moved"):
            await store.append([("a", b"2")])


async def test_a_directory_that_is_moved_back_goes_on(path, caplog):
    """The hub waits for its file to come back: one log line, streams stay open, nothing is missed or doubled."""
    async with open_hub(SQLiteStore(path, poll_interval=0.01)) as hub, hub.subscribe("a") as subscription:
        await hub.publish("a", "before")
        assert (await subscription.receive()).data == "before"
        move_the_directory(path)
        with pytest.raises(StoreUnavailableError):
            await hub.publish("a", "meanwhile")
        while "trying again" not in caplog.text:
            await anyio.sleep(0.01)
        await anyio.sleep(0.1)  # ten more tries
        path.parent.with_name("elsewhere").rename(path.parent)
        await hub.publish("a", "after")
        assert (await subscription.receive()).data == "after"
    assert len(caplog.records) == 1


async def test_a_process_that_starts_meanwhile_has_a_history_of_its_own(path):
    """After a restart, clients of the lost history get a gap, and no process publishes to both files."""
    async with SQLiteStore(path) as one:
        (old,) = await one.append([("a", b"old")])
        for file in path.parent.glob("hub.db*"):
            if file.is_file():
                file.unlink()
        async with SQLiteStore(path) as two:
            with pytest.raises(StoreUnavailableError):
                await one.append([("a", b"lost")])
            (new,) = await two.append([("a", b"new")])
    async with SQLiteStore(path) as three:  # what the first store left behind at its end was its own, not the second's
        page = await three.read(ALL, old)
        assert page.gap == (old, new)
        assert [event.payload for event in page.events] == [b"new"]


async def test_a_link_leads_to_the_file(path, tmp_path):
    """A database that is a link is checked where the link leads, as SQLite does."""
    (tmp_path / "link.db").symlink_to(path)
    async with SQLiteStore(path) as real, SQLiteStore(tmp_path / "link.db") as linked:
        (id_,) = await real.append([("a", b"")])
        assert (await linked.read_last(ALL, 1)).tip == id_
        (tmp_path / "link.db").unlink()
        with pytest.raises(StoreUnavailableError):
            await linked.append([("a", b"")])
        await real.append([("a", b"")])
        (tmp_path / "link.db").symlink_to(path)
        await linked.append([("a", b"")])
        delete_wal(path)
        with pytest.raises(StoreUnavailableError, match="its -wal was deleted"):
            await linked.append([("a", b"")])


@pytest.mark.parametrize("times", [1, 3])
async def test_a_file_that_is_replaced_while_it_is_opened(path, monkeypatch, times):
    """A file replaced while it is opened is opened again; if that keeps happening, the store is unavailable."""
    connect = _sqlite_file._connect
    replaced = []

    def connect_and_replace(name):
        connection = connect(name)
        if len(replaced) < times:
            replaced.append(name)
            replace(path)
        return connection

    monkeypatch.setattr(_sqlite_file, "_connect", connect_and_replace)
    if times == 1:
        async with SQLiteStore(path) as store:
            (id_,) = await store.append([("a", b"")])
            assert (await store.read_last(ALL, 1)).tip == id_
    else:
        with pytest.raises(StoreUnavailableError, match="replaced while it was being opened"):
            await SQLiteStore(path).__aenter__()


@contextlib.contextmanager
def locked(path):
    """Another program that holds the write lock, as a backup or a shell does."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


async def test_a_write_lock_held_at_the_start_stops_no_reader(path, monkeypatch):
    """A hub opens, reads and follows while another program holds the write lock; only publishers wait for it."""
    monkeypatch.setattr(_sqlite_file, "_BUSY_SECONDS", 0.0)
    async with SQLiteStore(path) as store:
        (first,) = await store.append([("a", b"1")])
    with locked(path):
        async with (
            open_hub(SQLiteStore(path)) as hub,
            hub.subscribe("a", after=str(EventId(first.epoch, 0))) as history,
        ):
            assert (await history.receive()).id == str(first)
            with pytest.raises(StoreUnavailableError, match="locked"):
                await hub.publish("a", "2")


async def test_a_follower_opens_its_files_when_it_can(path, caplog, monkeypatch):
    """A follower whose files can't be opened logs it once, waits and misses nothing; the hub goes on."""
    failures = [sqlite3.OperationalError("database is locked")] * 3
    opened = _sqlite_file.open_file

    def fail(*args):
        if failures:
            raise failures.pop()
        return opened(*args)

    async with SQLiteStore(path, poll_interval=0.01) as store:
        monkeypatch.setattr("sse_trio.stores._sqlite.follower.open_file", fail)
        (id_,) = await store.append([("a", b"")])
        async with store.follow(EventId(store.epoch, 0)) as pages:
            assert [event.id for event in (await anext(pages)).events] == [id_]
    assert caplog.text.count("database is locked; trying again") == 1


async def test_a_follower_that_reads_nothing_opens_nothing(path):
    """A follower that never reads opens no file and has nothing to close."""
    async with SQLiteStore(path) as store, store.follow(EventId(store.epoch, 0)):
        pass


def mode_of(path):
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture
def umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize(("mode", "directory"), [(0o600, 0o700), (0o660, 0o770), (0o644, 0o755), (0o640, 0o750)])
async def test_files_are_their_owners_unless_asked_otherwise(path, mode, directory):
    """Other users can't read, publish or send wake-ups, whatever the umask; `mode=` lets them."""
    options = {} if mode == 0o600 else {"mode": mode}
    async with SQLiteStore(path, **options) as store, store.follow(EventId(store.epoch, 0)) as pages:
        await store.append([("a", b"private")])
        await anext(pages)
        wake = path.with_name("hub.db.wake")
        files = [path, path.with_name("hub.db-wal"), path.with_name("hub.db-shm"), *wake.iterdir()]
        assert len(files) == 4
        assert {mode_of(file) for file in files} == {mode}
        assert mode_of(wake) == directory


@pytest.mark.usefixtures("umask")
async def test_a_file_that_others_may_read_is_warned_of(path, caplog):
    """An earlier release's file keeps its mode and the log says what to do; a mode you chose is not warned of."""
    path.touch(mode=0o644)
    async with SQLiteStore(path):
        pass
    assert "is open to other users (its mode is 644): chmod 600 it" in caplog.text
    assert mode_of(path) == 0o644
    caplog.clear()
    async with SQLiteStore(path, mode=0o644):
        pass
    assert caplog.text == ""


@pytest.mark.parametrize("has", ["none", "one for root"])
async def test_a_system_without_mknod_makes_files_too(path, monkeypatch, has):
    """Without mknod, as on Windows and macOS, the file is made by opening it and has the same mode."""

    def refuse(*_args):
        raise PermissionError

    if has == "none":
        monkeypatch.delattr(_sqlite_place.os, "mknod")
    else:
        monkeypatch.setattr(_sqlite_place.os, "mknod", refuse)
    async with SQLiteStore(path) as store:
        await store.append([("a", b"")])
        assert mode_of(path) == 0o600


async def test_a_schema_that_another_process_has_just_made(path, monkeypatch):
    """If two processes find no schema, the second one takes the first one's."""
    async with SQLiteStore(path) as store:
        (id_,) = await store.append([("a", b"")])
    versions = iter([0])
    look = _sqlite_file._version_of
    monkeypatch.setattr(_sqlite_file, "_version_of", lambda connection: next(versions, look(connection)))
    async with SQLiteStore(path) as store:
        assert (await store.read_last(ALL, 1)).tip == id_


@pytest.mark.parametrize(
    ("bad", "advice"),
    [
        (":memory:", r"write MemoryStore\(\)"),
        ("file:x.db?mode=memory", "the path of a file itself"),
        ("", "must be the path of a file"),
        ("a\0b", "without NUL"),
    ],
)
async def test_a_bad_path_is_refused(bad, advice, tmp_path, monkeypatch):
    """A path that SQLite would open as a database in memory, or as a URI, is refused and makes no file."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=advice):
        SQLiteStore(bad)
    assert list(tmp_path.iterdir()) == []
