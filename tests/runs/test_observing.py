# What an operator sees of runs: figures, observers, and the events that a run has sent.

from __future__ import annotations

from contextvars import ContextVar

import anyio
import pytest

from .conftest import open_process
from .test_runs import count, watch

pytestmark = pytest.mark.anyio

WHO: ContextVar[str] = ContextVar("WHO", default="nobody")


class Seen:
    """Notes the runs that have ended, and in whose context."""

    def __init__(self):
        self.runs = []

    def run_ended(self, run):
        self.runs.append((run.key, run.state, run.events, run.is_here, WHO.get()))


class Broken:
    def run_ended(self, run):
        raise LookupError("no such meter")


async def fail(send_channel):
    await send_channel.send("one")
    raise RuntimeError("secret")


async def test_figures_add_up():
    """The figures of a process count its runs by how they ended, and the events of all of them."""
    async with open_process() as runs:
        await runs.start("a", count, 3)
        await runs.start("b", fail)
        await runs.start("c", count, 1000)
        await watch(runs, "a")
        await watch(runs, "b")
        running = runs.statistics()
        assert (running.name, running.started, running.running) == ("runs", 3, 1)
        assert (running.completed, running.failed, running.stopped) == (1, 1, 0)
        (run,) = runs.running()
        assert running.events == 4 + run.events > 4
        await runs.stop("c")
        stopped = runs.statistics()
        assert (stopped.running, stopped.stopped) == (0, 1)
        assert stopped.events >= running.events


async def test_observers_are_told_of_each_run_that_ends(caplog):
    """An observer is told once, in the context of the call that started the run; one that fails disturbs nothing."""
    seen = Seen()
    async with open_process() as runs:
        runs.add_observer(Broken())
        runs.add_observer(seen)
        WHO.set("alice")
        await runs.start("a", count, 3)
        WHO.set("bob")
        await runs.start("b", count, 1000)
        await watch(runs, "a")
        await runs.stop("b")
        events = seen.runs[-1][2]
        assert seen.runs == [("a", "completed", 3, False, "alice"), ("b", "stopped", events, False, "bob")]
    assert "no such meter" in caplog.text
    assert "failed for the run 'a'" in caplog.text


async def test_what_is_no_observer_is_refused():
    """An observer has a method; a class has none yet."""
    async with open_process() as runs:
        for bad in (Seen, object(), None):
            with pytest.raises(TypeError, match="observer must be an object with a method run_ended"):
                runs.add_observer(bad)


@pytest.mark.usefixtures("real_clock")
async def test_only_its_own_process_knows_how_much_a_run_has_sent(shared_store):
    """`status().events` counts what was sent in this process, and is None for a run elsewhere."""
    async with open_process(shared_store()) as here, open_process(shared_store()) as there:
        go_on = anyio.Event()

        async def produce(send_channel):
            await send_channel.send("one")
            await go_on.wait()

        await here.start("a", produce)
        async with here.watch("a") as subscription:
            await subscription.receive()
            assert (await here.status("a")).events == 1
            status = await there.status("a")
            assert (status.state, status.is_here, status.events) == ("running", False, None)
        go_on.set()
