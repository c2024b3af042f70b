# The thread that commits for a SQLite store, by itself and in the store.

from __future__ import annotations

import sqlite3
import threading

import anyio
import pytest
from anyio import from_thread

from sse_trio._errors import StoreUnavailableError
from sse_trio.stores import EventId, SQLiteStore
from sse_trio.stores._group_commit import GroupCommit
from sse_trio.stores._sqlite.commits import CommitThread
from sse_trio.testing import wait_all_tasks_blocked
from sse_trio.testing._store_locations import ALL

CLOSED = "the store was closed before this was acknowledged; it may have been appended"
pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("real_clock")]

PATIENCE = 60


class Disk:
    """Commits when it is told to, and notes the groups, and how often the thread was entered."""

    def __init__(self):
        self.commits = GroupCommit()
        self.limiter = anyio.CapacityLimiter(1)
        self.thread = CommitThread("the disk", self.commits, self.append, self.note, self.limiter)
        self.groups, self.noted = [], []
        self.began, self.go_on = anyio.Event(), threading.Event()
        self.error = None

    def append(self, group):
        self.groups.append(sorted(append.items[0][0] for append in group))
        from_thread.run_sync(self.began.set)
        assert self.go_on.wait(PATIENCE)
        if self.error is not None:
            raise self.error
        return [[EventId("e", len(self.groups))] for _ in group]

    def note(self, group, results):
        self.noted.append(len(results))


@pytest.fixture
def entered(monkeypatch):
    """How often a thread was entered."""
    times = []
    commit_groups = CommitThread._commit_groups

    def note(thread, group):
        times.append(len(group))
        return commit_groups(thread, group)

    monkeypatch.setattr(CommitThread, "_commit_groups", note)
    return times


async def test_the_thread_stays_for_the_next_group(entered):
    """What has arrived during a commit is committed next, without another start of a thread."""
    disk = Disk()
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(disk.thread.run)
            async with anyio.create_task_group() as publishers:
                publishers.start_soon(disk.commits.append, [("a", b"")], None)
                await disk.began.wait()
                for name in "bcd":
                    publishers.start_soon(disk.commits.append, [(name, b"")], None)
                await wait_all_tasks_blocked()
                disk.go_on.set()
            tasks.cancel_scope.cancel()
    assert disk.groups == [["a"], ["b", "c", "d"]]
    assert disk.noted == [1, 3]
    assert entered == [1]


async def test_who_else_needs_the_connection_gets_it(entered):
    """Between two groups the thread makes way for other work on the connection, however much there is to commit."""
    disk = Disk()
    did = []
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(disk.thread.run)
            async with anyio.create_task_group() as publishers:
                publishers.start_soon(disk.commits.append, [("a", b"")], None)
                await disk.began.wait()
                publishers.start_soon(disk.commits.append, [("b", b"")], None)

                async def maintain():
                    async with disk.limiter:
                        did.append([*disk.groups])

                publishers.start_soon(maintain)
                await wait_all_tasks_blocked()
                disk.go_on.set()
            tasks.cancel_scope.cancel()
    assert did == [[["a"]]]
    assert disk.groups == [["a"], ["b"]]
    assert entered == [1, 1]


async def test_a_disk_that_fails_is_an_error_for_each_append():
    """Every append of a group whose commit failed gets an error of its own, and the next group is tried."""
    disk = Disk()
    disk.error = sqlite3.OperationalError("disk I/O error")
    disk.go_on.set()
    failures = []

    async def append(name):
        try:
            await disk.commits.append([(name, b"")], None)
        except StoreUnavailableError as exc:
            failures.append(exc)

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            async with anyio.create_task_group() as publishers:
                publishers.start_soon(append, "a")
                publishers.start_soon(append, "b")
                await wait_all_tasks_blocked()
                tasks.start_soon(disk.thread.run)
            disk.error = None
            await append("c")
            tasks.cancel_scope.cancel()
    assert len(failures) == 2
    assert failures[0] is not failures[1]
    assert {str(failure.__cause__) for failure in failures} == {"disk I/O error"}
    assert disk.groups == [["a", "b"], ["c"]]
    assert disk.noted == [1]


async def test_what_waits_when_the_store_is_closed_is_told():
    """A store that is closed commits the group that is under way, and no other; nobody waits for ever."""
    disk = Disk()
    outcomes = {}

    async def append(name):
        try:
            outcomes[name] = await disk.commits.append([(name, b"")], None)
        except anyio.ClosedResourceError as exc:
            outcomes[name] = str(exc)

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as publishers, anyio.create_task_group() as tasks:
            tasks.start_soon(disk.thread.run)
            publishers.start_soon(append, "a")
            await disk.began.wait()
            publishers.start_soon(append, "b")
            await wait_all_tasks_blocked()
            disk.commits.close()
            tasks.cancel_scope.cancel()
            disk.go_on.set()
    assert outcomes == {"a": [EventId("e", 1)], "b": CLOSED}


async def test_a_flood_does_not_keep_a_store_open(tmp_path):
    """A store whose publishers never stop is closed all the same."""
    store = SQLiteStore(tmp_path / "hub.db")
    kept = []

    async def flood():
        with pytest.raises(anyio.ClosedResourceError):
            while True:
                kept.extend(await store.append([("a", b"")]))

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks, store:
            for _ in range(8):
                tasks.start_soon(flood)
            while len(kept) < 100:
                await anyio.sleep(0.01)
    async with SQLiteStore(tmp_path / "hub.db") as again:
        events = (await again.read_last(ALL, 100_000)).events
    assert {id_.sequence for id_ in kept} <= {event.id.sequence for event in events}
