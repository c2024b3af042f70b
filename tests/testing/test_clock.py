from __future__ import annotations

import os
import signal
import socket
import threading
import time
from functools import partial
from types import SimpleNamespace
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest
import trio
from anyio.pytest_plugin import get_runner

from sse_trio.testing import VirtualTimeError, virtual_backend, wait_all_tasks_blocked
from sse_trio.testing._clock import TrioWatch, VirtualTimeLoop, Watch, is_virtual, watch_of

BOTH = pytest.mark.parametrize("name", ["asyncio", "trio"])


def run(name: str, async_fn: Any) -> Any:
    """Run in virtual time, and raise what the plugin would raise afterwards."""
    backend = virtual_backend(name)
    with get_runner(*backend) as runner:
        result = runner.run_fixture(async_fn, {})
    watch = watch_of(backend)
    assert watch is not None
    watch.check()
    return result


@pytest.mark.anyio
async def test_an_hour_of_sleeps_takes_no_time() -> None:
    """An hour of 15 s sleeps passes in the time that 240 timers take to run."""
    began = time.perf_counter()
    for _ in range(240):
        await anyio.sleep(15)
    assert anyio.current_time() == 3600
    assert time.perf_counter() - began < 1


@pytest.mark.anyio
async def test_years_pass() -> None:
    """A timer runs at its time after years too, where a nanosecond is too little to tell two times apart."""
    for year in (1, 2, 30):
        await anyio.sleep_until(year * 365 * 86_400)
        assert anyio.current_time() == year * 365 * 86_400
        await anyio.sleep(1e-9)


@pytest.mark.anyio
async def test_timers_fire_in_order() -> None:
    """Tasks wake in the order of their deadlines, each at its own time."""
    woken: list[tuple[int, float]] = []

    async def sleeper(seconds: int) -> None:
        await anyio.sleep(seconds)
        woken.append((seconds, anyio.current_time()))

    async with anyio.create_task_group() as tg:
        for seconds in (60, 1, 3600):
            tg.start_soon(sleeper, seconds)
    assert woken == [(1, 1.0), (60, 60.0), (3600, 3600.0)]


@pytest.mark.anyio
async def test_time_stands_still_while_a_task_can_run() -> None:
    """A deadline doesn't come nearer while tasks only pass through checkpoints."""
    with anyio.move_on_after(0.001) as scope:
        for _ in range(1000):
            await anyio.lowlevel.checkpoint()
    assert not scope.cancelled_caught
    assert anyio.current_time() == 0


@pytest.mark.anyio
async def test_wait_all_tasks_blocked_takes_no_virtual_time() -> None:
    """wait_all_tasks_blocked returns when the others have come as far as they can, at the same virtual time."""
    steps: list[int] = []

    async def walker() -> None:
        for step in range(20):
            steps.append(step)
            await anyio.lowlevel.checkpoint()
        await anyio.sleep(10)
        steps.append(99)

    async with anyio.create_task_group() as tg:
        tg.start_soon(walker)
        await wait_all_tasks_blocked()
        assert steps == list(range(20))
        assert anyio.current_time() == 0
    assert steps[-1] == 99
    assert anyio.current_time() == 10


@pytest.mark.anyio
async def test_wait_all_tasks_blocked_can_be_cancelled() -> None:
    """A cancelled wait leaves nothing behind that a later one would trip over."""
    async with anyio.create_task_group() as tg:
        tg.start_soon(wait_all_tasks_blocked)
        tg.cancel_scope.cancel()
    await wait_all_tasks_blocked()


@pytest.mark.anyio
async def test_two_can_wait_for_idle() -> None:
    """Several tasks in wait_all_tasks_blocked don't count as busy for each other."""
    async with anyio.create_task_group() as tg:
        tg.start_soon(wait_all_tasks_blocked)
        await wait_all_tasks_blocked()


@pytest.mark.anyio
@pytest.mark.usefixtures("real_clock")
async def test_wait_all_tasks_blocked_on_the_real_clock() -> None:
    """On a real clock wait_all_tasks_blocked is anyio's."""
    assert not await is_virtual()
    await wait_all_tasks_blocked()


@BOTH
def test_worker_thread_is_detected(name: str) -> None:
    """A worker thread in flight is an error: the clock doesn't wait for it."""

    async def main() -> None:
        with anyio.move_on_after(1):
            await anyio.to_thread.run_sync(time.sleep, 0.25)

    with pytest.raises(VirtualTimeError, match=r"a thread .* was in use"):
        run(name, main)


@pytest.mark.usefixtures("real_clock")
@BOTH
def test_thread_of_ones_own_is_detected(name: str) -> None:
    """A thread of your own that reports back is an error, too."""

    async def main() -> None:
        done = anyio.Event()
        portal_token = anyio.lowlevel.current_token()
        report = partial(anyio.from_thread.run_sync, done.set, token=portal_token)
        threading.Timer(0.3, report).start()  # by then the loop is idle, on a busy machine too
        await done.wait()

    with pytest.raises(VirtualTimeError, match=r"a thread .* was in use"):
        run(name, main)


@pytest.mark.usefixtures("real_clock")
def test_thread_that_reports_while_trio_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread is noticed also if it reports between two looks at one idle moment."""
    watch = Watch()
    looks = iter([0, 0, 1, 1])

    async def main() -> None:
        found = trio.lowlevel.current_statistics()

        def look() -> Any:
            return SimpleNamespace(
                tasks_runnable=0, run_sync_soon_queue_size=next(looks), io_statistics=found.io_statistics
            )

        monkeypatch.setattr(trio.lowlevel, "current_statistics", look)
        instrument = TrioWatch(watch)
        instrument.after_io_wait(0)
        instrument.after_io_wait(0)
        instrument.before_io_wait(0)
        monkeypatch.undo()

    trio.run(main)
    with pytest.raises(VirtualTimeError, match=r"a thread .* was in use"):
        watch.check()


def test_a_quick_thread_is_noticed() -> None:
    """A thread that has reported back by the end of trio's wait is noticed, as one that takes longer is."""
    watch = Watch()

    async def main() -> None:
        instrument = TrioWatch(watch)
        limiter = trio.to_thread.current_default_thread_limiter()
        limiter.acquire_on_behalf_of_nowait(main)
        trio.lowlevel.current_trio_token().run_sync_soon(limiter.release_on_behalf_of, main)
        instrument.after_io_wait(0)

    trio.run(main)
    with pytest.raises(VirtualTimeError, match=r"a thread .* was in use"):
        watch.check()


def test_executor_is_refused_at_once() -> None:
    """run_in_executor raises where it is called."""
    watch = Watch()
    loop = VirtualTimeLoop(watch)
    with pytest.raises(VirtualTimeError, match=r"a thread .* was in use"):
        loop.run_in_executor(None, print)
    with pytest.raises(VirtualTimeError):
        watch.check()
    loop.close()


@BOTH
def test_socket_is_detected(name: str) -> None:
    """Waiting for a socket is an error: what comes from outside comes in real time."""

    async def main() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs, anyio.move_on_after(1):
            await anyio.wait_readable(ours)

    with pytest.raises(VirtualTimeError, match="a socket"):
        run(name, main)


@BOTH
def test_ready_socket_is_no_problem(name: str) -> None:
    """A socket that never makes the loop wait is left alone."""

    async def main() -> int:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.send(b"x")
            await anyio.wait_readable(ours)
            return len(ours.recv(1))

    assert run(name, main) == 1


@BOTH
def test_the_loops_own_thread_is_no_thread(name: str) -> None:
    """The thread-safe call made from the loop's own thread, or a signal handler in it, is harmless."""

    async def main() -> None:
        done = anyio.Event()
        token: Any = anyio.lowlevel.current_token().native_token
        post = token.run_sync_soon if name == "trio" else token.call_soon_threadsafe
        before = signal.signal(signal.SIGUSR1, lambda *_: post(done.set))
        try:
            os.kill(os.getpid(), signal.SIGUSR1)
            await done.wait()
        finally:
            signal.signal(signal.SIGUSR1, before)

    run(name, main)


def test_uvloop_is_refused() -> None:
    """uvloop can't run in virtual time, which is an error before the test runs."""
    with pytest.raises(ValueError, match="use_uvloop must be False.*uvloop keeps its own time"):
        virtual_backend(("asyncio", {"use_uvloop": True}))


def test_unknown_backend_is_refused() -> None:
    """A backend without virtual time is named in the error."""
    with pytest.raises(ValueError, match="'curio'"):
        virtual_backend("curio")


@BOTH
def test_own_options_are_kept(name: str) -> None:
    """Options for anyio's backend stay beside the clock."""
    _, options = virtual_backend((name, {"debug": True}))
    assert options["debug"] is True


def test_other_instruments_are_kept() -> None:
    """An instrument of the user's runs beside the one that watches."""
    first = object()
    _, options = virtual_backend(("trio", {"instruments": [first]}))
    assert options["instruments"][0] is first
    assert watch_of(("trio", options)) is not None


@pytest.mark.parametrize("backend", ["trio", ("asyncio", {}), ("trio", {"instruments": [object()]}), None])
def test_other_backends_have_no_watch(backend: object) -> None:
    """A backend that virtual_backend() didn't make isn't watched."""
    assert watch_of(backend) is None
