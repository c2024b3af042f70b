# Runs where something else happens at the same moment: races between processes, stores that fail, calls that come late.

from __future__ import annotations

import anyio
import pytest

from sse_trio import HoldLostError, ServerSentEvent, open_hub, open_runs
from sse_trio._runs.control import RunRef
from sse_trio.stores import Claim, MemoryStore
from sse_trio.testing import open_test_stream

from .conftest import open_process
from .test_runs import count, make_holding, plain, watch

pytestmark = pytest.mark.anyio


async def steal(runs, key, token="stolen", seconds=60.0):
    """Take a run from its owner, as another process does when the lease is over."""
    held = await runs._store.held(f"runs/{key}")
    await runs._store.append_held([], Claim(held.topic, held.token, token, seconds=seconds))


async def test_a_lease_that_is_lost_between_two_events(caplog):
    """A run that sends nothing learns at its next renewal that it has lost its lease."""
    async with open_process(lease=3) as runs:
        await runs.start("a", lambda send_channel: anyio.sleep_forever())
        await steal(runs, "a")
        await anyio.sleep(2)
        assert runs.running() == []
        assert runs.statistics().interrupted == 1
    assert "the run 'a' lost its lease" in caplog.text


async def test_a_lease_that_is_lost_while_the_store_is_down(make_remote_store, caplog):
    """When the store is back, an owner whose lease is lost appends nothing."""
    store = make_holding(make_remote_store())
    async with open_process(store, lease=5) as runs:
        await runs.start("a", count, 1000)
        await anyio.sleep(1)
        held = await store._store.held("runs/a")
        await store._store.append_held([], Claim("runs/a", held.token, "stolen", seconds=60.0))
        store.change(is_down=True)
        await anyio.sleep(7)
        assert "the lease of the run 'a' was not renewed" not in caplog.text  # its log renews it
        store.change(is_down=False)
        await anyio.sleep(1)
        assert runs.running() == []


async def test_a_renewal_that_fails(make_remote_store, caplog):
    """A store that is down for less than the lease costs a run nothing but a line in the log."""
    store = make_holding(make_remote_store())
    async with open_process(store, lease=6) as runs:
        await runs.start("a", lambda send_channel: anyio.sleep(10))
        await anyio.sleep(1)
        store.change(is_down=True)
        await anyio.sleep(4)
        store.change(is_down=False)
        assert plain(await watch(runs, "a")) == ["completed"]
    assert "the lease of the run 'a' was not renewed" in caplog.text


async def test_a_renewal_that_meets_the_end(make_remote_store):
    """A renewal that is refused because the run has just ended is none that was lost."""
    store = make_holding(make_remote_store())
    append_held = store.append_held

    async def slow_renewal(items, claim):
        if claim.seconds == 6 and not claim.clear:
            await anyio.sleep(2)
        return await append_held(items, claim)

    store.append_held = slow_renewal
    async with open_process(store, lease=6) as runs:
        await runs.start("a", lambda send_channel: anyio.sleep(3))
        await anyio.sleep(5)
        assert (await runs.status("a")).state == "completed"


async def test_two_keepers_at_once():
    """Of two processes that find a lease over, one writes the end; the other finds it done."""
    async with open_process() as runs:
        await runs.start("a", lambda send_channel: anyio.sleep_forever())
        await steal(runs, "a", seconds=0.0)
        held = await runs._store.held("runs/a")
        for task in runs._tasks.values():
            task.lose()
        await anyio.sleep(0.1)
        await runs._keeper.settle(held)
        await runs._keeper.settle(held)
        assert plain(await watch(runs, "a")) == ["interrupted"]


async def test_a_start_ends_what_is_left_of_the_last_one():
    """If the owner is gone and nobody has looked yet, a start ends its run first."""
    store = MemoryStore()
    async with open_hub(store) as hub, open_runs(hub, lease=1000) as runs:
        await runs.start("a", lambda send_channel: anyio.sleep_forever())
        await steal(runs, "a", seconds=0.0)
        runs._tasks.pop("a").lose()
        assert (await runs.start("a", count, 1, replace=True)).started_here
        assert plain(await watch(runs, "a")) == ["0", "completed"]


async def test_a_key_that_goes_while_it_is_claimed(make_remote_store):
    """A start that was refused because of a run that has just been deleted tries again."""
    store = make_holding(make_remote_store())
    append_held, refused = store.append_held, []

    async def refuse_once(items, claim):
        if not refused:
            refused.append(claim)
            raise HoldLostError(claim.topic)
        return await append_held(items, claim)

    async with open_process(store) as runs:
        store.append_held = refuse_once
        assert (await runs.start("a", count, 1)).started_here


async def test_a_start_that_meets_the_end_of_open_runs(make_remote_store):
    """A run whose claim was under way when open_runs() was left is interrupted at once."""
    store = make_holding(make_remote_store())
    append_held, go_on = store.append_held, anyio.Event()

    async def slow(items, claim):
        if claim.clear:
            await go_on.wait()
        return await append_held(items, claim)

    store.append_held = slow
    async with open_hub(store) as hub, anyio.create_task_group() as nursery:
        async with open_runs(hub, grace=5) as runs:
            nursery.start_soon(runs.start, "a", count, 1000)
            await anyio.sleep(1)
            await append_held([], Claim("runs/b", None, "t", b"{}", 60.0, clear=True))
            runs._local.is_closed = True
            go_on.set()
            await anyio.sleep(2)
        async with open_runs(hub) as later:
            assert (await later.status("a")).state == "interrupted"


def look_late(runs):
    """Let five seconds pass after each look at a run."""
    find = runs._lookup.find

    async def late(key):
        found = await find(key)
        await anyio.sleep(5)
        return found

    runs._lookup.find = late


async def test_stop_meets_the_end():
    """A stop of a run that ends at that moment, in another process, returns its status."""
    async with open_hub() as hub, open_runs(hub) as one, open_runs(hub) as other:
        await one.start("a", count, 3)
        look_late(other)
        assert (await other.stop("a")).state == "completed"


async def test_delete_meets_a_new_run(monkeypatch):
    """A delete that finds the key taken by another process leaves it alone."""
    async with open_process() as runs:
        await runs.start("a", count, 1)
        await watch(runs, "a")

        async def refuse(items, claim):
            raise HoldLostError(claim.topic)

        monkeypatch.setattr(type(runs._publisher), "publish_held", lambda self, items, claim: refuse(items, claim))
        await runs.delete("a")
        monkeypatch.undo()
        assert (await runs.status("a")).state == "completed"


async def test_a_shutdown_during_a_grace_and_a_stop():
    """A stop cuts the grace of a shutdown short."""
    async with open_process(grace=100) as runs:
        await runs.start("a", count, 10_000)
        (task,) = runs._tasks.values()
        async with anyio.create_task_group() as nursery:
            nursery.start_soon(runs.close)
            await anyio.sleep(1)
            await runs.stop("a")
        assert task.status().state == "interrupted"
        assert repr(runs) == "<Runs in the hub 'hub': 0 running here>"


async def test_what_others_say_on_a_control_topic():
    """A message for a run that is not here, of a release to come, or someone else's, changes nothing."""
    others = ("no JSON", "[1]", '{"stop": 1}', '{"stop": "a"}', '{"stop": [1, "a"]}', '{"stop": [["a"]]}', "[" * 99_999)
    async with open_hub() as hub, open_runs(hub) as runs:
        await runs.start("a", count, 5)
        control = f"runs-control/{runs._owner}"
        await hub.publish(control, "data")
        for comment in (*others, '{"watched": null}', '{"new": ["a"]}'):
            await hub.publish(control, ServerSentEvent(comment=comment))
        for request in ("stop", "watched"):
            await runs._control.send(runs._owner, request, [RunRef("b", "")])
        assert plain(await watch(runs, "a")) == ["0", "1", "2", "3", "4", "completed"]


async def test_watchers_are_told_when_the_store_is_back(make_remote_store):
    """A message about watchers that can't be sent is sent again soon."""
    store = make_holding(make_remote_store())
    async with open_hub(store) as hub, open_runs(hub, lease=1000) as one, open_runs(hub, lease=1000) as other:
        await one.start("a", count, 10_000, stop_when_unwatched=9)
        async with open_test_stream(other.response("a")), open_test_stream(other.response("a")):
            await anyio.sleep(1)
            store.change(is_down=True)
            await anyio.sleep(4)
            store.change(is_down=False)
            await anyio.sleep(20)
            assert (await one.status("a")).state == "running"
            assert other.statistics().watchers == 2
        await anyio.sleep(20)
        assert (await one.status("a")).reason == "unwatched"


async def test_a_hub_that_keeps_no_runs(make_remote_store):
    """A store without held topics is refused, and so is what is no hub, a lease that is none, or a limit of nothing."""
    async with open_hub(make_remote_store()) as hub:
        with pytest.raises(TypeError, match="a RemoteStore, holds no topics"):
            async with open_runs(hub):
                pass
    async with open_hub() as hub:
        for options in ({"lease": 0.01}, {"lease": 1e9}, {"max_events": 0}, {"on_end": count}):
            with pytest.raises((TypeError, ValueError), match=next(iter(options))):
                async with open_runs(hub, **options):
                    pass
        async with open_runs(hub, max_events=None, max_bytes=None) as runs:
            with pytest.raises(TypeError, match="after must be the text of an id"):
                runs.watch("a", after=5)


async def test_a_flood_while_the_store_is_slow(make_remote_store):
    """What comes while the store is busy is appended together, 256 events at once, and no producer runs ahead of it."""
    store = make_holding(make_remote_store())
    append_held, sizes = store.append_held, []

    async def slow(items, claim):
        await anyio.sleep(1)
        sizes.append(len(items))
        return await append_held(items, claim)

    store.append_held = slow
    async with open_process(store, lease=1000) as runs:
        await runs.start("a", count, 2000, 0)
        assert plain(await watch(runs, "a")) == [*map(str, range(2000)), "completed"]
    assert max(sizes) == 256


async def test_a_second_shutdown_changes_nothing():
    """Producers keep the grace that they were given first."""
    async with open_process(grace=5) as runs:
        await runs.start("a", lambda send_channel: anyio.sleep(3))
        async with anyio.create_task_group() as nursery:
            nursery.start_soon(runs.close)
            await anyio.sleep(1)
            nursery.start_soon(runs.close)
        assert (await runs.status("a")).state == "completed"


@pytest.mark.parametrize("number", [1, 2])
async def test_cancelled_while_the_store_is_down(number, make_remote_store):
    """Cancellation from outside ends a run in a bounded time, also when it only waits for the store."""
    store = make_holding(make_remote_store())
    async with open_process(store, lease=1000) as runs:
        async with anyio.create_task_group() as nursery:
            runs._nursery = nursery
            await runs.start("a", count, number, 0.5)  # down while the end is kept, and while an event is
            await anyio.sleep(0.1)
            store.change(is_down=True)
            await anyio.sleep(6)
            before = anyio.current_time()
            nursery.cancel_scope.cancel()
        assert anyio.current_time() - before < 3
