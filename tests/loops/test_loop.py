"""What is asked of an event loop beyond anyio: parkings, detached tasks, calls from other threads, a clock."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from sse_trio._loops.by_hand import Remainder
from sse_trio._loops.current import current_loop
from sse_trio._loops.loop import Loop
from sse_trio.testing import virtual_backend, wait_all_tasks_blocked

pytestmark = pytest.mark.anyio

LOOPS: list[tuple[str, dict[str, Any]]] = [("asyncio", {}), ("trio", {})]
if sys.platform != "win32":
    LOOPS.append(("asyncio", {"use_uvloop": True}))

each_loop = pytest.mark.parametrize("backend", LOOPS, ids=["asyncio", "trio", "uvloop"][: len(LOOPS)])
on_asyncio = pytest.mark.parametrize("backend", [LOOPS[0], *LOOPS[2:]], ids=["asyncio", "uvloop"][: len(LOOPS) - 1])


async def test_one_loop_object_for_a_run() -> None:
    """The loop is bound once for each run of an event loop."""
    assert current_loop() is current_loop()


def test_no_loop() -> None:
    """Outside of an event loop there is none."""
    with pytest.raises((RuntimeError, anyio.NoEventLoopError)):
        current_loop()


async def test_clock() -> None:
    """The clock is the event loop's own."""
    clock = current_loop().current_time
    assert clock() == anyio.current_time()
    await anyio.sleep(10)
    assert clock() == anyio.current_time()


@pytest.mark.parametrize("name", ["asyncio", "trio"])
def test_nothing_is_kept_of_a_run_that_is_over(name: str) -> None:
    """When an event loop is done it can be freed; what the library keeps for a run doesn't keep the run."""
    held: list[weakref.ref[Any]] = []

    async def use() -> None:
        loop = current_loop()
        held.append(weakref.ref(anyio.lowlevel.current_token().native_token))
        loop.spawn_detached(anyio.lowlevel.checkpoint)
        await wait_all_tasks_blocked()

    backend, options = virtual_backend(name)
    anyio.run(use, backend=backend, backend_options=options)
    del options
    gc.collect()
    assert held[0]() is None


# --- parkings


async def test_park_until_unparked() -> None:
    """park() waits for unpark(), and says meanwhile that a task is parked."""
    parking = current_loop().new_parking()
    steps = []

    async def park() -> None:
        for n in range(3):
            await parking.park()
            steps.append(n)

    async with anyio.create_task_group() as tg:
        tg.start_soon(park)
        for n in range(3):
            await wait_all_tasks_blocked()
            assert (len(steps), parking.is_parked()) == (n, True)
            parking.unpark()
            assert not parking.is_parked()
            parking.unpark()  # nobody is parked any more
    assert steps == [0, 1, 2]


async def test_unpark_is_not_remembered() -> None:
    """An unpark() that finds no parked task doesn't affect a later park()."""
    parking = current_loop().new_parking()
    assert not parking.is_parked()
    parking.unpark()
    with anyio.move_on_after(1) as scope:
        await parking.park()
    assert scope.cancelled_caught


async def test_park_is_a_cancellation_point() -> None:
    """park() in a scope that is cancelled raises, and can then be used again."""
    parking = current_loop().new_parking()
    for _ in range(2):
        with anyio.CancelScope() as scope:
            scope.cancel()
            await parking.park()
        assert scope.cancelled_caught
        assert not parking.is_parked()


@pytest.mark.parametrize("order", ["cancel first", "cancel last"])
async def test_cancelled_and_unparked_at_once(order: str) -> None:
    """The first of unpark and cancellation decides: an unparked task returns, a cancelled one has left."""
    parking = current_loop().new_parking()
    outcome = []

    async def park() -> None:
        with scope:
            await parking.park()
            outcome.append("unparked")

    scope = anyio.CancelScope()
    async with anyio.create_task_group() as tg:
        tg.start_soon(park)
        await wait_all_tasks_blocked()
        if order == "cancel first":
            scope.cancel()
            assert not parking.is_parked()
            parking.unpark()
        else:
            parking.unpark()
            scope.cancel()
    assert outcome == (["unparked"] if order == "cancel last" else [])


@on_asyncio
@pytest.mark.parametrize("order", ["cancel first", "cancel last"])
def test_native_cancellation_of_asyncio(backend: tuple[str, dict[str, Any]], order: str) -> None:
    """The same holds for Task.cancel(), which the next await raises with its message and its count."""
    log: list[object] = []

    async def main() -> None:
        parking = current_loop().new_parking()

        async def park() -> None:
            try:
                await parking.park()
                task = asyncio.current_task()
                assert task is not None
                log.append(task.cancelling() if sys.version_info >= (3, 11) else 1)
                await asyncio.sleep(60)
            except asyncio.CancelledError as exc:
                log.append(exc.args)
                raise

        task = asyncio.create_task(park())
        while not parking.is_parked():
            await asyncio.sleep(0)
        steps: list[Callable[[], object]] = [lambda: task.cancel("why"), parking.unpark]
        for step in steps if order == "cancel first" else steps[::-1]:
            step()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not parking.is_parked()

    anyio.run(main, backend=backend[0], backend_options=backend[1])
    assert log == ([("why",)] if order == "cancel first" else [1, ("why",)])


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_exception_thrown_into_a_parked_task() -> None:
    """A CancelledError that comes neither with the future's end nor before it is raised as it is."""
    parking = current_loop().new_parking()
    coroutine: Any = parking.park()
    coroutine.send(None)
    with pytest.raises(asyncio.CancelledError):
        coroutine.throw(asyncio.CancelledError)


# --- detached tasks


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="")


async def test_detached_task_belongs_to_no_nursery() -> None:
    """A detached task outlives the scope and the nursery that it was started in, in a copy of their context."""
    steps: list[object] = []

    async def detached() -> None:
        steps.append(variable.get())
        variable.set("its own")
        await anyio.sleep(10)
        steps.append(anyio.current_time())

    async with anyio.create_task_group() as tg:
        token = variable.set("of the caller")
        current_loop().spawn_detached(detached)
        tg.cancel_scope.cancel()
        variable.reset(token)
    await anyio.sleep(5)
    assert steps == ["of the caller"]
    assert variable.get() == ""
    await anyio.sleep(6)
    assert steps[1] == 10


async def test_detached_task_in_a_context() -> None:
    """A detached task may be given a context; several one after the other the same, where asyncio can do that."""
    values = []

    async def detached() -> None:
        values.append(variable.get())
        variable.set(f"{variable.get()}+")
        await anyio.lowlevel.checkpoint()

    context = contextvars.copy_context()
    context.run(variable.set, "given")
    for _ in range(2):
        current_loop().spawn_detached(detached, context=context)
        await wait_all_tasks_blocked()
    copies = sys.version_info < (3, 11) and "asyncio" in str(anyio.lowlevel.current_token().backend_class)
    assert values == ["given", "given" if copies else "given+"]
    assert variable.get() == ""


async def test_detached_task_is_cancelled() -> None:
    """cancel() ends it at its next checkpoint; on one that is done it does nothing."""
    ended: list[str] = []

    async def detached() -> None:
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            ended.append("cancelled")
            raise

    task = current_loop().spawn_detached(detached)
    await wait_all_tasks_blocked()
    task.cancel()
    await wait_all_tasks_blocked()
    task.cancel()
    await wait_all_tasks_blocked()
    assert ended == ["cancelled"]


@on_asyncio
def test_cancelled_task_is_held(backend: tuple[str, dict[str, Any]]) -> None:
    """A detached task that was cancelled is not collected before it has ended, be it in a circle of its own."""
    events: list[weakref.ref[asyncio.Event]] = []
    ended: list[bool] = []

    async def detached() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            # A server's own code waits so. anyio's would not do: its scopes are held, and hold their tasks.
            event = asyncio.Event()
            events.append(weakref.ref(event))
            await event.wait()
            ended.append(True)

    async def main() -> None:
        task = current_loop().spawn_detached(detached)
        await anyio.wait_all_tasks_blocked()
        current_loop().cancel_detached(task)
        del task
        await anyio.wait_all_tasks_blocked()
        gc.collect()
        event = events[0]()
        assert event is not None
        event.set()
        await anyio.wait_all_tasks_blocked()

    anyio.run(main, backend=backend[0], backend_options=backend[1])
    assert ended


@pytest.mark.parametrize("how", ["ends", "is cancelled"])
async def test_detached_task_is_forgotten(how: str) -> None:
    """When it is done nothing of it is kept."""

    class Work:
        async def run(self) -> None:
            await anyio.sleep(5)

    work = Work()
    freed = weakref.ref(work)
    task = current_loop().spawn_detached(work.run)
    del work
    await wait_all_tasks_blocked()
    gc.disable()
    try:
        if how == "is cancelled":
            current_loop().cancel_detached(task)
        else:
            await anyio.sleep(5)
        del task
        await wait_all_tasks_blocked()
        assert freed() is None
    finally:
        gc.enable()


# --- calls from elsewhere


@pytest.mark.usefixtures("real_clock")
async def test_call_from_another_thread() -> None:
    """A call from any thread is made in the loop's own."""
    loop = current_loop()
    called = anyio.Event()
    threads = []

    def call() -> None:
        threads.append(threading.current_thread())
        called.set()

    await anyio.to_thread.run_sync(loop.call_soon_threadsafe, call)
    with anyio.fail_after(5):
        await called.wait()
    assert threads == [threading.current_thread()]


@pytest.mark.parametrize("freed", [True, False])
@each_loop
def test_call_after_the_end(backend: tuple[str, dict[str, Any]], freed: bool) -> None:
    """A call to a loop that is over, or freed even, is not made, and no error."""
    loops: list[Loop] = []
    tokens: list[object] = []

    async def main() -> None:
        loops.append(current_loop())
        tokens.append(anyio.lowlevel.current_token())

    anyio.run(main, backend=backend[0], backend_options=backend[1])
    if freed:
        tokens.clear()
        gc.collect()
    loops[0].call_soon_threadsafe(lambda: pytest.fail("called"))


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_call_while_the_loop_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that is closed in the very moment of the call makes no error of it either."""
    loop = current_loop()

    def closed(*args: object) -> None:
        raise RuntimeError("Event loop is closed")

    monkeypatch.setattr(asyncio.get_running_loop(), "call_soon_threadsafe", closed)
    loop.call_soon_threadsafe(lambda: None)


# --- the next pass


async def test_the_next_pass() -> None:
    """What is put off is called before the task that put it off goes on in the next pass, or at once."""
    loop, calls = current_loop(), list[str]()
    loop.call_next(lambda: calls.append("called"))
    await loop.next_pass()
    assert calls == ["called"]
    with anyio.CancelScope() as scope:
        scope.cancel()
        await loop.next_pass()
        calls.append("not cancelled")
    assert calls == ["called"]


# --- writing inside a send()


async def test_a_turn() -> None:
    """A task has its turn for a millisecond, unless another task had one meanwhile; then it has to yield."""
    loop = current_loop()
    assert [loop.turn(at) for at in (0.0, 0.0005, 0.002, 0.003)] == ["has", "has", "over", "has"]
    others: list[str] = []

    async def other() -> None:
        others.append(loop.turn(9.0))

    async with anyio.create_task_group() as tg:
        tg.start_soon(other)
    assert others == ["has"]
    assert loop.turn(10.0) == "has"


@pytest.mark.usefixtures("real_clock")
async def test_no_turn_elsewhere() -> None:
    """Who isn't a task of the loop has no turn: another thread, another loop, or a callback of the loop's."""
    loop = current_loop()
    assert await anyio.to_thread.run_sync(loop.turn, 0.0) == "elsewhere"

    async def in_another_loop() -> str:
        return loop.turn(0.0)

    assert await anyio.to_thread.run_sync(anyio.run, in_another_loop) == "elsewhere"


@on_asyncio
def test_no_turn_in_a_callback(backend: tuple[str, dict[str, Any]]) -> None:
    """A callback runs between tasks, whose turn it is not."""
    answers: list[str] = []

    async def use() -> None:
        loop = current_loop()
        asyncio.get_running_loop().call_soon(lambda: answers.extend([loop.turn(at) for at in (0.0, 0.0005, 9.0)]))
        await anyio.sleep(0.01)

    anyio.run(use, backend=backend[0], backend_options=backend[1])
    assert answers == ["elsewhere"] * 3


class AtOnce:
    """A coroutine function that is started at once, on one of the loops, and what it does."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.event = anyio.Event()

    async def ends(self) -> None:
        self.log.append("ran")

    async def waits(self) -> None:
        self.log.append("began")
        try:
            await self.event.wait()
            await anyio.lowlevel.checkpoint()
            self.log.append("went on")
        finally:
            self.log.append("ended")


@pytest.mark.parametrize("by_hand", [True, False])
@each_loop
def test_a_function_that_is_started_at_once(backend: tuple[str, dict[str, Any]], by_hand: bool) -> None:
    """It runs inside the call until it has to wait, if the loop can do that, and then goes on in a task."""

    async def use() -> None:
        loop, at_once = current_loop(), AtOnce()
        task = loop.start_at_once(at_once.ends, context=contextvars.copy_context(), by_hand=by_hand)
        assert (task is None) == bool(at_once.log) == loop.starts_at_once(by_hand=by_hand)
        await wait_all_tasks_blocked()
        assert at_once.log == ["ran"]
        at_once = AtOnce()
        task = loop.start_at_once(at_once.waits, context=contextvars.copy_context(), by_hand=by_hand)
        assert task is not None
        assert at_once.log == (["began"] if loop.starts_at_once(by_hand=by_hand) else [])
        await wait_all_tasks_blocked()
        at_once.event.set()
        await wait_all_tasks_blocked()
        assert at_once.log == ["began", "went on", "ended"]

    anyio.run(use, backend=backend[0], backend_options=backend[1])


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("by_hand", [True, False])
@each_loop
def test_a_function_that_is_started_at_once_and_cancelled(
    backend: tuple[str, dict[str, Any]], by_hand: bool, late: bool
) -> None:
    """It is cancelled where it waits, also before the task that does its remainder has run."""

    async def use() -> None:
        loop, at_once = current_loop(), AtOnce()
        task = loop.start_at_once(at_once.waits, context=contextvars.copy_context(), by_hand=by_hand)
        assert task is not None
        if late:
            await wait_all_tasks_blocked()
        loop.cancel_detached(task)
        await wait_all_tasks_blocked()
        if late or loop.starts_at_once(by_hand=by_hand):
            assert at_once.log == ["began", "ended"]

    anyio.run(use, backend=backend[0], backend_options=backend[1])


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_remainder_of_a_coroutine() -> None:
    """Closing it closes the coroutine."""
    at_once = AtOnce()
    coroutine = at_once.waits()
    Remainder(coroutine, coroutine.send(None)).close()
    assert at_once.log == ["began", "ended"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_a_remainder_that_is_awaited(is_cancelled: bool) -> None:
    """What a coroutine still waits for, the one that awaits its remainder waits for, and is cancelled there."""
    log: list[str] = []
    first, second = anyio.Event(), anyio.Event()

    async def waits() -> None:
        try:
            await first.wait()
            log.append("first")
            await second.wait()
            log.append("second")
        finally:
            log.append("ended")

    scope, coroutine = anyio.CancelScope(), waits()
    remainder = Remainder(coroutine, coroutine.send(None))

    async def await_it() -> None:
        with scope:
            await remainder
            log.append("awaited")

    async with anyio.create_task_group() as nursery:
        nursery.start_soon(await_it)
        await anyio.sleep(0.01)
        first.set()
        await anyio.sleep(0.01)
        if is_cancelled:
            scope.cancel()
        else:
            second.set()
    assert log == (["first", "ended"] if is_cancelled else ["first", "second", "ended", "awaited"])
