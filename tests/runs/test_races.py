# The contract of runs where things happen at the same moment: at most one run under a key, exactly one end, and nothing
# that was accepted is lost. Each test is one order of events that was once wrong, or was suspected of it.

from __future__ import annotations

import anyio
import pytest

from sse_trio import HoldLostError, RunExistsError, StoreUnavailableError, open_hub, open_runs
from sse_trio.testing import open_test_stream

from .conftest import open_process
from .test_corners import steal
from .test_runs import count, make_holding, plain, watch

pytestmark = pytest.mark.anyio


@pytest.fixture
def store(make_remote_store):
    """A store that is somewhere else. `before` and `after` are called at each step, with its claim."""
    store = make_holding(make_remote_store())
    append_held = store.append_held

    async def nothing(claim):
        pass

    async def step(items, claim):
        await store.before(claim)
        ids = await append_held(items, claim)
        await store.after(claim)
        return ids

    store.append_held, store.before, store.after = step, nothing, nothing
    return store


def only(which, then):
    """Return a function that does this at each step of one kind, and nothing at others."""

    async def at_each(claim):
        kind = "begin" if claim.clear else "end" if claim.value is not None else "other"
        if kind == which:
            await then()

    return at_each


def once(what):
    """Return a function that raises this, or sleeps for so long, the first time, and then does nothing."""
    times = [what]

    async def then():
        if times:
            what = times.pop()
            if isinstance(what, BaseException):
                raise what
            await anyio.sleep(what)

    return then


# --- starting


async def test_a_claim_whose_answer_was_lost(store):
    """A start that was kept, and that the store tried again because its answer was lost, has started the run."""
    store.after = only("begin", once(HoldLostError("runs/a")))
    async with open_process(store) as runs:
        assert (await runs.start("a", count, 2)).started_here
        assert plain(await watch(runs, "a")) == ["0", "1", "completed"]


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_start_that_failed_is_tried_again(store, cancelled):
    """What is left of a start that failed, or was cancelled, is no run: the next start here begins one."""
    store.after = only("begin", once(60 if cancelled else StoreUnavailableError("the store", "no answer")))
    async with open_process(store, lease=1000) as runs:
        with anyio.move_on_after(1) as scope:
            if cancelled:
                await runs.start("a", count, 2)
            else:
                with pytest.raises(StoreUnavailableError):
                    await runs.start("a", count, 2)
        assert scope.cancelled_caught == cancelled
        assert (await runs.start("a", count, 2)).started_here
        assert plain(await watch(runs, "a")) == ["0", "1", "completed"]


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("lease", [3, 1000])
async def test_a_start_beside_one_that_is_under_way(store, replace, lease):
    """A start whose run is stored already, and not known to be, counts as the run that has the key."""
    store.after = only("begin", once(10))
    async with open_process(store, lease=lease) as runs:
        started = []

        async def start():
            started.append((await runs.start("a", count, 2, replace=replace)).started_here)

        async with anyio.create_task_group() as nursery:
            nursery.start_soon(start)
            await anyio.sleep(1 if lease == 1000 else 3.01)
            await start()
        assert started == [False, True]


@pytest.mark.parametrize("replace", [False, True])
async def test_a_start_beside_an_end_that_is_late(store, replace):
    """A run here whose end takes longer to store than its lease lasts is not replaced before that end."""
    store.before = only("end", once(20))
    async with open_process(store, lease=3) as runs:
        await runs.start("a", count, 2)
        async with runs.watch("a") as subscription:
            await anyio.sleep(10)
            assert not (await runs.start("a", count, 1, replace=replace)).started_here
            assert plain([event async for event in subscription]) == ["0", "1", "completed"]
        with pytest.raises(RunExistsError):
            await runs.start("a", count, 1)


@pytest.mark.parametrize("replace", [False, True])
async def test_a_start_where_the_owner_is_gone(store, replace, caplog):
    """A start that finds a run whose lease is over ends it first, and then it is like any other that has ended."""
    async with open_hub(store) as hub, open_runs(hub, lease=1000) as gone, open_runs(hub, lease=1000) as runs:
        await gone.start("a", lambda send_channel: anyio.sleep_forever())
        await steal(gone, "a", seconds=0.0)
        if replace:
            assert (await runs.start("a", count, 1, replace=True)).started_here
        else:
            with pytest.raises(RunExistsError, match="interrupted"):
                await runs.start("a", count, 1)
        assert plain(await watch(runs, "a")) == (["0", "completed"] if replace else ["interrupted"])
    assert "the run 'a' is interrupted: its process is gone" in caplog.text


# --- leaving open_runs()


async def leave_while_it_starts(store, outcome, *, grace=0.0):
    """Leave open_runs() while a start is under way; return the status of its run for another process."""

    async def start(runs):
        try:
            outcome.append((await runs.start("a", lambda send_channel: anyio.sleep_forever())).started_here)
        except anyio.ClosedResourceError as exc:
            outcome.append(str(exc))

    async with open_hub(store) as hub, open_runs(hub, lease=60) as other:
        async with anyio.create_task_group() as nursery:
            async with open_runs(hub, lease=60, grace=grace) as runs:
                nursery.start_soon(start, runs)
                await anyio.sleep(1)
            await anyio.sleep(70)
        return await other.status("a")


async def test_a_start_that_meets_the_exit(store):
    """A start that is under way when open_runs() is left is waited for, and its run has its end."""
    store.after = only("begin", once(1.5))
    outcome = []
    status = await leave_while_it_starts(store, outcome)
    assert (outcome, status.state, status.reason) == ([True], "interrupted", "shutdown")


async def test_a_start_that_outlasts_the_exit(store):
    """A start that takes too long for that fails with an error that says so, and the run ends with its lease."""
    store.after = only("begin", once(10))
    outcome = []
    status = await leave_while_it_starts(store, outcome)
    assert (status.state, status.reason) == ("interrupted", "lease")
    assert len(outcome) == 1
    assert "open_runs() was left while this run was starting" in outcome[0]


# --- ending


async def test_a_shutdown_while_the_store_is_down(store):
    """A run that has sent more than could be stored in time has not completed, though its producer has returned and its
    end could be stored.
    """
    async with open_hub(store) as hub, open_runs(hub, lease=60) as other:
        async with open_runs(hub, lease=60) as runs:
            await runs.start("a", count, 3, 0)
            await anyio.sleep(1)
            await runs.start("b", count, 3, 0)
            store.change(is_down=True)
            await anyio.sleep(1)
            async with anyio.create_task_group() as nursery:
                nursery.start_soon(runs.close)
                await anyio.sleep(1.1)
                store.change(is_down=False)
        assert (await other.status("a")).state == "completed"
        with anyio.fail_after(100):
            events = plain(await watch(other, "b"))
        assert events[-1] == "interrupted"


@pytest.mark.parametrize("sends", [False, True])
async def test_an_end_that_another_process_has_written_before(store, sends):
    """A run that is stopped after another process has ended it was interrupted, and stop() says so too."""

    async def produce(send_channel):
        try:
            await anyio.sleep_forever()
        finally:
            if sends:
                send_channel.send_nowait("too late")

    async with open_hub(store) as hub, open_runs(hub, lease=60) as other, open_runs(hub, lease=60) as runs:
        await runs.start("a", produce)
        await anyio.sleep(1)
        await other._keeper.settle(await other._store.held("runs/a"))
        status = await runs.stop("a")
        assert (status.state, status.reason) == ("interrupted", "lease")
        assert runs.statistics().interrupted == 1
        assert plain(await watch(other, "a")) == ["interrupted"]


@pytest.mark.parametrize("error", [HoldLostError("runs/a"), StoreUnavailableError("the store", "no answer")])
async def test_an_end_whose_answer_was_lost(store, error):
    """An end that was kept, and whose answer was lost, is the end."""
    store.after = only("end", once(error))
    async with open_process(store) as runs:
        await runs.start("a", count, 2)
        (task,) = runs._tasks.values()
        assert plain(await watch(runs, "a")) == ["0", "1", "completed"]
        await task.ended.wait()
        assert task.status().state == "completed"


@pytest.mark.parametrize(("step", "state"), [("other", "interrupted"), ("end", "completed")])
async def test_a_cancellation_of_everything(store, step, state):
    """Where a store is cancelled together with its runs, its error does not take the place of the cancellation."""
    with anyio.CancelScope() as scope:

        async def close():
            scope.cancel()
            raise anyio.ClosedResourceError

        store.before = only(step, close)
        async with open_process(store, lease=9000) as runs:
            await runs.start("a", count, 2)
            (task,) = runs._tasks.values()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert (task.record.state, task.ended.is_set()) == (state, True)


async def test_an_end_of_which_nothing_is_left(store, caplog):
    """If a run was deleted before its end was known to be stored, its log says that it can't be told."""
    store.after = only("end", once(StoreUnavailableError("the store", "no answer")))
    async with open_hub(store) as hub, open_runs(hub, lease=60) as other, open_runs(hub, lease=60) as runs:
        await runs.start("a", count, 1)
        (task,) = runs._tasks.values()
        await watch(other, "a")
        await other.delete("a")
        await task.ended.wait()
        assert task.status().state == "completed"
    assert "the end of the run 'a' (completed) could not be stored" in caplog.text


# --- watching


async def test_a_watcher_that_comes_while_another_is_in_no_hurry():
    """The owner of a run is told of its first watcher at once, however long the runs that this process watches wait."""
    async with open_hub() as hub, open_runs(hub, lease=9000) as one, open_runs(hub, lease=9000) as other:
        await one.start("slow", count, 10_000, stop_when_unwatched=900)
        async with open_test_stream(other.response("slow")):
            await anyio.sleep(10)
            for key, seconds in (("quick", 9), ("another", 900)):
                await one.start(key, count, 10_000, stop_when_unwatched=seconds)
            async with open_test_stream(other.response("quick")), open_test_stream(other.response("another")):
                await anyio.sleep(60)
                assert (await one.status("quick")).state == "running"
            await anyio.sleep(20)
            assert (await one.status("quick")).reason == "unwatched"
            assert (await one.status("slow")).state == "running"


async def test_a_watcher_that_comes_late_is_told_of_before_the_others(make_remote_store):
    """A run that is about to stop because nobody watches it goes on when another process has a watcher."""
    async with open_hub() as hub, open_runs(hub, lease=9000) as one, open_runs(hub, lease=9000) as other:
        await one.start("a", count, 10_000, stop_when_unwatched=9)
        async with open_test_stream(other.response("a")):
            await anyio.sleep(1)
            await one.start("b", count, 10_000, stop_when_unwatched=9)
            await anyio.sleep(8.6)
            async with open_test_stream(other.response("b")):
                await anyio.sleep(30)
                assert (await one.status("b")).state == "running"


def admit_late(runs, seconds=20):
    """Let some time pass between the look at a run and the stream of it."""
    admit = runs._watching.admit

    async def late(*args):
        admitted = await admit(*args)
        await anyio.sleep(seconds)
        return admitted

    runs._watching.admit = late


async def test_a_watcher_that_comes_when_a_run_expires(store):
    """If a run is removed between the answer to a client and its stream, the stream ends: nothing can come any more."""
    async with open_process(store, ttl=5, lease=1) as runs:
        await runs.start("a", count, 2)
        await watch(runs, "a")
        admit_late(runs)
        with anyio.fail_after(100):
            async with open_test_stream(runs.response("a")) as opened:
                assert [event async for event in opened if event.data] == []


async def test_a_watcher_that_comes_before_the_first_event(store):
    """A client whose run has sent nothing yet waits for it, also if it began while the client was answered."""
    async with open_process(store, ttl=5, lease=1) as runs:
        await runs.start("b", count, 0)
        await watch(runs, "b")
        admit_late(runs)
        async with anyio.create_task_group() as nursery:
            streams = {key: [] for key in "ab"}

            async def stream(key):
                async with open_test_stream(runs.response(key)) as opened:
                    streams[key] += [event async for event in opened if event.data]

            async def produce(send_channel):
                await anyio.sleep(60)
                await send_channel.send("0")

            await runs.start("a", produce)
            nursery.start_soon(stream, "a")
            nursery.start_soon(stream, "b")
            await anyio.sleep(15)
            await runs.start("b", produce)
        assert [plain(events) for events in streams.values()] == [["0", "completed"]] * 2


@pytest.mark.parametrize("runs_still", [False, True])
@pytest.mark.parametrize("leaves", [False, True])
async def test_a_watcher_that_reads_more_slowly_than_its_run_expires(store, leaves, runs_still):
    """A client that has not read all of a run when it is removed gets a gap, and the end of its stream."""
    got, held, may_look, errors = [], store.held, anyio.Event(), [StoreUnavailableError("the store", "no answer")]

    async def stream(runs):
        async with open_test_stream(runs.response("a")) as opened:
            async for event in opened:
                got.append(event.event)
                if leaves and event.event == "gap":
                    return

    async def slow_held(topic):
        await may_look.wait()
        if errors:
            raise errors.pop()
        return await held(topic)

    async with open_process(store, ttl=5, lease=1) as runs:
        await runs.start("a", count, 5000, 0)  # more than a ring holds
        if not runs_still:
            await watch(runs, "a")
        store.change(answers=False)
        with anyio.fail_after(100):
            async with anyio.create_task_group() as nursery:
                nursery.start_soon(stream, runs)
                await anyio.sleep(1)
                store.held = slow_held
                await anyio.sleep(20)  # it has expired
                store.change(answers=True)
                await anyio.sleep(1)
                may_look.set()
        await anyio.sleep(1)
    assert got.count("gap") == 1
