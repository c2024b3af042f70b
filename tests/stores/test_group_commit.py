# Group commit by itself, without a store behind it.

from __future__ import annotations

import anyio
import pytest

from sse_trio._errors import HoldLostError, StoreUnavailableError
from sse_trio.stores import EventId
from sse_trio.stores._append import AGAIN, LOST
from sse_trio.stores._group_commit import GroupCommit
from sse_trio.stores._holds import Claim
from sse_trio.testing import wait_all_tasks_blocked

pytestmark = pytest.mark.anyio


class Disk:
    """Takes one second for each commit, and notes what it was given."""

    def __init__(self):
        self.groups = []
        self.error = None

    async def commit(self, group):
        await anyio.sleep(1)
        self.groups.append([append.items[0][0] for append in group])
        if self.error is not None:
            raise self.error
        return [[EventId("e", n)] for n, _ in enumerate(group)]


async def test_a_group_is_what_came_during_the_last_commit():
    """The first append is committed alone; appends during a commit share the next one, up to a largest group."""
    disk = Disk()
    commits = GroupCommit()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(commits.run, disk.commit)
        async with anyio.create_task_group() as publishers:
            publishers.start_soon(commits.append, [("first", b"")], None)
            await anyio.sleep(0.5)
            for n in range(1500):
                publishers.start_soon(commits.append, [(f"{n}", b"")], None)
        tasks.cancel_scope.cancel()
    assert [len(group) for group in disk.groups] == [1, 1000, 500]
    assert {*disk.groups[1], *disk.groups[2]} == {f"{n}" for n in range(1500)}


async def test_large_appends_make_small_groups():
    """A group ends before it reaches a megabyte; a larger append is committed alone."""
    disk = Disk()
    commits = GroupCommit()
    async with anyio.create_task_group() as tasks:
        async with anyio.create_task_group() as publishers:
            for size in (600_000, 300_000, 600_000, 2_000_000, 1):
                publishers.start_soon(commits.append, [(f"{size}", b"x" * size)], None)
                await anyio.sleep(0.1)
            tasks.start_soon(commits.run, disk.commit)
        tasks.cancel_scope.cancel()
    assert disk.groups == [["600000", "300000"], ["600000"], ["2000000"], ["1"]]


async def test_an_error_reaches_everyone_of_the_group():
    """Each publisher of a group gets its own exception, with the cause, and the next group is tried afresh."""
    disk = Disk()
    commits = GroupCommit()
    caught = []

    async def publish():
        try:
            await commits.append([("a", b"")], None)
        except StoreUnavailableError as exc:
            caught.append(exc)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(commits.run, disk.commit)
        disk.error = StoreUnavailableError("the disk", "it is full")
        disk.error.__cause__ = OSError("full")
        async with anyio.create_task_group() as publishers:
            for _ in range(3):
                publishers.start_soon(publish)
        disk.error = None
        assert await commits.append([("a", b"")], None) == [EventId("e", 0)]
        tasks.cancel_scope.cancel()
    assert len({id(exc) for exc in caught}) == 3
    assert {str(exc) for exc in caught} == {"the disk is not available: it is full"}
    assert all(isinstance(exc.__cause__, OSError) for exc in caught)


async def test_who_waits_when_the_store_closes_is_told():
    """Closing the store ends every wait for a commit with an error."""
    disk = Disk()
    commits = GroupCommit()
    caught = []

    async def publish():
        try:
            await commits.append([("a", b"")], None)
        except anyio.ClosedResourceError as exc:
            caught.append(exc)

    async with anyio.create_task_group() as publishers, anyio.create_task_group() as tasks:
        tasks.start_soon(commits.run, disk.commit)
        publishers.start_soon(publish)
        await anyio.sleep(0.5)
        publishers.start_soon(publish)
        await anyio.sleep(0.1)
        tasks.cancel_scope.cancel()
    assert len(caught) == 2
    assert disk.groups == []


async def test_nobody_waits_for_a_store_that_is_closed():
    """An append, and a claim that is to be made again, raise at once when nothing is committed any more."""
    commits = GroupCommit()
    caught = []

    async def clear():
        try:
            await commits.claim([], Claim("a", "*", "*", clear=True))
        except anyio.ClosedResourceError as exc:
            caught.append(str(exc))

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(clear)
            await wait_all_tasks_blocked()
            commits.answer(commits.take_group(), [AGAIN])
            commits.abandon()
        with pytest.raises(anyio.ClosedResourceError):
            await commits.append([("a", b"")], None)
    assert caught == ["the store was closed before this was acknowledged; it may have been appended"]


async def test_a_claim_that_has_more_to_clear_is_made_again():
    """A store may clear a long topic in parts: the claim is made until all of it is gone, and answered once."""
    claim = Claim("a", None, "t", b"v", 60.0, clear=True)
    answers = [[AGAIN], [AGAIN], [[EventId("e", 1)]]]
    asked = []

    async def commit(group):
        asked.extend((append.items, append.claim) for append in group)
        return answers.pop(0)

    commits = GroupCommit()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(commits.run, commit)
        assert await commits.claim([("a", b"")], claim) == [EventId("e", 1)]
        tasks.cancel_scope.cancel()
    assert asked == [([("a", b"")], claim)] * 3


async def test_a_function_waits_as_a_task_does():
    """Who gives a function instead of waiting is told the same: ids, a lost hold, a failure, the end."""
    claim = Claim("a", "t", "t")
    failed = StoreUnavailableError("the disk", "it is full")
    failed.__cause__ = OSError("full")
    answers = [[[EventId("e", 1)], LOST], failed]
    told = []

    async def commit(group):
        await anyio.sleep(1)
        answer = answers.pop(0)
        if isinstance(answer, StoreUnavailableError):
            raise answer
        return answer

    commits = GroupCommit()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(commits.run, commit)
        for _ in range(2):
            commits.claim_soon([("a", b"")], claim, told.append)
            commits.claim_soon([("a", b"")], claim, told.append)
            assert len(told) in (0, 2), "never inside the call"
            await anyio.sleep(1.5)
        commits.claim_soon([("a", b"")], claim, told.append)
        await anyio.sleep(0.5)
        tasks.cancel_scope.cancel()
    ids, lost, first, second, closed = told
    assert ids == [EventId("e", 1)]
    assert isinstance(lost, HoldLostError)
    assert first is not second
    assert str(first) == str(second) == "the disk is not available: it is full"
    assert first.__cause__ is second.__cause__ is failed.__cause__
    assert isinstance(closed, anyio.ClosedResourceError)


async def test_what_was_answered_is_not_told_again():
    """A store that is closed right after a commit leaves the answers of that as they are."""
    told, commits = [], GroupCommit()

    async def commit(group):
        return [[EventId("e", 1)] for _ in group]

    async def append():
        told.append(await commits.append([("a", b"")], None))

    async with anyio.create_task_group() as publishers, anyio.create_task_group() as tasks:
        publishers.start_soon(append)
        await wait_all_tasks_blocked()
        commits.claim_soon([("a", b"")], Claim("a", "t", "t"), told.append)
        commits.claim_soon([("a", b"")], Claim("a", "t", "t"), lambda _: tasks.cancel_scope.cancel())
        tasks.start_soon(commits.run, commit)
    assert told == [[EventId("e", 1)]] * 2
