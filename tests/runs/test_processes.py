# Runs on stores that processes share: several hubs on one store, in one process, with the real clock.

from __future__ import annotations

import json
from contextlib import AsyncExitStack

import anyio
import pytest

from sse_trio import RunExistsError, ServerSentEvent
from sse_trio.stores._holds import Claim
from sse_trio.testing import open_test_stream

from ..e2e._servers import patience
from .conftest import open_process, stop_keeping

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("real_clock")]


async def count(send_channel, number, seconds=0.01):
    for n in range(number):
        await send_channel.send(str(n))
        await anyio.sleep(seconds)


def plain(events):
    return [event.data if event.event != "end" else json.loads(event.data)["state"] for event in events]


async def watch(runs, key, after=None):
    with anyio.fail_after(30):
        async with runs.watch(key, after=after) as subscription:
            return [event async for event in subscription]


@pytest.fixture
async def two(shared_store):
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(open_process(shared_store(max_events=200), lease=30.0)) for _ in range(2)
        ]


async def test_any_process_watches_and_starts(two):
    """A run is watched from any process, whole and in order; a start in another process finds it."""
    one, other = two
    assert (await one.start("a/1", count, 300, 0.005)).started_here
    assert not (await other.start("a/1", count, 300)).started_here
    for runs in two:
        assert plain(await watch(runs, "a/1")) == [*map(str, range(300)), "completed"]
    with pytest.raises(RunExistsError):
        await other.start("a/1", count, 1)
    assert (await other.start("a/1", count, 1, replace=True)).started_here
    assert plain(await watch(one, "a/1")) == ["0", "completed"]


async def test_any_process_stops(two):
    """`stop()` in another process returns when the run has ended."""
    one, other = two
    await one.start("a", count, 100_000)
    with anyio.fail_after(30):
        status = await other.stop("a")
    assert (status.state, status.reason, status.is_here) == ("stopped", "stop", False)
    assert plain(await watch(other, "a"))[-1] == "stopped"
    assert (await one.status("a")).state == "stopped"


async def test_watchers_elsewhere_keep_a_run_alive(two):
    """A run that stops when it is unwatched goes on while another process has a watcher."""
    one, other = two
    seconds = 0.6 * patience()
    await one.start("a", count, 100_000, stop_when_unwatched=seconds)
    with anyio.fail_after(30 + 10 * seconds):
        async with open_test_stream(other.response("a")) as opened:
            await opened.receive()
            await anyio.sleep(2 * seconds)
            assert (await one.status("a")).state == "running"
        while (await other.status("a")).state == "running":
            await anyio.sleep(0.05)
    assert (await one.status("a")).reason == "unwatched"


async def test_an_owner_that_is_gone(shared_store):
    """When the owner renews no more, watchers elsewhere get `interrupted` within the lease and a second."""
    async with open_process(shared_store(), lease=1.0) as other, open_process(shared_store(), lease=1.0) as owner:
        await owner.start("a", count, 100_000)
        async with other.watch("a") as subscription:
            first = await subscription.receive()
            die(owner)
            with anyio.fail_after(2.5 * patience()):
                remaining = [event async for event in subscription]
        events = plain([first, *remaining])
        assert events == [*map(str, range(len(events) - 1)), "interrupted"]
        assert (await other.status("a")).reason == "lease"
        assert plain(await watch(other, "a", first.id)) == events[1:]
        assert (await other.start("a", count, 1, replace=True)).started_here
        assert plain(await watch(other, "a")) == ["0", "completed"]


def die(runs):
    """Make a process look dead: from now on it renews no lease, and its run appends nothing."""
    (task,) = runs._tasks.values()
    stop_keeping(task)


async def test_an_owner_that_was_only_late(shared_store, caplog):
    """An owner that comes back after its lease finds its run interrupted: it appends nothing after the end."""
    async with open_process(shared_store(), lease=1.0) as other, open_process(shared_store(), lease=1.0) as owner:
        await owner.start("a", count, 100_000)
        (task,) = owner._tasks.values()
        held = await owner._store.held("runs/a")
        ended = other._keeper
        await other._publisher.publish_held([], Claim("runs/a", held.token, "stolen", seconds=0.0))
        del ended
        with anyio.fail_after(30):
            await task.ended.wait()
            events = plain(await watch(other, "a"))
        assert events == [*map(str, range(len(events) - 1)), "interrupted"]
        assert "the run 'a' lost its lease" in caplog.text


async def test_old_runs_go(shared_store):
    """The time to live after its end a run is unknown, and its events are gone from the store."""
    async with open_process(shared_store(), lease=0.3, ttl=0.3) as runs:
        await runs.start("a", count, 3)
        await watch(runs, "a")
        with anyio.fail_after(30):
            while await runs._store.held("runs/a") is not None:
                await anyio.sleep(0.05)
        assert await runs.status("a") is None
        assert (await runs._hub.history("runs/a")).events == ()


async def test_who_comes_back_to_a_run_that_was_deleted(two):
    """A task that goes on with the id of a run that is gone is sent a gap, and waits for no run."""
    one, other = two
    await one.start("a", count, 3)
    first = (await watch(other, "a"))[0].id
    await other.delete("a")
    with anyio.fail_after(30):
        assert [event.event for event in await watch(other, "a", after=first)] == ["gap"]


async def test_delete_tells_subscribers_everywhere(two):
    """`hub.delete()` leaves nothing, in the store or in a ring, and subscribers in every process get one `gap`."""
    one, other = (runs._hub for runs in two)
    first = str(await one.publish("person/7", "secret"))
    async with other.subscribe("person/*", after=first) as live, other.subscribe("person/7", replay="all") as behind:
        await one.publish("person/7", "secret 2")
        await one.publish("person/8", "other")
        assert [(await live.receive()).data for _ in range(2)] == ["secret 2", "other"]
        await one.delete("person/7")
        with anyio.fail_after(30):
            gap = await live.receive()
            assert (gap.event, gap.topic) == ("gap", "person/7")
            await one.publish("person/7", "new")
            assert (await live.receive()).data == "new"
            seen = [await behind.receive()]
            while seen[-1].data != "new":
                seen.append(await behind.receive())
        assert [event.event for event in seen if event.event] == ["gap"]
    assert [event.data for event in (await other.history("person/*")).events] == ["other", "new"]
    async with other.subscribe("person/7", after=first) as late:
        assert [(await late.receive()).event for _ in range(2)] == ["gap", None]
    assert ServerSentEvent("x").topic is None
