# A run that replaces another one under its key: what was meant for the first must not touch the second.

from __future__ import annotations

import json
from dataclasses import replace

import anyio
import pytest

from sse_trio import ServerSentEvent, open_hub, open_runs
from sse_trio._runs.control import RunRef
from sse_trio.testing import open_test_stream

from .conftest import open_process
from .test_corners import look_late
from .test_runs import count, make_holding, plain, watch

pytestmark = pytest.mark.anyio


class Successor:
    """A run in one process, seen from another, that ends and gives way to a second one when told to."""

    def __init__(self, one, other):
        self.one = one
        self.other = other
        self.may_end = anyio.Event()

    async def begin(self, **options):
        await self.one.start("a", self._first, **options)
        return self.one._tasks["a"].run

    async def _first(self, send_channel):
        await self.may_end.wait()

    async def replace(self, **options):
        """End the first run, and begin the second, in the same process."""
        self.may_end.set()
        for first in [*self.one._tasks.values()]:
            await first.ended.wait()
        return await self.one.start("a", lambda send_channel: anyio.sleep_forever(), replace=True, **options)


@pytest.fixture
async def successor(make_remote_store):
    store = make_holding(make_remote_store())
    async with open_hub(store) as hub, open_runs(hub, lease=1000) as one, open_runs(hub, lease=1000) as other:
        yield Successor(one, other)


@pytest.mark.parametrize("reads_late", [False, True])
async def test_a_stop_that_arrives_late(successor, reads_late):
    """A stop from another process that arrives after its run was replaced stops nothing, and waits for nothing."""
    store, send = successor.other._store, successor.other._control.send

    async def late(owner, request, refs):
        if reads_late:  # the end of the first is gone before anybody has read it
            store.change(follows=False)
        await successor.replace()
        store.change(follows=True)
        await send(owner, request, refs)

    await successor.begin()
    successor.other._control.send = late
    with anyio.fail_after(60):
        assert (await successor.other.stop("a")).state == "running"
    await anyio.sleep(5)
    assert (await successor.one.status("a")).state == "running"


async def test_a_run_that_is_replaced_while_it_is_looked_for(successor):
    """The run that is meant is the one that stop() finds first."""
    await successor.begin()
    look_late(successor.other)
    with anyio.fail_after(60):
        async with anyio.create_task_group() as nursery:
            nursery.start_soon(successor.other.stop, "a")
            await anyio.sleep(1)
            await successor.replace()
    await anyio.sleep(5)
    assert (await successor.one.status("a")).state == "running"


async def test_a_message_names_runs(successor):
    """A process of the last release finds the keys of a message where it expects them."""
    run = await successor.begin()
    await successor.other.stop("a")
    (event,) = (await successor.one._hub.history(f"runs-control/{successor.one._owner}")).events
    assert json.loads(event.comment) == {"stop": ["a"], "runs": [run]}


async def test_a_message_of_the_last_release(successor):
    """A message that does not say which run it means is for whichever has the key."""
    await successor.begin()
    await successor.replace(stop_when_unwatched=9)
    control = f"runs-control/{successor.one._owner}"
    for _ in range(20):
        await successor.one._hub.publish(control, ServerSentEvent(comment='{"watched": ["a"]}'))
        await anyio.sleep(1)
    assert (await successor.one.status("a")).state == "running"
    await successor.one._hub.publish(control, ServerSentEvent(comment='{"stop": ["a"]}'))
    await anyio.sleep(1)
    assert (await successor.one.status("a")).reason == "stop"


async def test_a_run_of_the_last_release(successor):
    """A run whose record does not say which it is can be watched, stopped and deleted, and is found to be there."""
    new_record = successor.one._new_record
    successor.one._new_record = lambda options: replace(new_record(options), run="")
    await successor.begin()
    assert not (await successor.other.start("a", count, 1)).started_here
    assert (await successor.other.stop("a")).state == "stopped"
    await successor.other.delete("a")
    assert await successor.one.status("a") is None


async def test_a_watcher_of_the_first(successor):
    """A process that still says that it watches the first run does not keep the second one alive."""
    run = await successor.begin()
    await successor.replace(stop_when_unwatched=9)
    for _ in range(20):
        await successor.other._control.send(successor.one._owner, "watched", [RunRef("a", run)])
        await anyio.sleep(1)
    assert (await successor.one.status("a")).reason == "unwatched"


@pytest.mark.parametrize(("ends", "run"), [(False, None), (True, None), (False, "")])
async def test_a_delete_that_comes_late(successor, ends, run):
    """A run that has replaced the one to delete is kept, whether it runs still or has ended; and also if nobody says
    which is which, as long as it runs.
    """
    new_record, stop = successor.one._new_record, successor.other._stopping.stop
    if run is not None:
        successor.one._new_record = lambda options: replace(new_record(options), run=run)
    await successor.begin()

    async def late(key):
        found = await stop(key)
        await successor.replace()
        if ends:
            await successor.one.stop("a")
        return found

    successor.other._stopping.stop = late
    await successor.other.delete("a")
    assert (await successor.other.status("a")).state == ("stopped" if ends else "running")


async def test_a_delete_of_what_has_expired(successor):
    """What has expired, and was not removed yet, is deleted; a run that has the key since then is not."""
    successor.one._options = replace(successor.one._options, ttl=1)
    await successor.begin()
    successor.may_end.set()
    await anyio.sleep(5)
    assert await successor.other.status("a") is None
    await successor.other.delete("a")
    assert await successor.one._store.held("runs/a") is None
    stop = successor.other._stopping.stop

    async def late(key):
        found = await stop(key)
        await successor.one.start("a", lambda send_channel: anyio.sleep_forever())
        return found

    successor.other._stopping.stop = late
    await successor.other.delete("a")
    assert (await successor.other.status("a")).state == "running"


@pytest.fixture
async def slow_end(make_remote_store):
    """Two processes, and a run of the first whose end is stored, but not known to be: the answer takes long."""
    store = make_holding(make_remote_store())
    append_held = store.append_held

    async def late_answer(items, claim):
        ids = await append_held(items, claim)
        if claim.value is not None and b'"completed"' in claim.value:
            await anyio.sleep(100)
        return ids

    store.append_held = late_answer
    async with open_hub(store) as hub, open_runs(hub, lease=1000) as one, open_runs(hub, lease=1000) as other:
        await one.start("a", count, 1)
        await anyio.sleep(5)
        assert one._tasks["a"].is_ending
        yield one, other


async def test_a_stop_where_the_first_is_ending_still(slow_end):
    """stop() asks the store which run has the key, if the one that was here may have ended."""
    one, other = slow_end
    await other.start("a", lambda send_channel: anyio.sleep_forever(), replace=True)
    assert ((await one.status("a")).is_here, (await one.status("a")).events) == (False, None)
    assert (await one.stop("a")).state == "stopped"
    assert other.running() == []


async def test_a_stop_of_a_run_that_is_ending(slow_end):
    """stop() returns when a run that is about to end has ended, with the way in which it has."""
    one, _ = slow_end
    before = anyio.current_time()
    assert (await one.stop("a")).state == "completed"
    assert anyio.current_time() - before > 50


async def test_a_watcher_where_the_first_is_ending_still(slow_end):
    """A watcher of a run elsewhere counts there, though a run with its key is still ending here."""
    one, other = slow_end
    await other.start("a", count, 1000, replace=True, stop_when_unwatched=9)
    async with open_test_stream(one.response("a")):
        await anyio.sleep(30)
        assert (await other.status("a")).state == "running"
    await anyio.sleep(15)
    assert (await other.status("a")).reason == "unwatched"


async def test_a_watcher_whose_run_is_replaced():
    """A client that is sent the next run too, because it was slow, counts as its watcher until it leaves."""
    async with open_process() as runs:
        await runs.start("a", count, 1)
        with await runs._watching.admit("a", None):
            await watch(runs, "a")
            await runs.start("a", count, 1000, replace=True, stop_when_unwatched=5)
            await anyio.sleep(20)
            (status,) = runs.running()
            assert (status.state, status.watchers) == ("running", 1)
        await anyio.sleep(7)
        assert (await runs.status("a")).reason == "unwatched"
        assert plain(await watch(runs, "a"))[-1] == "stopped"
